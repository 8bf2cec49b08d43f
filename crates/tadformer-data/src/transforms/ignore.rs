//! Pixels without a label, before and after interpolation.
//!
//! Between [`open`] and [`close`] an unlabelled normal is the zero vector and an unlabelled depth is 0, so that
//! interpolation never sees the number 255 and what a warp brings in from outside (zeros) is unlabelled too.

use crate::{BackgroundOnly, IGNORE, LabelKind, Raster, Sample};

/// Turns ignored normals and depths into zeros.
pub(super) fn open(sample: &mut Sample) {
    for (task, map) in &mut sample.labels {
        match task.label {
            LabelKind::UnitVector => each_vector(map, |[x, y, z]| {
                let ignored = *x == IGNORE || *y == IGNORE || *z == IGNORE;
                if ignored {
                    (*x, *y, *z) = (0.0, 0.0, 0.0);
                }
            }),
            LabelKind::Metres => {
                for depth in &mut map.data {
                    *depth = if *depth == IGNORE { 0.0 } else { *depth };
                }
            }
            LabelKind::Classes | LabelKind::Binary => {}
        }
    }
}

/// Marks what has no label: zero normals, zero depths, and class maps of nothing but background where that says nothing.
pub(super) fn close(sample: &mut Sample) {
    for (task, map) in &mut sample.labels {
        match task.label {
            LabelKind::UnitVector => each_vector(map, |[x, y, z]| {
                let ignored = *x == 0.0 && *y == 0.0 && *z == 0.0;
                if ignored {
                    (*x, *y, *z) = (IGNORE, IGNORE, IGNORE);
                }
            }),
            LabelKind::Metres => {
                for depth in &mut map.data {
                    *depth = if *depth == 0.0 { IGNORE } else { *depth };
                }
            }
            LabelKind::Classes if task.background_only == BackgroundOnly::Ignored => {
                if map.data.iter().all(|&class| class == 0.0 || class == IGNORE) {
                    map.data.fill(IGNORE);
                }
            }
            LabelKind::Classes | LabelKind::Binary => {}
        }
    }
}

/// Calls `change` with the three components of every vector.
pub(super) fn each_vector(map: &mut Raster, change: impl Fn([&mut f32; 3])) {
    let size = map.height * map.width;
    let (xs, rest) = map.data.split_at_mut(size);
    let (ys, zs) = rest.split_at_mut(size);
    for ((x, y), z) in xs.iter_mut().zip(ys).zip(zs) {
        change([x, y, z]);
    }
}
