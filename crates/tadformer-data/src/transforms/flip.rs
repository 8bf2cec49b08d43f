//! Mirror left and right.

use crate::{LabelKind, Raster, Sample};

/// Mirrors picture and labels left to right; the x component of unit vectors changes its sign.
pub(super) fn flip(sample: &mut Sample) {
    mirror(&mut sample.image);
    for (task, map) in &mut sample.labels {
        mirror(map);
        if task.label == LabelKind::UnitVector {
            for x in map.plane_mut(0) {
                *x = -*x;
            }
        }
    }
}

fn mirror(raster: &mut Raster) {
    for row in raster.data.chunks_exact_mut(raster.width) {
        row.reverse();
    }
}
