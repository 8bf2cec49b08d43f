//! Data sets: where samples come from.

use crate::{Result, Sample, TaskSpec};

/// A split of a data set, its samples in a fixed order.
pub trait Dataset: Send + Sync {
    /// Name of the data set, as configurations spell it.
    fn name(&self) -> &str;

    /// What it labels, in the order of [`Sample::labels`].
    fn tasks(&self) -> &[TaskSpec];

    /// Number of samples.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Name of the sample at `index`.
    fn id(&self, index: usize) -> String;

    /// Reads the sample at `index`, in its own size.
    ///
    /// # Errors
    /// A file that is missing, unreadable or holds values that its task does not allow.
    fn load(&self, index: usize) -> Result<Sample>;
}
