//! One sample as bytes, without loss.
//!
//! All numbers are little-endian. A block is a count of maps (u32), then each map: its task (u8, an index into the data set's
//! tasks, 255 for the picture), channels, height and width (u32 each), and its planes. A plane is a tag (u8) and the shortest
//! of four ways to write its numbers:
//!
//! | tag | for | layout |
//! |---|---|---|
//! | 0 | levels and classes: whole numbers `0..=255` | a byte each |
//! | 1 | at most 256 different numbers, as normals from 8-bit files | count (u32), the numbers (f32), a byte each |
//! | 2 | at most 65,536 different numbers, as depth from 16-bit files | count (u32), the numbers (f32), two bytes each |
//! | 3 | anything | f32 each |

use std::collections::HashMap;

use crate::{Raster, Sample, Task, TaskSpec};

const PICTURE: u8 = u8::MAX;

const BYTES: u8 = 0;
const TABLE_8: u8 = 1;
const TABLE_16: u8 = 2;
const FLOATS: u8 = 3;

/// A sample as bytes; the tasks of its labels are numbered as in `tasks`.
pub(super) fn encode(sample: &Sample, tasks: &[TaskSpec]) -> Vec<u8> {
    let numbered = |task: &Task| tasks.iter().position(|spec| spec.task == *task);
    // A data set labels no other tasks than its own.
    let labels: Vec<_> =
        sample.labels.iter().filter_map(|(task, map)| Some((numbered(task)? as u8, map))).collect();
    let mut out = Vec::new();
    out.extend((1 + labels.len() as u32).to_le_bytes());
    for (number, map) in std::iter::once((PICTURE, &sample.image)).chain(labels) {
        out.push(number);
        for size in [map.channels, map.height, map.width] {
            out.extend((size as u32).to_le_bytes());
        }
        for plane in map.data.chunks_exact((map.height * map.width).max(1)) {
            encode_plane(plane, &mut out);
        }
    }
    out
}

/// The sample that [`encode`] wrote; none if these bytes are not such a sample.
pub(super) fn decode(mut bytes: &[u8], tasks: &[TaskSpec]) -> Option<(Raster, Vec<(Task, Raster)>)> {
    let maps = number(&mut bytes)?;
    let mut image = None;
    let mut labels = Vec::new();
    for _ in 0..maps {
        let [task] = *take(&mut bytes)?;
        let map = decode_map(&mut bytes)?;
        if task == PICTURE {
            image = Some(map);
        } else {
            labels.push((tasks.get(usize::from(task))?.task, map));
        }
    }
    bytes.is_empty().then_some((image?, labels))
}

fn decode_map(bytes: &mut &[u8]) -> Option<Raster> {
    let (channels, height, width) = (number(bytes)?, number(bytes)?, number(bytes)?);
    let size = height.checked_mul(width)?;
    // Every element takes at least a byte: memory is bounded by the block before any is taken.
    let elements = channels.checked_mul(size).filter(|&elements| elements <= bytes.len())?;
    let mut data = Vec::with_capacity(elements);
    if size > 0 {
        for _ in 0..channels {
            decode_plane(bytes, size, &mut data)?;
        }
    }
    Some(Raster { channels, height, width, data })
}

fn encode_plane(plane: &[f32], out: &mut Vec<u8>) {
    // By bits, because -0.0 and NaN must come back too.
    if plane.iter().all(|v| f32::from(*v as u8).to_bits() == v.to_bits()) {
        out.push(BYTES);
        out.extend(plane.iter().map(|v| *v as u8));
        return;
    }
    match table(plane) {
        Some((table, indices)) if table.len() <= 256 => {
            out.push(TABLE_8);
            write_table(&table, out);
            out.extend(indices.iter().map(|&index| index as u8));
        }
        Some((table, indices)) if table.len() < plane.len() / 2 => {
            out.push(TABLE_16);
            write_table(&table, out);
            out.extend(indices.iter().flat_map(|index| index.to_le_bytes()));
        }
        _ => {
            out.push(FLOATS);
            out.extend(plane.iter().flat_map(|v| v.to_le_bytes()));
        }
    }
}

fn decode_plane(bytes: &mut &[u8], size: usize, data: &mut Vec<f32>) -> Option<()> {
    let [tag] = *take(bytes)?;
    match tag {
        BYTES => data.extend(split(bytes, size)?.iter().copied().map(f32::from)),
        TABLE_8 => {
            let table = read_table(bytes, 256)?;
            for &index in split(bytes, size)? {
                data.push(*table.get(usize::from(index))?);
            }
        }
        TABLE_16 => {
            let table = read_table(bytes, 65_536)?;
            for index in split(bytes, size.checked_mul(2)?)?.as_chunks().0 {
                data.push(*table.get(usize::from(u16::from_le_bytes(*index)))?);
            }
        }
        FLOATS => data.extend(floats(split(bytes, size.checked_mul(4)?)?)),
        _ => return None,
    }
    Some(())
}

/// The different numbers of a plane in the order of their first appearance, and where each element stands among them; none
/// if there are too many of them.
fn table(plane: &[f32]) -> Option<(Vec<f32>, Vec<u16>)> {
    let mut places = HashMap::new();
    let mut table = Vec::new();
    let mut indices = Vec::with_capacity(plane.len());
    for value in plane {
        let place = *places.entry(value.to_bits()).or_insert_with(|| {
            table.push(*value);
            table.len() - 1
        });
        indices.push(u16::try_from(place).ok()?);
    }
    Some((table, indices))
}

fn write_table(table: &[f32], out: &mut Vec<u8>) {
    out.extend((table.len() as u32).to_le_bytes());
    out.extend(table.iter().flat_map(|v| v.to_le_bytes()));
}

fn read_table(bytes: &mut &[u8], limit: usize) -> Option<Vec<f32>> {
    let count = number(bytes).filter(|&count| count <= limit)?;
    Some(floats(split(bytes, 4 * count)?).collect())
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks().0.iter().map(|chunk| f32::from_le_bytes(*chunk))
}

fn number(bytes: &mut &[u8]) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(*take(bytes)?)).ok()
}

fn take<'a, const N: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(taken)
}

fn split<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::{EDGE_TOLERANCE, IGNORE};

    fn specs() -> Vec<TaskSpec> {
        let spec = |task| TaskSpec {
            task,
            outputs: 1,
            classes: Vec::new(),
            palette: Vec::new(),
            edge_tolerance: EDGE_TOLERANCE,
        };
        Task::all().map(spec).collect()
    }

    /// Bit for bit: NaN and -0.0 too.
    fn bits(map: &Raster) -> (usize, usize, usize, Vec<u32>) {
        (map.channels, map.height, map.width, map.data.iter().map(|v| v.to_bits()).collect())
    }

    fn check(image: Raster, label: Raster) -> usize {
        let task = Task::from_name("normals").unwrap();
        let sample = Sample { id: "x".into(), image, labels: vec![(task, label)] };
        let bytes = encode(&sample, &specs());
        let (image, labels) = decode(&bytes, &specs()).unwrap();
        assert_eq!(bits(&image), bits(&sample.image));
        assert_eq!(labels.len(), 1);
        assert_eq!(labels[0].0, task);
        assert_eq!(bits(&labels[0].1), bits(&sample.labels[0].1));
        bytes.len()
    }

    fn raster(height: usize, width: usize, value: impl Fn(usize) -> f32) -> Raster {
        Raster { channels: 1, height, width, data: (0..height * width).map(value).collect() }
    }

    #[test]
    fn each_kind_of_plane_comes_back_and_takes_its_size() {
        let one = || raster(1, 1, |_| 3.0);
        let small = check(one(), one());
        let size = |map: Raster| check(one(), map) - small + 1;
        let pixels = 300 * 300;
        assert_eq!(size(raster(300, 300, |i| (i % 256) as f32)), pixels);
        let normals =
            |i: usize| if i.is_multiple_of(7) { IGNORE } else { 2.0 * (i % 255) as f32 / 255.0 - 1.0 };
        assert!((pixels + 1000..pixels + 1040).contains(&size(raster(300, 300, normals))));
        let depths = |i: usize| (i % 20_000) as f32 / 1000.0;
        assert_eq!(size(raster(300, 300, depths)), 2 * pixels + 4 + 4 * 20_000);
        assert_eq!(size(raster(300, 300, |i| i as f32 * 1.1)), 4 * pixels);
        let odd = [f32::NAN, -0.0, f32::INFINITY, 256.0, -1.0, 0.5];
        check(one(), raster(5, 7, |i| odd[i % odd.len()]));
    }

    proptest! {
        #[test]
        fn any_numbers_come_back(
            (height, width) in (1usize..9, 1usize..9), numbers in vec(any::<f32>(), 64), levels in vec(any::<u8>(), 64),
        ) {
            check(raster(height, width, |i| f32::from(levels[i])), raster(height, width, |i| numbers[i]));
        }

        #[test]
        fn other_bytes_are_refused(bytes in vec(any::<u8>(), 0..200)) {
            // No panic and no memory beyond the bytes' own: what is returned holds at most an element a byte.
            if let Some((image, _)) = decode(&bytes, &specs()) {
                prop_assert!(image.data.len() <= bytes.len());
            }
        }

        #[test]
        fn cut_and_changed_blocks_do_not_panic(at in 0usize..400, value: u8) {
            let sample = Sample {
                id: "x".into(),
                image: raster(9, 9, |i| i as f32 + 0.5),
                labels: vec![(Task::from_name("depth").unwrap(), raster(9, 9, |i| (i % 5) as f32 / 3.0))],
            };
            let mut bytes = encode(&sample, &specs());
            let at = at % bytes.len();
            prop_assert!(decode(&bytes[..at], &specs()).is_none());
            bytes[at] = value;
            if let Some((image, _)) = decode(&bytes, &specs()) {
                prop_assert!(image.data.len() <= bytes.len());
            }
        }
    }
}
