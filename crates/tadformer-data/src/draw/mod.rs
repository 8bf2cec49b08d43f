//! Pictures of maps: a prediction or a label drawn as people expect to see it, and panels of several side by side.

mod colour_map;
mod font;
mod map;
mod map_file;
mod palette;
mod panel;
mod picture;

pub use map::{Range, activate, colour_bar, draw_map};
pub use map_file::{MAX_MILLIMETRES, MapFile};
pub(crate) use palette::voc_colour;
pub use palette::voc_palette;
pub use panel::{Compared, compare, fit, panel};
pub use picture::Picture;
