//! Position bias tables for another window, against timm.

mod golden;

use golden::json;
use tadformer_weights::names::{self, Naming};
use tadformer_weights::{StateDict, TableResize, Tensor, resize_table};

fn numbers(value: &serde_json::Value) -> Vec<f32> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn geometric_tables_are_those_of_timm() {
    let golden = json("position_bias_geometric.json");
    let table = Tensor::from_f32("t", vec![169, 2], &numbers(&golden["in"])).unwrap();
    let outputs = golden["out"].as_object().unwrap();
    assert_eq!(outputs.len(), 3);
    for (window, expected) in outputs {
        let found = resize_table(&table, window.parse().unwrap(), TableResize::Geometric).unwrap().to_f32();
        let expected = numbers(expected);
        assert_eq!(found.len(), expected.len());
        for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert!((found - expected).abs() <= 2e-5, "window {window}, {at}: {found}, expected {expected}");
        }
    }
}

#[test]
fn a_file_is_treated_as_those_do_whose_names_it_has() {
    let golden = json("position_bias_geometric.json");
    let wanted = [("backbone.layers.0.blocks.0.attn.relative_position_bias_table".to_owned(), vec![529, 2])];
    let resized = |block: &str, how| {
        let mut file = StateDict::new();
        let name = format!("{block}.attn.relative_position_bias_table");
        file.insert(Tensor::from_f32(name, vec![169, 2], &numbers(&golden["in"])).unwrap()).unwrap();
        // timm's files begin a stage with its downsampling.
        file.insert(Tensor::from_f32("layers.1.downsample.norm.bias", vec![1], &[0.0]).unwrap()).unwrap();
        let mut mapped = names::map(&file).unwrap();
        assert_eq!(mapped.resize_position_bias(&wanted, how).unwrap().len(), 1);
        (mapped.naming, mapped.tensors.get(&wanted[0].0).unwrap().to_f32())
    };
    let (naming, timm) = resized("layers.0.blocks.0", None);
    assert_eq!(naming, Naming::Timm);
    let (naming, torchvision) = resized("features.1.0", None);
    assert_eq!(naming, Naming::Torchvision);
    assert_eq!(timm, resized("features.1.0", Some(TableResize::Geometric)).1);
    assert_eq!(torchvision, resized("layers.0.blocks.0", Some(TableResize::Bicubic)).1);
    assert_ne!(timm, torchvision);
}
