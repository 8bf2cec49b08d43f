//! The colours of class indices in PASCAL VOC.

/// The first `n` colours of the PASCAL VOC palette, at most 256.
///
/// Bit `3k + c` of the index, counted from the lowest, becomes bit `7 - k` of channel `c`: neighbours differ strongly. Index
/// 255, the value of ignored pixels, is (224, 224, 192).
///
/// ```
/// let palette = tadformer_data::draw::voc_palette(256);
/// assert_eq!(palette[1], [128, 0, 0]);
/// assert_eq!(palette[15], [192, 128, 128]); // person
/// assert_eq!(palette[255], [224, 224, 192]);
/// ```
pub fn voc_palette(n: usize) -> Vec<[u8; 3]> {
    (0..n.min(256)).map(voc_colour).collect()
}

/// The colour of class `index` in the PASCAL VOC palette.
pub(crate) fn voc_colour(index: usize) -> [u8; 3] {
    let mut colour = [0u8; 3];
    for (c, channel) in colour.iter_mut().enumerate() {
        for k in 0..3 {
            *channel |= ((index >> (3 * k + c) & 1) as u8) << (7 - k);
        }
    }
    colour
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_those_that_voc_publishes() {
        let palette = voc_palette(21);
        // Aeroplane, bicycle, bird, cat and the last class, television.
        for (i, colour) in
            [(0, [0, 0, 0]), (2, [0, 128, 0]), (3, [128, 128, 0]), (8, [64, 0, 0]), (20, [0, 64, 128])]
        {
            assert_eq!(palette[i], colour, "class {i}");
        }
        assert_eq!(palette.len(), 21);
    }

    #[test]
    fn no_two_of_the_256_colours_agree() {
        let mut palette = voc_palette(300);
        assert_eq!(palette.len(), 256);
        palette.sort_unstable();
        palette.dedup();
        assert_eq!(palette.len(), 256);
    }
}
