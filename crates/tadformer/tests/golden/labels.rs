//! Labels that are functions of a name, as the golden files have them.

use candle_core::{Device, Tensor};
use tadformer_data::{Loss, TaskSpec};
use tadformer_ops::testing::named_tensor;

/// Labels called `name` of `b` images of `side` pixels, as the losses take them; about one pixel in eight is 255
/// (binary tasks have none).
///
/// # Shapes
/// - `(b, 1, side, side)`, or `(b, 3, side, side)` for directions
pub(crate) fn labels(spec: &TaskSpec, name: &str, b: usize, side: usize) -> Tensor {
    let pixels = b * side * side;
    match spec.task.loss {
        Loss::CrossEntropy => {
            let class = |z: u64| if ignored(z) { 255.0 } else { (z % spec.outputs as u64) as f32 };
            planes(words(name, pixels).map(class).collect(), b, side)
        }
        Loss::BalancedBce { .. } => planes(words(name, pixels).map(|z| (z % 2) as f32).collect(), b, side),
        Loss::NormalsL1 => directions(name, b, side),
        Loss::L1 => panic!("no golden model has the task `{}`", spec.task),
    }
}

/// Unit vectors along the channels, in a random direction.
fn directions(name: &str, b: usize, side: usize) -> Tensor {
    let plane = side * side;
    let drawn = named_tensor(name, b * 3 * plane, 0.0, 1.732_050_8).unwrap().to_vec1::<f32>().unwrap();
    let mut values = vec![255f32; drawn.len()];
    for (pixel, z) in words(&format!("{name}:ignore"), b * plane).enumerate() {
        if ignored(z) {
            continue;
        }
        let at = [0, 1, 2].map(|channel| (pixel / plane * 3 + channel) * plane + pixel % plane);
        let norm = at.iter().map(|&i| f64::from(drawn[i]).powi(2)).sum::<f64>().sqrt();
        for i in at {
            values[i] = (f64::from(drawn[i]) / norm) as f32;
        }
    }
    planes(values, b, side)
}

fn planes(values: Vec<f32>, b: usize, side: usize) -> Tensor {
    let channels = values.len() / (b * side * side);
    Tensor::from_vec(values, (b, channels, side, side), &Device::Cpu).unwrap()
}

fn ignored(z: u64) -> bool {
    (z >> 33).is_multiple_of(8)
}

/// The stream `name`: splitmix64's finaliser of the FNV-1a hash of the name advanced by golden gammas.
fn words(name: &str, n: usize) -> impl Iterator<Item = u64> {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (0..n as u64).map(move |i| {
        let z = hash.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    })
}
