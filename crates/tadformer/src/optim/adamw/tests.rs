use super::*;
use candle_core::Var;
use candle_core::backprop::GradStore;
use tadformer_ops::testing::{assert_close, named_tensor};
use tadformer_ops::{Init, ParamStore, Role};

/// A matrix, a bias, a matrix called bias, a scalar-like gate and a parameter that the loss never sees.
fn model() -> Vec<Entry> {
    let store = ParamStore::new(3);
    let params = store.params();
    params.trainable("fc.weight", (7, 5), Init::fan_in_uniform(5)).unwrap();
    params.trainable("fc.bias", 7, Init::ONES).unwrap();
    params.trainable("odd.bias", (2, 3), Init::ONES).unwrap();
    params.trainable("prompt_gate", 1, Init::ONES).unwrap();
    params.trainable("unused", (4, 4), Init::ONES).unwrap();
    store.with_role(Role::Trainable)
}

/// A loss whose gradients depend on the weights and on the step.
fn backward(parameters: &[Entry], step: u64) -> GradStore {
    let mut loss = Tensor::new(0f32, &Device::Cpu).unwrap();
    for entry in parameters.iter().filter(|entry| entry.name != "unused") {
        let target =
            named_tensor(&format!("target {step} {}", entry.name), entry.tensor.shape(), 0.5, 1.0).unwrap();
        loss = (loss + (&entry.tensor - target).unwrap().powf(2.0).unwrap().sum_all().unwrap()).unwrap();
    }
    loss.backward().unwrap()
}

fn train(parameters: &[Entry], optimiser: &mut AdamW, steps: std::ops::Range<u64>) {
    for step in steps {
        let gradients = Gradients::from_store(&backward(parameters, step), parameters);
        optimiser.step(&gradients, 0.01 / (1.0 + step as f64)).unwrap();
    }
}

fn numbers(parameters: &[Entry]) -> Vec<Vec<f32>> {
    parameters.iter().map(|entry| entry.tensor.flatten_all().unwrap().to_vec1().unwrap()).collect()
}

const CONFIG: AdamWConfig = AdamWConfig { beta1: 0.9, beta2: 0.999, eps: 1e-3, weight_decay: 0.5 };

#[test]
fn the_first_step_has_its_closed_form() {
    let parameters = model();
    let before = numbers(&parameters);
    let store = backward(&parameters, 0);
    let mut gradients = Gradients::from_store(&store, &parameters);
    gradients.scale(0.25);
    AdamW::new(&parameters, CONFIG).unwrap().step(&gradients, 0.1).unwrap();
    for ((entry, before), after) in parameters.iter().zip(before).zip(numbers(&parameters)) {
        let Some(gradient) = store.get(&entry.tensor) else {
            assert_eq!((entry.name.as_str(), before), ("unused", after));
            continue;
        };
        let keep = if entry.name == "fc.weight" { 1.0 - 0.1 * 0.5 } else { 1.0 };
        let gradient = gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for ((before, after), g) in before.iter().zip(after).zip(gradient) {
            // Both corrections undo the averages: m/(1 − β₁) = g, √(v/(1 − β₂)) = |g|.
            let g = 0.25 * f64::from(g);
            let expected = f64::from(*before) * keep - 0.1 * g / (g.abs() + 1e-3);
            assert!(
                (f64::from(after) - expected).abs() < 1e-6,
                "{}: {after}, expected {expected}",
                entry.name
            );
        }
    }
}

#[test]
fn twenty_steps_match_the_formula_in_candle_operations() {
    let (parameters, twins) = (model(), model());
    train(&parameters, &mut AdamW::new(&parameters, CONFIG).unwrap(), 0..20);
    let f64_zeros = |t: &Tensor| t.to_dtype(DType::F64).unwrap().zeros_like().unwrap();
    let mut moments: Vec<_> = twins.iter().map(|e| (f64_zeros(&e.tensor), f64_zeros(&e.tensor))).collect();
    for step in 0..20u64 {
        let store = backward(&twins, step);
        let (lr, t) = (0.01 / (1.0 + step as f64), step as i32 + 1);
        for (entry, (m, v)) in twins.iter().zip(&mut moments) {
            let Some(g) = store.get(&entry.tensor) else { continue };
            let g = g.to_dtype(DType::F64).unwrap();
            *m = ((&*m * 0.9).unwrap() + (&g * 0.1).unwrap()).unwrap();
            *v = ((&*v * 0.999).unwrap() + (g.sqr().unwrap() * 0.001).unwrap()).unwrap();
            let mean = (&*m / (1.0 - 0.9f64.powi(t))).unwrap();
            let root = (&*v / (1.0 - 0.999f64.powi(t))).unwrap().sqrt().unwrap();
            let change = (mean / (root + 1e-3).unwrap()).unwrap();
            let decay = if entry.name == "fc.weight" { 0.5 } else { 0.0 };
            let kept = (entry.tensor.to_dtype(DType::F64).unwrap() * (1.0 - lr * decay)).unwrap();
            let next = (kept - (change * lr).unwrap()).unwrap().to_dtype(DType::F32).unwrap();
            Var::from_tensor(&entry.tensor).unwrap().set(&next).unwrap();
        }
    }
    for (ours, theirs) in parameters.iter().zip(&twins) {
        assert_close(&ours.name, &ours.tensor, &theirs.tensor, 1e-6);
    }
}

#[test]
fn a_restored_optimiser_goes_on_to_the_same_bits() {
    let straight = model();
    train(&straight, &mut AdamW::new(&straight, CONFIG).unwrap(), 0..9);
    let stopped = model();
    let mut first = AdamW::new(&stopped, CONFIG).unwrap();
    train(&stopped, &mut first, 0..4);
    let state = first.state().unwrap();
    assert!(state.iter().all(|(name, _)| !name.starts_with("unused")));
    let mut second = AdamW::new(&stopped, CONFIG).unwrap();
    second.load_state(state).unwrap();
    train(&stopped, &mut second, 4..9);
    assert_eq!(numbers(&stopped), numbers(&straight));
}

#[test]
fn a_state_that_does_not_fit_is_refused_whole() {
    let parameters = model();
    let mut optimiser = AdamW::new(&parameters, CONFIG).unwrap();
    train(&parameters, &mut optimiser, 0..1);
    let state: HashMap<String, Tensor> = optimiser.state().unwrap().into_iter().collect();
    let refuse = |change: &dyn Fn(&mut HashMap<String, Tensor>), expected: &str| {
        let mut state = state.clone();
        change(&mut state);
        let mut fresh = AdamW::new(&parameters, CONFIG).unwrap();
        let message = fresh.load_state(state).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
        assert!(fresh.state().unwrap().is_empty());
    };
    let tensor = |shape: &[usize]| named_tensor("x", shape, 0.0, 1.0).unwrap();
    refuse(&|s| drop(s.remove("fc.bias.exp_avg")), "`fc.bias` needs all three");
    refuse(
        &|s| drop(s.insert("fc.bias.exp_avg".into(), tensor(&[6]))),
        "`fc.bias.exp_avg` is [6] F32, expected [7] F32",
    );
    refuse(
        &|s| drop(s.insert("head.exp_avg".into(), tensor(&[6]))),
        "`head.exp_avg` belongs to no parameter",
    );
    refuse(&|s| drop(s.insert("fc.bias.step".into(), tensor(&[]))), "`fc.bias.step`");
    refuse(&|s| drop(s.insert("fc.bias.step".into(), Tensor::new(0i64, &Device::Cpu).unwrap())), "above 0");
}

#[test]
fn only_matrices_decay() {
    let optimiser = AdamW::new(&model(), CONFIG).unwrap();
    assert_eq!(optimiser.decayed().collect::<Vec<_>>(), ["fc.weight", "unused"]);
}

#[test]
fn tables_and_prompts_decay_while_norms_and_gates_do_not() {
    let store = ParamStore::new(0);
    let shapes: [(&str, &[usize]); 5] = [
        ("backbone.task_prompts", &[4, 16]),
        ("backbone.layers.0.blocks.0.attn.relative_position_bias_table", &[49, 1]),
        ("backbone.layers.0.prompt_gate", &[1]),
        ("backbone.layers.0.blocks.1.attn.proj.lora_filter.chan_FilterNorm.std", &[36]),
        ("decoders.decoders.semseg.last_layer.0.bias", &[12]),
    ];
    for (name, shape) in shapes {
        store.params().trainable(name, shape, Init::ONES).unwrap();
    }
    let optimiser = AdamW::new(&store.with_role(Role::Trainable), CONFIG).unwrap();
    assert_eq!(optimiser.decayed().collect::<Vec<_>>(), [shapes[0].0, shapes[1].0]);
}

#[test]
fn what_cannot_be_trained_is_named() {
    let mut parameters = model();
    parameters.push(parameters[0].clone());
    parameters.push(Entry {
        name: "frozen".into(),
        role: Role::Frozen,
        tensor: parameters[1].tensor.detach(),
        loaded: false,
    });
    let config = AdamWConfig { beta2: 1.0, eps: 0.0, ..CONFIG };
    let message = AdamW::new(&parameters, config).unwrap_err().to_string();
    for part in ["`beta2` is 1", "`eps` is 0", "`fc.weight` is among the parameters twice", "`frozen` is no"]
    {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn gradients_of_other_parameters_change_nothing() {
    let parameters = model();
    let before = numbers(&parameters);
    let mut optimiser = AdamW::new(&parameters, CONFIG).unwrap();
    let store = backward(&parameters, 0);
    let few = Gradients::from_store(&store, &parameters[..2]);
    assert!(optimiser.step(&few, 0.1).unwrap_err().to_string().contains("2 gradients for 5 parameters"));
    let mut swapped = parameters.clone();
    swapped.swap(0, 1);
    let message = optimiser.step(&Gradients::from_store(&store, &swapped), 0.1).unwrap_err().to_string();
    assert!(message.contains("`fc.bias` stands where `fc.weight` should"), "{message}");
    assert_eq!(numbers(&parameters), before);
}
