//! Light to the numbers of a picture: tone curve, vignette, the sensor's noise and rounding.

use std::sync::LazyLock;

use super::lanes::{LANES, Lane, Points};
use super::noise::{floor, lattice};
use super::simd::{Kernel, vectorize};

/// Entries of the table of [`display`] below its brightest.
const LEVELS: usize = 2048;

/// Display value for the square root of light, `0.0..=2.0`; as long as a mask of an index needs it.
static DISPLAY: LazyLock<[f32; 2 * LEVELS]> = LazyLock::new(|| {
    std::array::from_fn(|i| {
        let light = (2.0 * i.min(LEVELS) as f32 / LEVELS as f32).powi(2);
        // A shoulder that reaches white at four times the light of a white wall, then the usual gamma.
        let toned = light * (1.0 + light / 9.0) / (1.0 + 0.45 * light);
        toned.min(1.0).powf(1.0 / 2.2)
    })
});

/// Turns linear light into display values, `0..=1`.
pub(super) fn display(light: &mut Points) {
    let table = &*DISPLAY;
    for channel in [&mut light.x, &mut light.y, &mut light.z] {
        vectorize(Display { table, channel });
    }
}

/// Looks one channel up in the table.
struct Display<'a> {
    table: &'a [f32; 2 * LEVELS],
    channel: &'a mut Lane,
}

impl Kernel for Display<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { table, channel } = self;
        let mut entries = [0; LANES];
        for (entry, light) in entries.iter_mut().zip(&*channel) {
            let root = light.max(0.0).sqrt() * (0.5 * LEVELS as f32);
            *entry = floor(root.min(LEVELS as f32)).1;
        }
        for (value, entry) in channel.iter_mut().zip(entries) {
            *value = table[entry as usize % (2 * LEVELS)];
        }
    }
}

/// Vignette, noise of `deviation` levels and rounding, in the three planes of a picture.
pub(super) fn develop(planes: [&mut [f32]; 3], [height, width]: [usize; 2], deviation: f32, salt: u32) {
    let reach = 4.0 / ((height * height + width * width) as f32);
    let [red, green, blue] = planes.map(|plane| plane.chunks_exact_mut(width));
    for (y, ((red, green), blue)) in red.zip(green).zip(blue).enumerate() {
        let (middle, down) = (0.5 * width as f32, y as f32 - 0.5 * height as f32);
        vectorize(Row { rgb: [red, green, blue], y: y as u32, middle, down, reach, deviation, salt });
    }
}

/// A row of a picture.
struct Row<'a> {
    rgb: [&'a mut [f32]; 3],
    y: u32,
    /// Half the picture's width, pixels.
    middle: f32,
    /// Pixels below the picture's middle.
    down: f32,
    /// One over the square of the distance from the middle to a corner, pixels.
    reach: f32,
    deviation: f32,
    salt: u32,
}

impl Kernel for Row<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { rgb: [red, green, blue], y, middle, down, reach, deviation, salt } = self;
        for (x, ((red, green), blue)) in
            (0u32..).zip(red.iter_mut().zip(green.iter_mut()).zip(blue.iter_mut()))
        {
            let across = x as i32 as f32 - middle;
            let light = 255.0 - 40.0 * (across * across + down * down) * reach;
            let bits = lattice(x, y, salt);
            *red = level(*red * light + deviation * grain(bits));
            *green = level(*green * light + deviation * grain(bits >> 10));
            *blue = level(*blue * light + deviation * grain(bits >> 20));
        }
    }
}

/// Uniform noise of mean 0 and standard deviation 1 from the lowest ten bits.
#[inline(always)]
fn grain(bits: u32) -> f32 {
    ((bits & 1023) as i32 as f32 - 511.5) * (3.464_1 / 1023.0)
}

/// The nearest whole level.
#[inline(always)]
fn level(v: f32) -> f32 {
    // Numbers of this size have no places after the point, so that adding it rounds; unlike a conversion it has vectors.
    const WHOLE: f32 = 8_388_608.0;
    (v.clamp(0.0, 255.0) + WHOLE) - WHOLE
}
