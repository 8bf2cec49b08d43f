//! Training against numbers of an independent implementation: twenty updates of a small network, and the losses and
//! gradients of Swin-T at 224 pixels.

mod golden;
#[path = "golden/labels.rs"]
mod labels;

use candle_core::Tensor;
use golden::{assert_near, config, open, sampled, scalar, specs};
use labels::labels;
use std::collections::{BTreeMap, BTreeSet};
use tadformer::optim::{AdamW, AdamWConfig, Decay, Gradients, Schedule, ScheduleConfig};
use tadformer::{Losses, MultiTaskLoss, MultiTaskModel};
use tadformer_data::Task;
use tadformer_ops::testing::{GoldenFile, GoldenStore, assert_close, golden_parameter, named_tensor};
use tadformer_ops::{Entry, Mode, Rng, Role};

/// Names listed under `key` in the description of a file.
fn listed(file: &GoldenFile, key: &str) -> BTreeSet<String> {
    serde_json::from_value(file.meta[key].clone()).unwrap()
}

/// Compares every task's loss and the total with those that `expected` gives by name.
#[track_caller]
fn assert_losses(what: &str, found: &Losses, expected: impl Fn(&str) -> f64, tolerance: f64) {
    let tasks = found.tasks.iter().map(|(task, loss)| (task.name, &loss.value));
    for (name, value) in tasks.chain([("total", &found.total)]) {
        assert_near(&format!("{what}: loss {name}"), scalar(value), expected(name), tolerance);
    }
}

fn values(tensor: &Tensor) -> Vec<f64> {
    let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().map(f64::from).collect()
}

fn rms(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len() as f64;
    (values.map(|x| x * x).sum::<f64>() / n).sqrt()
}

#[test]
fn golden_labels_are_those_of_the_files() {
    let file = open("micro_trajectory");
    let first = file.meta["train"]["first_batch_id"].as_u64().unwrap();
    for i in 0..file.meta["train"]["nbatch"].as_u64().unwrap() {
        for spec in specs() {
            let name = format!("label:micro_trajectory/{}/{}", first + i, spec.task);
            let expected = file.tensor(&format!("batch{i}/label/{}", spec.task));
            assert_close(&name, &labels(&spec, &name, 2, 64), expected, 0.0);
        }
    }
}

/// One batch of the trajectory.
fn batch(file: &GoldenFile, i: usize) -> (&Tensor, Vec<(Task, Tensor)>) {
    let label = |task: Task| (task, file.tensor(&format!("batch{i}/label/{task}")).clone());
    (file.tensor(&format!("batch{i}/image")), specs().iter().map(|spec| label(spec.task)).collect())
}

/// The trajectory's optimiser and schedule.
fn training(file: &GoldenFile, parameters: &[Entry]) -> (AdamW, Schedule) {
    let golden = &file.meta["train"];
    let number = |name: &str| golden[name].as_f64().unwrap();
    let count = |name: &str| golden[name].as_u64().unwrap() as usize;
    let [beta1, beta2] = serde_json::from_value(golden["betas"].clone()).unwrap();
    let adamw = AdamWConfig { beta1, beta2, eps: number("eps"), weight_decay: number("weight_decay") };
    let schedule = ScheduleConfig {
        base_lr: number("base_lr"),
        warmup_lr: number("warmup_lr"),
        min_lr: number("min_lr"),
        warmup_epochs: count("warmup_epochs"),
        decay: Decay::Cosine { warmup_prefix: true },
    };
    let schedule = Schedule::new(schedule, count("epochs"), count("iters_per_epoch")).unwrap();
    (AdamW::new(parameters, adamw).unwrap(), schedule)
}

#[test]
fn twenty_updates_follow_the_published_trajectory() {
    let file = open("micro_trajectory");
    let (store, specs) = (GoldenStore::new(), specs());
    let model = MultiTaskModel::new(&config(&file), &specs, &store.params()).unwrap();
    let loss = MultiTaskLoss::new(specs.iter().map(|spec| spec.task));
    let parameters = store.with_role(Role::Trainable);
    let (mut adamw, schedule) = training(&file, &parameters);

    let names: BTreeSet<String> = parameters.iter().map(|entry| entry.name.clone()).collect();
    let decayed: BTreeSet<String> = adamw.decayed().map(str::to_owned).collect();
    assert_eq!(names, listed(&file, "trainable"), "trainable tensors");
    assert_eq!(decayed, listed(&file, "weight_decay_names"), "tensors that decay");
    assert_eq!(&names - &decayed, listed(&file, "no_weight_decay_names"), "tensors that do not decay");

    let golden = &file.meta["train"];
    let (steps, batches) = (golden["steps"].as_u64().unwrap(), golden["nbatch"].as_u64().unwrap());
    assert_eq!(steps, 20);
    let mut rng = Rng::named(0, "golden", 0);
    for step in 0..steps {
        let expected = |key: &str| file.meta["per_step"][key][step as usize].as_f64().unwrap();
        let (image, labels) = batch(&file, (step % batches) as usize);
        let logits = model.coarse_logits(image, &mut Mode::Train(&mut rng)).unwrap();
        let losses = loss.forward(&logits, &labels).unwrap();
        assert_losses(&format!("step {step}"), &losses, expected, 1e-5);

        let mut gradients = Gradients::from_store(&losses.total.backward().unwrap(), &parameters);
        let without: BTreeSet<String> = gradients.missing().map(str::to_owned).collect();
        assert_eq!(without, listed(&file, "never_updated"), "step {step}: tensors without a gradient");
        let norm = gradients.clip(golden["clip"].as_f64().unwrap()).unwrap();
        // One direction of step 3 is so near its label that rounding can decide the sign of its L1 gradient. On the
        // other side the norms are off by up to 1.2e-3 from there on, instead of 5e-6.
        assert_near(&format!("step {step}: gradient norm"), norm, expected("grad_norm"), 1e-3);
        let lr = schedule.lr_for_update(step);
        assert_near(&format!("step {step}: learning rate"), lr, expected("lr"), 1e-7);
        adamw.step(&gradients, lr).unwrap();
    }
    assert_final_weights(&file, &parameters);
    for entry in store.with_role(Role::Buffer) {
        assert_close(&entry.name, &entry.tensor, file.tensor(&format!("final_buf/{}", entry.name)), 1e-3);
    }

    let (image, labels) = batch(&file, 0);
    let logits = model.coarse_logits(image, &mut Mode::Eval).unwrap();
    for (task, logits) in &logits.resized().unwrap() {
        let found = sampled(logits, file.tensor(&format!("final_eval/idx/{task}")));
        assert_close(task.name, &found, file.tensor(&format!("final_eval/val/{task}")), 2e-3);
    }
    let losses = loss.forward(&logits, &labels).unwrap();
    let expected = |name: &str| file.meta["final_eval_batch0"][name].as_f64().unwrap();
    assert_losses("after training", &losses, expected, 1e-5);
}

/// Compares how far every tensor has come: the difference is at most 0.5 % of the way.
fn assert_final_weights(file: &GoldenFile, parameters: &[Entry]) {
    let never_updated = listed(file, "never_updated");
    for Entry { name, tensor, .. } in parameters {
        let initial = values(&golden_parameter(name, tensor.shape()).unwrap());
        let (found, expected) = (values(tensor), values(file.tensor(&format!("final/{name}"))));
        assert_eq!(found.len(), expected.len(), "`{name}`: shape");
        let difference = found.iter().zip(&expected).map(|(f, e)| f - e);
        if never_updated.contains(name) {
            assert_eq!(found, initial, "`{name}` has no gradient and should be as it was");
        } else if name.ends_with(".last_layer.0.bias") {
            // Its gradient is zero but for rounding, which Adam makes steps of full size from.
            let reach = 20.0 * file.meta["train"]["base_lr"].as_f64().unwrap();
            for (i, off) in difference.enumerate() {
                assert!(off.abs() <= reach, "`{name}`: element {i} is off by {off:.2e}, allowed {reach:.2e}");
            }
        } else {
            let way = rms(expected.iter().zip(&initial).map(|(e, i)| e - i));
            let off = rms(difference) / way;
            assert!(off <= 5e-3, "`{name}` is off by {off:.2e} of the way {way:.2e}, allowed 5e-3");
        }
    }
}

#[test]
fn swin_tiny_at_224_has_the_published_losses_and_gradients() {
    let file = open("swin_t_224");
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
        let grad = values(&grad);
        if norm < 1e-10 {
            assert!(grad.iter().all(|g| g.abs() <= 1e-5), "`{name}` should be zero");
            continue;
        }
        let found = grad.iter().map(|g| g * g).sum::<f64>().sqrt();
        assert_near(&format!("gradient norm of `{name}`"), found, norm, 5e-3);
        // Single elements may be small by chance: the typical one is the scale.
        let scale = norm / (tensor.elem_count() as f64).sqrt();
        let first = values(file.tensor(&format!("grad_first8/{name}")));
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
