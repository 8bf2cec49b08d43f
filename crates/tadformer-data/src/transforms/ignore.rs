//! Labels that say nothing.

use super::vectors::{Loop, vectorize};
use crate::{BackgroundOnly, IGNORE, LabelKind, Sample};

/// Ignores class maps of nothing but background, for tasks where that says nothing.
pub(super) fn background_only(sample: &mut Sample) {
    for (task, map) in &mut sample.labels {
        if task.label == LabelKind::Classes
            && task.background_only == BackgroundOnly::Ignored
            && map.data.iter().all(|&class| class == 0.0 || class == IGNORE)
        {
            map.data.fill(IGNORE);
        }
    }
}

/// Divides distances by `scale`; what is 0 or has no label is [`IGNORE`].
pub(super) fn nearer(distances: &mut [f32], scale: f32) {
    vectorize(Nearer { distances, scale });
}

struct Nearer<'a> {
    distances: &'a mut [f32],
    scale: f32,
}

impl Loop for Nearer<'_> {
    #[inline(always)]
    fn run(self) {
        for distance in self.distances {
            let scaled = *distance / self.scale;
            *distance = if (*distance == IGNORE) | (scaled == 0.0) { IGNORE } else { scaled };
        }
    }
}
