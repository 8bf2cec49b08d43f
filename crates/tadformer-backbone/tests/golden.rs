//! The backbone's parts against numbers of an independent implementation.

use candle_core::{Tensor, Var};
use tadformer_backbone::{
    Adaptation, PatchEmbed, PatchMerging, Position, Skip, SwinBlock, SwinConfig, SwinStage, Tuning,
    WindowAttention, WindowPadding,
};
use tadformer_ops::testing::{GoldenFile, GoldenStore, assert_close};
use tadformer_ops::{Before, Mode, Windows, linear};
use tadformer_peft::{Filter, LoraConfig, SiteKind};

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
        ..SwinConfig::tiny()
    };
    config.depths[stage] = depth;
    config.num_heads[stage] = 2;
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

#[test]
fn window_attention() {
    let file = open("window_attention");
    for case in file.cases().iter().filter(|case| case.starts_with("ts")) {
        let (store, x, prompts) = (GoldenStore::new(), file.input(case, "x"), file.input(case, "prompts"));
        let shift = if file.case(case)["shifted"].as_bool().unwrap() { 2 } else { 0 };
        let (kind, window) = (SiteKind::LowRank(adaptation().lora), (4, WindowPadding::Masked));
        let attn = WindowAttention::new(16, 2, window, (kind, kind), &store.params().pp("attn")).unwrap();
        tadformer_ops::LayerNorm::new(16, &store.params().pp("attn.proj.prompt_layernorm")).unwrap();
        let windows = Windows::new(8, 8, 4, shift).unwrap();
        let grid = from_windows(&x, shift);
        let attended =
            attn.attend(Before::Nothing, &grid, Some(&prompts), &windows, &mut Mode::Eval).unwrap();
        let project = |xs: &Tensor| attn.proj().forward(xs, &mut Mode::Eval).unwrap().0;
        let scores = attended.scores.unwrap().flatten_from(3).unwrap();
        let scores =
            to_windows(&scores, shift).reshape((8, 16, 4, 2)).unwrap().permute([0, 3, 2, 1]).unwrap();
        let outputs = [
            ("x", to_windows(&project(&attended.context), shift)),
            ("prompts", project(&attended.prompts.unwrap())),
            ("attn_raw", scores),
        ];
        file.check(case, &store, &[("x", &x), ("prompts", &prompts)], &outputs);
    }
}
