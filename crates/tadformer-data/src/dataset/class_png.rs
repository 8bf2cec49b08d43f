//! Which numbers or colours of a PNG are class ids.
//!
//! A class id is a grey level, a palette index, or hidden in a colour, and lossless optimisers write one as another: they
//! keep the colours and change the samples. The rules, unless the descriptor says `numbers`:
//!
//! | file | ids |
//! |---|---|
//! | grey, 8 or 16 bits | levels |
//! | grey, fewer bits | levels stretched to 8 bits, as the PNG specification has it: the white of one bit is 255 |
//! | palette with the descriptor's colours or PASCAL VOC's at their places, or with greys at theirs | indices |
//! | palette of other greys | their levels |
//! | palette that has colours of classes at other places | refused: it has been renumbered, or the descriptor is wrong |
//! | any other palette | indices |
//! | three equal channels | levels |
//! | colours | the class of that colour |
//!
//! Levels that are no ids are colours if all of them are colours of classes.

use crate::descriptor::Numbers;
use crate::draw::voc_colour;
use crate::format::label_png::{LabelPng, Samples, is_grey, named};
use crate::{IGNORE, Raster};

/// How a PNG of labels is stored, and what of it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Form {
    /// Bits of a sample.
    pub(crate) bits: u8,
    /// What was taken.
    pub(crate) taken: Taken,
    /// The palette's colours that occur, with their indices, where indices were taken.
    pub(crate) colours: Vec<(u8, [u8; 3])>,
}

/// What of a PNG was taken for its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Taken {
    /// Grey as it is stored.
    Grey,
    /// Grey of fewer than 8 bits, stretched.
    StretchedGrey,
    /// The levels of a palette of greys.
    GreyPalette,
    /// One of three equal channels.
    EqualChannels,
    /// Palette indices.
    Indices,
    /// Palette indices whose colours nobody knows.
    ForeignPalette,
    /// Colours.
    Colours,
    /// Samples as the descriptor says, whatever they stand for.
    Stored,
}

impl Form {
    /// How `map` is stored, if its levels are taken.
    pub(super) fn of_levels(map: &LabelPng) -> Self {
        let taken = match (&map.samples, &map.palette) {
            (Samples::Rgb(_), _) => Taken::EqualChannels,
            (_, Some(_)) => Taken::GreyPalette,
            _ if map.bits < 8 => Taken::StretchedGrey,
            _ => Taken::Grey,
        };
        Self { bits: map.bits, taken, colours: Vec::new() }
    }
}

/// What a PNG says about classes.
#[derive(Debug)]
pub(super) enum Ids {
    /// One number a pixel, to be looked up.
    Numbers(LabelPng),
    /// Classes and [`IGNORE`].
    Labels(Raster),
}

/// What the descriptor knows of the numbers and colours of a task.
pub(super) struct Known<'a> {
    /// What is to be taken.
    pub(super) numbers: Numbers,
    /// The class of an id, [`IGNORE`] for "no label", nothing for an id that must not occur.
    pub(super) class_of: &'a dyn Fn(usize) -> Option<f32>,
    /// The id of each class.
    pub(super) ids: &'a dyn Fn(usize) -> Option<usize>,
    /// The colour of each class.
    pub(super) palette: &'a [[u8; 3]],
    /// Colours that mean "no label".
    pub(super) ignore_colours: &'a [[u8; 3]],
}

/// What the pixels of `map` say, and how that was stored.
///
/// # Errors
/// What contradicts the descriptor, with the way out.
pub(super) fn read(map: LabelPng, known: &Known<'_>) -> Result<(Ids, Form), String> {
    let bits = map.bits;
    let form = |taken| Form { bits, taken, colours: Vec::new() };
    match known.numbers {
        Numbers::Stored => match map.samples {
            Samples::Rgb(_) => Err(
                "pixels have three channels, and `numbers = \"stored\"` takes one; say `colours` or `levels`"
                    .into(),
            ),
            _ => Ok((Ids::Numbers(map), form(Taken::Stored))),
        },
        Numbers::Levels => {
            let form = Form::of_levels(&map);
            Ok((Ids::Numbers(map.into_levels()?), form))
        }
        Numbers::Colours => Ok((Ids::Labels(known.by_colour(map)?), form(Taken::Colours))),
        Numbers::Auto => match (&map.samples, &map.palette) {
            (Samples::U8(samples), Some(palette)) => {
                match known.palette_form(palette, &occurring(samples), bits)? {
                    form if form.taken == Taken::GreyPalette => known.by_level(map),
                    form => Ok((Ids::Numbers(map), form)),
                }
            }
            (Samples::Rgb(samples), _) if !samples.iter().all(|colour| is_grey(*colour)) => {
                Ok((Ids::Labels(known.by_colour(map)?), form(Taken::Colours)))
            }
            _ => known.by_level(map),
        },
    }
}

impl Known<'_> {
    /// Grey levels: ids, unless they can only be colours.
    fn by_level(&self, map: LabelPng) -> Result<(Ids, Form), String> {
        let form = Form::of_levels(&map);
        let colours = Form { taken: Taken::Colours, ..form.clone() };
        let map = map.into_levels()?;
        let Samples::U8(samples) = &map.samples else {
            return Ok((Ids::Numbers(map), form));
        };
        let levels = occurring(samples);
        let by_colour: Vec<Option<f32>> =
            levels.iter().map(|&level| self.class_of_colour([level; 3])).collect();
        let by_number: Vec<Option<f32>> =
            levels.iter().map(|&level| (self.class_of)(usize::from(level))).collect();
        if by_number.iter().all(Option::is_some) {
            // Grey files have always been read by their levels; three channels are somebody's choice of colours.
            if form.taken == Taken::EqualChannels
                && by_colour.iter().all(Option::is_some)
                && by_colour != by_number
            {
                return Err(format!(
                    "its grey levels {levels:?} are ids, and colours of other classes; say which with \
                     `numbers = \"levels\"` or `numbers = \"colours\"`"
                ));
            }
            return Ok((Ids::Numbers(map), form));
        }
        if by_colour.iter().all(Option::is_some) {
            return Ok((Ids::Labels(self.by_colour(map)?), colours));
        }
        Ok((Ids::Numbers(map), form))
    }

    /// What to take of a palette of which the indices `used` occur.
    fn palette_form(&self, palette: &[[u8; 3]], used: &[u8], bits: u8) -> Result<Form, String> {
        // An index beyond the palette has no colour, and none that could contradict.
        let colours: Vec<(u8, [u8; 3])> =
            used.iter().filter_map(|&index| Some((index, *palette.get(usize::from(index))?))).collect();
        let form = |taken, colours| Ok(Form { bits, taken, colours });
        let greys = colours.iter().all(|&(index, colour)| colour == [index; 3]);
        let voc = colours.iter().all(|&(index, colour)| colour == voc_colour(index.into()));
        let contradiction = colours.iter().find(|&&(index, colour)| !self.agrees(index, colour));
        let Some(&(index, colour)) = contradiction.filter(|_| !greys && !voc) else {
            return form(Taken::Indices, colours);
        };
        if palette.iter().all(|colour| is_grey(*colour)) {
            return form(Taken::GreyPalette, Vec::new());
        }
        if colours.iter().all(|(_, colour)| self.class_of_colour(*colour).is_none()) {
            return form(Taken::ForeignPalette, colours);
        }
        let number = match (self.class_of)(usize::from(index)) {
            Some(IGNORE) => "means \"no label\"".into(),
            Some(class) => {
                format!("is class {class}, whose colour is {}", named(self.palette[class as usize]))
            }
            None => "is no class".to_owned(),
        };
        let says = match self.class_of_colour(colour) {
            Some(IGNORE) => ", which means \"no label\"".into(),
            Some(class) => format!(", that of class {class}"),
            None => String::new(),
        };
        Err(format!(
            "palette index {index} {number}, but its colour here is {}{says}: a program that rewrites PNG files has \
             renumbered it, or the descriptor's `palette` is another; `numbers = \"colours\"` goes by the colours, \
             `numbers = \"stored\"` by the indices",
            named(colour)
        ))
    }

    /// Whether the number `index` and `colour` say the same.
    fn agrees(&self, index: u8, colour: [u8; 3]) -> bool {
        match (self.class_of)(usize::from(index)) {
            Some(class) if class != IGNORE => self.palette.get(class as usize) == Some(&colour),
            // What is no class has any colour, except that of one; black is everybody's filling.
            _ => colour == [0; 3] || matches!(self.class_of_colour(colour), None | Some(IGNORE)),
        }
    }

    /// The class of a colour, or [`IGNORE`].
    fn class_of_colour(&self, colour: [u8; 3]) -> Option<f32> {
        if let Some(class) = self.palette.iter().position(|of_class| *of_class == colour) {
            return Some(class as f32);
        }
        let ignored = self.ignore_colours.contains(&colour) || self.ignored_by_voc(colour);
        ignored.then_some(IGNORE)
    }

    /// Whether the classes have PASCAL VOC's colours and `colour` is its colour of an ignored number.
    fn ignored_by_voc(&self, colour: [u8; 3]) -> bool {
        let voc = |(class, of_class): (usize, &[u8; 3])| (self.ids)(class).map(voc_colour) == Some(*of_class);
        let ignored = |index: &usize| (self.class_of)(*index) == Some(IGNORE);
        !self.palette.is_empty()
            && self.palette.iter().enumerate().all(voc)
            && (0..=255).filter(ignored).any(|index| voc_colour(index) == colour)
    }

    /// The classes of the pixels by their colours.
    fn by_colour(&self, map: LabelPng) -> Result<Raster, String> {
        let (height, width) = (map.height, map.width);
        let wrong = |at: usize, colour: [u8; 3]| {
            format!(
                "pixel (x {}, y {}) is the colour {}; expected a colour of `palette`, or of `ignore_colours` for no label",
                at % width.max(1),
                at / width.max(1),
                named(colour)
            )
        };
        let table = |colour: &dyn Fn(u8) -> Option<[u8; 3]>, samples: &[u8]| {
            let table: [Option<f32>; 256] =
                std::array::from_fn(|v| colour(v as u8).and_then(|colour| self.class_of_colour(colour)));
            let class = |(at, &v): (usize, &u8)| {
                table[usize::from(v)].ok_or_else(|| match colour(v) {
                    Some(colour) => wrong(at, colour),
                    None => format!("palette index {v} has no colour"),
                })
            };
            samples.iter().enumerate().map(class).collect::<Result<Vec<f32>, String>>()
        };
        let data = match (&map.samples, &map.palette) {
            (Samples::U8(samples), Some(palette)) => {
                table(&|index| palette.get(usize::from(index)).copied(), samples)?
            }
            (Samples::Rgb(samples), _) => {
                // Neighbours are mostly of one colour.
                let mut last = ([0; 3], self.class_of_colour([0; 3]));
                let mut data = Vec::with_capacity(samples.len());
                for (at, &colour) in samples.iter().enumerate() {
                    if colour != last.0 {
                        last = (colour, self.class_of_colour(colour));
                    }
                    data.push(last.1.ok_or_else(|| wrong(at, colour))?);
                }
                data
            }
            (Samples::U16(_), _) => return Err("grey of 16 bits; expected colours".into()),
            _ => match map.into_levels()?.samples {
                Samples::U8(samples) => table(&|level| Some([level; 3]), &samples)?,
                _ => return Err("expected colours".into()),
            },
        };
        Ok(Raster { channels: 1, height, width, data })
    }
}

/// The numbers that occur, ascending.
fn occurring(samples: &[u8]) -> Vec<u8> {
    let mut seen = [false; 256];
    for &v in samples {
        seen[usize::from(v)] = true;
    }
    (0..=255).filter(|&v: &u8| seen[usize::from(v)]).collect()
}

#[cfg(test)]
mod tests;
