//! Depthwise convolution of every window with filters of its own, and the pooling that filters are made from.

use crate::Windows;
use crate::host::read;
use crate::rows::{fresh, zeros};
use crate::simd::{Kernel, mul_add, vectorize};
use crate::tape::{Output, record_one};
use crate::vector::{Level, Vector};
use crate::windows::Place;
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// Mean of the tokens of every window (global average pooling of each).
///
/// Nothing is kept for the backward.
///
/// # Shapes
/// - `xs` `(n, h, w, c)` on the grid of `windows`
/// - output `(n · windows, c)`
///
/// # Errors
/// A grid other than that of `windows`, or no channels.
pub fn window_mean(xs: &Tensor, windows: &Windows) -> Result<Tensor> {
    const OP: &str = "window mean";
    let (n, c) = check(OP, xs, windows)?;
    let grid = Grid::new(windows, c);
    let xs = xs.contiguous()?;
    let mut ys = vec![0f32; n * grid.windows.len() * c];
    {
        let x = read(OP, &xs)?;
        per_sample(&mut ys, n, |sample, ys| {
            let x = grid.sample(&x, sample);
            for (places, y) in grid.windows.iter().zip(ys.chunks_exact_mut(c)) {
                vectorize(MeanOf(places, x, y));
            }
        });
    }
    let (shape, count) = (xs.shape().clone(), grid.windows.len());
    record_one(OP, &[&xs], Output::new(ys, (n * count, c)), move |grad| {
        let grad = grad.contiguous()?;
        let g = read(OP, &grad)?;
        let mut dx = zeros(shape.elem_count());
        per_sample(&mut dx, n, |sample, dx| {
            for (i, places) in grid.windows.iter().enumerate() {
                let g = &g[(sample * count + i) * c..][..c];
                let share = 1.0 / places.len() as f32;
                for place in places {
                    dx[place.token * c..][..c].iter_mut().zip(g).for_each(|(d, g)| *d = g * share);
                }
            }
        });
        Ok(vec![Some(Tensor::from_vec(dx, &shape, grad.device())?)])
    })
}

/// Depthwise `k × k` convolution of each window of each sample with its own filters, zeros around the window.
///
/// Kept for the backward: both inputs. Nothing is computed again.
///
/// # Shapes
/// - `xs` `(n, h, w, c)` on the grid of `windows`
/// - `filters` `(n · windows, c · k²)`: for each channel its taps, row by row
/// - output as `xs`
///
/// # Errors
/// An even or zero `k`, no channels, or shapes that do not fit.
pub fn dynamic_conv(xs: &Tensor, filters: &Tensor, windows: &Windows, k: usize) -> Result<Tensor> {
    const OP: &str = "dynamic conv";
    let (n, c) = check(OP, xs, windows)?;
    let taps = k.checked_mul(k).and_then(|taps| taps.checked_mul(c));
    let expected = [n.checked_mul(windows.count()), taps];
    if k.is_multiple_of(2) || !filters.dims().iter().copied().map(Some).eq(expected) {
        bail!("{OP}: filters {:?} do not fit input {:?}, {k}x{k} taps", filters.dims(), xs.dims());
    }
    let grid = Grid::new(windows, c);
    let (xs, filters) = (xs.contiguous()?, filters.contiguous()?);
    let ys = {
        let (x, f) = (read(OP, &xs)?, read(OP, &filters)?);
        grid.convolved(n, &x, |sample, i, taps| by_tap(grid.filter(&f, sample, i, k), k * k, taps), k)
    };
    let (kept_xs, kept_filters) = (xs.clone(), filters.clone());
    record_one(OP, &[&xs, &filters], Output::new(ys, xs.shape()), move |grad| {
        let grad = grad.contiguous()?;
        let (x, f, g) = (read(OP, &kept_xs)?, read(OP, &kept_filters)?, read(OP, &grad)?);
        // The adjoint of a convolution is the convolution with the filter turned by half a circle.
        let turned = |sample: usize, i: usize, taps: &mut [f32]| {
            by_tap(grid.filter(&f, sample, i, k), k * k, taps);
            turn(taps, c);
        };
        let dx = grid.convolved(n, &g, turned, k);
        let mut df = zeros(f.len());
        per_sample(&mut df, n, |sample, df| {
            let mut taps = vec![0f32; c * k * k];
            for (places, df) in grid.windows.iter().zip(df.chunks_exact_mut(c * k * k)) {
                taps.fill(0.0);
                let (x, g) = (grid.sample(&x, sample), grid.sample(&g, sample));
                vectorize(Correlate(&grid, places, k, x, g, &mut taps[..]));
                for (tap, values) in taps.chunks_exact(c).enumerate() {
                    for (channel, value) in values.iter().enumerate() {
                        df[channel * k * k + tap] = *value;
                    }
                }
            }
        });
        let dx = Tensor::from_vec(dx, kept_xs.shape(), grad.device())?;
        let df = Tensor::from_vec(df, kept_filters.shape(), grad.device())?;
        Ok(vec![Some(dx), Some(df)])
    })
}

fn check(op: &'static str, xs: &Tensor, windows: &Windows) -> Result<(usize, usize)> {
    let (n, h, w, c) = xs.dims4()?;
    if (h, w) != windows.grid() {
        bail!("{op}: the input {:?} is not on the grid {:?}", xs.dims(), windows.grid());
    }
    if c == 0 {
        bail!("{op}: the input {:?} has no channels", xs.dims());
    }
    Ok((n, c))
}

/// The windows of a grid, with the way from a place in a window to the token there.
struct Grid {
    channels: usize,
    tokens: usize,
    window: (usize, usize),
    windows: Vec<Window>,
}

struct Window {
    places: Vec<Place>,
    /// Token at each place of the window, row by row; `None` where the window hangs over the grid's edge.
    tokens: Vec<Option<usize>>,
}

impl std::ops::Deref for Window {
    type Target = [Place];

    fn deref(&self) -> &[Place] {
        &self.places
    }
}

impl<'a> IntoIterator for &'a Window {
    type Item = &'a Place;
    type IntoIter = std::slice::Iter<'a, Place>;

    fn into_iter(self) -> Self::IntoIter {
        self.places.iter()
    }
}

impl Grid {
    fn new(windows: &Windows, channels: usize) -> Self {
        let (rows, cols) = windows.window();
        let (h, w) = windows.grid();
        let list = (0..windows.count()).map(|i| {
            let places = windows.places(i);
            let mut tokens = vec![None; rows * cols];
            places.iter().for_each(|place| tokens[place.row * cols + place.col] = Some(place.token));
            Window { places, tokens }
        });
        Self { channels, tokens: h * w, window: (rows, cols), windows: list.collect() }
    }

    fn sample<'a>(&self, xs: &'a [f32], sample: usize) -> &'a [f32] {
        let size = self.tokens * self.channels;
        &xs[sample * size..][..size]
    }

    fn filter<'a>(&self, filters: &'a [f32], sample: usize, window: usize, k: usize) -> &'a [f32] {
        let size = self.channels * k * k;
        &filters[(sample * self.windows.len() + window) * size..][..size]
    }

    /// `n` samples convolved within their windows; `filter` writes the taps of a sample's window, `(k², c)`.
    fn convolved(
        &self,
        n: usize,
        xs: &[f32],
        filter: impl Fn(usize, usize, &mut [f32]) + Sync,
        k: usize,
    ) -> Vec<f32> {
        let size = self.tokens * self.channels;
        let convolve = |(sample, ys): (usize, &mut [MaybeUninit<f32>])| {
            let (xs, mut taps) = (self.sample(xs, sample), vec![0f32; self.channels * k * k]);
            for (i, window) in self.windows.iter().enumerate() {
                filter(sample, i, &mut taps);
                vectorize(Convolve(self, window, &taps, k, xs, &mut *ys));
            }
        };
        // SAFETY: every token lies in a window, and each is written.
        unsafe { fresh(n * size, |ys| ys.par_chunks_mut(size.max(1)).enumerate().for_each(convolve)) }
    }

    /// The taps of a `k × k` filter centred on `place` that fall on tokens of the window, each with its token.
    #[inline(always)]
    fn neighbours(&self, window: &Window, place: &Place, k: usize, pairs: &mut Vec<(usize, usize)>) {
        let (rows, cols) = self.window;
        let half = k / 2;
        pairs.clear();
        for dy in half.saturating_sub(place.row)..k.min(rows + half - place.row) {
            let row = (place.row + dy - half) * cols;
            for dx in half.saturating_sub(place.col)..k.min(cols + half - place.col) {
                if let Some(token) = window.tokens[row + place.col + dx - half] {
                    pairs.push((dy * k + dx, token));
                }
            }
        }
    }
}

/// Calls `kernel(sample, part)` for each of `n` equal parts of `dst`.
fn per_sample(dst: &mut [f32], n: usize, kernel: impl Fn(usize, &mut [f32]) + Sync) {
    let size = (dst.len() / n.max(1)).max(1);
    dst.par_chunks_mut(size).enumerate().for_each(|(sample, part)| kernel(sample, part));
}

/// From `(c, taps)` to `(taps, c)`.
fn by_tap(filter: &[f32], taps: usize, out: &mut [f32]) {
    let c = filter.len() / taps;
    for (channel, filter) in filter.chunks_exact(taps).enumerate() {
        for (tap, value) in filter.iter().enumerate() {
            out[tap * c + channel] = *value;
        }
    }
}

/// Turns filters in `(taps, c)` order by half a circle.
fn turn(taps: &mut [f32], c: usize) {
    let count = taps.len() / c;
    for tap in 0..count / 2 {
        for channel in 0..c {
            taps.swap(tap * c + channel, (count - 1 - tap) * c + channel);
        }
    }
}

struct MeanOf<'a>(&'a [Place], &'a [f32], &'a mut [f32]);

impl Kernel for MeanOf<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: Level<V>) {
        let Self(places, xs, mean) = self;
        let c = mean.len();
        for place in places {
            for (sum, x) in mean.iter_mut().zip(&xs[place.token * c..][..c]) {
                *sum += x;
            }
        }
        let share = 1.0 / places.len() as f32;
        mean.iter_mut().for_each(|sum| *sum *= share);
    }
}

/// `y[p] = Σ_taps f[tap] x[p + tap]`, channel by channel.
struct Convolve<'a>(&'a Grid, &'a Window, &'a [f32], usize, &'a [f32], &'a mut [MaybeUninit<f32>]);

impl Kernel for Convolve<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, level: Level<V>) {
        let Self(grid, window, taps, k, xs, ys) = self;
        let c = grid.channels;
        assert_eq!((taps.len(), xs.len()), (k * k * c, grid.tokens * c), "a filter, and a sample");
        let mut pairs = Vec::with_capacity(k * k);
        for place in window {
            grid.neighbours(window, place, k, &mut pairs);
            let to = ys[place.token * c..][..c].as_mut_ptr().cast::<f32>();
            let mut at = 0;
            // SAFETY: `y` has `c` numbers, and so have each tap and each token.
            unsafe {
                while at + TOGETHER * V::LANES <= c {
                    weighted_sum::<V, TOGETHER>(level, &pairs, (taps, xs), c, at, to);
                    at += TOGETHER * V::LANES;
                }
                while at + V::LANES <= c {
                    weighted_sum::<V, 1>(level, &pairs, (taps, xs), c, at, to);
                    at += V::LANES;
                }
                if at < c {
                    let mut sum = level.splat(0.0);
                    for (tap, token) in &pairs {
                        let f = level.load_some(taps.as_ptr().add(tap * c + at), c - at);
                        let x = level.load_some(xs.as_ptr().add(token * c + at), c - at);
                        sum = sum.add(f.mul(x));
                    }
                    sum.store_some(to.add(at), c - at);
                }
            }
        }
    }
}

/// Vectors of channels whose sums do not wait for each other.
const TOGETHER: usize = 4;

/// `Σ f[tap] x[token]` over pairs of both, for `N` vectors of channels from `at` on, written to those of `to`.
///
/// # Safety
/// Each tap and each token has `c` numbers and `to` has room for as many, of which the vectors are.
#[expect(
    clippy::needless_range_loop,
    reason = "iterators over arrays are not inlined into the code of a level"
)]
#[inline(always)]
unsafe fn weighted_sum<V: Vector, const N: usize>(
    level: Level<V>,
    pairs: &[(usize, usize)],
    (taps, xs): (&[f32], &[f32]),
    c: usize,
    at: usize,
    to: *mut f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [level.splat(0.0); N];
        for (tap, token) in pairs {
            let (f, x) = (taps.as_ptr().add(tap * c + at), xs.as_ptr().add(token * c + at));
            for n in 0..N {
                let place = n * V::LANES;
                sums[n] = level.load(f.add(place)).mul_add(level.load(x.add(place)), sums[n]);
            }
        }
        for n in 0..N {
            sums[n].store(to.add(at + n * V::LANES));
        }
    }
}

/// `f[tap] += Σ_p g[p] x[p + tap]`, channel by channel.
struct Correlate<'a>(&'a Grid, &'a Window, usize, &'a [f32], &'a [f32], &'a mut [f32]);

impl Kernel for Correlate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: Level<V>) {
        let Self(grid, window, k, xs, grads, taps) = self;
        let c = grid.channels;
        let mut pairs = Vec::with_capacity(k * k);
        for place in window {
            grid.neighbours(window, place, k, &mut pairs);
            let g = &grads[place.token * c..][..c];
            for (tap, token) in &pairs {
                let (f, x) = (&mut taps[tap * c..][..c], &xs[token * c..][..c]);
                for ((f, g), x) in f.iter_mut().zip(g).zip(x) {
                    *f = mul_add::<V>(*g, *x, *f);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, gradcheck, named_tensor};
    use candle_core::{Device, IndexOp};

    /// The same with candle's grouped convolution, one window at a time, put back by index.
    fn composed(xs: &Tensor, filters: &Tensor, windows: &Windows, k: usize) -> Result<Tensor> {
        let (n, h, w, c) = xs.dims4()?;
        let (rows, cols) = windows.window();
        let mut ys = vec![0f32; n * h * w * c];
        for sample in 0..n {
            let flat = xs.i(sample)?.reshape((h * w, c))?.to_vec2::<f32>()?;
            for index in 0..windows.count() {
                let mut image = vec![0f32; c * rows * cols];
                let places = windows.places(index);
                for place in &places {
                    for channel in 0..c {
                        image[(channel * rows + place.row) * cols + place.col] = flat[place.token][channel];
                    }
                }
                let image = Tensor::from_vec(image, (1, c, rows, cols), &Device::Cpu)?;
                let filter = filters.i(sample * windows.count() + index)?.reshape((c, 1, k, k))?;
                let out = image.conv2d(&filter, k / 2, 1, 1, c)?.i(0)?.to_vec3::<f32>()?;
                for place in &places {
                    for (channel, plane) in out.iter().enumerate() {
                        ys[(sample * h * w + place.token) * c + channel] = plane[place.row][place.col];
                    }
                }
            }
        }
        Tensor::from_vec(ys, (n, h, w, c), &Device::Cpu)
    }

    fn cases() -> Vec<(Tensor, Tensor, Windows)> {
        let case = |n: usize, c: usize, windows: Windows| {
            let (h, w) = windows.grid();
            let xs = named_tensor("xs", (n, h, w, c), 0.0, 1.0).unwrap();
            let filters = named_tensor("filters", (n * windows.count(), c * 9), 0.0, 1.0).unwrap();
            (xs, filters, windows)
        };
        vec![
            case(2, 6, Windows::new(14, 14, 7, 3).unwrap()),
            case(1, 17, Windows::new(5, 9, 4, 2).unwrap()),
            case(3, 4, Windows::whole(6, 11).unwrap()),
            case(1, 1, Windows::whole(1, 1).unwrap()),
        ]
    }

    #[test]
    fn the_kernel_matches_the_grouped_convolution() {
        for (xs, filters, windows) in cases() {
            let found = dynamic_conv(&xs, &filters, &windows, 3).unwrap();
            assert_close("dynamic conv", &found, &composed(&xs, &filters, &windows, 3).unwrap(), 2e-6);
        }
    }

    #[test]
    fn gradients_match_finite_differences() {
        for (xs, filters, windows) in cases() {
            gradcheck("dynamic conv", &[xs.clone(), filters], 1e-2, |i| {
                dynamic_conv(&i[0], &i[1], &windows, 3)
            });
            gradcheck("window mean", &[xs], 1e-2, |i| window_mean(&i[0], &windows));
        }
    }

    #[test]
    fn the_mean_of_a_window_counts_its_tokens_only() {
        let windows = Windows::new(3, 3, 2, 0).unwrap();
        let xs = Tensor::arange(0f32, 9., &Device::Cpu).unwrap().reshape((1, 3, 3, 1)).unwrap();
        let means = window_mean(&xs, &windows).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(means, [2.0, 3.5, 6.5, 8.0]);
    }
}
