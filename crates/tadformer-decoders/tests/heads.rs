//! Every head: shapes on awkward grids, who gets a gradient, names, and values against a plain planar composition.

use candle_core::{D, Device, Result, Tensor, Var};
use std::collections::BTreeSet;
use tadformer_decoders::{Decoder, DecoderConfig};
use tadformer_ops::testing::{GoldenStore, assert_close, named_tensor};
use tadformer_ops::{Mode, ParamStore, Rng, Role, interpolate_planes, no_grad};

const DIMS: [usize; 4] = [6, 10, 14, 18];

fn small_heads() -> [DecoderConfig; 4] {
    [
        DecoderConfig::Hrnet { channels: [2, 3, 4, 5] },
        DecoderConfig::Segformer { embed_dim: 7, dropout: 0.0 },
        DecoderConfig::Aspp { rates: [1, 2, 3], channels: 5, dropout: 0.0 },
        DecoderConfig::Deconv { channels: 5 },
    ]
}

fn features(batch: usize, grids: [(usize, usize); 4]) -> Vec<Var> {
    let one = |i: usize| {
        let (h, w) = grids[i];
        let xs = named_tensor(&format!("feature {i}"), (batch, h, w, DIMS[i]), 0.0, 1.0);
        Var::from_tensor(&xs.unwrap()).unwrap()
    };
    (0..4).map(one).collect()
}

fn tensors(features: &[Var]) -> Vec<Tensor> {
    features.iter().map(|var| var.as_tensor().clone()).collect()
}

/// Grids of a 75×110 image at strides 4 to 32, rounded up.
const PADDED: [(usize, usize); 4] = [(19, 28), (10, 14), (5, 7), (3, 4)];

#[test]
fn no_image_gives_no_maps() {
    for config in small_heads() {
        let decoder = Decoder::new(&config, "t", DIMS, 3, &ParamStore::new(3).params()).unwrap();
        let inputs = tensors(&features(0, PADDED));
        let ys = decoder.forward(&inputs, (75, 110), &mut Mode::Eval).unwrap();
        assert_eq!(ys.dims(), [0, 3, 75, 110], "{config:?}");
        let ys = no_grad(|| decoder.forward(&inputs, (75, 110), &mut Mode::Eval)).unwrap();
        assert_eq!(ys.dims(), [0, 3, 75, 110], "{config:?}");
    }
}

#[test]
fn every_trainable_tensor_gets_a_finite_gradient_and_only_those() {
    let mut rng = Rng::named(0, "heads", 0);
    for config in small_heads() {
        let store = ParamStore::new(3);
        let decoder = Decoder::new(&config, "t", DIMS, 3, &store.params()).unwrap();
        let inputs = features(2, PADDED);
        let ys = decoder.forward(&tensors(&inputs), (75, 110), &mut Mode::Train(&mut rng)).unwrap();
        assert_eq!(ys.dims(), [2, 3, 75, 110], "{config:?}");
        let cotangent = named_tensor("cotangent", ys.shape(), 0.0, 1.0).unwrap();
        let grads = (ys * cotangent).unwrap().sum_all().unwrap().backward().unwrap();
        for entry in store.entries() {
            let grad = grads.get(&entry.tensor);
            assert_eq!(grad.is_some(), entry.role == Role::Trainable, "{config:?}: {}", entry.name);
            if let Some(grad) = grad {
                let sum = grad.abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
                assert!(sum.is_finite() && sum > 0.0, "{config:?}: {} has gradient {sum}", entry.name);
            }
        }
        let reached = inputs.iter().filter(|xs| grads.get(xs).is_some()).count();
        let single = matches!(config, DecoderConfig::Aspp { .. } | DecoderConfig::Deconv { .. });
        assert_eq!(reached, if single { 1 } else { 4 }, "{config:?}");
        assert!(grads.get(&inputs[3]).is_some());
    }
}

#[test]
fn one_image_and_grids_of_single_points_are_no_trouble() {
    for config in small_heads() {
        let store = ParamStore::new(3);
        let decoder = Decoder::new(&config, "t", DIMS, 1, &store.params()).unwrap();
        for grids in [PADDED, [(1, 1); 4], [(7, 1), (4, 1), (2, 1), (1, 1)]] {
            let inputs = tensors(&features(1, grids));
            let ys = decoder.forward(&inputs, (13, 29), &mut Mode::Eval).unwrap();
            assert_eq!(ys.dims(), [1, 1, 13, 29], "{config:?}");
            // Evaluation has no memory.
            let again = decoder.forward(&inputs, (13, 29), &mut Mode::Eval).unwrap();
            assert_close("again", &again, &ys, 0.0);
        }
        if !matches!(config, DecoderConfig::Aspp { .. }) {
            let mut rng = Rng::named(0, "heads", 0);
            let inputs = tensors(&features(1, PADDED));
            decoder.forward(&inputs, (75, 110), &mut Mode::Train(&mut rng)).unwrap();
        }
    }
}

#[test]
fn a_sample_does_not_depend_on_its_batch_in_evaluation() {
    for config in small_heads() {
        let decoder = Decoder::new(&config, "t", DIMS, 2, &GoldenStore::new().params()).unwrap();
        let both = tensors(&features(2, PADDED));
        let second: Vec<Tensor> = both.iter().map(|xs| xs.narrow(0, 1, 1).unwrap()).collect();
        let expected = decoder.forward(&both, (75, 110), &mut Mode::Eval).unwrap().narrow(0, 1, 1).unwrap();
        let found = decoder.forward(&second, (75, 110), &mut Mode::Eval).unwrap();
        assert_close(&format!("{config:?}"), &found, &expected, 2e-6);
    }
}

#[test]
fn dropout_acts_in_training_only_and_repeats_with_its_stream() {
    for config in [
        DecoderConfig::Segformer { embed_dim: 7, dropout: 0.5 },
        DecoderConfig::Aspp { rates: [1, 2, 3], channels: 5, dropout: 0.5 },
    ] {
        let decoder = Decoder::new(&config, "t", DIMS, 2, &GoldenStore::new().params()).unwrap();
        let inputs = tensors(&features(2, PADDED));
        let run = |index| {
            let mut rng = Rng::named(0, "dropout", index);
            let ys = decoder.forward(&inputs, (20, 20), &mut Mode::Train(&mut rng)).unwrap();
            ys.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        assert_eq!(run(0), run(0));
        assert_ne!(run(0), run(1));
    }
}

#[test]
fn names_and_shapes_are_the_published_ones() {
    let listed = |config: DecoderConfig| -> Vec<String> {
        let store = ParamStore::new(0);
        Decoder::new(&config, "semseg", [96, 192, 384, 768], 21, &store.params()).unwrap();
        store.entries().iter().map(|e| format!("{} {:?}", e.name, e.tensor.dims())).collect()
    };
    assert_eq!(
        listed(DecoderConfig::default()),
        [
            "downsampler.semseg.downsample_0.weight [18, 96, 1, 1]",
            "downsampler.semseg.downsample_1.weight [36, 192, 1, 1]",
            "downsampler.semseg.downsample_2.weight [72, 384, 1, 1]",
            "downsampler.semseg.downsample_3.weight [144, 768, 1, 1]",
            "decoders.decoders.semseg.last_layer.0.bias [1080]",
            "decoders.decoders.semseg.last_layer.0.weight [1080, 270, 1, 1]",
            "decoders.decoders.semseg.last_layer.1.weight [1080]",
            "decoders.decoders.semseg.last_layer.1.bias [1080]",
            "decoders.decoders.semseg.last_layer.1.running_mean [1080]",
            "decoders.decoders.semseg.last_layer.1.running_var [1080]",
            "decoders.decoders.semseg.last_layer.3.bias [21]",
            "decoders.decoders.semseg.last_layer.3.weight [21, 1080, 1, 1]",
        ]
    );
    let has = |config: DecoderConfig, expected: &[&str]| {
        let listed: BTreeSet<String> = listed(config).into_iter().collect();
        for name in expected {
            assert!(
                listed.contains(&format!("decoders.decoders.semseg.{name}")),
                "{name} not in {listed:#?}"
            );
        }
    };
    has(
        DecoderConfig::segformer(),
        &[
            "linear_c4.proj.weight [256, 768]",
            "linear_fuse.conv.weight [256, 1024, 1, 1]",
            "linear_fuse.bn.running_var [256]",
            "linear_pred.bias [21]",
        ],
    );
    has(
        DecoderConfig::aspp(),
        &[
            "0.convs.0.0.weight [256, 768, 1, 1]",
            "0.convs.3.0.weight [256, 768, 3, 3]",
            "0.convs.4.1.weight [256, 768, 1, 1]",
            "0.convs.4.2.bias [256]",
            "0.project.0.weight [256, 1280, 1, 1]",
            "1.weight [256, 256, 3, 3]",
            "2.running_mean [256]",
            "4.weight [21, 256, 1, 1]",
        ],
    );
    has(
        DecoderConfig::deconv(),
        &[
            "deconv_layers.0.weight [768, 256, 4, 4]",
            "deconv_layers.6.weight [256, 256, 4, 4]",
            "deconv_layers.7.weight [256]",
            "final_layer.weight [21, 256, 1, 1]",
        ],
    );
}

#[test]
fn features_that_do_not_fit_are_named() {
    let mut rng = Rng::named(0, "heads", 0);
    for config in small_heads() {
        let decoder = Decoder::new(&config, "semseg", DIMS, 2, &ParamStore::new(0).params()).unwrap();
        let fit = tensors(&features(2, PADDED));
        let refuse = |features: &[Tensor], parts: &[&str]| {
            let message = decoder.forward(features, (8, 8), &mut Mode::Eval).unwrap_err().to_string();
            assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        };
        refuse(&fit[..3], &["`semseg`", "3 features"]);
        let with = |i: usize, xs: Tensor| {
            let mut features = fit.clone();
            features[i] = xs;
            features
        };
        let zeros = |shape: &[usize]| Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu).unwrap();
        refuse(&with(2, zeros(&[2, 5, 7, 13])), &["feature 2", "[2, 5, 7, 13]", "(2, h, w, 14)"]);
        refuse(&with(1, zeros(&[1, 10, 14, 10])), &["feature 1", "[1, 10, 14, 10]"]);
        refuse(&with(3, zeros(&[2, 12, 18])), &["feature 3", "[2, 12, 18]"]);
        refuse(&with(0, zeros(&[2, 0, 28, 6])), &["feature 0", "[2, 0, 28, 6]"]);
        let message = decoder.forward(&fit, (0, 8), &mut Mode::Eval).unwrap_err().to_string();
        assert!(message.contains("0"), "{message}");
        let point = tensors(&features(1, [(1, 1); 4]));
        let trained = decoder.forward(&point, (8, 8), &mut Mode::Train(&mut rng));
        if matches!(config, DecoderConfig::Deconv { .. }) {
            // It leaves the single point at once.
            trained.unwrap();
        } else {
            assert!(trained.unwrap_err().to_string().contains("no variance"), "{config:?}");
        }
    }
    let params = ParamStore::new(0).params();
    let message = Decoder::new(&DecoderConfig::default(), "t", DIMS, 0, &params).unwrap_err().to_string();
    assert!(message.contains("to 0 outputs; none of them can be 0"), "{message}");
    let message = Decoder::new(&DecoderConfig::Deconv { channels: 0 }, "t", DIMS, 1, &params).unwrap_err();
    assert!(message.to_string().contains("`channels` holds 0"), "{message}");
}

#[test]
fn a_batch_of_one_in_the_pooled_branch_is_named() {
    let config = DecoderConfig::Aspp { rates: [1, 2, 3], channels: 5, dropout: 0.0 };
    let decoder = Decoder::new(&config, "t", DIMS, 1, &ParamStore::new(0).params()).unwrap();
    let inputs = tensors(&features(1, PADDED));
    let mut rng = Rng::named(0, "heads", 0);
    let message = decoder.forward(&inputs, (8, 8), &mut Mode::Train(&mut rng)).unwrap_err().to_string();
    assert!(message.contains("whole map's mean") && message.contains("no variance"), "{message}");
}

/// Layers of candle's own planar operations over the weights of a store.
struct Plain<'a>(&'a GoldenStore);

impl Plain<'_> {
    fn weight(&self, name: &str) -> Tensor {
        let name = format!("decoders.decoders.t.{name}");
        self.0.get(&name).unwrap_or_else(|| panic!("no {name}")).tensor
    }

    fn conv(&self, xs: &Tensor, name: &str, rate: usize) -> Result<Tensor> {
        let weight = self.weight(&format!("{name}.weight"));
        let padding = if weight.dim(D::Minus1)? == 3 { rate } else { 0 };
        xs.conv2d(&weight, padding, 1, rate, 1)
    }

    fn biased(&self, xs: &Tensor, name: &str) -> Result<Tensor> {
        let bias = self.weight(&format!("{name}.bias")).reshape((1, (), 1, 1))?;
        self.conv(xs, name, 1)?.broadcast_add(&bias)
    }

    /// BatchNorm by the batch's statistics, and ReLU.
    fn activate(&self, xs: &Tensor, name: &str) -> Result<Tensor> {
        let mean = xs.mean_keepdim((0, 2, 3))?;
        let centred = xs.broadcast_sub(&mean)?;
        let deviation = (centred.sqr()?.mean_keepdim((0, 2, 3))? + 1e-5)?.sqrt()?;
        let part = |part: &str| self.weight(&format!("{name}.{part}")).reshape((1, (), 1, 1));
        let ys = centred.broadcast_div(&deviation)?.broadcast_mul(&part("weight")?)?;
        ys.broadcast_add(&part("bias")?)?.relu()
    }

    fn hrnet(&self, scales: &[Tensor]) -> Result<Tensor> {
        let (_, _, h, w) = scales[0].dims4()?;
        let mut resized = Vec::new();
        for (i, xs) in scales.iter().enumerate() {
            let name = format!("downsampler.t.downsample_{i}.weight");
            let xs = xs.conv2d(&self.0.get(&name).expect("made by the decoder").tensor, 0, 1, 1, 1)?;
            resized.push(interpolate_planes(&xs, (h, w))?);
        }
        let ys = self.biased(&Tensor::cat(&resized, 1)?, "last_layer.0")?;
        self.biased(&self.activate(&ys, "last_layer.1")?, "last_layer.3")
    }

    fn segformer(&self, stages: &[Tensor]) -> Result<Tensor> {
        let (_, _, h, w) = stages[0].dims4()?;
        let mut resized = Vec::new();
        for (i, xs) in stages.iter().enumerate().rev() {
            let weight = self.weight(&format!("linear_c{}.proj.weight", i + 1));
            let bias = self.weight(&format!("linear_c{}.proj.bias", i + 1)).reshape((1, (), 1, 1))?;
            let xs = xs.conv2d(&weight.unsqueeze(2)?.unsqueeze(3)?, 0, 1, 1, 1)?.broadcast_add(&bias)?;
            resized.push(interpolate_planes(&xs, (h, w))?);
        }
        let ys = self.conv(&Tensor::cat(&resized, 1)?, "linear_fuse.conv", 1)?;
        self.biased(&self.activate(&ys, "linear_fuse.bn")?, "linear_pred")
    }

    fn aspp(&self, xs: &Tensor) -> Result<Tensor> {
        let (_, _, h, w) = xs.dims4()?;
        let mut views = Vec::new();
        for (i, rate) in [1, 1, 2, 3].into_iter().enumerate() {
            let ys = self.conv(xs, &format!("0.convs.{i}.0"), rate)?;
            views.push(self.activate(&ys, &format!("0.convs.{i}.1"))?);
        }
        let pooled = self.conv(&xs.mean_keepdim((2, 3))?, "0.convs.4.1", 1)?;
        let pooled = self.activate(&pooled, "0.convs.4.2")?;
        views.push(interpolate_planes(&pooled, (h, w))?);
        let ys = self.conv(&Tensor::cat(&views, 1)?, "0.project.0", 1)?;
        let ys = self.conv(&self.activate(&ys, "0.project.1")?, "1", 1)?;
        self.biased(&self.activate(&ys, "2")?, "4")
    }

    fn deconv(&self, xs: &Tensor) -> Result<Tensor> {
        let mut xs = xs.clone();
        for i in [0, 3, 6] {
            let ys = xs.conv_transpose2d(&self.weight(&format!("deconv_layers.{i}.weight")), 1, 0, 2, 1)?;
            xs = self.activate(&ys, &format!("deconv_layers.{}", i + 1))?;
        }
        self.biased(&xs, "final_layer")
    }
}

#[test]
fn values_and_gradients_are_those_of_the_plain_composition() {
    let mut rng = Rng::named(0, "heads", 0);
    for config in small_heads() {
        let store = GoldenStore::new();
        let decoder = Decoder::new(&config, "t", DIMS, 3, &store.params()).unwrap();
        let inputs = features(3, [(9, 12), (5, 6), (3, 4), (4, 5)]);
        let found = decoder.forward(&tensors(&inputs), (21, 33), &mut Mode::Train(&mut rng)).unwrap();
        let planes: Vec<Tensor> =
            inputs.iter().map(|xs| xs.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap()).collect();
        let plain = Plain(&store);
        let expected = match config {
            DecoderConfig::Hrnet { .. } => plain.hrnet(&planes),
            DecoderConfig::Segformer { .. } => plain.segformer(&planes),
            DecoderConfig::Aspp { .. } => plain.aspp(&planes[3]),
            DecoderConfig::Deconv { .. } => plain.deconv(&planes[3]),
        };
        let expected = interpolate_planes(&expected.unwrap(), (21, 33)).unwrap();
        assert_close(&format!("{config:?}"), &found, &expected, 1e-5);
        let gradients = |ys: &Tensor| {
            let cotangent = named_tensor("cotangent", ys.shape(), 0.0, 1.0).unwrap();
            (ys * cotangent).unwrap().sum_all().unwrap().backward().unwrap()
        };
        let (found, expected) = (gradients(&found), gradients(&expected));
        for entry in store.with_role(Role::Trainable) {
            // Constants in front of a BatchNorm: the batch's mean takes them away again.
            if ["last_layer.0.bias", "proj.bias"].iter().any(|name| entry.name.ends_with(name)) {
                let grad = found.get(&entry.tensor).unwrap().abs().unwrap().max_all().unwrap();
                let worst = grad.to_scalar::<f32>().unwrap();
                assert!(worst <= 1e-4, "{}: {worst}", entry.name);
                continue;
            }
            let (found, expected) = (found.get(&entry.tensor).unwrap(), expected.get(&entry.tensor).unwrap());
            assert_close(&format!("{config:?}: {}", entry.name), found, expected, 1e-4);
        }
        for (i, xs) in inputs.iter().enumerate() {
            if let Some(expected) = expected.get(xs) {
                assert_close(&format!("{config:?}: feature {i}"), found.get(xs).unwrap(), expected, 1e-4);
            }
        }
    }
}
