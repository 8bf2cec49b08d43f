//! Eight-bit RGB pictures and their files.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

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
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        {
            // A temporary file is its owner's alone by default; this one becomes an ordinary file, under the umask.
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let mut file =
            builder.prefix(".picture").tempfile_in(folder).map_err(Error::io("write into", folder))?;
        self.encode(file.as_file_mut()).map_err(Error::io("write", path))?;
        file.persist(path).map_err(|error| Error::io("write", path)(error.error))?;
        Ok(())
    }

    fn encode(&self, file: &mut File) -> std::io::Result<()> {
        let side = |n: usize| u32::try_from(n).map_err(std::io::Error::other);
        let mut out = BufWriter::new(file);
        let mut encoder = png::Encoder::new(&mut out, side(self.width)?, side(self.height)?);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        // A prediction's pictures would otherwise take a tenth of its time.
        encoder.set_compression(png::Compression::Fast);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.rgb)?;
        writer.finish()?;
        out.flush()
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
        assert!(Picture::filled(0, 3, [0; 3]).save_png(&path).is_err());
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
    fn an_image_of_one_channel_is_refused() {
        assert!(Picture::of_image(&Raster::filled(1, 2, 2, 0.0)).is_err());
    }
}
