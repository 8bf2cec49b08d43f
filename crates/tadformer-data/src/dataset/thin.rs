//! Thinning: lines one pixel wide that keep the connectivity of a set of pixels.

/// Thins the non-zero pixels of `pixels` `(height, width)` in place, with the two-subiteration algorithm of Guo and
/// Hall (Communications of the ACM 32(3), 1989) as MATLAB's `bwmorph(…, 'thin', Inf)` and `skimage.morphology.thin`
/// state it. Outside the picture all is zero.
pub(super) fn thin(pixels: &mut [u8], height: usize, width: usize) {
    if width == 0 || height == 0 {
        return;
    }
    let table: [u8; 256] = std::array::from_fn(|around| deletable(around as u8));
    // A frame of zeros spares every neighbour its own bounds check.
    let stride = width + 2;
    let mut framed = vec![0u8; stride * (height + 2)];
    for (y, row) in pixels.chunks_exact(width).enumerate() {
        for (target, &v) in framed[(y + 1) * stride + 1..].iter_mut().zip(row) {
            *target = u8::from(v != 0);
        }
    }
    let mut set: Vec<usize> = (0..framed.len()).filter(|&at| framed[at] != 0).collect();
    let mut gone: Vec<usize> = Vec::new();
    loop {
        let before = set.len();
        for subiteration in [FIRST, SECOND] {
            gone.clear();
            gone.extend(
                set.iter()
                    .filter(|&&at| table[usize::from(neighbours(&framed, at, stride))] & subiteration != 0),
            );
            for &at in &gone {
                framed[at] = 0;
            }
            if !gone.is_empty() {
                set.retain(|&at| framed[at] != 0);
            }
        }
        if set.len() == before {
            break;
        }
    }
    for (y, row) in pixels.chunks_exact_mut(width).enumerate() {
        row.copy_from_slice(&framed[(y + 1) * stride + 1..][..width]);
    }
}

/// The first subiteration removes the pixel.
const FIRST: u8 = 1;
/// The second one does.
const SECOND: u8 = 2;

/// The eight neighbours as bits x1 to x8: east first, then against the clock.
fn neighbours(framed: &[u8], at: usize, stride: usize) -> u8 {
    framed[at + 1]
        | framed[at - stride + 1] << 1
        | framed[at - stride] << 2
        | framed[at - stride - 1] << 3
        | framed[at - 1] << 4
        | framed[at + stride - 1] << 5
        | framed[at + stride] << 6
        | framed[at + stride + 1] << 7
}

/// In which subiterations a pixel with these neighbours is removed.
fn deletable(around: u8) -> u8 {
    // x(1) to x(9), where x(9) is x(1) again.
    let x = |i: usize| around >> ((i - 1) % 8) & 1 == 1;
    let crossings = (1..=4).filter(|&i| !x(2 * i - 1) && (x(2 * i) || x(2 * i + 1))).count();
    let n1 = (1..=4).filter(|&k| x(2 * k - 1) || x(2 * k)).count();
    let n2 = (1..=4).filter(|&k| x(2 * k) || x(2 * k + 1)).count();
    if crossings != 1 || !(2..=3).contains(&n1.min(n2)) {
        return 0;
    }
    let first = (x(2) || x(3) || !x(8)) && x(1);
    let second = (x(6) || x(7) || !x(4)) && x(5);
    (if first { 0 } else { FIRST }) + (if second { 0 } else { SECOND })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(before: &str, after: &str) {
        let width = before.find('\n').unwrap();
        let parse = |text: &str| -> Vec<u8> {
            text.bytes().filter(|b| *b != b'\n').map(|b| u8::from(b == b'#')).collect()
        };
        let mut pixels = parse(before);
        let height = pixels.len() / width;
        thin(&mut pixels, height, width);
        assert_eq!(pixels, parse(after));
    }

    #[test]
    fn a_thick_bar_becomes_a_line() {
        check(
            ".......\n.#####.\n.#####.\n.#####.\n.......\n",
            ".......\n.......\n..###..\n.......\n.......\n",
        );
    }

    #[test]
    fn thin_lines_and_lonely_pixels_stay() {
        let lines = "#......\n..####.\n.......\n.#.#.#.\n.......\n";
        check(lines, lines);
    }

    #[test]
    fn pictures_without_pixels_are_left_alone() {
        thin(&mut [], 0, 5);
        let mut one = [1];
        thin(&mut one, 1, 1);
        assert_eq!(one, [1]);
    }
}
