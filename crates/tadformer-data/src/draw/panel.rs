//! Several pictures in one, with titles.

use super::font::{GLYPH_HEIGHT, text_width, write_text};
use super::map::{Range, colour_bar, draw_map};
use super::picture::Picture;
use crate::{Drawing, Raster, Result, TaskSpec};

/// Space between pictures, pixels.
const GAP: usize = 4;
const GROUND: [u8; 3] = [24; 3];
const INK: [u8; 3] = [225; 3];

/// Pictures with titles, from left to right, `per_row` in a row (all in one if it is 0), each as wide as the widest picture
/// or title. Titles grow with the pictures.
pub fn panel(columns: &[(&str, Picture)], per_row: usize) -> Picture {
    let per_row = if per_row == 0 { columns.len().max(1) } else { per_row };
    let cell_height = columns.iter().map(|(_, picture)| picture.height).max().unwrap_or(0);
    let longest = columns.iter().map(|(title, _)| text_width(title, 1)).max().unwrap_or(0);
    let widest = columns.iter().map(|(_, picture)| picture.width).max().unwrap_or(0);
    // A title begins one pixel to the right of its picture's edge.
    let (cell_width, longest) = (widest.max(longest + 1), longest.max(1));
    let scale = (cell_height / 220).clamp(1, (cell_width / longest).max(1));
    let head = GLYPH_HEIGHT * scale + 2 * GAP;
    let rows = columns.len().div_ceil(per_row);
    let across = per_row.min(columns.len());
    let mut canvas =
        Picture::filled(rows * (head + cell_height) + GAP, across * (cell_width + GAP) + GAP, GROUND);
    for (i, (title, picture)) in columns.iter().enumerate() {
        let (y, x) = ((i / per_row) * (head + cell_height), GAP + (i % per_row) * (cell_width + GAP));
        let mut label = Picture::filled(head, cell_width, GROUND);
        write_text(&mut label, GAP, 1, title, scale, INK);
        canvas.paste(&label, y, x);
        canvas.paste(picture, y + head, x);
    }
    canvas
}

/// Rows and columns of a picture of `size` = (rows, columns) brought within `side` × `side` pixels, at least one each; its
/// own where they are no larger.
///
/// ```
/// assert_eq!(tadformer_data::draw::fit((3000, 4000), 640), (480, 640));
/// assert_eq!(tadformer_data::draw::fit((300, 400), 640), (300, 400));
/// ```
pub fn fit(size: (usize, usize), side: usize) -> (usize, usize) {
    let longest = size.0.max(size.1);
    if longest <= side {
        return size;
    }
    let scaled = |n: usize| ((n as f64 * side as f64 / longest as f64).round() as usize).max(1);
    (scaled(size.0), scaled(size.1))
}

/// A task's prediction and label, for [`compare`].
#[derive(Debug, Clone, Copy)]
pub struct Compared<'a> {
    /// What the maps are of.
    pub spec: &'a TaskSpec,
    /// Activated prediction, if there is one.
    pub prediction: Option<&'a Raster>,
    /// Label, if there is one.
    pub label: Option<&'a Raster>,
}

/// A panel of the input, then each task's prediction beside its label, both of a quantity over the label's range with a
/// colour bar.
///
/// # Errors
/// As [`draw_map`].
pub fn compare(image: &Picture, tasks: &[Compared<'_>]) -> Result<Picture> {
    let mut cells = vec![("input".to_owned(), image.clone())];
    let pairs = tasks.iter().any(|entry| entry.prediction.is_some() && entry.label.is_some());
    for entry in tasks {
        let name = entry.spec.task.name;
        let range = entry.label.or(entry.prediction).map(Range::of);
        let label_title = if entry.prediction.is_some() { format!("{name}: label") } else { name.to_owned() };
        for (title, map) in [(name.to_owned(), entry.prediction), (label_title, entry.label)] {
            if let Some(map) = map {
                cells.push((title, draw_with_bar(entry.spec, map, range)?));
            }
        }
    }
    // The input stands alone before the pairs, so that each pair shares a row: 1 + 2n cells in rows of an odd number.
    let per_row = if !pairs {
        cells.len().min(7)
    } else if cells.len() <= 9 {
        cells.len()
    } else {
        return Ok(wrapped(&cells));
    };
    Ok(panel_of(&cells, per_row))
}

/// The input and half of the pairs in one row, a blank and the other half in the next.
fn wrapped(cells: &[(String, Picture)]) -> Picture {
    let pairs = (cells.len() - 1).div_ceil(2);
    let per_row = 1 + 2 * pairs.div_ceil(2);
    let mut placed = cells.to_vec();
    let blank = Picture::filled(cells[0].1.height, cells[0].1.width, GROUND);
    placed.insert(per_row.min(placed.len()), (String::new(), blank));
    panel_of(&placed, per_row)
}

fn panel_of(cells: &[(String, Picture)], per_row: usize) -> Picture {
    let columns: Vec<(&str, Picture)> = cells.iter().map(|(title, p)| (title.as_str(), p.clone())).collect();
    panel(&columns, per_row)
}

fn draw_with_bar(spec: &TaskSpec, map: &Raster, range: Option<Range>) -> Result<Picture> {
    let drawn = draw_map(spec, map, range)?;
    let Some(range) = range.filter(|_| spec.task.drawing == Drawing::ColourMap) else {
        return Ok(drawn);
    };
    let bar = colour_bar(range, drawn.width);
    let mut both = Picture::filled(drawn.height + bar.height, drawn.width.max(bar.width), GROUND);
    both.paste(&drawn, 0, 0);
    both.paste(&bar, drawn.height, 0);
    Ok(both)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{IGNORE, Task};

    #[test]
    fn pictures_stand_side_by_side_under_their_titles() {
        let columns = [("ab", Picture::filled(20, 30, [1; 3])), ("c", Picture::filled(20, 30, [2; 3]))];
        let both = panel(&columns, 0);
        let head = GLYPH_HEIGHT + 2 * GAP;
        assert_eq!((both.height, both.width), (head + 20 + GAP, 2 * (30 + GAP) + GAP));
        assert_eq!(both.get(head, GAP), Some([1; 3]));
        assert_eq!(both.get(head + 19, GAP + 30 + GAP), Some([2; 3]));
        let inked = (0..head).any(|y| (0..30).any(|x| both.get(y, GAP + x) == Some(INK)));
        assert!(inked, "a title is written");
        let stacked = panel(&columns, 1);
        assert_eq!(stacked.get(head + 20 + head, GAP), Some([2; 3]));
    }

    #[test]
    fn no_columns_and_empty_pictures_do_no_harm() {
        assert_eq!(panel(&[], 0).height, GAP);
        panel(&[("long title", Picture::filled(0, 0, [0; 3]))], 3);
        panel(&[("", Picture::filled(1, 1, [0; 3]))], 3);
    }

    #[test]
    fn prediction_and_label_share_one_range_and_one_row() {
        // As wide as the longest title and the figures of the colour bar need.
        const WIDTH: usize = 120;
        let image = Picture::filled(24, WIDTH, [128; 3]);
        let spec = TaskSpec {
            task: Task::from_name("depth").expect("a task"),
            outputs: 1,
            classes: Vec::new(),
            palette: Vec::new(),
            edge_tolerance: crate::EDGE_TOLERANCE,
        };
        let mut label = Raster::filled(1, 24, WIDTH, 2.0);
        (label.data[0], label.data[1]) = (6.0, IGNORE);
        let prediction = Raster::filled(1, 24, WIDTH, 6.0);
        let entry = Compared { spec: &spec, prediction: Some(&prediction), label: Some(&label) };
        let head = GLYPH_HEIGHT + 2 * GAP;
        let three = compare(&image, &[entry]).expect("drawn");
        let at = |column: usize| three.get(head, GAP + column * (WIDTH + GAP));
        assert_eq!(at(0), Some([128; 3]));
        assert_eq!(at(1), at(2), "6 m looks the same in both");
        let seven = compare(&image, &[entry; 6]).expect("drawn");
        assert_eq!(seven.width, 7 * (WIDTH + GAP) + GAP);
    }

    #[test]
    fn no_title_is_cut_off_and_none_reaches_into_the_next_column() {
        let small = || Picture::filled(20, 10, [1; 3]);
        let title = "human_parts: label";
        let drawn = panel(&[(title, small()), (title, small()), ("x", small())], 0);
        let cell = text_width(title, 1) + 1;
        assert_eq!(drawn.width, 3 * (cell + GAP) + GAP);
        let inked = |column: usize| {
            let left = GAP + column * (cell + GAP);
            let head = (0..GLYPH_HEIGHT + 2 * GAP).flat_map(|y| (0..cell).map(move |x| (y, x)));
            head.filter(|(y, x)| drawn.get(*y, left + x) == Some(INK)).collect::<Vec<_>>()
        };
        assert_eq!(inked(0), inked(1), "the first title is as whole as the second");
        let last = inked(0).iter().map(|(_, x)| *x).max();
        // The l of `label` ends one dot before its glyph does, and a glyph one before the next.
        assert!(last.is_some_and(|x| x >= cell - 4), "{last:?} of {cell}");
    }

    #[test]
    fn the_figures_of_a_colour_bar_fit_beside_each_other() {
        let spec = TaskSpec {
            task: Task::from_name("depth").expect("a task"),
            outputs: 1,
            classes: Vec::new(),
            palette: Vec::new(),
            edge_tolerance: crate::EDGE_TOLERANCE,
        };
        let map = Raster { channels: 1, height: 1, width: 2, data: vec![0.0, 123.4] };
        let drawn = draw_with_bar(&spec, &map, Some(Range::of(&map))).expect("drawn");
        assert!(drawn.width >= text_width("0.0 m", 1) + text_width("123.4 m", 1), "{}", drawn.width);
    }
}
