//! Pictures of a bright square in noise, with two labels for every patch: is it inside, and how far is the centre?

use candle_core::{Device, Result, Tensor};
use candle_nn::loss;
use tadformer_peft::Rng;

/// Number of tasks.
pub(crate) const TASKS: usize = 2;

/// Pictures and their labels.
pub(crate) struct Squares {
    /// `(n, 3, side, side)`.
    pub(crate) images: Tensor,
    /// `(n · grid · grid)`, 1 for patches whose centre is inside the square.
    pub(crate) inside: Tensor,
    /// `(n · grid · grid, 1)`, distance from the patch to the square's centre in picture sides.
    pub(crate) distance: Tensor,
}

impl Squares {
    /// `n` pictures of `side` pixels, labelled for `grid × grid` patches.
    pub(crate) fn draw(n: usize, side: usize, grid: usize, rng: &mut Rng) -> Result<Self> {
        let (mut images, mut inside, mut distance) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..n {
            let half = rng.range(0.15, 0.3);
            let (x, y) = (rng.range(half, 1.0 - half), rng.range(half, 1.0 - half));
            // How far a place of a cut into `cells` is from the centre, along each side.
            let offset = |cell: usize, cells: usize, centre: f64| (cell as f64 + 0.5) / cells as f64 - centre;
            for _channel in 0..3 {
                for (row, column) in (0..side * side).map(|i| (i / side, i % side)) {
                    let reach = offset(row, side, y).abs().max(offset(column, side, x).abs());
                    let light = if reach < half { 1.5 } else { 0.0 };
                    images.push((light + 0.3 * rng.normal()) as f32);
                }
            }
            for (row, column) in (0..grid * grid).map(|i| (i / grid, i % grid)) {
                let (dy, dx) = (offset(row, grid, y), offset(column, grid, x));
                inside.push(u32::from(dy.abs().max(dx.abs()) < half));
                distance.push(dy.hypot(dx) as f32);
            }
        }
        let patches = inside.len();
        Ok(Self {
            images: Tensor::from_vec(images, (n, 3, side, side), &Device::Cpu)?,
            inside: Tensor::from_vec(inside, patches, &Device::Cpu)?,
            distance: Tensor::from_vec(distance, (patches, 1), &Device::Cpu)?,
        })
    }

    /// Cross entropy of the first task's logits `(n, h, w, 2)` plus squared error of the second's `(n, h, w, 1)`, in
    /// tenths of a side.
    pub(crate) fn loss(&self, outputs: &[Tensor]) -> Result<Tensor> {
        let [logits, distance] = outputs else {
            candle_core::bail!("expected the outputs of {TASKS} tasks, got {}", outputs.len());
        };
        let segmentation = loss::cross_entropy(&logits.flatten_to(2)?, &self.inside)?;
        let regression = loss::mse(&(distance.flatten_to(2)? * 10.)?, &(&self.distance * 10.)?)?;
        segmentation + regression
    }
}
