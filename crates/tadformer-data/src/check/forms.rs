//! In which ways the label files of a task are stored: optimisers and converters change that behind people's backs.

use std::collections::BTreeMap;

use crate::dataset::class_png::{Form, Taken};
use crate::format::label_png::named;

/// How many files are stored in which way.
#[derive(Debug, Default)]
pub(super) struct Forms {
    /// Files of each way and depth, and the first of them.
    counts: BTreeMap<(Taken, u8), (usize, String)>,
    /// The colour that each index of an unknown palette has, and the first sample where it occurs.
    colours: BTreeMap<u8, ([u8; 3], String)>,
    /// Where an index has another colour than before.
    conflicts: Vec<String>,
}

impl Forms {
    /// Counts the label file of the sample `id`.
    pub(super) fn add(&mut self, form: &Form, id: &str) {
        self.counts.entry((form.taken, form.bits)).or_insert_with(|| (0, id.to_owned())).0 += 1;
        if form.taken != Taken::ForeignPalette {
            return;
        }
        for &(index, colour) in &form.colours {
            let (known, first) = self.colours.entry(index).or_insert_with(|| (colour, id.to_owned()));
            if *known != colour {
                self.conflicts.push(format!(
                    "`{id}`: palette index {index} has the colour {}, in `{first}` {}; a program that rewrites PNG files \
                     has renumbered one of them",
                    named(colour),
                    named(*known)
                ));
                // One index tells; the others would only repeat it.
                break;
            }
        }
    }

    /// What cannot be right.
    pub(super) fn into_problems(self) -> Vec<String> {
        self.conflicts
    }

    /// What looks odd: any way of storing that says something else than the plain samples, and different ways in one set.
    pub(super) fn remark(&self) -> Option<String> {
        let plain = |taken: &Taken| matches!(taken, Taken::Grey | Taken::Indices | Taken::Stored);
        if self.counts.len() < 2 && self.counts.keys().all(|(taken, _)| plain(taken)) {
            return None;
        }
        let ways: Vec<String> = self
            .counts
            .iter()
            .map(|((taken, bits), (files, first))| {
                format!("{files} {} (first `{first}`)", way(*taken, *bits))
            })
            .collect();
        let mixed = match ways.len() {
            1 => "",
            _ => ": different ways in one set; has a program rewritten some of the files?",
        };
        Some(format!("stored as {}{mixed}", ways.join(", ")))
    }
}

fn way(taken: Taken, bits: u8) -> String {
    match taken {
        Taken::Grey => format!("grey of {bits} bits"),
        Taken::StretchedGrey => {
            let unit = if bits == 1 { "bit" } else { "bits" };
            format!(
                "grey of {bits} {unit}, whose samples are taken for levels of 8 bits (`numbers = \"stored\"` takes them as \
                 they are)"
            )
        }
        Taken::GreyPalette => {
            format!("palette of greys, {bits} bits, whose levels are taken and not its indices")
        }
        Taken::EqualChannels => "three equal channels".into(),
        Taken::Indices => format!("palette indices of {bits} bits"),
        Taken::ForeignPalette => {
            format!("palette indices of {bits} bits, whose colours are not those of the classes")
        }
        Taken::Colours => "colours, read as the classes that have them".into(),
        Taken::Stored => format!("samples of {bits} bits, taken as they are"),
    }
}
