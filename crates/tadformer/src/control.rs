//! What may be asked of a training while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Asks a training to stop or to save. Clones ask the same one: a signal handler or another thread has its own.
///
/// ```
/// use tadformer::Control;
/// let control = Control::default();
/// let handler = control.clone();
/// handler.stop();
/// assert!(control.is_stopping());
/// ```
#[derive(Debug, Clone, Default)]
pub struct Control(Arc<Asked>);

#[derive(Debug, Default)]
struct Asked {
    stop: AtomicBool,
    save: AtomicBool,
}

impl Control {
    /// Lets it finish the update that is under way, save, and stop.
    pub fn stop(&self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }

    /// Lets it finish the update that is under way, save, and go on.
    pub fn save(&self) {
        self.0.save.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked to stop.
    pub fn is_stopping(&self) -> bool {
        self.0.stop.load(Ordering::Relaxed)
    }

    /// Whether it was asked to save since the last call.
    pub(crate) fn take_save(&self) -> bool {
        self.0.save.swap(false, Ordering::Relaxed)
    }
}
