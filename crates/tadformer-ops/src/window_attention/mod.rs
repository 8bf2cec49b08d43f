//! Softmax attention within windows, task prompts in front of every window's tokens, straight from and to the grid.

mod cpu;
mod head;
mod pattern;

use crate::Windows;
use crate::host::read;
use crate::tape::{Output, record};
use candle_core::{Result, Shape, Tensor, bail};
use cpu::{Gradients, Inputs, Problem};

/// What the rows of [`window_attention`] give.
#[derive(Debug, Clone)]
pub struct Attended {
    /// Attention output of the tokens, `(b, h, w, c)`.
    pub context: Tensor,
    /// Attention output of the prompts, averaged over the image's windows, `(b, t, c)`; absent without prompts.
    pub prompts: Option<Tensor>,
    /// Raw scores `q·k` of prompts and tokens, before scale, bias, mask and softmax, `(b, h, w, t, heads)`; absent
    /// without prompts.
    pub scores: Option<Tensor>,
}

/// Multi-head attention within windows:
/// `softmax(q kᵀ / √d + bias + mask) v` over the prompts and tokens of each window.
///
/// Every window sees the same `t` prompts, before its tokens. The relative position bias and the mask of the shift (−100
/// between tokens of different regions) act between tokens alone. Places outside the grid take no part. Swin Transformer
/// (arXiv 2103.14030), section 3.2; TADFormer (arXiv 2501.04293), section 3.
///
/// Where there is `padding`, every place outside the grid holds that row instead: tokens and prompts attend to it as to any
/// token, with the bias and the mask of its place. What it attends to itself is seen nowhere.
///
/// Kept for the backward: `qkv`, `prompts` and `padding`, that is queries, keys and values. Computed again, window by window:
/// scores and probabilities.
///
/// # Shapes
/// - `qkv` `(b, h, w, 3c)`: queries, keys and values, each head by head
/// - `prompts` `(b, t, 3c)`, or none
/// - `padding` `(3c)`, or none
/// - `bias_table` `((2m − 1)², heads)` for windows of side up to `m`
///
/// # Errors
/// Shapes that do not fit each other, `windows` or `heads`; tensors that are not `f32` on the CPU.
pub fn window_attention(
    qkv: &Tensor,
    prompts: Option<&Tensor>,
    padding: Option<&Tensor>,
    bias_table: &Tensor,
    windows: &Windows,
    heads: usize,
) -> Result<Attended> {
    const OP: &str = "window attention";
    let (sizes, span) = check(qkv, (prompts, padding), bias_table, windows, heads)?;
    let (b, c, _, t) = sizes;
    let (h, w) = windows.grid();
    let qkv = qkv.contiguous()?;
    let or_empty = |tensor: Option<&Tensor>| match tensor {
        Some(tensor) => tensor.contiguous(),
        None => Tensor::zeros(0, qkv.dtype(), qkv.device()),
    };
    let (prompts, padding) = (or_empty(prompts)?, or_empty(padding)?);
    let table = bias_table.contiguous()?;

    let problem = Problem::new(sizes, (span, &read(OP, &table)?), windows, padding.elem_count() > 0);
    let outputs = {
        let (qkv, prompts, padding) = (read(OP, &qkv)?, read(OP, &prompts)?, read(OP, &padding)?);
        problem.forward(Inputs { qkv: &qkv, prompts: &prompts, padding: &padding })
    };
    let outputs = [
        Output::new(outputs.context, (b, h, w, c)),
        Output::new(outputs.prompts, (b, t, c)),
        Output::new(outputs.scores, (b, h, w, t, heads)),
    ];
    let kept = (qkv.clone(), prompts.clone(), padding.clone(), table.shape().clone());
    let inputs = [&qkv, &prompts, &padding, &table];
    let [context, prompts, scores] = record(OP, &inputs, outputs, move |grads| {
        let (qkv, prompts, padding, table) = kept;
        let grads: Vec<_> =
            grads.into_iter().map(|g| g.map(|g| g.contiguous()).transpose()).collect::<Result<_>>()?;
        let slices: Vec<_> =
            grads.iter().map(|g| g.as_ref().map(|g| read(OP, g)).transpose()).collect::<Result<_>>()?;
        let grads = Gradients {
            context: slices[0].as_deref(),
            prompts: slices[1].as_deref(),
            scores: slices[2].as_deref(),
        };
        let inputs = {
            let (qkv, prompts, padding) = (read(OP, &qkv)?, read(OP, &prompts)?, read(OP, &padding)?);
            let inputs = Inputs { qkv: &qkv, prompts: &prompts, padding: &padding };
            problem.backward(inputs, table.dims()[0], grads)
        };
        let tensor = |values, shape: &Shape| Tensor::from_vec(values, shape, qkv.device());
        Ok(vec![
            Some(tensor(inputs.qkv, qkv.shape())?),
            Some(tensor(inputs.prompts, prompts.shape())?),
            Some(tensor(inputs.padding, padding.shape())?),
            Some(tensor(inputs.table, &table)?),
        ])
    })?;
    let with_prompts = |tensor| (t > 0).then_some(tensor);
    Ok(Attended { context, prompts: with_prompts(prompts), scores: with_prompts(scores) })
}

/// Batch, channels, heads and prompts; and the side of the bias table.
fn check(
    qkv: &Tensor,
    (prompts, padding): (Option<&Tensor>, Option<&Tensor>),
    bias_table: &Tensor,
    windows: &Windows,
    heads: usize,
) -> Result<((usize, usize, usize, usize), usize)> {
    let (batch, h, w, c3) = qkv.dims4()?;
    let fits = heads.checked_mul(3).is_some_and(|parts| parts > 0 && c3 > 0 && c3 % parts == 0);
    if (h, w) != windows.grid() || !fits {
        let grid = windows.grid();
        bail!("window attention: qkv {:?} does not fit {heads} heads on a grid of {grid:?}", qkv.dims());
    }
    let count = match prompts.map(Tensor::dims) {
        None => 0,
        Some(&[b, t, c]) if b == batch && c == c3 && t > 0 => t,
        Some(dims) => bail!("window attention: prompts {dims:?} do not fit qkv {:?}", qkv.dims()),
    };
    if let Some(padding) = padding
        && padding.dims() != [c3]
    {
        bail!("window attention: padding {:?} does not fit qkv {:?}", padding.dims(), qkv.dims());
    }
    let (entries, table_heads) = bias_table.dims2()?;
    let (rows, cols) = windows.window();
    let span = entries.isqrt();
    if span * span != entries || span % 2 == 0 || table_heads != heads || 2 * rows.max(cols) - 1 > span {
        bail!(
            "window attention: a bias table of shape {:?} does not serve windows of {rows}x{cols} and {heads} heads",
            bias_table.dims()
        );
    }
    Ok(((batch, c3 / 3, heads, count), span))
}

#[cfg(test)]
mod tests;
