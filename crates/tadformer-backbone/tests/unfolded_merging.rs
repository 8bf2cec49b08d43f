//! Patch merging with weights of OpenMMLab's models, whose channels are in the order of `nn.Unfold`, against torch.

use candle_core::{Device, Tensor};
use std::collections::HashMap;
use tadformer_backbone::{PatchMerging, Tuning};
use tadformer_ops::ParamStore;
use tadformer_ops::testing::{GoldenFile, assert_close, golden_parameter, named_tensor};
use tadformer_weights::names::{self, Naming};
use tadformer_weights::{Dtype, StateDict, Tensor as Weight};

#[test]
fn outputs_of_torch_from_unfolded_weights() {
    let path = format!("{}/tests/data/unfolded_merging.safetensors", env!("CARGO_MANIFEST_DIR"));
    let file = GoldenFile::open(path);
    let mut weights = StateDict::new();
    let mut add = |name: &str, shape: &[usize]| {
        let values = golden_parameter(name, shape).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let place = format!("backbone.{name}");
        weights.insert(Weight::from_f32(place, shape.to_vec(), &values).unwrap()).unwrap();
    };
    add("stages.0.blocks.0.attn.w_msa.proj.bias", &[3]);
    add("stages.0.downsample.norm.weight", &[12]);
    add("stages.0.downsample.norm.bias", &[12]);
    add("stages.0.downsample.reduction.weight", &[6, 12]);
    let mapped = names::map(&weights).unwrap();
    assert_eq!(mapped.naming, Naming::OpenMmlab);

    let loaded: HashMap<_, _> = mapped
        .tensors
        .iter()
        .filter_map(|weight| {
            let name = weight.name().strip_prefix("backbone.layers.0.downsample.")?;
            Some((name.to_owned(), Tensor::from_vec(weight.to_f32(), weight.shape(), &Device::Cpu).unwrap()))
        })
        .collect();
    assert_eq!(loaded.len(), 3);
    let merging = PatchMerging::new(3, &Tuning::Full, &ParamStore::with_values(0, loaded).params()).unwrap();
    let tokens = named_tensor("input:unfolded_merging/x", (1, 4, 6, 3), 0.0, 3f64.sqrt()).unwrap();
    let output = merging.forward(&tokens).unwrap().tensor().unwrap();
    assert_close("patch merging", &output, file.tensor("out"), 1e-5);
}

#[test]
fn a_merging_that_is_no_four_neighbours_is_refused() {
    let mut weights = StateDict::new();
    for (name, width) in
        [("stages.0.blocks.0.attn.w_msa.proj.bias", 3), ("stages.0.downsample.norm.bias", 10)]
    {
        weights.insert(Weight::new(name, Dtype::F16, vec![width], vec![0; 2 * width]).unwrap()).unwrap();
    }
    let message = names::map(&weights).unwrap_err().to_string();
    assert!(message.contains("`stages.0.downsample.norm.bias`") && message.contains("[10]"), "{message}");
}
