//! The backbone's parts against numbers of an independent implementation.

use candle_core::{Tensor, Var};
use tadformer_backbone::{
    Adaptation, PatchEmbed, PatchMerging, Position, Skip, SwinBlock, SwinConfig, SwinStage, Tuning,
    WindowAttention, WindowPadding,
};
use tadformer_ops::testing::{GoldenFile, GoldenStore, assert_close};
use tadformer_ops::{Before, LayerNorm, Mode, Windows, linear};
use tadformer_peft::{Filter, LoraConfig, SiteKind, condition_on_prompts};

const TASKS: [&str; 4] = ["semseg", "normals", "sal", "human_parts"];

fn open(name: &str) -> GoldenFile {
    GoldenFile::open(format!("{}/tests/data/{name}.safetensors", env!("CARGO_MANIFEST_DIR")))
}

fn adaptation() -> Adaptation {
    Adaptation {
        tasks: TASKS.len(),
        prompts_per_task: 1,
        lora: LoraConfig { rank: 4, scale: 4.0, dropout: 0.05 },
        filter: Filter::Dynamic,
        condition: true,
        skip: Skip::Gated,
    }
}

/// Sizes in which the stage `stage` has 16 channels, 2 heads and windows of 4 on a grid of `grid`.
fn config(stage: usize, depth: usize, grid: usize) -> SwinConfig {
    let mut config = SwinConfig {
        embed_dim: 16 >> stage,
        window_size: 4,
        image_size: (grid << stage) * 4,
        num_heads: [2; 4],
        ..SwinConfig::tiny()
    };
    config.depths[stage] = depth;
    config
}

fn grid(xs: &Tensor, h: usize, w: usize) -> Tensor {
    let (b, _, c) = xs.dims3().unwrap();
    xs.reshape((b, h, w, c)).unwrap()
}

fn flat(xs: &Tensor) -> Tensor {
    xs.flatten(1, 2).unwrap()
}

/// One output a task from tensors that hold them task by task.
fn by_task(outputs: &mut Vec<(String, Tensor)>, kind: &str, xs: &Tensor) {
    let b = xs.dims()[0] / TASKS.len();
    for (i, task) in TASKS.iter().enumerate() {
        outputs.push((format!("{kind}/{task}"), flat(&xs.narrow(0, i * b, b).unwrap())));
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
fn patch_embedding_and_merging() {
    let file = open("patch_embed");
    let (store, x) = (GoldenStore::new(), file.input("a", "x"));
    let layer = PatchEmbed::new(4, 16, &store.params().pp("patch_embed")).unwrap();
    let output = flat(&layer.forward(&x).unwrap());
    assert_close("patch embedding", &output, file.tensor("a/out/x"), 1e-5);
    let loss = (output * file.tensor("a/cot/x")).unwrap().sum_all().unwrap();
    let grads = loss.backward().unwrap();
    // The fixture freezes the convolution, so it has no gradients of it.
    for name in file.names("a/grad/") {
        let found = grads.get(&store.get(name).unwrap().tensor).unwrap();
        assert_close(name, found, file.tensor(&format!("a/grad/{name}")), 3e-5);
    }
    assert_close("input", grads.get(&x).unwrap(), file.tensor("a/grad_in/x"), 3e-5);

    let file = open("patch_merging");
    let (store, x, prompts) = (GoldenStore::new(), file.input("a", "x"), file.input("a", "prompts"));
    let params = store.params().pp("downsample");
    let layer = PatchMerging::new(16, &Tuning::Adapted(adaptation()), &params).unwrap();
    let output = flat(&layer.forward(&grid(&x, 8, 8)).unwrap().tensor().unwrap());
    let up = params.pp("task_prompts_up").trainable("weight", (32, 16), tadformer_ops::Init::ZEROS).unwrap();
    let outputs = [("x", output), ("prompts", linear(&prompts, &up, None).unwrap())];
    file.check("a", &store, &[("x", &x), ("prompts", &prompts)], &outputs);
}

#[test]
fn blocks() {
    let file = open("block");
    for case in file.cases() {
        let (store, x, prompts) = (GoldenStore::new(), file.input(&case, "x"), file.input(&case, "prompts"));
        let flags = file.case(&case);
        let stage = if flags["LAST_BLOCK_FLAG"].as_bool().unwrap() { 3 } else { 0 };
        let block = usize::from(file.size(&case, "shift") > 0);
        let depth = block + 1 + usize::from(!flags["last"].as_bool().unwrap());
        let config = config(stage, depth, 8);
        let tuning = Tuning::Adapted(adaptation());
        let position = Position { stage, block };
        let block = SwinBlock::new(&config, &tuning, position, &store.params().pp("blocks.0")).unwrap();
        let out = block.forward(&grid(&x, 8, 8), Some(&prompts), &mut Mode::Eval).unwrap();

        let scores = out.scores.unwrap().permute([0, 4, 3, 1, 2]).unwrap();
        let mut outputs = vec![
            ("x".to_owned(), flat(&out.xs)),
            ("prompts".to_owned(), out.prompts.unwrap()),
            ("attn_raw_2d".to_owned(), scores),
        ];
        if let Some(tasks) = &out.tasks {
            by_task(&mut outputs, "task", &tasks.xs);
            by_task(&mut outputs, "skip", &tasks.skip);
        }
        check(&file, &case, &store, &[("x", &x), ("prompts", &prompts)], outputs);
    }
}

#[test]
fn stages() {
    let file = open("stage");
    for case in file.cases() {
        let (store, x, prompts) = (GoldenStore::new(), file.input(&case, "x"), file.input(&case, "prompts"));
        let flags = file.case(&case);
        let (h, w) = (file.size(&case, "H"), file.size(&case, "W"));
        let stage = if flags["downsample"].as_bool().unwrap() { 0 } else { 3 };
        let skip = match (flags["skip"].as_bool().unwrap(), flags["gating"].as_bool().unwrap()) {
            (true, true) => Skip::Gated,
            (true, false) => Skip::Average,
            (false, _) => Skip::None,
        };
        let tuning = Tuning::Adapted(Adaptation { skip, ..adaptation() });
        let config = config(stage, file.size(&case, "depth"), h);
        let layer = SwinStage::new(&config, &tuning, stage, &store.params().pp("layers.0")).unwrap();
        let out = layer.forward(&grid(&x, h, w), Some(&prompts), &mut Mode::Eval).unwrap();
        let mut outputs = vec![("x".to_owned(), flat(&out.xs)), ("prompts".to_owned(), out.prompts.unwrap())];
        by_task(&mut outputs, "task", &out.tasks.unwrap().tensor().unwrap());
        check(&file, &case, &store, &[("x", &x), ("prompts", &prompts)], outputs);
    }
}

/// `(b · windows, 16, c)` in window order to the grid `(b, 8, 8, c)` that `shift` rolled, and back.
fn from_windows(xs: &Tensor, shift: usize) -> Tensor {
    let c = xs.dims()[2];
    let rolled = xs.reshape(&[2, 2, 2, 4, 4, c][..]).unwrap().permute([0, 1, 3, 2, 4, 5]).unwrap();
    let rolled = rolled.reshape((2, 8, 8, c)).unwrap();
    rolled.roll(shift as i32, 1).unwrap().roll(shift as i32, 2).unwrap()
}

fn to_windows(xs: &Tensor, shift: usize) -> Tensor {
    let (b, _, _, c) = xs.dims4().unwrap();
    let rolled = xs.roll(-(shift as i32), 1).unwrap().roll(-(shift as i32), 2).unwrap();
    let windows = rolled.reshape(&[b, 2, 4, 2, 4, c][..]).unwrap().permute([0, 1, 3, 2, 4, 5]).unwrap();
    windows.reshape((b * 4, 16, c)).unwrap()
}

/// What may be attended to in the window batch `(windows, 16, 16)`: 0, or −100 where the shift brought strangers together.
fn assert_mask(expected: &Tensor, shift: usize) {
    // A region of the rolled grid is what lies on the same sides of the two seams.
    let band = |place: usize| {
        if place < 4 {
            0
        } else if place < 8 - shift {
            1
        } else {
            2
        }
    };
    for (window, mask) in expected.to_vec3::<f32>().unwrap().iter().enumerate() {
        let region = |token: usize| (band(window / 2 * 4 + token / 4), band(window % 2 * 4 + token % 4));
        for (query, row) in mask.iter().enumerate() {
            for (key, value) in row.iter().enumerate() {
                let allowed = region(query) == region(key);
                assert_eq!(*value == 0.0, allowed, "window {window}, query {query}, key {key}");
            }
        }
    }
}

#[test]
fn window_attention() {
    let file = open("window_attention");
    for case in &file.cases() {
        let (store, x, prompts) = (GoldenStore::new(), file.input(case, "x"), file.input(case, "prompts"));
        let shift = if file.case(case)["shifted"].as_bool().unwrap() { 2 } else { 0 };
        if shift > 0 {
            assert_mask(file.tensor(&format!("{case}/const/mask")), shift);
        }
        let adapting = file.case(case)["last"].as_bool().unwrap();
        let shared = SiteKind::LowRank(adaptation().lora);
        let proj = if adapting { SiteKind::TaskAdapting(adaptation().lora, Filter::Dynamic) } else { shared };
        let window = (4, WindowPadding::Masked);
        let attn = WindowAttention::new(16, 2, window, (shared, proj), &store.params().pp("attn")).unwrap();
        let norm = LayerNorm::new(16, &store.params().pp("attn.proj.prompt_layernorm")).unwrap();
        let windows = Windows::new(8, 8, 4, shift).unwrap();
        let grid = from_windows(&x, shift);
        let attended =
            attn.attend(Before::Nothing, &grid, Some(&prompts), &windows, &mut Mode::Eval).unwrap();
        let project = |xs: &Tensor| attn.proj().forward(xs, &mut Mode::Eval).unwrap();
        let (ys, trace) = project(&attended.context);
        let scores = attended.scores.unwrap();
        let in_windows = to_windows(&scores.flatten_from(3).unwrap(), shift);
        let in_windows = in_windows.reshape((8, 16, 4, 2)).unwrap().permute([0, 3, 2, 1]).unwrap();
        let mut outputs = vec![
            ("x".to_owned(), to_windows(&ys, shift)),
            ("prompts".to_owned(), project(&attended.prompts.unwrap()).0),
            ("attn_raw".to_owned(), in_windows),
        ];
        if let Some(module) = attn.proj().task_adapting() {
            let trace = trace.unwrap();
            let conditioned = condition_on_prompts(&scores, &trace.dropped, TASKS.len(), &norm).unwrap();
            let ys = module.forward_tasks(&conditioned.us().unwrap(), &trace.frozen, &windows).unwrap();
            for (i, task) in TASKS.iter().enumerate() {
                let own = |xs: &Tensor| to_windows(&xs.narrow(0, i * 2, 2).unwrap(), shift);
                outputs.push((format!("task/{task}"), own(&ys)));
                outputs.push((format!("skip/{task}"), own(&conditioned.skip)));
            }
        }
        check(&file, case, &store, &[("x", &x), ("prompts", &prompts)], outputs);
    }
}
