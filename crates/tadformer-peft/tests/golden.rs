//! The PEFT layers against numbers of an independent implementation.

use candle_core::{Tensor, Var};
use tadformer_ops::testing::{GoldenFile, GoldenStore};
use tadformer_ops::{LayerNorm, Mode, Windows};
use tadformer_peft::{
    DynamicTaskFilter, Filter, FilterNorm, LoraConfig, Site, SiteKind, condition_on_prompts, unconditioned,
};

const TASKS: [&str; 4] = ["semseg", "normals", "sal", "human_parts"];
const LORA: LoraConfig = LoraConfig { rank: 4, scale: 4.0, dropout: 0.05 };

fn open(name: &str) -> GoldenFile {
    GoldenFile::open(format!("{}/tests/data/{name}.safetensors", env!("CARGO_MANIFEST_DIR")))
}

fn site(file: &GoldenFile, case: &str, name: &str, store: &std::sync::Arc<GoldenStore>) -> Site {
    let flags = file.case(case);
    let kind = match (flags["enabled"].as_bool(), flags["ts"].as_bool(), flags["dtf"].as_bool()) {
        (Some(false), _, _) => SiteKind::Frozen,
        (_, Some(true), _) => SiteKind::LowRank(LORA),
        (_, _, Some(false)) => SiteKind::TaskAdapting(LORA, Filter::None),
        _ => SiteKind::TaskAdapting(LORA, Filter::Dynamic),
    };
    let (in_dim, out_dim) = (file.size(case, "in_features"), file.size(case, "out_features"));
    Site::new(in_dim, out_dim, kind, &store.params().pp(name)).unwrap()
}

/// One output a task from a tensor `(tasks · b, h, w, c)`.
fn by_task(outputs: &mut Vec<(String, Tensor)>, kind: &str, xs: &Tensor) {
    let b = xs.dims()[0] / TASKS.len();
    for (i, task) in TASKS.iter().enumerate() {
        outputs.push((format!("{kind}/{task}"), xs.narrow(0, i * b, b).unwrap().flatten(1, 2).unwrap()));
    }
}

fn check(
    file: &GoldenFile,
    case: &str,
    store: &GoldenStore,
    inputs: &[(&str, &Var)],
    outputs: Vec<(String, Tensor)>,
) {
    let outputs: Vec<(&str, Tensor)> = outputs.iter().map(|(name, t)| (name.as_str(), t.clone())).collect();
    file.check(case, store, inputs, &outputs);
}

#[test]
fn filter_norm() {
    let file = open("filter_norm");
    let (store, x) = (GoldenStore::new(), file.input("c6k3", "x"));
    let norm = FilterNorm::new(6, 3, &store.params().pp("c6k3")).unwrap();
    let y = norm.forward(&x.flatten_from(1).unwrap()).unwrap();
    file.check("c6k3", &store, &[("x", &x)], &[("y", y)]);
}

#[test]
fn dynamic_task_filter() {
    let file = open("dtf");
    for case in file.cases() {
        let (store, x) = (GoldenStore::new(), file.input(&case, "x"));
        let filter =
            DynamicTaskFilter::new(file.size(&case, "dim"), &store.params().pp("lora_filter")).unwrap();
        let tokens = x.permute([0, 2, 3, 1]).unwrap();
        let (_, h, w, _) = tokens.dims4().unwrap();
        let y =
            filter.forward(&tokens, &Windows::whole(h, w).unwrap()).unwrap().permute([0, 3, 1, 2]).unwrap();
        file.check(&case, &store, &[("x", &x)], &[("y", y)]);
    }
}

#[test]
fn task_shared_site() {
    let file = open("ta_linear_qkv");
    for case in file.cases() {
        let (store, x) = (GoldenStore::new(), file.input(&case, "x"));
        let (y, _) = site(&file, &case, "attn.qkv", &store).forward(&x, &mut Mode::Eval).unwrap();
        file.check(&case, &store, &[("x", &x)], &[("y", y)]);
    }
}

#[test]
fn task_adapting_mlp_sites() {
    for (name, place) in [("ta_linear_fc1", "mlp.fc1"), ("ta_linear_fc2", "mlp.fc2")] {
        let file = open(name);
        for case in file.cases() {
            let (store, x) = (GoldenStore::new(), file.input(&case, "x"));
            let site = site(&file, &case, place, &store);
            let (y, trace) = site.forward(&x, &mut Mode::Eval).unwrap();
            let mut outputs = vec![("y".to_owned(), y)];
            let own: Vec<(String, Var)> = TASKS
                .iter()
                .map(|task| format!("x_{task}"))
                .filter(|name| file.listed(&case, "inputs").contains(name.as_str()))
                .map(|name| (name.clone(), file.input(&case, &name)))
                .collect();
            if file.listed(&case, "outputs").len() > 1 {
                let shared = vec![x.as_tensor(); TASKS.len()];
                let streams =
                    if own.is_empty() { shared } else { own.iter().map(|(_, x)| x.as_tensor()).collect() };
                let (b, _, c) = x.dims3().unwrap();
                let us = Tensor::cat(&streams, 0).unwrap().reshape((TASKS.len() * b, 6, 6, c)).unwrap();
                let frozen = trace.unwrap().frozen;
                let frozen = frozen.reshape((b, 6, 6, frozen.dims()[2])).unwrap();
                let windows = Windows::whole(6, 6).unwrap();
                let ys = site.task_adapting().unwrap().forward_tasks(&us, &frozen, &windows).unwrap();
                by_task(&mut outputs, "task", &ys);
            }
            let mut inputs = vec![("x", &x)];
            inputs.extend(own.iter().map(|(name, x)| (name.as_str(), x)));
            check(&file, &case, &store, &inputs, outputs);
        }
    }
}

#[test]
fn task_adapting_projection() {
    let file = open("ta_linear_proj");
    for case in file.cases() {
        let (store, x) = (GoldenStore::new(), file.input(&case, "x"));
        let site = site(&file, &case, "attn.proj", &store);
        let norm = LayerNorm::new(16, &store.params().pp("attn.proj.prompt_layernorm")).unwrap();
        let (y, trace) = site.forward(&x, &mut Mode::Eval).unwrap();
        let mut outputs = vec![("y".to_owned(), y)];
        let scores = file.listed(&case, "inputs").contains("attn_raw").then(|| file.input(&case, "attn_raw"));
        if let Some(trace) = trace {
            // The fixture's rows are four prompts, then a window of 4×4 tokens.
            let tokens = |xs: &Tensor| xs.narrow(1, 4, 16).unwrap().reshape((3, 4, 4, 16)).unwrap();
            let context = tokens(&trace.dropped);
            let conditioned = match &scores {
                Some(scores) => {
                    let scores = scores.permute([0, 3, 2, 1]).unwrap().reshape((3, 4, 4, 4, 2)).unwrap();
                    condition_on_prompts(&scores, &context, TASKS.len(), &norm).unwrap()
                }
                None => unconditioned(&context, TASKS.len()).unwrap(),
            };
            let module = site.task_adapting().unwrap();
            let windows = Windows::whole(4, 4).unwrap();
            let ys =
                module.forward_tasks(&conditioned.us().unwrap(), &tokens(&trace.frozen), &windows).unwrap();
            by_task(&mut outputs, "task", &ys);
            by_task(&mut outputs, "skip", &conditioned.skip);
        }
        let mut inputs = vec![("x", &x)];
        inputs.extend(scores.iter().map(|scores| ("attn_raw", scores)));
        check(&file, &case, &store, &inputs, outputs);
    }
}
