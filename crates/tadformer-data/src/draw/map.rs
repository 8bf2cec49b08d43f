//! Logits to maps, and maps to colours.

use super::colour_map::viridis;
use super::font::{GLYPH_HEIGHT, text_width, write_text};
use super::picture::Picture;
use crate::{Drawing, Error, IGNORE, LabelKind, Raster, Result, Task, TaskSpec};

/// What a network says, in the terms of the task's labels.
///
/// `logits` are `(c, h, w)`. Classes become the index of the largest `(1, h, w)`, the first of equals; binary tasks a
/// probability `(1, h, w)`; unit vectors are normalised `(3, h, w)`; metres are cut off at zero `(1, h, w)`.
///
/// # Errors
/// A number of channels that the task cannot have.
pub fn activate(task: Task, logits: &Raster) -> Result<Raster> {
    let wanted = match task.label {
        LabelKind::Classes => logits.channels.max(1),
        LabelKind::Binary | LabelKind::UnitVector | LabelKind::Metres => task.label_channels(),
    };
    check_channels(task, logits, wanted)?;
    Ok(match task.label {
        LabelKind::Classes => argmax(logits),
        LabelKind::Binary => each(logits, |v| 1.0 / (1.0 + (-v).exp())),
        LabelKind::Metres => each(logits, |v| v.max(0.0)),
        LabelKind::UnitVector => normalised(logits),
    })
}

/// The range of a quantity that a colour map spans.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// Drawn brightest.
    pub low: f32,
    /// Drawn darkest.
    pub high: f32,
}

impl Range {
    /// From the least to the largest finite value of `map` that is not ignored; `0..1` if there is none.
    pub fn of(map: &Raster) -> Self {
        let values = || map.data.iter().copied().filter(|v| v.is_finite() && *v != IGNORE);
        let low = values().fold(f32::INFINITY, f32::min);
        let high = values().fold(f32::NEG_INFINITY, f32::max);
        if low <= high { Self { low, high } } else { Self { low: 0.0, high: 1.0 } }
    }

    pub(super) fn place(self, value: f32) -> f32 {
        (value - self.low) / (self.high - self.low).max(f32::MIN_POSITIVE)
    }
}

/// Draws an activated prediction or a label at its own size.
///
/// Classes take their colour of the palette, probabilities become grey, unit vectors `127.5 (v + 1)`, quantities the viridis
/// colour map over `range` (or over [`Range::of`] the map), nearest bright. Ignored pixels and those that are not a number
/// are hatched in grey.
///
/// # Errors
/// A number of channels that the task cannot have; a class without a colour.
pub fn draw_map(spec: &TaskSpec, map: &Raster, range: Option<Range>) -> Result<Picture> {
    check_channels(spec.task, map, spec.task.label_channels())?;
    let size = map.height * map.width;
    let range = range.unwrap_or_else(|| Range::of(map));
    let mut picture = Picture::filled(map.height, map.width, [0; 3]);
    for i in 0..size {
        let value = map.data[i];
        let colour = if (0..map.channels).all(|c| map.data[c * size + i] == IGNORE) || value.is_nan() {
            hatch(i / map.width, i % map.width)
        } else {
            match spec.task.drawing {
                Drawing::Palette => class_colour(spec, value, i / map.width, i % map.width)?,
                Drawing::Grey => [level(value); 3],
                Drawing::ColourMap => viridis(1.0 - range.place(value)),
                Drawing::Vector => std::array::from_fn(|c| level(0.5 * (map.data[c * size + i] + 1.0))),
            }
        };
        picture.rgb[3 * i..3 * i + 3].copy_from_slice(&colour);
    }
    Ok(picture)
}

/// The colours of a range from low to high, with both ends in figures, in metres; at least as wide as these and some colour.
pub fn colour_bar(range: Range, width: usize) -> Picture {
    const INK: [u8; 3] = [225; 3];
    const GROUND: [u8; 3] = [24; 3];
    let (low, high) = (format!("{:.1} m", range.low), format!("{:.1} m", range.high));
    let height = GLYPH_HEIGHT + 4;
    let width = width.max(text_width(&low, 1) + text_width(&high, 1) + 8 + 16);
    let mut bar = Picture::filled(height, width, GROUND);
    let (left, right) = (text_width(&low, 1) + 4, width.saturating_sub(text_width(&high, 1) + 4));
    for x in left..right {
        let t = (x - left) as f32 / (right - left).saturating_sub(1).max(1) as f32;
        for y in 2..height - 2 {
            bar.set(y, x, viridis(1.0 - t));
        }
    }
    write_text(&mut bar, 2, 1, &low, 1, INK);
    write_text(&mut bar, 2, right + 3, &high, 1, INK);
    bar
}

pub(super) fn check_channels(task: Task, map: &Raster, wanted: usize) -> Result<()> {
    if map.channels == wanted && map.data.len() == wanted * map.height * map.width {
        return Ok(());
    }
    Err(Error::Config(format!(
        "a map of task `{task}` has {} channels and {} values for {}x{} pixels; expected {wanted} channels",
        map.channels,
        map.data.len(),
        map.height,
        map.width
    )))
}

pub(super) fn class_colour(spec: &TaskSpec, value: f32, y: usize, x: usize) -> Result<[u8; 3]> {
    let index = value as usize;
    let known = value >= 0.0 && value.fract() == 0.0;
    spec.palette.get(index).copied().filter(|_| known).ok_or_else(|| {
        Error::Config(format!(
            "a map of task `{}` holds {value} at row {y}, column {x}; expected a class below {} or {IGNORE} for ignored",
            spec.task,
            spec.palette.len()
        ))
    })
}

/// Diagonal bands of two greys.
fn hatch(y: usize, x: usize) -> [u8; 3] {
    if (y + x) % 8 < 4 { [96; 3] } else { [120; 3] }
}

/// A share of `0..=1` as eight bits.
pub(super) fn level(share: f32) -> u8 {
    (255.0 * share).clamp(0.0, 255.0).round() as u8
}

fn each(map: &Raster, f: impl Fn(f32) -> f32) -> Raster {
    Raster { data: map.data.iter().map(|v| f(*v)).collect(), ..*map }
}

fn argmax(logits: &Raster) -> Raster {
    let mut classes = Raster::filled(1, logits.height, logits.width, 0.0);
    let mut best = logits.plane(0).to_vec();
    for c in 1..logits.channels {
        for ((class, best), value) in classes.data.iter_mut().zip(&mut best).zip(logits.plane(c)) {
            if *value > *best || best.is_nan() {
                (*class, *best) = (c as f32, *value);
            }
        }
    }
    classes
}

/// Divided by the norm, which is taken as at least 1e-12.
fn normalised(vectors: &Raster) -> Raster {
    let mut out = vectors.clone();
    let size = vectors.height * vectors.width;
    for i in 0..size {
        let norm = (0..3).map(|c| vectors.data[c * size + i].powi(2)).sum::<f32>().sqrt().max(1e-12);
        for c in 0..3 {
            out.data[c * size + i] /= norm;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(name: &str) -> Task {
        Task::from_name(name).expect("a known task")
    }

    fn spec(name: &str) -> TaskSpec {
        TaskSpec {
            task: task(name),
            outputs: 1,
            classes: vec!["a".to_owned(), "b".to_owned()],
            palette: vec![[1, 2, 3], [4, 5, 6]],
            edge_tolerance: crate::EDGE_TOLERANCE,
        }
    }

    fn raster(channels: usize, data: &[f32]) -> Raster {
        Raster { channels, height: 1, width: data.len() / channels, data: data.to_vec() }
    }

    #[test]
    fn logits_become_values_of_the_labels_kind() {
        let classes = activate(task("semseg"), &raster(3, &[1.0, 5.0, 2.0, 5.0, 0.0, 9.0])).expect("classes");
        assert_eq!(classes.data, [1.0, 2.0]);
        let share = activate(task("sal"), &raster(1, &[0.0, 3f32.ln()])).expect("probabilities");
        assert!((share.data[0] - 0.5).abs() < 1e-6 && (share.data[1] - 0.75).abs() < 1e-6);
        let normals =
            activate(task("normals"), &raster(3, &[3.0, 0.0, 0.0, 0.0, 4.0, 0.0])).expect("vectors");
        assert_eq!(normals.data, [0.6, 0.0, 0.0, 0.0, 0.8, 0.0]);
        let depth = activate(task("depth"), &raster(1, &[-2.0, 3.5])).expect("metres");
        assert_eq!(depth.data, [0.0, 3.5]);
    }

    #[test]
    fn a_wrong_number_of_channels_is_refused() {
        for (name, channels) in [("sal", 2), ("normals", 1), ("depth", 3)] {
            let error = activate(task(name), &Raster::filled(channels, 2, 2, 0.0)).expect_err("refused");
            assert!(error.to_string().contains(name), "{error}");
        }
        let error = activate(task("semseg"), &Raster::filled(0, 2, 2, 0.0)).expect_err("no class");
        assert!(error.to_string().contains("semseg"), "{error}");
        let error = draw_map(&spec("semseg"), &Raster::filled(2, 2, 2, 0.0), None).expect_err("logits");
        assert!(error.to_string().contains("semseg"), "{error}");
    }

    #[test]
    fn classes_take_their_palette_colour_and_unknown_ones_are_named() {
        let drawn = draw_map(&spec("semseg"), &raster(1, &[1.0, 0.0, IGNORE]), None).expect("drawn");
        assert_eq!(drawn.rgb[..6], [4, 5, 6, 1, 2, 3]);
        assert_eq!(drawn.get(0, 2), Some(hatch(0, 2)));
        let error = draw_map(&spec("semseg"), &raster(1, &[0.0, 2.0]), None).expect_err("no third colour");
        assert!(error.to_string().contains("holds 2 at row 0, column 1"), "{error}");
    }

    #[test]
    fn near_is_bright_and_ignored_depth_does_not_stretch_the_range() {
        let map = raster(1, &[2.0, 6.0, IGNORE]);
        assert_eq!(Range::of(&map), Range { low: 2.0, high: 6.0 });
        let drawn = draw_map(&spec("depth"), &map, None).expect("drawn");
        assert_eq!(drawn.get(0, 0), Some(viridis(1.0)));
        assert_eq!(drawn.get(0, 1), Some(viridis(0.0)));
        let wider = draw_map(&spec("depth"), &map, Some(Range { low: 0.0, high: 8.0 })).expect("drawn");
        assert_eq!(wider.get(0, 1), Some(viridis(0.25)));
    }

    #[test]
    fn vectors_and_probabilities_span_all_levels() {
        let drawn = draw_map(&spec("normals"), &raster(3, &[-1.0, 0.0, 1.0]), None).expect("drawn");
        assert_eq!(drawn.rgb, [0, 128, 255]);
        let drawn = draw_map(&spec("edge"), &raster(1, &[0.0, 1.0, f32::NAN]), None).expect("drawn");
        assert_eq!(drawn.rgb[..6], [0, 0, 0, 255, 255, 255]);
        assert_eq!(drawn.get(0, 2), Some(hatch(0, 2)));
    }
}
