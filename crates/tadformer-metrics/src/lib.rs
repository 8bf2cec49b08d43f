//! Meters of multi-task dense prediction, the multi-task gain Δm, and the gain of a run over its beginning.
//!
//! A [`Meter`] takes one image a call, the network's raw output and the label as planar slices, and gives
//! [`Score`]s over all images, the task's headline figure first. The crate knows no tensor, no device and no file.
//!
//! | meter | task | headline |
//! | --- | --- | --- |
//! | [`MeanIou`] | semantic segmentation, human parts | mIoU, % |
//! | [`Saliency`] | saliency | mIoU, % |
//! | [`Normals`] | surface normals | mean angle, degrees |
//! | [`Depth`] | depth | rmse, m |
//! | [`Edge`] | edges | odsF, % |
//!
//! Pixels labelled 255 are not scored. What a meter cannot make sense of is an error that names the place, and leaves
//! the meter as it was. Images may be spread over several meters and merged: counts are integers and sums exact,
//! so the scores are the same to the last bit.
//!
//! ```
//! use tadformer_metrics::{Direction, MeanIou, Meter, Planes, delta_m};
//!
//! // Two classes on one row of four pixels: the arg-max is 0 0 1 1, the last pixel has no label.
//! let logits = [2.0, 1.0, 0.0, -1.0, 0.0, 0.5, 3.0, 4.0];
//! let label = [0.0, 1.0, 1.0, 255.0];
//!
//! let mut meter = MeanIou::new(2)?;
//! meter.update(Planes::new(&logits, 2, 1, 4)?, Planes::new(&label, 1, 1, 4)?)?;
//!
//! let headline = meter.scores()[0];
//! assert_eq!((headline.name, headline.unit, headline.value), ("mIoU", "%", 50.0));
//! assert_eq!(meter.class_ious(&["background", "cat"])?, [("background", 50.0), ("cat", 50.0)]);
//!
//! // Against a single-task model at 40 %, and another task whose error fell from 20 to 19.
//! let gain = delta_m(&[
//!     (headline.value, 40.0, headline.direction),
//!     (19.0, 20.0, Direction::LowerIsBetter),
//! ]);
//! assert_eq!(gain, 15.0);
//! # Ok::<(), tadformer_metrics::Error>(())
//! ```

mod planes;
mod meter;
mod mean_iou;
mod binary;
mod saliency;
mod normals;
mod depth;
mod edge;
mod delta_m;
mod error_reduction;
mod exact_sum;
mod error;

pub use delta_m::{delta_m, relative_gain};
pub use depth::Depth;
pub use edge::{Edge, EdgePoint, EdgeProtocol, Matching, Tolerance};
pub use error::{Error, Place};
pub use error_reduction::error_reduction;
pub use mean_iou::{ClassCounts, MeanIou};
pub use meter::{Direction, Meter, Score};
pub use normals::Normals;
pub use planes::{IGNORE, Planes};
pub use saliency::{Saliency, SaliencyAverages, SaliencyCounts};
