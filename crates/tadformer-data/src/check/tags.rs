//! Orientation tags of pictures, and what they leave open.

use std::collections::BTreeMap;

use crate::dataset::orientation::Sides;
use crate::format::picture::Orientation;

/// Pictures that a viewer turns or flips.
#[derive(Debug, Default)]
pub(super) struct Tags {
    /// Pictures by tag whose size is the same either way.
    open: BTreeMap<u8, usize>,
    /// Pictures whose labels have the size of the picture as it was read.
    decided: usize,
}

impl Tags {
    pub(super) fn add(&mut self, sides: Sides, labelled: bool) {
        if sides.tell_nothing() {
            *self.open.entry(sides.tag).or_default() += 1;
        } else if sides.tag > 4 && labelled {
            self.decided += 1;
        }
    }

    /// What to say, unless the descriptor says how its pictures are read.
    pub(super) fn remark(&self, stated: Option<Orientation>) -> Option<String> {
        if stated.is_some() || self.open.is_empty() {
            return None;
        }
        let pictures: usize = self.open.values().sum();
        let tags: Vec<String> =
            self.open.iter().map(|(tag, pictures)| format!("{tag} in {pictures}")).collect();
        let decided = match self.decided {
            0 => String::new(),
            n => format!(" ({n} others with a tag have labels as their pixels are stored)"),
        };
        Some(format!(
            "{pictures} pictures carry an EXIF orientation other than 1 ({}) and have the same size turned or not, so \
             nothing here tells whether their labels were drawn upright{decided}. They are read as stored. Look at `data \
             show`, then say `orientation = \"upright\"` or `orientation = \"stored\"` under `[image]`",
            tags.join(", ")
        ))
    }
}
