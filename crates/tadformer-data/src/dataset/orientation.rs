//! Pictures that a camera stored lying, and labels that were drawn on them upright.

use crate::format::picture::{Orientation, Photo};

/// The sides of a picture as it was read, and what its file says about turning it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sides {
    /// Rows and columns.
    pub(crate) size: (usize, usize),
    /// The orientation tag, 1 to 8.
    pub(crate) tag: u8,
}

impl Sides {
    /// Those of a picture.
    pub(crate) fn of(photo: &Photo) -> Self {
        Self { size: (photo.height, photo.width), tag: photo.tag }
    }

    /// Whether a map of this size (rows, columns) has the picture's sides, at any scale, but the other way round.
    pub(crate) fn are_swapped_in(self, (height, width): (usize, usize)) -> bool {
        let slant = |(height, width): (usize, usize)| (width as f64 / height as f64).ln();
        let (picture, map) = (slant(self.size), slant((height, width)));
        // At small sizes a rounded side moves the ratio by some per cent.
        (height, width) == (self.size.1, self.size.0) || (picture.abs() > 0.1 && (picture + map).abs() < 0.03)
    }

    /// Whether the tag asks for turning or flipping, and the sizes of picture and label are the same either way.
    pub(crate) fn tell_nothing(self) -> bool {
        matches!(self.tag, 2..=4) || (self.tag > 4 && self.size.0 == self.size.1)
    }
}

/// What to say of a label map of another size (rows, columns) than its picture, which was read with `orientation`.
pub(super) fn size_advice(own: (usize, usize), picture: Sides, orientation: Orientation) -> String {
    let sizes = format!(
        "{} rows by {} columns, the picture has {} by {}",
        own.0, own.1, picture.size.0, picture.size.1
    );
    if !picture.are_swapped_in(own) {
        return format!("{sizes}; they must agree, or the descriptor must say `resize = true` for this task");
    }
    let tag = picture.tag;
    match (tag > 4, orientation) {
        (true, Orientation::AsStored) => format!(
            "{sizes}: the sides are swapped, and the picture's file carries the EXIF orientation {tag}, so the label was \
             drawn on the picture as viewers turn it; say `orientation = \"upright\"` under `[image]` in the descriptor"
        ),
        (true, Orientation::Upright) => format!(
            "{sizes}: the sides are swapped, because the picture was turned upright by its EXIF orientation {tag} and the \
             label lies as the pixels are stored; say `orientation = \"stored\"` under `[image]` in the descriptor"
        ),
        (false, _) => format!(
            "{sizes}: the sides are swapped, and the picture's file has no orientation tag that would swap them; one of \
             the two was turned or transposed, and must be turned back"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LYING: Sides = Sides { size: (48, 64), tag: 6 };

    #[test]
    fn swapped_sides_are_seen_at_every_scale() {
        for own in [(64, 48), (128, 96), (32, 24), (1024, 768)] {
            assert!(LYING.are_swapped_in(own), "{own:?}");
        }
        for own in [(48, 64), (24, 32), (48, 48), (64, 64), (1, 64), (50, 64)] {
            assert!(!LYING.are_swapped_in(own), "{own:?}");
        }
        let square = Sides { size: (50, 50), tag: 6 };
        assert!(!square.are_swapped_in((25, 25)) && square.tell_nothing());
    }

    #[test]
    fn advice_on_swapped_sides_never_speaks_of_resizing() {
        let advice = |tag, orientation| size_advice((64, 48), Sides { tag, ..LYING }, orientation);
        let stored = advice(6, Orientation::AsStored);
        assert!(
            stored.contains("EXIF orientation 6") && stored.contains("`orientation = \"upright\"`"),
            "{stored}"
        );
        let upright = advice(8, Orientation::Upright);
        assert!(
            upright.contains("EXIF orientation 8") && upright.contains("`orientation = \"stored\"`"),
            "{upright}"
        );
        let turned = advice(1, Orientation::AsStored);
        for text in [stored, upright, turned] {
            assert!(text.contains("sides are swapped") && !text.contains("resize"), "{text}");
        }
        let other = size_advice((32, 32), LYING, Orientation::AsStored);
        assert!(other.contains("32 rows by 32 columns, the picture has 48 by 64"), "{other}");
        assert!(other.contains("resize = true"), "{other}");
    }

    #[test]
    fn what_a_tag_leaves_open_is_told_by_the_sizes() {
        let open = |tag, size| Sides { tag, size }.tell_nothing();
        assert!(!open(1, (5, 5)) && !open(6, (5, 6)) && open(6, (5, 5)));
        assert!(open(3, (5, 6)) && open(2, (5, 5)));
    }
}
