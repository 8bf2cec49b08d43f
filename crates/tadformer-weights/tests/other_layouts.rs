//! Files of other publishers and with prefixes of training scripts: each tensor lands where timm's twin of it does.

mod golden;

use golden::json;
use tadformer_weights::names::{self, Mapped, Naming, Reason};
use tadformer_weights::{StateDict, Tensor};

/// A shape of Swin-T with 2 channels in place of 96.
fn narrow(shape: &serde_json::Value) -> Vec<usize> {
    let shape: Vec<usize> = serde_json::from_value(shape.clone()).unwrap();
    shape.into_iter().map(|side| if side < 96 { side } else { side.div_ceil(48) }).collect()
}

/// A narrow Swin-T of timm's, the n-th tensor filled with n, under the names that `theirs` gives it; without what it leaves out.
fn renamed(theirs: impl Fn(&str) -> Option<String>) -> StateDict {
    let lists = json("swin_names.json");
    let mut dict = StateDict::new();
    for (n, entry) in lists["timm"].as_array().unwrap().iter().enumerate() {
        let shape = narrow(&entry[1]);
        let values = vec![n as f32; shape.iter().product()];
        if let Some(name) = theirs(entry[0].as_str().unwrap()) {
            dict.insert(Tensor::from_f32(name, shape, &values).unwrap()).unwrap();
        }
    }
    dict
}

fn with(mut file: StateDict, others: &[&str]) -> StateDict {
    for name in others {
        file.insert(Tensor::from_f32(*name, vec![1], &[0.5]).unwrap()).unwrap();
    }
    file
}

/// Maps a file and compares every tensor with timm's; gives what was left out.
#[track_caller]
fn check(file: &StateDict, naming: Naming) -> Vec<(String, Reason)> {
    let Mapped { naming: found, tensors, ignored } = names::map(file).unwrap();
    assert_eq!(found, naming);
    let expected = names::map(&renamed(|name| Some(name.to_owned()))).unwrap().tensors;
    assert_eq!(tensors.len(), expected.len());
    for tensor in &expected {
        let found =
            tensors.get(tensor.name()).unwrap_or_else(|| panic!("{naming:?}: no `{}`", tensor.name()));
        assert_eq!(found.shape(), tensor.shape(), "{}", tensor.name());
        assert_eq!(found.to_f32(), tensor.to_f32(), "{}", tensor.name());
    }
    ignored.into_iter().map(|ignored| (ignored.name, ignored.reason)).collect()
}

/// `layers.i.` of a name, and the rest.
fn stage(name: &str) -> Option<(usize, &str)> {
    let (stage, rest) = name.strip_prefix("layers.")?.split_once('.')?;
    Some((stage.parse().unwrap(), rest))
}

fn torchvision(name: &str) -> String {
    let name =
        name.replace("patch_embed.proj.", "features.0.0.").replace("patch_embed.norm.", "features.0.2.");
    let name = name.replace("mlp.fc1.", "mlp.0.").replace("mlp.fc2.", "mlp.3.").replace("head.fc.", "head.");
    match stage(&name) {
        Some((stage, rest)) => match rest.strip_prefix("blocks.") {
            Some(block) => format!("features.{}.{block}", 2 * stage + 1),
            None => format!("features.{}.{}", 2 * stage, rest.strip_prefix("downsample.").unwrap()),
        },
        None => name,
    }
}

/// The stage that a downsampling ends, instead of the one that it begins.
fn microsoft(name: &str) -> String {
    match stage(name) {
        Some((stage, rest)) if rest.starts_with("downsample.") => format!("layers.{}.{rest}", stage - 1),
        _ => name.replace("head.fc.", "head."),
    }
}

fn open_mmlab(name: &str) -> String {
    let name =
        microsoft(name).replace("layers.", "stages.").replace("patch_embed.proj.", "patch_embed.projection.");
    let name = name.replace(".attn.", ".attn.w_msa.");
    name.replace("mlp.fc1.", "ffn.layers.0.0.").replace("mlp.fc2.", "ffn.layers.1.")
}

#[test]
fn torchvision_counts_layers() {
    let file = with(renamed(|name| Some(torchvision(name))), &["features.1.0.attn.relative_position_index"]);
    assert!(
        file.get("features.6.reduction.weight").is_some() && file.get("features.7.1.mlp.3.bias").is_some()
    );
    let ignored = check(&file, Naming::Torchvision);
    let expected = [
        ("norm.weight", Reason::FinalNorm),
        ("norm.bias", Reason::FinalNorm),
        ("head.weight", Reason::Classifier),
        ("head.bias", Reason::Classifier),
        ("features.1.0.attn.relative_position_index", Reason::Buffer),
    ];
    assert_eq!(ignored, expected.map(|(name, reason)| (name.to_owned(), reason)));
}

#[test]
fn simmim_has_an_encoder_a_mask_token_and_a_decoder() {
    let encoder = renamed(|name| (!name.starts_with("head")).then(|| format!("encoder.{}", microsoft(name))));
    let file = with(encoder, &["encoder.mask_token", "decoder.0.weight", "decoder.0.bias"]);
    let ignored = check(&file, Naming::SimMim);
    assert_eq!(ignored.len(), 5);
    assert!(ignored[2..].iter().all(|(_, reason)| *reason == Reason::OtherTask), "{ignored:?}");
}

#[test]
fn mmsegmentation_has_stages_and_heads_beside_the_backbone() {
    let backbone = renamed(|name| {
        let kept = !name.starts_with("head") && !name.starts_with("norm");
        kept.then(|| format!("backbone.{}", open_mmlab(name)))
    });
    let others = [
        "backbone.norm0.weight",
        "backbone.norm3.bias",
        "decode_head.conv_seg.weight",
        "auxiliary_head.bias",
    ];
    let ignored = check(&with(backbone, &others), Naming::OpenMmlab);
    let reasons: Vec<Reason> = ignored.iter().map(|(_, reason)| *reason).collect();
    assert_eq!(reasons, [Reason::FinalNorm, Reason::FinalNorm, Reason::OtherTask, Reason::OtherTask]);
    // mmpretrain's backbones alone have no prefix.
    check(&renamed(|name| (!name.starts_with("head")).then(|| open_mmlab(name))), Naming::OpenMmlab);
}

#[test]
fn timm_features_have_underscores_and_the_getter_a_prefix() {
    let features = |prefix: &'static str| {
        renamed(move |name| {
            let kept = !name.starts_with("head") && !name.starts_with("norm");
            kept.then(|| format!("{prefix}{}", name.replacen("layers.", "layers_", 1)))
        })
    };
    assert!(features("").get("layers_1.downsample.norm.weight").is_some());
    for prefix in ["", "encoder.model.", "model."] {
        assert!(check(&features(prefix), Naming::TimmFeatures).is_empty());
    }
}

#[test]
fn an_auto_backbone_has_a_norm_a_stage_and_no_swin_in_front() {
    let lists = json("swin_names.json");
    let file = |prefix: &str| {
        let mut dict = StateDict::new();
        for entry in lists["huggingface"].as_array().unwrap() {
            let shape = narrow(&entry[1]);
            let (name, count) = (entry[0].as_str().unwrap(), shape.iter().product());
            if let Some(name) = name.strip_prefix("swin.").filter(|name| !name.starts_with("layernorm.")) {
                let values = vec![dict.len() as f32; count];
                dict.insert(Tensor::from_f32(format!("{prefix}{name}"), shape, &values).unwrap()).unwrap();
            }
        }
        dict
    };
    let expected = names::map(&file("swin.")).unwrap().tensors;
    for (prefix, norms) in [("", "hidden_states_norms."), ("backbone.", "backbone.hidden_states_norms.")] {
        let norm = format!("{norms}stage1.weight");
        let others = [norm.as_str(), "decode_head.classifier.weight"];
        let mapped = names::map(&with(file(prefix), &others)).unwrap();
        assert_eq!(mapped.naming, Naming::HuggingFace);
        assert_eq!((mapped.tensors.len(), expected.len()), (169, 169));
        for tensor in &expected {
            assert_eq!(mapped.tensors.get(tensor.name()).unwrap().to_f32(), tensor.to_f32());
        }
        let ignored: Vec<_> =
            mapped.ignored.iter().filter(|ignored| ignored.reason != Reason::Buffer).collect();
        assert_eq!((ignored[0].name.as_str(), ignored[0].reason), (others[0], Reason::FinalNorm));
        assert_eq!((ignored[1].name.as_str(), ignored[1].reason), (others[1], Reason::OtherTask));
    }
}

#[test]
fn prefixes_of_training_scripts_are_taken_off_however_they_are_nested() {
    for prefix in
        ["model.", "net.", "module.", "_orig_mod.", "module.model.net.", "encoder.", "student.backbone.swin."]
    {
        let file =
            with(renamed(|name| Some(format!("{prefix}{name}"))), &["criterion.weight", "accuracy.count"]);
        let ignored = check(&file, Naming::Timm);
        let unknown: Vec<&str> = ignored
            .iter()
            .filter(|(_, reason)| *reason == Reason::Unknown)
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(unknown, ["criterion.weight", "accuracy.count"], "{prefix}");
        check(&renamed(|name| Some(format!("{prefix}{}", microsoft(name)))), Naming::Microsoft);
        check(&renamed(|name| Some(format!("{prefix}{}", torchvision(name)))), Naming::Torchvision);
    }
}

#[test]
fn two_backbones_in_one_file_are_refused_by_their_prefixes() {
    let mut file = renamed(|name| Some(format!("student.{name}")));
    for tensor in &renamed(|name| Some(format!("teacher.{name}"))) {
        file.insert(tensor.clone()).unwrap();
    }
    let message = names::map(&file).unwrap_err().to_string();
    assert!(message.contains("`student.` and `teacher.`"), "{message}");
}

#[test]
fn a_second_version_is_refused_by_that_name() {
    for name in [
        "layers.0.blocks.0.attn.cpb_mlp.0.weight",
        "features.1.0.attn.cpb_mlp.2.weight",
        "swinv2.encoder.layers.0.blocks.0.attention.self.continuous_position_bias_mlp.0.weight",
        "backbone.stages.0.blocks.0.attn.w_msa.cpb_mlp.0.weight",
        "layers.0.blocks.0.attn.relative_coords_table",
    ] {
        let file = with(renamed(|name| Some(name.to_owned())), &[name]);
        let message = names::map(&file).unwrap_err().to_string();
        assert!(message.contains(name) && message.contains("Swin Transformer V2"), "{message}");
    }
}

#[test]
fn names_of_another_model_are_shown() {
    let file =
        with(StateDict::new(), &["conv1.weight", "layer1.0.conv1.weight", "features.1.0.block.0.0.weight"]);
    let message = names::map(&file).unwrap_err().to_string();
    assert!(message.contains("`conv1.weight`, `layer1.0.conv1.weight`"), "{message}");
}
