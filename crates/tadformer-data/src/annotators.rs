//! Edges that several people drew, in the one plane of a binary label map.
//!
//! A pixel of a binary map holds 0, 1 or [`IGNORE`](crate::IGNORE). Where several people drew, an edge pixel holds
//! `0.5 + who / 2¹⁷`, bit `k` of `who` being set if annotator `k` drew it. That is exact in an `f32`, steps that take the
//! nearest pixel carry it unchanged, and as it is more than one half, whatever reads a binary label (a loss, a drawing)
//! sees an edge: the union of all drawings. [`apart`] takes it apart again for the meter.

use crate::Raster;

/// The most people whose drawings fit into a map.
pub const MAX_ANNOTATORS: usize = 16;

/// Step between the numbers of two sets of annotators.
const STEP: f32 = 1.0 / (1 << (MAX_ANNOTATORS + 1)) as f32;

/// The label of a pixel that the annotators in the bits of `who` drew.
pub(crate) fn drawn_by(who: u16) -> f32 {
    if who == 0 { 0.0 } else { 0.5 + f32::from(who) * STEP }
}

/// Who drew a pixel, if its label says so.
fn who(label: f32) -> Option<u16> {
    (label > 0.5 && label < 1.0).then(|| ((label - 0.5) / STEP) as u16)
}

/// A binary map `(1, h, w)` as one map an annotator, `(n, h, w)` of 0, 1 and [`IGNORE`](crate::IGNORE); one that nobody in
/// particular drew as it is.
///
/// ```
/// use tadformer_data::{Raster, annotators};
///
/// let label = Raster { channels: 1, height: 1, width: 3, data: vec![0.0, 1.0, 255.0] };
/// assert_eq!(annotators::apart(&label), label);
/// ```
pub fn apart(map: &Raster) -> Raster {
    let anybody = map.data.iter().filter_map(|&v| who(v)).fold(0, |all, who| all | who);
    if anybody == 0 {
        return map.clone();
    }
    let channels = (u16::BITS - anybody.leading_zeros()) as usize;
    let plane = |k: usize| {
        map.data.iter().map(move |&v| match who(v) {
            Some(who) => f32::from(who >> k & 1),
            None => v,
        })
    };
    Raster { channels, data: (0..channels).flat_map(plane).collect(), ..*map }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IGNORE;

    #[test]
    fn every_set_of_annotators_comes_back() {
        for set in 1..=u16::MAX {
            let label = drawn_by(set);
            assert!(label > 0.5 && label < 1.0, "{set}: {label}");
            assert_eq!(who(label), Some(set));
        }
        assert_eq!([0.0, 0.25, 0.5, 1.0, IGNORE].map(who), [None; 5]);
    }

    #[test]
    fn a_map_is_taken_apart_into_the_drawings() {
        let data = vec![drawn_by(0b01), drawn_by(0b11), drawn_by(0b10), 0.0, IGNORE];
        let apart = apart(&Raster { channels: 1, height: 1, width: 5, data });
        assert_eq!((apart.channels, apart.height, apart.width), (2, 1, 5));
        assert_eq!(apart.plane(0), [1.0, 1.0, 0.0, 0.0, IGNORE]);
        assert_eq!(apart.plane(1), [0.0, 1.0, 1.0, 0.0, IGNORE]);
    }
}
