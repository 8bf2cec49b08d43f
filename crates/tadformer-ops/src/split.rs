//! Equal parts of a tensor, with one gradient for all of them.

use crate::host::read;
use crate::rows::zeros;
use crate::tape::{Output, record_all, recording};
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

/// Cuts `xs` into `parts` equal tensors along its first dimension.
///
/// The backward writes each part's gradient to its place once; candle's `narrow` pads every part's gradient to the size of
/// the whole and adds them up. Nothing is kept for it. Where nothing is recorded the parts are views.
///
/// # Shapes
/// - `xs` `(parts · n, …)`
/// - outputs `(n, …)`
///
/// # Errors
/// A first dimension that is no multiple of `parts`.
pub fn split(xs: &Tensor, parts: usize) -> Result<Vec<Tensor>> {
    const OP: &str = "split";
    let mut shape = xs.dims().to_vec();
    if parts == 0 || shape.first().is_none_or(|rows| rows % parts != 0) {
        bail!("{OP}: a tensor of shape {shape:?} has no {parts} equal parts");
    }
    shape[0] /= parts;
    if !recording(&[xs]) {
        return (0..parts).map(|i| xs.narrow(0, i * shape[0], shape[0])).collect();
    }
    let xs = xs.contiguous()?;
    let size = xs.elem_count() / parts;
    let outputs = {
        let x = read(OP, &xs)?;
        let part = |i: usize| Output::new(x[i * size..(i + 1) * size].to_vec(), shape.clone());
        (0..parts).into_par_iter().map(part).collect()
    };
    let whole = xs.shape().clone();
    record_all(OP, &[&xs], outputs, move |grads| {
        let mut dx = zeros(whole.elem_count());
        dx.par_chunks_exact_mut(size.max(1)).zip(grads).try_for_each(|(part, grad)| -> Result<()> {
            if let Some(grad) = grad {
                part.copy_from_slice(&read(OP, &grad.contiguous()?)?);
            }
            Ok(())
        })?;
        Ok(vec![Some(Tensor::from_vec(dx, whole, &candle_core::Device::Cpu)?)])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, assert_refused, gradcheck, named_tensor};

    #[test]
    fn parts_are_those_of_narrow_and_gradients_go_back_to_their_place() {
        let xs = named_tensor("xs", (6, 2, 3), 0.0, 1.0).unwrap();
        let parts = split(&xs, 3).unwrap();
        for (i, part) in parts.iter().enumerate() {
            assert_close("part", part, &xs.narrow(0, 2 * i, 2).unwrap(), 0.0);
        }
        // The middle part is unused, the last one counts twice.
        gradcheck("split", std::slice::from_ref(&xs), 1e-2, |inputs| {
            let parts = split(&inputs[0], 3)?;
            &parts[0] + (&parts[2] * 2.0)?
        });
        assert_refused(split(&xs, 4), &["[6, 2, 3] has no 4 equal parts"]);
    }
}
