//! The second half of a low-rank update, on rows that others share.

use crate::autocast::Precision;
use crate::gemm::{Factor, Matrix, matmul_tall};
use crate::host::read;
use crate::packed::{Packed, Start};
use crate::residual::{Residual, split_gradient, sum_repeats};
use crate::rows::fresh;
use crate::tape::{Output, record_one};
use candle_core::{Result, Tensor, bail};

/// `base + scale · B z`, where `base` is repeated for each part of `codes`; or that, added to a residual's shortcut. Kept for
/// the backward: `codes`.
///
/// # Shapes
/// - `base` `(b, …, out)`; `codes` `(parts · b, …, r)`; `up` `(out, r)`
/// - output `(parts · b, …, out)`
///
/// # Errors
/// Shapes that do not fit, a rank or a width of 0, or tensors that are not `f32` on the CPU.
pub fn low_rank_up(
    base: &Tensor,
    codes: &Tensor,
    up: &Tensor,
    scale: f64,
    onto: Option<&Residual>,
) -> Result<Tensor> {
    const OP: &str = "low-rank up";
    let (base, codes, up) = (base.contiguous()?, codes.contiguous()?, up.contiguous()?);
    let (out_dim, rank) = up.dims2()?;
    if !fits_repeated(&base, out_dim, &codes, rank) {
        bail!("{OP}: base {:?}, codes {:?} and weight {:?} do not fit", base.dims(), codes.dims(), up.dims());
    }
    let (base_rows, rows) = (base.elem_count() / out_dim, codes.elem_count() / rank);
    let mut shape = codes.dims().to_vec();
    *shape.last_mut().expect("the rank was checked") = out_dim;
    let (scale, precision) = (scale as f32, Precision::in_use());
    let ys = {
        let (base, z, b) = (read(OP, &base)?, read(OP, &codes)?, read(OP, &up)?);
        let up = Packed::new(precision, scale, Matrix::new(&b, out_dim, rank).t());
        let residual = onto.map(|residual| residual.rows(OP, &shape)).transpose()?;
        let part = (base_rows * out_dim).max(1);
        // SAFETY: the parts cover all rows.
        unsafe {
            fresh(rows * out_dim, |ys| {
                for (i, (y, z)) in ys.chunks_mut(part).zip(z.chunks((base_rows * rank).max(1))).enumerate() {
                    up.fill_then(Matrix::of_rows(z, rank), Start::Rows(&base), y, |start, y| {
                        if let Some(residual) = &residual {
                            residual.add_to(i * part + start, y);
                        }
                    });
                }
            })
        }
    };
    let residual = onto.map(Residual::backward);
    let (base_shape, kept_codes, kept_up) = (base.shape().clone(), codes.clone(), up.clone());
    let inputs: Vec<&Tensor> = onto.map(Residual::shortcut).into_iter().chain([&base, &codes, &up]).collect();
    record_one(OP, &inputs, Output::new(ys, shape), move |grad| {
        let (shortcut, grad) = split_gradient(residual.as_ref(), &grad)?;
        let (g, z, b) = (read(OP, &grad)?, read(OP, &kept_codes)?, read(OP, &kept_up)?);
        let g = Matrix::new(&g, rows, out_dim);
        let dcodes =
            Factor::new(precision, rows, scale, Matrix::new(&b, out_dim, rank)).product(g, Start::Zero);
        let dup = matmul_tall(precision, scale, g, Matrix::new(&z, rows, rank));
        let device = grad.device();
        let dbase =
            if rows == base_rows { grad.reshape(&base_shape)? } else { sum_repeats(&grad, &base_shape)? };
        let mut gradients: Vec<Option<Tensor>> = shortcut.map(Some).into_iter().collect();
        gradients.extend([
            Some(dbase),
            Some(Tensor::from_vec(dcodes, kept_codes.shape(), device)?),
            Some(Tensor::from_vec(dup, (out_dim, rank), device)?),
        ]);
        Ok(gradients)
    })
}

/// Whether `base` `(b, …, width)` can be repeated for each part of `codes` `(parts · b, …, rank)`. Both widths are at least
/// 1; of samples, and of what lies between, there may be none.
pub(crate) fn fits_repeated(base: &Tensor, width: usize, codes: &Tensor, rank: usize) -> bool {
    match (base.dims(), codes.dims()) {
        ([b, inner @ .., last], [n, codes_inner @ .., codes_last]) => {
            (last, codes_last) == (&width, &rank)
                && width > 0
                && rank > 0
                && inner == codes_inner
                && (*b > 0 && n % b == 0 || *b == 0 && *n == 0)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear;
    use crate::testing::{assert_close, gradcheck, named_tensor};

    #[test]
    fn it_adds_to_the_base_of_every_part_and_gradients_match_the_differences() {
        for (b, tokens, parts, out_dim, rank) in [(1, 3, 3, 4, 2), (2, 50, 2, 33, 7)] {
            let base = named_tensor("base", (b, tokens, out_dim), 0.0, 1.0).unwrap();
            let codes = named_tensor("codes", (parts * b, tokens, rank), 0.0, 1.0).unwrap();
            let up = named_tensor("up", (out_dim, rank), 0.0, 1.0).unwrap();
            let update = (linear(&codes, &up, None).unwrap() * 2.0).unwrap();
            let expected = (Tensor::cat(&vec![base.clone(); parts], 0).unwrap() + update).unwrap();
            assert_close(
                "low-rank up",
                &low_rank_up(&base, &codes, &up, 2.0, None).unwrap(),
                &expected,
                2e-6,
            );
            if b == 1 {
                gradcheck("low-rank up", &[base, codes, up], 1e-2, |i| {
                    low_rank_up(&i[0], &i[1], &i[2], 2.0, None)
                });
            }
        }
    }

    #[test]
    fn with_a_residual_values_and_gradients_are_those_of_both() {
        let tensor = |name: &str, shape: &[usize]| named_tensor(name, shape, 0.0, 1.0).unwrap();
        // The base is repeated three times, the shortcut twice, and one sample is dropped.
        let inputs = [
            tensor("base", &[2, 3, 4]),
            tensor("codes", &[6, 3, 2]),
            tensor("up", &[4, 2]),
            tensor("shortcut", &[3, 3, 4]),
        ];
        let onto = |i: &[Tensor]| Residual::new(&i[3], Some(vec![1.0, 0.0, 2.0, 0.5, 1.0, 3.0]));
        let fused = |i: &[Tensor]| low_rank_up(&i[0], &i[1], &i[2], 2.0, Some(&onto(i)?));
        let apart = |i: &[Tensor]| onto(i)?.add(&low_rank_up(&i[0], &i[1], &i[2], 2.0, None)?);
        assert_close("with a residual", &fused(&inputs).unwrap(), &apart(&inputs).unwrap(), 1e-6);
        gradcheck("low-rank up with a residual", &inputs, 1e-2, fused);
    }

    #[test]
    fn inner_shapes_are_compared() {
        let base = named_tensor("base", (1, 3, 4), 0.0, 1.0).unwrap();
        let codes = named_tensor("codes", (9, 1, 2), 0.0, 1.0).unwrap();
        let up = named_tensor("up", (4, 2), 0.0, 1.0).unwrap();
        assert!(low_rank_up(&base, &codes, &up, 2.0, None).unwrap_err().to_string().contains("do not fit"));
    }
}
