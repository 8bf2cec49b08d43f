//! Checks that every operation and layer goes through: closeness with the worst element named, gradients against finite
//! differences, and golden files.

use crate::rng::{fnv1a, mix};
use candle_core::{DType, Device, Result, Shape, Tensor, Var};

/// Fails unless every element of `found` is within `tolerance · max(|expected|, floor 1e-3)` of `expected`.
///
/// # Panics
/// With the worst element, if one is too far; or if the shapes differ.
#[track_caller]
pub fn assert_close(what: &str, found: &Tensor, expected: &Tensor, tolerance: f64) {
    assert_eq!(found.dims(), expected.dims(), "{what}: shapes");
    let (found, expected) = (flat(found), flat(expected));
    let scale = expected.iter().fold(1e-3f64, |m, x| m.max(x.abs()));
    let (mut worst, mut at) = (0f64, 0);
    for (i, (f, e)) in found.iter().zip(&expected).enumerate() {
        let error = (f - e).abs();
        if error > worst || error.is_nan() {
            (worst, at) = (error, i);
        }
        if error.is_nan() {
            break;
        }
    }
    assert!(
        worst <= tolerance * scale,
        "{what}: element {at} is {}, expected {}; off by {:.2e} of the scale {scale:.3e}, allowed {tolerance:.1e}",
        found[at],
        expected[at],
        worst / scale,
    );
}

fn flat(tensor: &Tensor) -> Vec<f64> {
    let values = tensor.flatten_all().and_then(|t| t.to_dtype(DType::F64)).and_then(|t| t.to_vec1());
    values.expect("a float tensor in main memory")
}

/// A tensor that is a function of its name: uniform in `offset ± amplitude`.
///
/// Element `i` is the splitmix64 finaliser of the FNV-1a hash of the name advanced by `i` golden gammas, its top 24 bits
/// scaled to −1..1.
///
/// # Errors
/// None in practice: the shape fits the numbers made for it.
pub fn named_tensor(name: &str, shape: impl Into<Shape>, offset: f64, amplitude: f64) -> Result<Tensor> {
    let shape = shape.into();
    let hash = fnv1a(name);
    let values: Vec<f32> = (0..shape.elem_count() as u64)
        .map(|i| {
            let z = mix(hash.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
            (offset + amplitude * ((z >> 40) as f64 / f64::from(1 << 24) * 2.0 - 1.0)) as f32
        })
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// Compares the gradients of `Σ cotangent · f(inputs)` with central differences at a few elements of every input.
///
/// `f` must be smooth near the inputs; differences are taken in `f32` with step `1e-2`, so expect agreement to about
/// `tolerance` = 1e-2 of the largest gradient.
///
/// # Panics
/// If a gradient is missing, not finite or off.
#[track_caller]
pub fn gradcheck(what: &str, inputs: &[Tensor], tolerance: f64, f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let vars: Vec<Var> = inputs.iter().map(|x| Var::from_tensor(&x.copy().unwrap()).unwrap()).collect();
    let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let output = f(&tensors).unwrap();
    let cotangent = named_tensor("gradcheck", output.shape(), 0.0, 1.0).unwrap();
    let value = |inputs: &[Tensor]| -> f64 {
        let products = (f(inputs).unwrap() * &cotangent).unwrap();
        flat(&products).iter().sum()
    };
    let grads = (&output * &cotangent).unwrap().sum_all().unwrap().backward().unwrap();
    for (i, var) in vars.iter().enumerate() {
        let grad = flat(grads.get(var).unwrap_or_else(|| panic!("{what}: input {i} has no gradient")));
        let scale = grad.iter().fold(1e-3f64, |m, g| m.max(g.abs()));
        let values = flat(var);
        for pick in 0..8u64 {
            let at = (mix(pick + 1) % grad.len() as u64) as usize;
            let step = 1e-2;
            let shifted = |delta: f64| -> f64 {
                let mut values: Vec<f32> = values.iter().map(|v| *v as f32).collect();
                values[at] += delta as f32;
                let mut inputs: Vec<Tensor> = tensors.iter().map(Tensor::detach).collect();
                inputs[i] = Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap();
                value(&inputs)
            };
            let difference = (shifted(step) - shifted(-step)) / (2.0 * step);
            assert!(
                (grad[at] - difference).abs() <= tolerance * scale,
                "{what}: input {i}, element {at}: gradient {}, difference quotient {difference}, scale {scale}",
                grad[at],
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_tensors_have_the_published_check_values() {
        let first = |name: &str, offset, amplitude, i: usize| {
            let tensor = named_tensor(name, i + 1, offset, amplitude).unwrap();
            tensor.to_vec1::<f32>().unwrap()[i].to_bits()
        };
        assert_eq!(first("input:image", 0.0, 1.732_050_8, 0), 0xbfc4_eeb9);
        assert_eq!(first("input:image", 0.0, 1.732_050_8, 95), 0xbcb9_7993);
        assert_eq!(first("backbone.task_prompts", 1.0, 0.5, 63), 0x3f9a_2064);
        assert_eq!(first("decoders.decoders.normals.last_layer.3.bias", 3.0, 0.05, 2), 0x4041_2e35);
    }
}
