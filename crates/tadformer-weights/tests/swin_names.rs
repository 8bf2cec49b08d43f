//! Four published layouts under our names, and bias tables for another window.

mod golden;

use std::collections::BTreeMap;
use std::path::PathBuf;

use golden::json;
use tadformer_weights::names::{self, Mapped, Naming, Reason};
use tadformer_weights::{Dtype, StateDict, TableResize, Tensor, Variant, resize_table};

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// A dict with the names and shapes of a list in `swin_names.json`; the n-th tensor is filled with n.
fn listed(keys: &[&str]) -> StateDict {
    let lists = json("swin_names.json");
    let mut dict = StateDict::new();
    for entry in keys.iter().flat_map(|key| lists[key].as_array().unwrap()) {
        let shape: Vec<usize> = serde_json::from_value(entry[1].clone()).unwrap();
        let values = vec![dict.len() as f32; shape.iter().product()];
        dict.insert(Tensor::from_f32(entry[0].as_str().unwrap(), shape, &values).unwrap()).unwrap();
    }
    dict
}

fn shapes(dict: &StateDict) -> BTreeMap<String, Vec<usize>> {
    dict.iter().map(|tensor| (tensor.name().to_owned(), tensor.shape().to_vec())).collect()
}

/// What a Swin-T of ours wants: by the golden map from timm's names.
fn wanted() -> Vec<(String, Vec<usize>)> {
    let lists = json("swin_names.json");
    let map = lists["timm_to_tadformer_backbone"].as_object().unwrap();
    let timm = listed(&["timm"]);
    let ours = |tensor: &Tensor| {
        let name = map[tensor.name()].as_str()?;
        Some((format!("backbone.{name}"), tensor.shape().to_vec()))
    };
    timm.iter().filter_map(ours).collect()
}

fn reasons(mapped: &Mapped) -> BTreeMap<String, Reason> {
    mapped.ignored.iter().map(|ignored| (ignored.name.clone(), ignored.reason)).collect()
}

#[test]
fn all_published_layouts_become_the_same_tensors() {
    let wanted: BTreeMap<_, _> = wanted().into_iter().collect();
    assert_eq!(wanted.len(), 169);
    let cases: [(&[&str], Naming); 4] = [
        (&["timm"], Naming::Timm),
        (&["microsoft", "microsoft_extra"], Naming::Microsoft),
        (&["huggingface"], Naming::HuggingFace),
        (&["huggingface_transformers5_module_names"], Naming::HuggingFace),
    ];
    for (keys, naming) in cases {
        let file = listed(keys);
        let mapped = names::map(&file).unwrap();
        assert_eq!(mapped.naming, naming, "{keys:?}");
        assert_eq!(shapes(&mapped.tensors), wanted, "{keys:?}");
        let joined = if naming == Naming::HuggingFace { 2 * 24 } else { 0 };
        assert_eq!(
            mapped.tensors.len() + joined + mapped.ignored.len(),
            file.len(),
            "{keys:?}: each tensor once"
        );
        assert!(mapped.ignored.iter().all(|ignored| ignored.reason != Reason::Unknown), "{keys:?}");
    }
}

#[test]
fn each_tensor_lands_where_the_golden_map_says() {
    let lists = json("swin_names.json");
    let timm = listed(&["timm"]);
    let mapped = names::map(&timm).unwrap();
    for (theirs, ours) in lists["timm_to_tadformer_backbone"].as_object().unwrap() {
        let Some(ours) = ours.as_str() else {
            assert!(reasons(&mapped).contains_key(theirs), "{theirs}");
            continue;
        };
        let found = mapped.tensors.get(&format!("backbone.{ours}")).unwrap();
        assert_eq!(found.to_f32()[0], timm.get(theirs).unwrap().to_f32()[0], "{theirs}");
    }
    let file = listed(&["huggingface"]);
    let mapped = names::map(&file).unwrap();
    let microsoft = names::map(&listed(&["microsoft", "microsoft_extra"])).unwrap();
    for (microsoft_name, theirs) in lists["microsoft_to_huggingface"].as_object().unwrap() {
        let theirs: Vec<&str> = theirs.as_array().unwrap().iter().filter_map(|name| name.as_str()).collect();
        let ours = |name: &str| {
            let sites = ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"];
            let (site, last) = name.rsplit_once('.').unwrap();
            let linear = if sites.iter().any(|s| site.ends_with(s)) { ".linear" } else { "" };
            format!("backbone.{site}{linear}.{last}")
        };
        let Some(found) = mapped.tensors.get(&ours(microsoft_name)) else {
            assert!(
                microsoft_name.starts_with("norm.") || microsoft_name.starts_with("head."),
                "{microsoft_name}"
            );
            continue;
        };
        assert!(microsoft.tensors.get(found.name()).is_some());
        let values: Vec<f32> = theirs.iter().flat_map(|name| file.get(name).unwrap().to_f32()).collect();
        assert_eq!(found.to_f32(), values, "{microsoft_name}: row blocks in order");
    }
}

#[test]
fn what_is_left_out_is_reported_with_its_reason() {
    let mapped = names::map(&listed(&["microsoft", "microsoft_extra"])).unwrap();
    let reasons = reasons(&mapped);
    assert_eq!(reasons["norm.weight"], Reason::FinalNorm);
    assert_eq!(reasons["head.weight"], Reason::Classifier);
    assert_eq!(reasons["layers.0.blocks.1.attn_mask"], Reason::Buffer);
    assert_eq!(reasons["layers.3.blocks.0.attn.relative_position_index"], Reason::Buffer);
    let mut file = listed(&["timm"]);
    file.insert(Tensor::from_f32("surprise.weight", vec![1], &[0.0]).unwrap()).unwrap();
    let mapped = names::map(&file).unwrap();
    assert!(mapped.ignored.iter().any(|i| i.name == "surprise.weight" && i.reason == Reason::Unknown));
}

#[test]
fn the_way_back_gives_the_published_names_and_values() {
    let ours = names::map(&listed(&["timm"])).unwrap().tensors;
    for naming in [Naming::Microsoft, Naming::Timm, Naming::HuggingFace, Naming::Reference] {
        let theirs = names::unmap(&ours, naming).unwrap();
        let again = names::map(&theirs).unwrap();
        assert_eq!(again.naming, naming);
        assert!(again.ignored.is_empty());
        assert_eq!(shapes(&again.tensors), shapes(&ours));
        for tensor in &ours {
            assert_eq!(
                again.tensors.get(tensor.name()).unwrap().to_f32(),
                tensor.to_f32(),
                "{}",
                tensor.name()
            );
        }
    }
    let published = shapes(&listed(&["huggingface"]));
    let theirs = names::unmap(&ours, Naming::HuggingFace).unwrap();
    assert!(shapes(&theirs).iter().all(|(name, shape)| published.get(name) == Some(shape)));
}

#[test]
fn a_reference_checkpoint_keeps_its_names() {
    let file = StateDict::read(data("reference_checkpoint.pth")).unwrap();
    let mapped = names::map(&file).unwrap();
    assert_eq!(mapped.naming, Naming::Reference);
    for tensor in &mapped.tensors {
        assert_eq!(tensor.to_f32(), file.get(tensor.name()).unwrap().to_f32());
    }
    assert!(
        mapped.ignored.iter().all(|i| matches!(i.reason, Reason::Buffer | Reason::Counter)),
        "{:?}",
        mapped.ignored
    );
    assert_eq!(mapped.tensors.len() + mapped.ignored.len(), file.len());
    let variant = Variant::of(mapped.tensors.iter().map(|t| (t.name(), t.shape()))).unwrap();
    assert_eq!((variant.embed_dim, variant.depths, variant.num_heads), (16, vec![2; 4], vec![1, 2, 4, 8]));
}

#[test]
fn a_microsoft_file_and_its_timm_twin_map_alike() {
    let microsoft = names::map(&StateDict::read(data("swin_backbone_ms.pth")).unwrap()).unwrap();
    assert_eq!(microsoft.naming, Naming::Microsoft);
    let timm = names::map(&names::unmap(&microsoft.tensors, Naming::Timm).unwrap()).unwrap();
    assert_eq!(timm.naming, Naming::Timm);
    assert_eq!(shapes(&timm.tensors), shapes(&microsoft.tensors));
}

#[test]
fn bias_tables_are_resized_as_torch_does() {
    let tables = StateDict::read(data("position_bias_resize.safetensors")).unwrap();
    let mut count = 0;
    for table in tables.iter().filter(|tensor| tensor.name().contains("/in/")) {
        let expected = tables.get(&table.name().replace("/in/", "/out/")).unwrap();
        let window = expected.shape()[0].isqrt().div_ceil(2);
        let resized = resize_table(table, window, TableResize::Bicubic).unwrap();
        assert_eq!(resized.shape(), expected.shape());
        for (found, expected) in resized.to_f32().iter().zip(expected.to_f32()) {
            assert!((found - expected).abs() <= 1e-6, "{}: {found} {expected}", table.name());
        }
        count += 1;
    }
    assert_eq!(count, 6);
}

#[test]
fn bias_tables_are_resized_to_the_wanted_window() {
    let mut mapped = names::map(&listed(&["timm"])).unwrap();
    let wanted: Vec<_> = wanted()
        .into_iter()
        .map(|(name, mut shape)| {
            if name.ends_with("relative_position_bias_table") {
                shape[0] = 23 * 23;
            }
            (name, shape)
        })
        .collect();
    let resized = mapped.resize_position_bias(&wanted, None).unwrap();
    assert_eq!(resized.len(), 12);
    assert!(resized.iter().all(|table| (table.from, table.to) == (7, 12)));
    assert_eq!(shapes(&mapped.tensors), wanted.into_iter().collect());
}

#[test]
fn half_precision_files_convert() {
    let mut file = StateDict::new();
    // 1.0 in bf16 and in f16
    let (bf16, f16) = ([0x80, 0x3f], [0x00, 0x3c]);
    file.insert(Tensor::new("patch_embed.norm.weight", Dtype::BF16, vec![1], bf16.to_vec()).unwrap())
        .unwrap();
    file.insert(Tensor::new("patch_embed.norm.bias", Dtype::F16, vec![1], f16.to_vec()).unwrap()).unwrap();
    let mapped = names::map(&file).unwrap().tensors;
    for last in ["weight", "bias"] {
        let tensor = mapped.get(&format!("backbone.patch_embed.norm.{last}")).unwrap();
        assert_eq!(tensor.to_finite_f32().unwrap(), [1.0]);
    }
}

#[test]
fn contradicting_names_are_refused() {
    let message = |file: &StateDict| names::map(file).unwrap_err().to_string();
    let mut both = listed(&["timm"]);
    both.insert(Tensor::from_f32("layers.0.downsample.norm.bias", vec![384], &[0.0; 384]).unwrap()).unwrap();
    assert!(message(&both).contains("stages 0 and 3 both"), "{}", message(&both));

    // Microsoft's tensors under timm's numbers: the widths tell.
    let mut swapped = StateDict::new();
    for tensor in &listed(&["timm"]) {
        let name = match tensor.name().strip_prefix("layers.3.downsample.") {
            Some(rest) => format!("layers.0.downsample.{rest}"),
            None => tensor.name().to_owned(),
        };
        swapped.insert(tensor.renamed(name)).unwrap();
    }
    assert!(message(&swapped).contains("expected 384"), "{}", message(&swapped));

    let mut alone = StateDict::new();
    let name = "swin.encoder.layers.0.blocks.0.attention.self.query.weight";
    alone.insert(Tensor::from_f32(name, vec![1, 1], &[0.0]).unwrap()).unwrap();
    assert!(message(&alone).contains(name), "{}", message(&alone));

    let mut other = StateDict::new();
    other.insert(Tensor::from_f32("conv1.weight", vec![1], &[0.0]).unwrap()).unwrap();
    assert!(message(&other).contains("`conv1.weight`"), "{}", message(&other));
}
