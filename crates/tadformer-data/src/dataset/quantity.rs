//! Distances and directions: label files whose numbers are measured.

use super::census::{Census, Why};
use super::label::{LabelFile, Plane, levels, plane};
use crate::descriptor::{MetresEncoding, VectorsEncoding};
use crate::format::label_png::Samples;
use crate::format::npy::Npy;
use crate::format::{picture, read_bounded};
use crate::{Error, IGNORE, Raster, Result};

/// A label, or why there is none.
type Judged<T> = std::result::Result<T, Why>;

/// Distances; what is no positive distance below [`IGNORE`] metres within the encoding's bounds is [`IGNORE`].
pub(super) fn metres(
    file: LabelFile<'_>,
    encoding: &MetresEncoding,
    mut census: Option<&mut Census>,
) -> Result<Raster> {
    let (height, width, mut data) = match plane(file)? {
        Plane::Png(map) => {
            let map = levels(file, map)?;
            let data = match map.samples {
                Samples::U8(samples) => samples.into_iter().map(f32::from).collect(),
                Samples::U16(samples) => samples.into_iter().map(f32::from).collect::<Vec<_>>(),
                Samples::Rgb(_) => return Err(file.wrong("pixels are colours; expected levels of grey")),
            };
            (map.height, map.width, data)
        }
        Plane::Npy { height, width, data } => (height, width, data),
    };
    let unit = Unit::new(encoding.scale);
    let ignore: Vec<f32> = encoding.ignore.iter().map(|&number| number as f32).collect();
    let (min, max) = (encoding.min.unwrap_or(0.0) as f32, encoding.max.unwrap_or(f64::INFINITY) as f32);
    let judge = |stored: f32| -> Judged<f32> {
        if ignore.contains(&stored) {
            return Err(Why::Ignored(stored));
        }
        match valid_metres(unit.apply(stored))? {
            metres if metres < min => Err(Why::Below(min)),
            metres if metres > max => Err(Why::Above(max)),
            metres => Ok(metres),
        }
    };
    for v in &mut data {
        let judged = judge(*v);
        if let Some(census) = &mut census {
            if !matches!(judged, Err(Why::Ignored(_) | Why::NotFinite | Why::Zero)) {
                census.number(*v);
            }
            if let Err(why) = judged {
                census.unlabelled(why, 1);
            }
        }
        *v = judged.unwrap_or(IGNORE);
    }
    Ok(Raster { channels: 1, height, width, data })
}

/// The distance itself, unless it is NaN, infinite, zero, negative, or 255 m or more.
pub(super) fn valid_metres(metres: f32) -> Judged<f32> {
    if metres > 0.0 && metres < IGNORE {
        return Ok(metres);
    }
    Err(match metres {
        0.0 => Why::Zero,
        _ if !metres.is_finite() => Why::NotFinite,
        _ if metres < 0.0 => Why::Negative,
        _ => Why::Far,
    })
}

/// A scale that divides where that is exact: `v / 1000`, not `v * 0.001`.
#[derive(Debug, Clone, Copy)]
enum Unit {
    Times(f32),
    Over(f32),
}

impl Unit {
    fn new(scale: f64) -> Self {
        let inverse = (1.0 / scale).round();
        if scale < 1.0 && (1.0 / inverse - scale).abs() < 1e-12 * scale {
            Self::Over(inverse as f32)
        } else {
            Self::Times(scale as f32)
        }
    }

    fn apply(self, value: f32) -> f32 {
        match self {
            Self::Times(scale) => value * scale,
            Self::Over(scale) => value / scale,
        }
    }
}

/// Unit vectors; a vector that is ignored, not finite or of another length is [`IGNORE`] in all three channels.
pub(super) fn vectors(
    file: LabelFile<'_>,
    encoding: &VectorsEncoding,
    mut census: Option<&mut Census>,
) -> Result<Raster> {
    let Stored { height, width, data, range } = stored_vectors(file, encoding.range)?;
    let (pixels, _) = data.as_chunks::<3>();
    let ignore: Vec<[f32; 3]> =
        encoding.ignore.iter().map(|stored| stored.numbers().map(|number| number as f32)).collect();
    if encoding.range.is_none()
        && range.is_none()
        && let Some(other) = Convention::of(pixels, &ignore)
    {
        return Err(file.wrong(other.advice()));
    }
    let (min, max) = (encoding.min as f32, encoding.max as f32);
    let judge = |stored: [f32; 3]| -> Judged<[f32; 3]> {
        if ignore.contains(&stored) {
            return Err(Why::IgnoredVector(stored));
        }
        if stored.iter().any(|v| !v.is_finite()) {
            return Err(Why::NotFinite);
        }
        let vector = stored.map(|v| component(v, range));
        match length(vector) {
            length if length < min => Err(Why::Short(min)),
            length if length > max => Err(Why::Long(max)),
            _ => Ok(vector),
        }
    };
    let mut map = Raster::filled(3, height, width, IGNORE);
    let size = height * width;
    for (i, &stored) in pixels.iter().enumerate() {
        let judged = judge(stored);
        if let Some(census) = &mut census {
            match judged {
                Err(Why::NotFinite | Why::IgnoredVector(_)) => {}
                _ => stored.iter().for_each(|&v| census.number(v)),
            }
            if let Err(why) = judged {
                census.unlabelled(why, 1);
            }
        }
        if let Ok(vector) = judged {
            for (c, v) in vector.into_iter().enumerate() {
                map.data[c * size + i] = v;
            }
        }
    }
    Ok(map)
}

/// The numbers of a file of vectors, three a pixel.
struct Stored {
    height: usize,
    width: usize,
    data: Vec<f32>,
    /// The numbers that stand for −1 and 1, where they are not these.
    range: Option<[f64; 2]>,
}

fn stored_vectors(file: LabelFile<'_>, range: Option<[f64; 2]>) -> Result<Stored> {
    let bytes = read_bounded(file.path)?;
    if bytes.starts_with(b"\x93NUMPY") {
        let array = Npy::parse(bytes).map_err(|reason| Error::decode(file.path, "NumPy array", reason))?;
        let &[height, width, 3] = array.shape.as_slice() else {
            return Err(
                file.wrong(format!("an array of shape {:?}; expected (height, width, 3)", array.shape))
            );
        };
        return Ok(Stored { height, width, data: array.to_f32(), range });
    }
    if let Some(kind) = no_vectors(&bytes) {
        return Err(file.wrong(format!("{kind}; expected vectors as an RGB PNG or a `.npy` of (h, w, 3)")));
    }
    let picture = picture::parse(&bytes, picture::Orientation::AsStored)
        .map_err(|reason| Error::decode(file.path, "picture of vectors", reason))?;
    let data = picture.rgb.iter().map(|&byte| f32::from(byte)).collect();
    let range = Some(range.unwrap_or([0.0, 255.0]));
    Ok(Stored { height: picture.height, width: picture.width, data, range })
}

/// What a picture is, if its colours cannot be vectors.
fn no_vectors(bytes: &[u8]) -> Option<&'static str> {
    let kind = picture::content(bytes);
    if kind != "a PNG" {
        return match kind {
            "a JPEG" => {
                Some("this is a JPEG, whose compression bends directions and blurs what is not measured")
            }
            "no known picture format" => None,
            _ => Some("this is neither a PNG nor a NumPy array"),
        };
    }
    // The header's colour type (PNG, 11.2.2).
    match bytes.get(25)? {
        0 | 4 => Some("this is a grey PNG, whose pixels have one number instead of three"),
        3 => Some("this is a PNG with a palette, whose few colours are no directions; save it again as RGB"),
        _ => None,
    }
}

/// A component of a vector: `range` is what stands for −1 and 1.
fn component(stored: f32, range: Option<[f64; 2]>) -> f32 {
    match range {
        None => stored,
        Some([low, high]) => (2.0 * (f64::from(stored) - low) / (high - low) - 1.0) as f32,
    }
}

fn length(vector: [f32; 3]) -> f32 {
    vector.iter().map(|v| v * v).sum::<f32>().sqrt()
}

/// Another way in which arrays keep vectors.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Convention {
    /// What stands for −1 and 1.
    range: [f64; 2],
    /// How it is written.
    formula: &'static str,
}

/// The ways that are recognised.
const CONVENTIONS: [Convention; 2] = [
    Convention { range: [0.0, 1.0], formula: "(n + 1) / 2" },
    Convention { range: [0.0, 255.0], formula: "255 (n + 1) / 2" },
];

impl Convention {
    /// The way in which nearly all of these vectors have length 1, if they have not as they are.
    fn of(pixels: &[[f32; 3]], ignore: &[[f32; 3]]) -> Option<Self> {
        // Three equal numbers may say "no label" in any convention.
        let telling = || {
            pixels.iter().filter(|v| {
                v.iter().all(|c| c.is_finite()) && !(v[0] == v[1] && v[1] == v[2]) && !ignore.contains(v)
            })
        };
        let unit = |range| {
            let near = |v: &&[f32; 3]| (length(v.map(|c| component(c, range))) - 1.0).abs() < 0.05;
            telling().filter(near).count()
        };
        let all = telling().count();
        let most = |count: usize| count * 10 > all * 9;
        if all == 0 || most(unit(None)) {
            return None;
        }
        CONVENTIONS.into_iter().find(|convention| {
            let [low, high] = convention.range.map(|bound| bound as f32);
            telling().all(|v| v.iter().all(|c| (low..=high).contains(c)))
                && most(unit(Some(convention.range)))
        })
    }

    fn advice(self) -> String {
        let [low, high] = self.range;
        format!(
            "the vectors have no length of 1 as they are, but they have as {}; expected components in -1..=1, or \
             `range = [{low}, {high}]` in the descriptor's encoding",
            self.formula
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousandths_are_divided_not_multiplied() {
        let unit = Unit::new(0.001);
        assert_eq!(unit.apply(4253.0).to_bits(), (4253.0f32 / 1000.0).to_bits());
        assert_eq!(Unit::new(1.0).apply(2.5), 2.5);
        assert_eq!(Unit::new(0.3).apply(2.0), 0.6);
        assert_eq!(Unit::new(1e-12).apply(1e12), 1.0);
    }

    #[test]
    fn only_positive_distances_below_255_metres_are_labels() {
        for (metres, why) in [
            (0.0, Why::Zero),
            (-0.0, Why::Zero),
            (-1.0, Why::Negative),
            (f32::NAN, Why::NotFinite),
            (f32::INFINITY, Why::NotFinite),
            (f32::NEG_INFINITY, Why::NotFinite),
            (255.0, Why::Far),
            (1e9, Why::Far),
        ] {
            assert_eq!(valid_metres(metres), Err(why), "{metres}");
        }
        assert_eq!((valid_metres(0.001), valid_metres(254.9)), (Ok(0.001), Ok(254.9)));
    }

    /// Directions all around, none of whose components is 0.
    fn directions() -> Vec<[f32; 3]> {
        (1..40)
            .map(|i| {
                let (a, b) = (0.37 * i as f32, 0.21 * i as f32 + 0.1);
                [a.cos() * b.sin(), a.sin() * b.sin(), b.cos()]
            })
            .collect()
    }

    #[test]
    fn conventions_are_told_by_the_lengths_that_they_give() {
        let signed = directions();
        assert_eq!(Convention::of(&signed, &[]), None);
        let halved: Vec<_> = signed.iter().map(|n| n.map(|c| (c + 1.0) / 2.0)).collect();
        assert_eq!(Convention::of(&halved, &[]), Some(CONVENTIONS[0]));
        let bytes: Vec<_> = signed.iter().map(|n| n.map(|c| (127.5 * (c + 1.0)).round())).collect();
        assert_eq!(Convention::of(&bytes, &[]), Some(CONVENTIONS[1]));
        // What is not measured says nothing: zeros, the middle, and what the descriptor lists.
        let mut mixed = halved.clone();
        mixed.extend([[0.0; 3]; 100]);
        mixed.extend([[0.5; 3]; 100]);
        mixed.extend([[9.0, 9.0, -9.0]; 100]);
        assert_eq!(Convention::of(&mixed, &[[9.0, 9.0, -9.0]]), Some(CONVENTIONS[0]));
        // Unit vectors that happen to point to the positive side are what they are.
        let positive: Vec<_> = signed.iter().map(|n| n.map(f32::abs)).collect();
        assert_eq!(Convention::of(&positive, &[]), None);
        assert_eq!(Convention::of(&[[0.0; 3]; 5], &[]), None);
        assert_eq!(Convention::of(&[], &[]), None);
    }
}
