//! Checks that every operation and layer goes through: closeness with the worst element named, gradients against finite
//! differences, and golden files.

mod golden_file;

use crate::rng::{fnv1a, mix};
use crate::{Entry, Init, Params, Role, Source};
use candle_core::{DType, Device, Result, Shape, Tensor, Var, bail};
use std::sync::{Arc, Mutex, MutexGuard};

pub use golden_file::GoldenFile;

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

/// Fails unless `result` is an error that says each of `parts`.
///
/// # Panics
/// With what the error says, or that there is none.
#[track_caller]
pub fn assert_refused<T>(result: Result<T>, parts: &[&str]) {
    let Err(error) = result else { panic!("it was not refused for {parts:?}") };
    let message = error.to_string();
    assert!(parts.iter().all(|part| message.contains(part)), "expected {parts:?}: {message}");
}

/// Fails unless every element of `gradient` is within `1e-5` of zero.
///
/// For gradients that are zero by algebra: what is found is the rounding of a sum whose terms cancel, and no share of
/// itself is a measure for it. The bias in front of a BatchNorm is one, which the batch's mean takes away again.
///
/// # Panics
/// With the largest element, if it is further away.
#[track_caller]
pub fn assert_zero(what: &str, gradient: &Tensor) {
    let worst = flat(gradient).into_iter().map(f64::abs).max_by(f64::total_cmp).unwrap_or(0.0);
    assert!(worst <= 1e-5, "{what} has an element of {worst:e}, but is zero in exact arithmetic");
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

/// The value that the golden files give the parameter or buffer with the full name `name`: [`named_tensor`] with an
/// offset and an amplitude that follow from the last part of the name and the number of dimensions.
///
/// # Errors
/// None in practice: the shape fits the numbers made for it.
pub fn golden_parameter(name: &str, shape: impl Into<Shape>) -> Result<Tensor> {
    let shape = shape.into();
    let dims = shape.dims();
    let last = name.rsplit('.').next().unwrap_or(name);
    let (offset, amplitude) = match (last, dims.len()) {
        ("prompt_gate", _) => (0.3, 0.0),
        ("running_mean", _) => (0.0, 0.1),
        ("running_var", _) => (1.0, 0.2),
        ("relative_position_bias_table", _) => (0.0, 0.2),
        ("task_prompts", 2) => (1.0, 0.5),
        _ if name.ends_with("normals.last_layer.3.bias") => (3.0, 0.05),
        ("std", 1) => (0.5, 0.25),
        ("mean", 1) => (0.0, 0.25),
        ("weight", 1) => (1.0, 0.1),
        ("bias", 1) => (0.0, 0.05),
        (last, rank) if rank >= 2 => {
            let fan_in: usize = dims[1..].iter().product();
            let amplitude = (3.0 / fan_in as f64).sqrt();
            (0.0, if last == "lora_shared_B" { 0.25 * amplitude } else { amplitude })
        }
        _ => (0.0, 0.05),
    };
    named_tensor(name, shape, offset, amplitude)
}

/// `value` with every element replaced by the next larger or the next smaller `f32`.
fn moved_by_one_ulp(name: &str, value: &Tensor, seed: u64) -> Result<Tensor> {
    let hash = fnv1a(&format!("{name}:{seed}"));
    let values = value.flatten_all()?.to_vec1::<f32>()?.into_iter().zip(0u64..);
    let moved =
        values.map(|(v, i)| if mix(hash.wrapping_add(i)) & 1 == 0 { v.next_up() } else { v.next_down() });
    Tensor::from_vec(moved.collect(), value.shape(), &Device::Cpu)
}

/// A source that gives every tensor its [golden value](golden_parameter), whatever initial value its layer asks for.
#[derive(Debug, Default)]
pub struct GoldenStore {
    entries: Mutex<Vec<Entry>>,
    /// Weights are one unit in the last place away from their golden values, by this seed.
    moved: Option<u64>,
}

impl GoldenStore {
    /// A store that no layer has asked yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A store whose weights are the golden ones moved by one unit in the last place, up or down by `seed`. Buffers are as
    /// they were.
    ///
    /// What holds of the golden weights and not of these hangs on the last bit.
    pub fn moved(seed: u64) -> Arc<Self> {
        Arc::new(Self { entries: Mutex::default(), moved: Some(seed) })
    }

    /// The root from which layers are built.
    pub fn params(self: &Arc<Self>) -> Params {
        Params::new(Arc::clone(self) as Arc<dyn Source>)
    }

    /// Every tensor asked for so far, in that order.
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().clone()
    }

    /// The entries of one role.
    pub fn with_role(&self, role: Role) -> Vec<Entry> {
        self.lock().iter().filter(|entry| entry.role == role).cloned().collect()
    }

    /// The tensor called `name`, if a layer asked for it.
    pub fn get(&self, name: &str) -> Option<Entry> {
        self.lock().iter().find(|entry| entry.name == name).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Source for GoldenStore {
    fn get(&self, name: &str, shape: &Shape, _: Init, role: Role) -> Result<Tensor> {
        let mut entries = self.lock();
        if entries.iter().any(|entry| entry.name == name) {
            bail!("two layers ask for a tensor called `{name}`");
        }
        let mut value = golden_parameter(name, shape)?;
        if let (Some(seed), Role::Frozen | Role::Trainable) = (self.moved, role) {
            value = moved_by_one_ulp(name, &value, seed)?;
        }
        let tensor = match role {
            Role::Frozen => value,
            Role::Trainable | Role::Buffer => Var::from_tensor(&value)?.into_inner(),
        };
        entries.push(Entry { name: name.to_owned(), role, tensor: tensor.clone(), loaded: true });
        Ok(tensor)
    }
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

    #[test]
    fn golden_parameters_have_the_published_check_values() {
        for (name, shape, i, bits) in [
            ("backbone.layers.0.blocks.0.attn.qkv.linear.weight", vec![48, 16], 0, 0x3e88_d18a_u32),
            ("backbone.layers.0.blocks.1.mlp.fc1.lora_shared_B", vec![64, 4], 255, 0xbe2c_62fa),
            ("backbone.task_prompts", vec![4, 16], 63, 0x3f9a_2064),
            ("backbone.layers.0.blocks.0.norm1.weight", vec![16], 7, 0x3f88_410a),
            (
                "backbone.layers.0.blocks.1.attn.proj.lora_filter.chan_FilterNorm.std",
                vec![36],
                35,
                0x3f08_f0ee,
            ),
            ("decoders.decoders.semseg.last_layer.1.running_var", vec![144], 143, 0x3f88_fdde),
            ("backbone.layers.0.blocks.0.attn.relative_position_bias_table", vec![49, 1], 48, 0x3e10_5bf2),
            ("decoders.decoders.normals.last_layer.3.bias", vec![3], 2, 0x4041_2e35),
        ] {
            let value = golden_parameter(name, shape).unwrap().flatten_all().unwrap();
            assert_eq!(value.to_vec1::<f32>().unwrap()[i].to_bits(), bits, "{name}");
        }
    }

    #[test]
    fn a_golden_store_gives_values_by_name_and_variables_by_role() {
        let store = GoldenStore::new();
        let params = store.params().pp("norm");
        let weight = params.trainable("weight", 3, Init::ZEROS).unwrap();
        let running = params.buffer("running_var", 3, Init::ONES).unwrap();
        assert!(weight.is_variable());
        assert!(!params.frozen("fixed", (2, 3), Init::ZEROS).unwrap().is_variable());
        assert_close("weight", &weight, &golden_parameter("norm.weight", 3).unwrap(), 0.0);
        // What a layer writes into its buffer is seen in the store.
        running.set(&Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap()).unwrap();
        let seen = store.get("norm.running_var").unwrap();
        assert_eq!(seen.tensor.to_vec1::<f32>().unwrap(), [0.0; 3]);
        assert_eq!(store.with_role(Role::Trainable).len(), 1);
        assert_refused(params.frozen("fixed", (2, 3), Init::ZEROS), &["two layers ask", "`norm.fixed`"]);
    }

    #[test]
    fn moved_weights_are_one_unit_in_the_last_place_away() {
        let values = |store: Arc<GoldenStore>, role: Role| -> Vec<f32> {
            Source::get(&*store, "a.weight", &Shape::from((8, 16)), Init::ZEROS, role).unwrap();
            store.get("a.weight").unwrap().tensor.flatten_all().unwrap().to_vec1().unwrap()
        };
        let golden = values(GoldenStore::new(), Role::Trainable);
        let moved = values(GoldenStore::moved(1), Role::Trainable);
        let up = golden.iter().zip(&moved).filter(|(g, m)| **m == g.next_up()).count();
        let down = golden.iter().zip(&moved).filter(|(g, m)| **m == g.next_down()).count();
        assert_eq!(up + down, golden.len());
        assert!(up > 32 && down > 32, "{up} up, {down} down");
        assert_ne!(values(GoldenStore::moved(2), Role::Trainable), moved);
        assert_eq!(values(GoldenStore::moved(1), Role::Buffer), golden);
    }
}
