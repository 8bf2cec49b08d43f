//! In which numbers matrix products are formed.

use std::cell::Cell;
use std::fmt;

/// What the operands of a linear layer's matrix products are rounded to. Sums are always `f32`, and so is everything that
/// is no such product: norms, softmax, attention, GELU, losses, the weights themselves and their optimiser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Not rounded: 24 significant bits.
    #[default]
    F32,
    /// `bf16`, to nearest, ties to even: the range of `f32` with 8 significant bits. Twice the speed where the processor
    /// multiplies pairs of them ([`SimdLevel::Avx512Bf16`](crate::SimdLevel::Avx512Bf16)), the same numbers without the
    /// speed elsewhere.
    Bf16,
}

impl Precision {
    /// `f32` or `bf16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }

    /// What [`autocast`] has set for this thread. An operation asks once, when it is entered, and its backward remembers.
    pub(crate) fn in_use() -> Self {
        PRECISION.get()
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

thread_local! {
    static PRECISION: Cell<Precision> = const { Cell::new(Precision::F32) };
}

/// Runs `f` with the products of linear layers in `precision` (`torch.autocast`). It holds for the calling thread, and for
/// the backward of what was computed in it, wherever that runs.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use tadformer_ops::{Precision, autocast, linear};
/// // 1 + 2⁻⁹ has ten significant bits.
/// let x = Tensor::new(&[[1.001953125f32]], &Device::Cpu)?;
/// let one = Tensor::new(&[[1f32]], &Device::Cpu)?;
/// assert_eq!(linear(&x, &one, None)?.to_vec2::<f32>()?, [[1.001953125]]);
/// assert_eq!(autocast(Precision::Bf16, || linear(&x, &one, None))?.to_vec2::<f32>()?, [[1.0]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn autocast<R>(precision: Precision, f: impl FnOnce() -> R) -> R {
    /// Puts the old precision back, also when `f` panics.
    struct Restore(Precision);
    impl Drop for Restore {
        fn drop(&mut self) {
            PRECISION.set(self.0);
        }
    }
    let _restore = Restore(PRECISION.replace(precision));
    f()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, named_tensor};
    use crate::{
        Around, Before, FrozenLinear, LowRankUpdate, linear, linear_columns, low_rank_linear, low_rank_up,
        no_grad, task_codes,
    };
    use candle_core::{DType, Result, Tensor, Var};

    type Operation = fn(&[Tensor]) -> Result<Tensor>;

    fn input(name: &str, shape: &[usize]) -> Tensor {
        named_tensor(name, shape, 0.0, 0.5).unwrap()
    }

    fn updated(i: &[Tensor], before: Before<'_>) -> Result<Tensor> {
        let update = LowRankUpdate { down: &i[1], up: &i[2], scale: 1.5, mask: None };
        low_rank_linear(
            &i[0],
            Around::after(before),
            &FrozenLinear::new(&input("w", &[33, 47]), None)?,
            &update,
        )
    }

    /// Products alone, on few rows, on rows of whole tiles and others, in one part and several.
    fn products() -> Vec<(&'static str, Operation, Vec<Tensor>)> {
        let linears = |rows: usize| [input("x", &[rows, 47]), input("w", &[33, 47]), input("b", &[33])];
        let mut all: Vec<(&'static str, Operation, Vec<Tensor>)> = Vec::new();
        for rows in [3, 150, 1101] {
            all.push(("linear", |i| linear(&i[0], &i[1], Some(&i[2])), linears(rows).into()));
            let columns: Operation = |i| linear_columns(&i[0], &i[1], 2, Some(&i[2]));
            all.push((
                "columns",
                columns,
                vec![input("x", &[rows, 45]), input("w", &[33, 47]), input("b", &[33])],
            ));
        }
        let frozen: Operation =
            |i| FrozenLinear::new(&on_the_grid(&input("w", &[33, 47])), None)?.forward(&i[0]);
        all.push(("frozen", frozen, vec![input("x", &[150, 47])]));
        all
    }

    /// Products of products: what lies between is rounded too.
    fn chains() -> Vec<(&'static str, Operation, Vec<Tensor>)> {
        let low_rank = || vec![input("x", &[150, 47]), input("a", &[5, 47]), input("b", &[33, 5])];
        vec![
            ("low-rank", |i| updated(i, Before::Nothing), low_rank()),
            ("low-rank of GELU", |i| updated(i, Before::Gelu), low_rank()),
            (
                "low-rank up",
                |i| low_rank_up(&i[0], &i[1], &i[2], 1.5, None),
                vec![input("base", &[1, 90, 33]), input("z", &[2, 90, 5]), input("b", &[33, 5])],
            ),
            (
                "task codes",
                |i| task_codes(&i[0], &i[1], &i[2], 1.5, &i[3]),
                vec![
                    input("base", &[1, 90, 33]),
                    input("z", &[2, 90, 5]),
                    input("b", &[33, 5]),
                    input("a", &[7, 33]),
                ],
            ),
        ]
    }

    /// The nearest tensor that rounding to `bf16` leaves as it is.
    fn on_the_grid(x: &Tensor) -> Tensor {
        x.to_dtype(DType::BF16).unwrap().to_dtype(DType::F32).unwrap()
    }

    /// Value, computed in one precision, and gradients, while another is set.
    fn results(f: Operation, inputs: &[Tensor], forward: Precision, meanwhile: Precision) -> Vec<Tensor> {
        let vars: Vec<Var> = inputs.iter().map(|x| Var::from_tensor(x).unwrap()).collect();
        let plain: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
        let ys = autocast(forward, || f(&plain)).unwrap();
        let cotangent = on_the_grid(&named_tensor("cotangent", ys.shape(), 0.0, 1.0).unwrap());
        let loss = (&ys * cotangent).unwrap().sum_all().unwrap();
        let grads = autocast(meanwhile, || loss.backward()).unwrap();
        let grads = vars.iter().map(|v| grads.get(v).unwrap().clone());
        std::iter::once(ys.detach()).chain(grads).collect()
    }

    fn bits(tensors: &[Tensor]) -> Vec<Vec<u32>> {
        let bits =
            |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits);
        tensors.iter().map(|t| bits(t).collect()).collect()
    }

    fn distance(a: &Tensor, b: &Tensor) -> f32 {
        let norm = |x: &Tensor| x.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt();
        norm(&(a - b).unwrap()) / norm(b)
    }

    #[test]
    fn products_of_numbers_that_need_no_rounding_are_those_of_f32() {
        for (name, f, inputs) in products() {
            let inputs: Vec<Tensor> = inputs.iter().map(on_the_grid).collect();
            let found = results(f, &inputs, Precision::Bf16, Precision::F32);
            let expected = results(f, &inputs, Precision::F32, Precision::F32);
            for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert_close(&format!("{name}, result {i}"), found, expected, 2e-6);
            }
        }
    }

    #[test]
    fn values_and_gradients_are_near_those_of_f32_but_rounded() {
        for (name, f, inputs) in products().into_iter().chain(chains()) {
            let found = results(f, &inputs, Precision::Bf16, Precision::F32);
            let expected = results(f, &inputs, Precision::F32, Precision::F32);
            for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                // A rounded number is off by 2⁻⁹ at most, by 2⁻⁹/√3 in the mean.
                let distance = distance(found, expected);
                assert!(distance < 1e-2, "{name}, result {i}: {distance}");
            }
            assert!(distance(&found[0], &expected[0]) > 2e-5, "{name} was not rounded");
        }
    }

    #[test]
    fn a_backward_remembers_the_precision_of_its_forward() {
        for (name, f, inputs) in products().into_iter().chain(chains()) {
            let [f32_then_f32, f32_then_bf16, bf16_then_f32, bf16_then_bf16] = [
                (Precision::F32, Precision::F32),
                (Precision::F32, Precision::Bf16),
                (Precision::Bf16, Precision::F32),
                (Precision::Bf16, Precision::Bf16),
            ]
            .map(|(forward, meanwhile)| bits(&results(f, &inputs, forward, meanwhile)));
            assert!(f32_then_f32 == f32_then_bf16 && bf16_then_f32 == bf16_then_bf16, "{name}");
            // A gradient that a product gives; that of the second input if there is one.
            let i = 2.min(inputs.len());
            assert!(f32_then_f32[i] != bf16_then_f32[i], "{name} has a gradient that was not rounded");
        }
    }

    #[test]
    fn a_merged_update_is_as_near_as_one_that_is_not() {
        let (_, f, inputs) = chains().swap_remove(0);
        let vars: Vec<Var> = inputs.iter().map(|x| Var::from_tensor(x).unwrap()).collect();
        let plain: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
        let expected = f(&plain).unwrap();
        let [apart, merged] =
            autocast(Precision::Bf16, || [f(&plain).unwrap(), no_grad(|| f(&plain)).unwrap()]);
        assert!(apart.track_op() && !merged.track_op());
        for found in [apart, merged] {
            let distance = distance(&found.detach(), &expected.detach());
            assert!((2e-5..1e-2).contains(&distance), "{distance}");
        }
    }

    #[test]
    fn the_innermost_precision_holds_and_the_old_one_comes_back() {
        assert_eq!(Precision::in_use(), Precision::F32);
        autocast(Precision::Bf16, || {
            assert_eq!(autocast(Precision::F32, Precision::in_use), Precision::F32);
            let caught = std::panic::catch_unwind(|| autocast(Precision::F32, || panic!("inside")));
            assert_eq!(caught.unwrap_err().downcast_ref::<&str>(), Some(&"inside"));
            assert_eq!(Precision::in_use(), Precision::Bf16);
            let elsewhere = std::thread::spawn(Precision::in_use).join().unwrap();
            assert_eq!(elsewhere, Precision::F32);
        });
        assert_eq!(Precision::in_use(), Precision::F32);
    }
}
