//! Every layer on a batch without an image: an empty result, with and without gradients.

use candle_core::{Result, Tensor, Var};
use tadformer_ops::testing::{GoldenStore, named_tensor};
use tadformer_peft::{
    Before, DynamicTaskFilter, Filter, LayerNorm, LoraConfig, LoraLinear, Mode, Rng, Site, SiteKind,
    TaskPrompts, Windows, condition_on_prompts, no_grad, unconditioned,
};

fn lora() -> LoraConfig {
    LoraConfig { rank: 2, scale: 2.0, dropout: 0.3 }
}

fn tensor(shape: &[usize]) -> Tensor {
    named_tensor("input", shape, 0.0, 1.0).unwrap()
}

/// Calls `layer` with a variable of that shape and without gradients, in evaluation and in training; the backward runs too.
fn check(
    what: &str,
    shape: &[usize],
    expected: &[usize],
    layer: impl Fn(&Tensor, &mut Mode<'_>) -> Result<Tensor>,
) {
    let xs = Var::from_tensor(&tensor(shape)).unwrap();
    let mut rng = Rng::named(0, "empty", 0);
    for mut mode in [Mode::Eval, Mode::Train(&mut rng)] {
        let ys = layer(&xs, &mut mode).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(ys.dims(), expected, "{what}");
        let grads = ys.sum_all().unwrap().backward().unwrap();
        assert_eq!(grads.get(&xs).map(|grad| grad.dims().to_vec()), Some(shape.to_vec()), "{what}");
        assert_eq!(no_grad(|| layer(&xs, &mut mode)).unwrap().dims(), expected, "{what}, without gradients");
    }
}

#[test]
fn linears_and_what_sits_on_them() {
    let kinds = [
        SiteKind::Frozen,
        SiteKind::Trainable,
        SiteKind::LowRank(lora()),
        SiteKind::TaskAdapting(lora(), Filter::Dynamic),
    ];
    for kind in kinds {
        let site = Site::new(4, 6, kind, &GoldenStore::new().params()).unwrap();
        check(&format!("{kind:?}"), &[0, 2, 2, 4], &[0, 2, 2, 6], |xs, mode| Ok(site.forward(xs, mode)?.0));
        let packed = site.packed().unwrap();
        let ys = no_grad(|| packed.forward(&tensor(&[0, 2, 2, 4]), &mut Mode::Eval)).unwrap().0;
        assert_eq!(ys.dims(), [0, 2, 2, 6], "{kind:?}, packed");
    }
    let linear = candle_nn::Linear::new(tensor(&[6, 4]), None);
    let lora = LoraLinear::new(&linear, &lora(), &GoldenStore::new().params()).unwrap();
    check("LoRA", &[0, 4], &[0, 6], |xs, mode| lora.forward_in(xs, mode));
}

#[test]
fn the_tasks_streams() {
    let kind = SiteKind::TaskAdapting(lora(), Filter::Dynamic);
    let site = Site::new(4, 4, kind, &GoldenStore::new().params()).unwrap();
    let module = site.task_adapting().unwrap();
    let windows = Windows::new(3, 5, 2, 1).unwrap();
    check("streams", &[0, 3, 5, 4], &[0, 3, 5, 4], |xs, mode| {
        let (_, trace) = module.forward(xs, mode)?;
        module.forward_tasks(xs, &trace.frozen, &windows)
    });
    check("codes through a GELU", &[0, 3, 5, 4], &[0, 3, 5, 2], |xs, mode| {
        let (_, trace) = module.forward(xs, mode)?;
        let codes = module.codes(xs.clone(), Before::Nothing, &windows)?;
        module.codes_through_gelu(&codes, &trace.frozen, module, &windows)
    });
    let filter = DynamicTaskFilter::new(2, &GoldenStore::new().params()).unwrap();
    check("filter", &[0, 3, 5, 2], &[0, 3, 5, 2], |xs, _| filter.forward(xs, &windows));
}

#[test]
fn prompts_and_what_they_do() {
    let norm = LayerNorm::new(4, &GoldenStore::new().params()).unwrap();
    check("conditioned", &[0, 3, 5, 4], &[0, 3, 5, 4], |xs, _| {
        condition_on_prompts(&tensor(&[0, 3, 5, 3, 2]), xs, 3, &norm)?.us()
    });
    check("unconditioned", &[0, 3, 5, 4], &[0, 3, 5, 4], |xs, _| unconditioned(xs, 3)?.us());
    let prompts = TaskPrompts::new(3, 2, 4, &GoldenStore::new().params()).unwrap();
    assert_eq!(prompts.for_batch(0).unwrap().dims(), [0, 6, 4]);
}
