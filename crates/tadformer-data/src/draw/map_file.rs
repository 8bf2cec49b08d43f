//! Maps as PNG files of numbers, written a few rows at a time.
//!
//! What the numbers mean is what the readers of labels take them for, so a prediction is a label file as it is.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use png::{BitDepth, ColorType, Compression, StreamWriter};
use tadformer_files::{Durability, WholeFile};

use super::colour_map::viridis;
use super::map::{Range, check_channels, class_colour, level};
use crate::{Error, LabelKind, Raster, Result, TaskSpec};

/// Entries of a PNG palette.
const MAX_CLASSES: usize = 256;

/// The longest distance that a map in millimetres holds: 65.535 m.
pub const MAX_MILLIMETRES: u16 = u16::MAX;

/// Bytes of a piece of compressed picture.
const PIECE: usize = 256 << 10;

/// A map's PNG under way: rows are pushed from the top down. It takes its name in [`finish`](Self::finish).
///
/// | label kind | PNG | encoding of a `dataset.toml` that reads it |
/// | --- | --- | --- |
/// | classes | palette, 8 bits: the index is the class | `class-ids` |
/// | binary | grey, 8 bits: 255 times the probability | `binary` |
/// | unit vectors | RGB, 8 bits: `127.5 (v + 1)` | `vectors` |
/// | metres | grey, 16 bits: millimetres, 0 for none, at most [`MAX_MILLIMETRES`] | `metres`, scale 0.001 |
pub struct MapFile {
    png: StreamWriter<'static, Sink>,
    sink: Sink,
    path: PathBuf,
    spec: TaskSpec,
    /// For [`coloured`](Self::coloured) ones.
    range: Option<Range>,
    width: usize,
    rows: usize,
    height: usize,
    beyond: usize,
}

impl MapFile {
    /// Begins the map `path` of a task, `size` = (rows, columns).
    ///
    /// # Errors
    /// A folder that cannot be written to, a side of zero or beyond what PNG has, more classes than a palette.
    pub fn create(path: impl AsRef<Path>, spec: &TaskSpec, size: (usize, usize)) -> Result<Self> {
        Self::begin(path.as_ref(), spec, size, None)
    }

    /// Begins a picture of a quantity for the eye: the viridis colour map over `range`, as [`draw_map`](super::draw_map) has it.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn coloured(
        path: impl AsRef<Path>,
        spec: &TaskSpec,
        size: (usize, usize),
        range: Range,
    ) -> Result<Self> {
        Self::begin(path.as_ref(), spec, size, Some(range))
    }

    fn begin(path: &Path, spec: &TaskSpec, size: (usize, usize), range: Option<Range>) -> Result<Self> {
        if spec.task.label == LabelKind::Classes
            && (spec.palette.len() < spec.outputs || spec.outputs > MAX_CLASSES)
        {
            return Err(Error::Config(format!(
                "cannot write `{}`: task `{}` has {} classes and {} colours; expected a colour each and at most {MAX_CLASSES}",
                path.display(),
                spec.task,
                spec.outputs,
                spec.palette.len()
            )));
        }
        let failed = || Error::io("write", path);
        let sink = Sink::new(WholeFile::create(path).map_err(failed())?);
        let side = |n: usize| u32::try_from(n).map_err(io::Error::other);
        let begin = || {
            let mut encoder = png::Encoder::new(sink.clone(), side(size.1)?, side(size.0)?);
            let (color, depth) = match (spec.task.label, range) {
                (LabelKind::Classes, None) => (ColorType::Indexed, BitDepth::Eight),
                (LabelKind::Binary, None) => (ColorType::Grayscale, BitDepth::Eight),
                (LabelKind::Metres, None) => (ColorType::Grayscale, BitDepth::Sixteen),
                (LabelKind::UnitVector, _) | (_, Some(_)) => (ColorType::Rgb, BitDepth::Eight),
            };
            encoder.set_color(color);
            encoder.set_depth(depth);
            if color == ColorType::Indexed {
                encoder.set_palette(spec.palette[..spec.outputs].as_flattened().to_vec());
            }
            // Compressing well would take longer than predicting.
            encoder.set_compression(Compression::Fast);
            Ok(encoder.write_header()?.into_stream_writer_with_size(PIECE)?)
        };
        let png = begin().map_err(failed())?;
        let (height, width) = size;
        let (path, spec) = (path.to_owned(), spec.clone());
        Ok(Self { png, sink, path, spec, range, width, rows: 0, height, beyond: 0 })
    }

    /// Adds rows `(c, rows, columns)` of an [activated](super::activate) map.
    ///
    /// # Errors
    /// A number of channels or columns that the map has not, a class that the task has not, more rows than the map's, a
    /// full disk.
    pub fn push(&mut self, rows: &Raster) -> Result<()> {
        let Self { spec, width, height, .. } = self;
        check_channels(spec.task, rows, spec.task.label_channels())?;
        if rows.width != *width || self.rows + rows.height > *height {
            return Err(Error::Config(format!(
                "rows {} to {} of {} columns do not belong to the {height} rows of {width} columns of `{}`",
                self.rows,
                self.rows + rows.height,
                rows.width,
                self.path.display()
            )));
        }
        let bytes: Vec<u8> = match (self.range, spec.task.label) {
            (Some(range), _) => {
                rows.data.iter().flat_map(|metres| viridis(1.0 - range.place(*metres))).collect()
            }
            (None, LabelKind::Classes) => indices(spec, rows, self.rows)?,
            (None, LabelKind::Binary) => rows.data.iter().map(|share| level(*share)).collect(),
            (None, LabelKind::UnitVector) => {
                let size = rows.width * rows.height;
                let part = |i: usize, c: usize| level(0.5 * (rows.data[c * size + i] + 1.0));
                (0..size).flat_map(|i| [part(i, 0), part(i, 1), part(i, 2)]).collect()
            }
            (None, LabelKind::Metres) => {
                let millimetres = rows.data.iter().map(|metres| (f64::from(*metres) * 1000.0).round());
                self.beyond += millimetres.clone().filter(|mm| *mm > f64::from(MAX_MILLIMETRES)).count();
                // A cast keeps to the bounds of its type; what is not a number becomes 0, which is no distance.
                millimetres.flat_map(|mm| (mm as u16).to_be_bytes()).collect()
            }
        };
        self.rows += rows.height;
        self.png.write_all(&bytes).map_err(Error::io("write", &self.path))
    }

    /// Gives the file its name, and says how many pixels are farther than [`MAX_MILLIMETRES`] and were cut off there.
    ///
    /// # Errors
    /// Fewer rows than the map's, a full disk.
    pub fn finish(self) -> Result<usize> {
        let Self { png, sink, path, beyond, .. } = self;
        let written = png.finish().map_err(io::Error::from).and_then(|()| sink.into_file());
        let committed = written.and_then(|file| file.commit(Durability::Remade));
        committed.map(|_| beyond).map_err(Error::io("write", &path))
    }
}

/// What the encoder writes to. The encoder keeps it and, when it is dropped, writes its last piece and the end mark without
/// a word about what goes wrong, so the first error is kept here.
#[derive(Clone)]
struct Sink(Arc<Mutex<(WholeFile, Option<io::Error>)>>);

impl Sink {
    fn new(file: WholeFile) -> Self {
        Self(Arc::new(Mutex::new((file, None))))
    }

    /// The file, when the encoder is gone and nothing went wrong.
    fn into_file(self) -> io::Result<WholeFile> {
        let held = Arc::into_inner(self.0).expect("the encoder was the only other holder");
        match held.into_inner().unwrap_or_else(PoisonError::into_inner) {
            (file, None) => Ok(file),
            (_, Some(error)) => Err(error),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.0.write(bytes).map_err(|error| {
            let told =
                error.raw_os_error().map_or(io::Error::from(error.kind()), io::Error::from_raw_os_error);
            held.1.get_or_insert(error);
            told
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The classes of some rows, the first of which is row `first` of the map.
fn indices(spec: &TaskSpec, rows: &Raster, first: usize) -> Result<Vec<u8>> {
    let class = |(i, value): (usize, &f32)| {
        let index = *value as usize;
        if *value >= 0.0 && value.fract() == 0.0 && index < spec.outputs {
            return Ok(index as u8);
        }
        class_colour(spec, *value, first + i / rows.width, i % rows.width).map(|_| index as u8)
    };
    rows.data.iter().enumerate().map(class).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Task;
    use crate::draw::draw_map;

    fn spec(name: &str) -> TaskSpec {
        TaskSpec {
            task: Task::from_name(name).unwrap(),
            outputs: 3,
            classes: ["a", "b", "c"].map(str::to_owned).to_vec(),
            palette: vec![[1, 2, 3], [40, 50, 60], [7, 8, 9]],
            edge_tolerance: crate::EDGE_TOLERANCE,
        }
    }

    /// A map with values of its task all over, `37 × 29`.
    fn map(spec: &TaskSpec) -> Raster {
        let (height, width) = (37, 29);
        let value = |i: usize| match spec.task.label {
            LabelKind::Classes => (i * 7 % 3) as f32,
            LabelKind::Binary => (i * 31 % 257) as f32 / 256.0,
            LabelKind::UnitVector => (i * 31 % 201) as f32 / 100.0 - 1.0,
            LabelKind::Metres => (i * 31 % 997) as f32 * 0.0123,
        };
        let channels = spec.task.label_channels();
        Raster { channels, height, width, data: (0..channels * height * width).map(value).collect() }
    }

    /// `rows` of a map.
    fn rows(map: &Raster, rows: std::ops::Range<usize>) -> Raster {
        let part = |c: usize| map.plane(c)[rows.start * map.width..rows.end * map.width].to_vec();
        Raster { height: rows.len(), data: (0..map.channels).flat_map(part).collect(), ..*map }
    }

    fn write(mut file: MapFile, map: &Raster, at_once: usize) -> usize {
        for first in (0..map.height).step_by(at_once) {
            file.push(&rows(map, first..(first + at_once).min(map.height))).unwrap();
        }
        file.finish().unwrap()
    }

    #[test]
    fn maps_look_as_they_are_drawn_and_strips_make_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("map.png");
        for name in ["semseg", "sal", "normals"] {
            let (spec, map) = (spec(name), map(&spec(name)));
            let mut files = Vec::new();
            for at_once in [37, 1, 5, 36] {
                write(MapFile::create(&path, &spec, (37, 29)).unwrap(), &map, at_once);
                files.push(std::fs::read(&path).unwrap());
            }
            assert!(files.iter().all(|file| *file == files[0]), "{name}");
            let seen = image::load_from_memory(&files[0]).unwrap().to_rgb8();
            assert_eq!(seen.into_raw(), draw_map(&spec, &map, None).unwrap().rgb, "{name}");
        }
        let (spec, map) = (spec("depth"), map(&spec("depth")));
        let range = Range::of(&map);
        write(MapFile::coloured(&path, &spec, (37, 29), range).unwrap(), &map, 8);
        let seen = image::open(&path).unwrap().to_rgb8();
        assert_eq!(seen.into_raw(), draw_map(&spec, &map, Some(range)).unwrap().rgb);
    }

    #[test]
    fn depth_is_in_millimetres_and_what_is_too_far_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("depth.png");
        let data = vec![0.0, 0.0004, 1.2344, 65.535, 65.6, 1000.0];
        let map = Raster { channels: 1, height: 2, width: 3, data };
        let beyond = write(MapFile::create(&path, &spec("depth"), (2, 3)).unwrap(), &map, 1);
        assert_eq!(beyond, 2);
        let read = image::open(&path).unwrap();
        let image::DynamicImage::ImageLuma16(read) = read else { panic!("{:?}", read.color()) };
        assert_eq!(read.into_raw(), [0, 0, 1234, 65535, 65535, 65535]);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("map.png");
        let spec = spec("semseg");
        let refused = |map: &Raster| {
            let mut file = MapFile::create(&path, &spec, (2, 2)).unwrap();
            file.push(&Raster::filled(1, 1, 2, 1.0)).unwrap();
            file.push(map).and_then(|()| file.finish()).unwrap_err().to_string()
        };
        let message = refused(&Raster::filled(1, 1, 2, 3.0));
        assert!(message.contains("holds 3 at row 1, column 0"), "{message}");
        let message = refused(&Raster::filled(1, 2, 2, 1.0));
        assert!(message.contains("rows 1 to 3") && message.contains("map.png"), "{message}");
        let message = refused(&Raster::filled(1, 1, 3, 1.0));
        assert!(message.contains("3 columns"), "{message}");
        let message = refused(&Raster::filled(3, 1, 2, 1.0));
        assert!(message.contains("3 channels"), "{message}");
        let mut half = MapFile::create(&path, &spec, (2, 2)).unwrap();
        half.push(&Raster::filled(1, 1, 2, 1.0)).unwrap();
        assert!(half.finish().unwrap_err().to_string().contains("map.png"));
        let bare = TaskSpec { palette: vec![[0; 3]], ..spec.clone() };
        let message = MapFile::create(&path, &bare, (2, 2)).err().unwrap().to_string();
        assert!(message.contains("3 classes and 1 colours"), "{message}");
        assert!(
            MapFile::create(&path, &spec, (0, 2)).is_err_and(|error| error.to_string().contains("map.png"))
        );
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
