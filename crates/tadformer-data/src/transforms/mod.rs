//! What happens to a sample between the disk and the network.
//!
//! Flip, rotate and scale about the centre, resize, mark what is not labelled, normalise: the steps and the order of the
//! published training code, with OpenCV's meaning of each (cubic convolution for picture and normals, nearest pixel for
//! every other label). What a label map holds ([`LabelKind`](crate::LabelKind)) decides what a step does to it.
//!
//! Where a rotation or a shrinking brings the outside in, the picture is black, normals and depth are ignored, and class
//! maps hold class 0, as in the published training.

mod augmentation;
mod resample;
mod planes;
mod cubic;
mod scale_rotate;
mod resize;
mod nearest;
mod normals;
mod ignore;
mod normalize;
mod vectors;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod laws;

pub use augmentation::{Augmentation, Draw, Scale};
pub use normalize::{IMAGENET_MEAN, IMAGENET_STD, denormalize, normalize};

use serde::{Deserialize, Serialize};
use tadformer_ops::Rng;

use crate::format::picture::Photo;
use crate::{Error, Raster, Result, Sample};

/// The longest side of a picture that the pipeline takes or makes, in pixels.
pub const MAX_SIDE: usize = 32_768;

/// The way of a sample from the data set to the network.
///
/// ```
/// use tadformer_data::{Augmentation, Pipeline, Raster, Sample};
/// use tadformer_ops::Rng;
///
/// let picture = Raster::filled(3, 30, 40, 255.0);
/// let sample = Sample { id: "white".into(), image: picture, labels: Vec::new() };
/// let pipeline = Pipeline::evaluation(16, 24);
/// let sample = pipeline.apply(sample, &mut Rng::named(0, "augment", 0)).unwrap();
/// assert_eq!((sample.image.height, sample.image.width), (16, 24));
/// assert!((sample.image.plane(0)[0] - (1.0 - 0.485) / 0.229).abs() < 1e-6);
/// assert_eq!(pipeline.augmentation, Augmentation::none());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// Height and width of the result in pixels; without them a sample keeps its size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<[usize; 2]>,
    /// Random changes.
    #[serde(default)]
    pub augmentation: Augmentation,
}

impl Pipeline {
    /// Random changes, then a resize.
    pub fn training(augmentation: Augmentation, height: usize, width: usize) -> Self {
        Self { size: Some([height, width]), augmentation }
    }

    /// A resize and nothing random.
    pub fn evaluation(height: usize, width: usize) -> Self {
        Self::training(Augmentation::none(), height, width)
    }

    /// Samples in their own size, only normalised.
    pub fn none() -> Self {
        Self { size: None, augmentation: Augmentation::none() }
    }

    /// Whether every number is in its range.
    ///
    /// # Errors
    /// Names the field, its value and the bound.
    pub fn validate(&self) -> Result<()> {
        for side in self.size.into_iter().flatten() {
            if !(1..=MAX_SIDE).contains(&side) {
                return Err(Error::Config(format!(
                    "`size` has a side of {side} pixels, expected 1 to {MAX_SIDE}"
                )));
            }
        }
        self.augmentation.validate()
    }

    /// Takes a sample as its data set gives it to what a network sees: picture normalised by [`normalize`], labels with
    /// [`IGNORE`](crate::IGNORE) where there is none.
    ///
    /// Cubic interpolation leaves levels below 0 and above 255, which are clamped, and fractions, which are rounded to the
    /// nearest level (the published code lets them wrap around modulo 256). A map of human parts without any part of a human is ignored as a whole.
    ///
    /// # Errors
    /// A picture or label of a shape that a sample cannot have.
    pub fn apply(&self, sample: Sample, rng: &mut Rng) -> Result<Sample> {
        let draw = self.augmentation.draw(rng);
        self.apply_drawn(sample, &draw)
    }

    /// A picture as a network for `[height, width]` sees it, from its bytes: the same numbers as those of a sample without
    /// labels through [`evaluation`](Self::evaluation), and no copy of it as large as itself.
    ///
    /// # Errors
    /// A side of zero pixels or of more than [`MAX_SIDE`], bytes that are not three a pixel.
    pub fn photo(photo: &Photo, [height, width]: [usize; 2]) -> Result<Raster> {
        Self::evaluation(height, width).validate()?;
        let sides = 1..=MAX_SIDE;
        if !sides.contains(&photo.height) || !sides.contains(&photo.width) {
            return Err(Error::Config(format!(
                "a picture of {}×{} pixels, expected sides of 1 to {MAX_SIDE}",
                photo.width, photo.height
            )));
        }
        if photo.rgb.len() != 3 * photo.width * photo.height {
            return Err(Error::Config(format!(
                "a picture of {}×{} pixels has {} bytes, expected 3 a pixel",
                photo.width,
                photo.height,
                photo.rgb.len()
            )));
        }
        Ok(resample::resample_photo(photo, [height, width], normalize::quantise_and_normalize))
    }

    /// [`apply`](Self::apply) with the random numbers given.
    ///
    /// # Errors
    /// Those of [`apply`](Self::apply).
    pub fn apply_drawn(&self, sample: Sample, draw: &Draw) -> Result<Sample> {
        self.drawn(sample, draw, normalize::quantise_and_normalize)
    }

    /// All steps, with `levels` for those on the rows of the picture (one plane behind the other).
    fn drawn(&self, sample: Sample, draw: &Draw, levels: impl Fn(&mut [f32])) -> Result<Sample> {
        check_shapes(&sample)?;
        let mut sample = resample::resample(sample, draw, self.size, levels);
        ignore::background_only(&mut sample);
        Ok(sample)
    }
}

fn check_shapes(sample: &Sample) -> Result<()> {
    let size = (sample.image.height, sample.image.width);
    let check = |what: &str, map: &Raster, channels: usize| {
        let found = (map.channels, map.height, map.width);
        let elements = map.channels.checked_mul(map.height).and_then(|n| n.checked_mul(map.width));
        let sides = 1..=MAX_SIDE;
        if !sides.contains(&map.height) || !sides.contains(&map.width) {
            Err(Error::Config(format!(
                "sample `{}`: {what} has shape {found:?}, expected sides of 1 to {MAX_SIDE} pixels",
                sample.id
            )))
        } else if found != (channels, size.0, size.1) || elements != Some(map.data.len()) {
            Err(Error::Config(format!(
                "sample `{}`: {what} has shape {found:?} and {} elements, expected shape {:?}",
                sample.id,
                map.data.len(),
                (channels, size.0, size.1)
            )))
        } else {
            Ok(())
        }
    };
    check("the picture", &sample.image, 3)?;
    for (task, map) in &sample.labels {
        check(&format!("the label of `{task}`"), map, task.label_channels())?;
    }
    Ok(())
}
