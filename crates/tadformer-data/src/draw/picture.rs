//! Eight-bit RGB pictures and their files.

use std::io::Write;
use std::path::Path;

use image::{ImageBuffer, Rgb, imageops};
use tadformer_files::{Durability, WholeFile};

use crate::format::picture::Photo;
use crate::{Error, Raster, Result};

/// An RGB picture, rows from the top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `(height, width, 3)`, row-major.
    pub rgb: Vec<u8>,
}

impl Picture {
    /// A picture of one colour.
    pub fn filled(height: usize, width: usize, colour: [u8; 3]) -> Self {
        Self { width, height, rgb: colour.repeat(height * width) }
    }

    /// An image raster, RGB `(3, h, w)` in `0.0..=255.0`, rounded.
    ///
    /// # Errors
    /// A raster that has not three channels.
    pub fn of_image(image: &Raster) -> Result<Self> {
        if image.channels != 3 {
            return Err(Error::Config(format!(
                "cannot draw an image with {} channels; expected 3 (RGB)",
                image.channels
            )));
        }
        let mut picture = Self::filled(image.height, image.width, [0; 3]);
        for c in 0..3 {
            for (level, value) in picture.rgb[c..].iter_mut().step_by(3).zip(image.plane(c)) {
                *level = value.clamp(0.0, 255.0).round() as u8;
            }
        }
        Ok(picture)
    }

    /// A photo at another, smaller size = (rows, columns); each pixel is the mean of those that it covers.
    pub fn thumbnail(photo: &Photo, size: (usize, usize)) -> Self {
        let whole =
            ImageBuffer::<Rgb<u8>, &[u8]>::from_raw(photo.width as u32, photo.height as u32, &photo.rgb);
        let rgb = match whole {
            Some(whole) if size != (photo.height, photo.width) => {
                imageops::thumbnail(&whole, size.1 as u32, size.0 as u32).into_raw()
            }
            _ => photo.rgb.clone(),
        };
        Self { width: size.1, height: size.0, rgb }
    }

    /// Sets the pixel at row `y`, column `x`; outside the picture nothing happens.
    pub fn set(&mut self, y: usize, x: usize, colour: [u8; 3]) {
        if y < self.height && x < self.width {
            let start = 3 * (y * self.width + x);
            self.rgb[start..start + 3].copy_from_slice(&colour);
        }
    }

    /// The pixel at row `y`, column `x`, if there is one.
    pub fn get(&self, y: usize, x: usize) -> Option<[u8; 3]> {
        let inside = y < self.height && x < self.width;
        let start = 3 * (y * self.width + x);
        inside.then(|| [self.rgb[start], self.rgb[start + 1], self.rgb[start + 2]])
    }

    /// Copies `other` into this picture with its upper left corner at row `y`, column `x`; what does not fit is cut off.
    pub fn paste(&mut self, other: &Self, y: usize, x: usize) {
        let width = other.width.min(self.width.saturating_sub(x));
        for row in 0..other.height.min(self.height.saturating_sub(y)) {
            let from = 3 * row * other.width;
            let to = 3 * ((y + row) * self.width + x);
            self.rgb[to..to + 3 * width].copy_from_slice(&other.rgb[from..from + 3 * width]);
        }
    }

    /// Writes a PNG file; it appears under its name only when it is complete.
    ///
    /// # Errors
    /// A folder that is missing or cannot be written to, a full disk, a picture with a side of zero.
    pub fn save_png(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let mut file = WholeFile::create(path).map_err(Error::io("write", path))?;
        self.encode(&mut file).map_err(Error::io("write", path))?;
        file.commit(Durability::Remade).map_err(Error::io("write", path))?;
        Ok(())
    }

    fn encode(&self, out: &mut impl Write) -> std::io::Result<()> {
        let side = |n: usize| u32::try_from(n).map_err(std::io::Error::other);
        let mut encoder = png::Encoder::new(out, side(self.width)?, side(self.height)?);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        // A prediction's pictures would otherwise take a tenth of its time.
        encoder.set_compression(png::Compression::Fast);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.rgb)?;
        Ok(writer.finish()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_png_file_holds_the_same_pixels() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("picture.png");
        let mut picture = Picture::filled(5, 7, [10, 20, 30]);
        picture.set(4, 6, [255, 0, 128]);
        picture.save_png(&path).expect("written");
        let read = image::open(&path).expect("a PNG file").to_rgb8();
        assert_eq!((read.width(), read.height()), (7, 5));
        assert_eq!(read.into_raw(), picture.rgb);
        assert_eq!(
            std::fs::read_dir(folder.path()).expect("listed").count(),
            1,
            "nothing else is left behind"
        );
    }

    #[test]
    fn a_missing_folder_and_an_empty_picture_are_named_errors() {
        let picture = Picture::filled(2, 2, [0; 3]);
        let error = picture.save_png("no-such-folder/picture.png").expect_err("no folder");
        assert!(error.to_string().contains("no-such-folder"), "{error}");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("empty.png");
        let error = Picture::filled(0, 3, [0; 3]).save_png(&path).expect_err("no pixels");
        assert_eq!(error.to_string(), format!("cannot write `{}`", path.display()));
        assert!(!path.exists());
    }

    #[test]
    fn pasting_cuts_off_what_does_not_fit() {
        let mut picture = Picture::filled(3, 3, [0; 3]);
        picture.paste(&Picture::filled(5, 5, [9; 3]), 1, 2);
        assert_eq!(picture.get(1, 2), Some([9; 3]));
        assert_eq!(picture.get(2, 1), Some([0; 3]));
        picture.paste(&Picture::filled(1, 1, [7; 3]), 8, 8);
        assert_eq!(picture.rgb.iter().filter(|v| **v == 7).count(), 0);
    }

    #[test]
    fn a_thumbnail_is_the_mean_of_what_its_pixels_cover() {
        let rgb = (0..8 * 6).flat_map(|i| [(i % 8 / 4 * 100) as u8, (i / 8 / 3 * 60) as u8, 7]).collect();
        let photo = Photo { width: 8, height: 6, rgb, tag: 1 };
        let small = Picture::thumbnail(&photo, (2, 2));
        assert_eq!(small.rgb, [0, 0, 7, 100, 0, 7, 0, 60, 7, 100, 60, 7]);
        assert_eq!(Picture::thumbnail(&photo, (6, 8)).rgb, photo.rgb);
    }

    #[test]
    fn an_image_of_one_channel_is_refused() {
        let error = Picture::of_image(&Raster::filled(1, 2, 2, 0.0)).expect_err("one channel");
        assert!(error.to_string().contains("expected 3"), "{error}");
    }
}
