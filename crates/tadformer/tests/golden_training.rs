//! Losses and gradients of Swin-T at 224 pixels against numbers of an independent implementation.

mod golden;
#[path = "golden/labels.rs"]
mod labels;

use candle_core::Tensor;
use golden::{assert_losses, assert_near, config, open, scalar, specs, values};
use labels::labels;
use std::collections::BTreeMap;
use tadformer::optim::Gradients;
use tadformer::{MultiTaskLoss, MultiTaskModel};
use tadformer_data::Task;
use tadformer_ops::testing::{GoldenStore, assert_zero, named_tensor};
use tadformer_ops::{Entry, Mode, Rng, Role};

#[test]
fn swin_tiny_at_224_has_the_published_losses_and_gradients() {
    let file = open("swin_t_224");
    file.compared_elsewhere(&["eval/"]);
    let (store, specs) = (GoldenStore::new(), specs());
    let model = MultiTaskModel::new(&config(&file), &specs, &store.params()).unwrap();
    let image = named_tensor("input:swin_t_224/train_image", (2, 3, 224, 224), 0.0, 1.732_050_8).unwrap();
    let labels: Vec<(Task, Tensor)> = specs
        .iter()
        .map(|spec| (spec.task, labels(spec, &format!("label:swin_t_224/train/{}", spec.task), 2, 224)))
        .collect();
    let mut rng = Rng::named(0, "golden", 0);
    let logits = model.coarse_logits(&image, &mut Mode::Train(&mut rng)).unwrap();
    let losses = MultiTaskLoss::new(specs.iter().map(|spec| spec.task)).forward(&logits, &labels).unwrap();
    assert_losses("train", &losses, |name| scalar(file.tensor(&format!("train/loss/{name}"))), 2e-6);

    let parameters = store.with_role(Role::Trainable);
    let gradients = Gradients::from_store(&losses.total.backward().unwrap(), &parameters);
    let norms: BTreeMap<String, Option<f64>> =
        serde_json::from_value(file.meta["grad_norm"].clone()).unwrap();
    assert_eq!(norms.len(), parameters.len(), "trainable tensors");
    for Entry { name, tensor, .. } in &parameters {
        let Some(norm) = norms[name] else {
            assert!(gradients.get(name).unwrap().is_none(), "`{name}` has a gradient and should have none");
            continue;
        };
        let grad = gradients.get(name).unwrap().unwrap_or_else(|| panic!("`{name}` has no gradient"));
        let first = values(file.tensor(&format!("grad_first8/{name}")));
        if norm < 1e-10 {
            assert_zero(name, &grad);
            continue;
        }
        let grad = values(&grad);
        let found = grad.iter().map(|g| g * g).sum::<f64>().sqrt();
        assert_near(&format!("gradient norm of `{name}`"), found, norm, 5e-3);
        // Single elements may be small by chance: the typical one is the scale.
        let scale = norm / (tensor.elem_count() as f64).sqrt();
        assert_eq!(first.len(), grad.len().min(8));
        for (i, (found, expected)) in grad.iter().zip(&first).enumerate() {
            let scale = scale.max(expected.abs());
            assert!(
                (found - expected).abs() <= 5e-3 * scale,
                "gradient {i} of `{name}` is {found:e}, expected {expected:e}, scale {scale:.1e}"
            );
        }
    }
    let expected = file.meta["total_grad_norm"].as_f64().unwrap();
    assert_near("gradient norm", gradients.norm().unwrap(), expected, 1e-3);
}
