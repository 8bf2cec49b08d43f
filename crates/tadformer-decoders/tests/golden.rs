//! The HRNet head, its downsampler and the last resize against numbers of the published implementation.

use candle_core::{Device, Result, Tensor, Var};
use tadformer_decoders::{Downsampler, HrnetHead};
use tadformer_ops::testing::{GoldenFile, GoldenStore, assert_close, assert_zero};
use tadformer_ops::{Mode, Rng, Role, interpolate_planes};

const OUTPUT: f64 = 1e-5;
const GRADIENT: f64 = 3e-5;
const CASES: [&str; 5] = ["downsampler", "head_eval", "head_train", "upsample", "upsample_odd"];
const CHANNELS: [usize; 4] = [6, 8, 10, 12];

/// The tensors of one case.
struct Case {
    name: &'static str,
    file: GoldenFile,
}

impl Case {
    fn load(name: &'static str) -> Self {
        let file =
            GoldenFile::open(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/hrnet_head.safetensors"));
        for other in CASES.iter().filter(|other| **other != name) {
            file.compared_elsewhere(&[&format!("{other}/")]);
        }
        Self { name, file }
    }

    fn get(&self, what: &str) -> &Tensor {
        self.file.tensor(&format!("{}/{what}", self.name))
    }

    /// Names below `{case}/{kind}/`.
    fn names(&self, kind: &str) -> Vec<&str> {
        self.file.names(&format!("{}/{kind}/", self.name)).collect()
    }

    fn variable(&self, what: &str) -> Var {
        Var::from_tensor(self.get(what)).unwrap()
    }

    /// `Σ output · cotangent`.
    fn loss(&self, outputs: &[(&str, Tensor)]) -> Result<Tensor> {
        let mut loss = Tensor::new(0f32, &Device::Cpu)?;
        for (name, output) in outputs {
            assert_close(&format!("{} {name}", self.name), output, self.get(&format!("out/{name}")), OUTPUT);
            loss = (loss + (output * self.get(&format!("cot/{name}")))?.sum_all()?)?;
        }
        Ok(loss)
    }

    /// Every trainable tensor has its gradient, and the file holds no other.
    fn check_gradients(&self, loss: &Tensor, inputs: &[(&str, &Var)], store: &GoldenStore, zero: &[&str]) {
        let grads = loss.backward().unwrap();
        for (name, input) in inputs {
            let expected = self.get(&format!("grad_in/{name}"));
            assert_close(&format!("{} {name}", self.name), grads.get(input).unwrap(), expected, GRADIENT);
        }
        let trainable = store.with_role(Role::Trainable);
        assert_eq!(trainable.len(), self.names("grad").len());
        for entry in trainable {
            let what = format!("{} {}", self.name, entry.name);
            let found = grads.get(&entry.tensor).unwrap_or_else(|| panic!("{what} has no gradient"));
            let expected = self.get(&format!("grad/{}", entry.name));
            if zero.contains(&entry.name.as_str()) {
                assert_zero(&what, found);
            } else {
                assert_close(&what, found, expected, GRADIENT);
            }
        }
        for buffer in store.with_role(Role::Buffer) {
            assert!(grads.get(&buffer.tensor).is_none(), "{} has a gradient", buffer.name);
        }
    }
}

fn to_tokens(planes: &Tensor) -> Tensor {
    planes.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap()
}

fn to_planes(tokens: &Tensor) -> Tensor {
    tokens.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap()
}

#[test]
fn the_downsampler_has_the_published_values_and_gradients() {
    let case = Case::load("downsampler");
    let store = GoldenStore::new();
    let layer = Downsampler::new([32, 64, 128, 128], CHANNELS, &store.params().pp("downsampler.t")).unwrap();
    let names = ["x0", "x1", "x2", "x3"];
    let inputs = names.map(|name| case.variable(&format!("in/{name}")));
    let grids: Vec<Tensor> =
        inputs.iter().zip([8, 4, 2, 2]).map(|(xs, side)| xs.reshape((2, side, side, ())).unwrap()).collect();
    let scales = layer.forward(&grids).unwrap();
    let outputs: Vec<_> = ["s0", "s1", "s2", "s3"].into_iter().zip(scales.iter().map(to_planes)).collect();
    let loss = case.loss(&outputs).unwrap();
    let inputs: Vec<_> = names.into_iter().zip(&inputs).collect();
    case.check_gradients(&loss, &inputs, &store, &[]);
}

fn check_head(name: &'static str, mode: &mut Mode<'_>, zero: &[&str]) {
    let case = Case::load(name);
    let store = GoldenStore::new();
    let head = HrnetHead::new(CHANNELS, 5, &store.params().pp("decoders.decoders.t")).unwrap();
    let names = ["s0", "s1", "s2", "s3"];
    let inputs = names.map(|name| case.variable(&format!("in/{name}")));
    let scales: Vec<Tensor> = inputs.iter().map(|xs| to_tokens(xs)).collect();
    let ys = to_planes(&head.forward(&scales, mode).unwrap());
    let loss = case.loss(&[("y", ys)]).unwrap();
    let inputs: Vec<_> = names.into_iter().zip(&inputs).collect();
    case.check_gradients(&loss, &inputs, &store, zero);
    let before = GoldenStore::new();
    HrnetHead::new(CHANNELS, 5, &before.params().pp("decoders.decoders.t")).unwrap();
    let buffers = store.with_role(Role::Buffer);
    assert_eq!(buffers.len(), 2);
    for entry in buffers {
        let unchanged = before.get(&entry.name).unwrap().tensor;
        let expected = match mode {
            Mode::Train(_) => case.get(&format!("buf_after/{}", entry.name)),
            Mode::Eval => &unchanged,
        };
        assert_close(&format!("{name} {}", entry.name), &entry.tensor, expected, OUTPUT);
    }
}

#[test]
fn the_hrnet_head_has_the_published_values_and_gradients_in_evaluation() {
    check_head("head_eval", &mut Mode::Eval, &[]);
}

#[test]
fn the_hrnet_head_has_the_published_values_gradients_and_statistics_in_training() {
    // A bias in front of a BatchNorm is taken away again by the batch's mean.
    let zero = ["decoders.decoders.t.last_layer.0.bias"];
    check_head("head_train", &mut Mode::Train(&mut Rng::named(0, "", 0)), &zero);
}

#[test]
fn the_resize_has_the_published_values_and_gradients() {
    for (name, size) in [("upsample", (64, 64)), ("upsample_odd", (13, 9))] {
        let case = Case::load(name);
        let xs = case.variable("in/x");
        let loss = case.loss(&[("y", interpolate_planes(&xs, size).unwrap())]).unwrap();
        case.check_gradients(&loss, &[("x", &xs)], &GoldenStore::new(), &[]);
    }
}
