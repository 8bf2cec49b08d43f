#!/usr/bin/env bash
# Gradients of candle-core and candle-nn 0.11.1 that are not those of PyTorch, without an error, and what gives the right
# ones. Seen on x86-64, in f32 on the CPU, for a loss that is the sum of the output:
#
#   max_pool2d(2) of [[1, 2], [3, 4]]      0.25 at the maximum, expected 1
#   scatter into init, at 0                init gets 1 at the overwritten place too, expected 0
#   scatter_add to init, at 0, 0 and 1     init gets 0 at those places, expected 1
#   upsample_nearest2d(x) + 10 x           x gets 4 for a factor of 2, expected 14
#   max of [5, 5, 1]                       1 for both, expected 1 in all
#   relu, abs at 0                         1, expected 0
#   binary_cross_entropy_with_logit        at 100: NaN for the label 1, infinite for 0; expected 0 and 100
#
# Exits with 1 if one of these has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/src"
cat > "$work/Cargo.toml" <<'TOML'
[package]
name = "candle-gradients"
version = "0.0.0"
edition = "2024"

[dependencies]
candle-core = "=0.11.1"
candle-nn = "=0.11.1"

[profile.dev]
debug = false
TOML
cat > "$work/src/main.rs" <<'RUST'
use candle_core::{DType, Device::Cpu, Result, Tensor, Var};

/// Gradients of the sum of what `f` makes of variables.
fn gradients(inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) -> Result<Vec<Vec<f32>>> {
    let vars = inputs.iter().map(Var::from_tensor).collect::<Result<Vec<_>>>()?;
    let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let grads = f(&tensors)?.sum_all()?.backward()?;
    let flat = |var: &Var| grads.get(var).expect("a gradient").flatten_all()?.to_vec1();
    vars.iter().map(flat).collect()
}

fn main() -> Result<()> {
    let mut changed = false;
    let mut check = |what: &str, found: Vec<f32>, seen: &[f32]| {
        let same = found.len() == seen.len()
            && found.iter().zip(seen).all(|(a, b)| a == b || a.is_nan() && b.is_nan());
        println!("{} {what}: {found:?}", if same { "as seen" } else { "CHANGED" });
        changed |= !same;
    };
    let vector = |x: &[f32]| Tensor::new(x, &Cpu);

    let square = vector(&[1., 2., 3., 4.])?.reshape((1, 1, 2, 2))?;
    let pooled = gradients(&[square.clone()], |i| i[0].max_pool2d(2))?;
    check("max_pool2d", pooled[0].clone(), &[0., 0., 0., 0.25]);
    let right = gradients(&[square.clone()], |i| i[0].reshape((1, 1, 1, 2, 1, 2))?.max(5)?.max(3))?;
    check("  instead", right[0].clone(), &[0., 0., 0., 1.]);

    let (init, source) = (vector(&[1., 2., 3.])?, vector(&[7.])?);
    let at = Tensor::new(&[0u32], &Cpu)?;
    let inputs = [init, source];
    let both = gradients(&inputs, |i| i[0].scatter(&at, &i[1], 0))?;
    check("scatter, to init and source", both.concat(), &[1., 1., 1., 1.]);
    let right = gradients(&inputs, |i| {
        let mask = Tensor::ones(3, DType::F32, &Cpu)?.scatter(&at, &Tensor::zeros(1, DType::F32, &Cpu)?, 0)?;
        (&i[0] * mask)?.scatter(&at, &i[1], 0)
    })?;
    check("  instead", right.concat(), &[0., 1., 1., 1.]);
    // As many indices as places: with fewer its backward is an error.
    let (inputs, at) = ([vector(&[1., 2., 3.])?, vector(&[7., 8., 9.])?], Tensor::new(&[0u32, 0, 1], &Cpu)?);
    let both = gradients(&inputs, |i| i[0].scatter_add(&at, &i[1], 0))?;
    check("scatter_add, to init and source", both.concat(), &[0., 0., 1., 1., 1., 1.]);
    let right = gradients(&inputs, |i| &i[0] + i[0].zeros_like()?.detach().scatter_add(&at, &i[1], 0)?)?;
    check("  instead", right.concat(), &[1.; 6]);

    let one = vector(&[3.])?.reshape((1, 1, 1, 1))?;
    let two_uses = |x: &Tensor, other: &Tensor| x.upsample_nearest2d(2, 2)?.sum_all()? + (other * 10.)?.sum_all()?;
    let used_twice = gradients(&[one.clone()], |i| two_uses(&i[0], &i[0]))?;
    check("upsample_nearest2d beside another use", used_twice[0].clone(), &[4.]);
    let right = gradients(&[one], |i| two_uses(&(&i[0] * 1.)?, &i[0]))?;
    check("  instead", right[0].clone(), &[14.]);

    let ties = vector(&[5., 5., 1.])?;
    check("max of equals", gradients(&[ties.clone()], |i| i[0].max(0))?[0].clone(), &[1., 1., 0.]);
    let right = gradients(&[ties], |i| i[0].gather(&i[0].argmax_keepdim(0)?, 0))?;
    check("  instead", right[0].clone(), &[1., 0., 0.]);

    let zero = [vector(&[0.])?];
    check("relu at 0", gradients(&zero, |i| i[0].relu())?[0].clone(), &[1.]);
    let right = gradients(&zero, |i| &i[0] * i[0].gt(0f32)?.to_dtype(DType::F32)?)?;
    check("  instead", right[0].clone(), &[0.]);
    check("abs at 0", gradients(&zero, |i| i[0].abs())?[0].clone(), &[1.]);
    let right = gradients(&zero, |i| i[0].maximum(&i[0].neg()?))?;
    check("  instead", right[0].clone(), &[0.]);

    for (logit, label, seen, expected) in [
        (100., 1., f32::NAN, 0.),
        (100., 0., f32::INFINITY, 100.),
        (-100., 1., f32::INFINITY, 100.),
        (-100., 0., f32::NAN, 0.),
    ] {
        let (x, y) = (vector(&[logit])?, vector(&[label])?);
        let loss = candle_nn::loss::binary_cross_entropy_with_logit(&x, &y)?.to_scalar()?;
        check(&format!("binary_cross_entropy_with_logit({logit}, {label})"), vec![loss], &[seen]);
        let loss = ((x.relu()? - (&x * &y)?)? + (x.abs()?.neg()?.exp()? + 1.)?.log()?)?.mean_all()?;
        check("  instead", vec![loss.to_scalar()?], &[expected]);
    }
    std::process::exit(i32::from(changed));
}
RUST
cargo run --quiet --manifest-path "$work/Cargo.toml" --target-dir "$work/target"
