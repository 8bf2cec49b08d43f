//! Each operation at the size of Swin-T's first stage at 448²: `cargo bench --package tadformer-benches --bench ops`.

use candle_core::{Result, Tensor, Var};
use criterion::{Criterion, criterion_group, criterion_main};
use tadformer_benches::normal;
use tadformer_ops::{
    FrozenLinear, LAYER_NORM_EPS, Windows, dynamic_conv, gelu, interpolate_planes, layer_norm, linear,
    task_condition, window_attention,
};

/// Times `f` of constants (`fwd`) and of variables with the backward pass (`fwd+bwd`).
fn define(c: &mut Criterion, name: &str, inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let mut group = c.benchmark_group(name);
    group.sample_size(20);
    group.bench_function("fwd", |b| b.iter(|| f(inputs).unwrap()));
    let variables: Vec<Tensor> =
        inputs.iter().map(|t| Var::from_tensor(&t.copy().unwrap()).unwrap().as_tensor().clone()).collect();
    group.bench_function("fwd+bwd", |b| {
        b.iter(|| f(&variables).unwrap().sum_all().unwrap().backward().unwrap());
    });
    group.finish();
}

fn ops(c: &mut Criterion) {
    let tokens = normal("tokens", &[1, 112, 112, 96]).unwrap();
    let (scale, shift) = (normal("scale", &[96]).unwrap(), normal("shift", &[96]).unwrap());
    define(c, "layer_norm/cpu/12544x96", &[tokens.clone(), scale, shift], |i| {
        layer_norm(&i[0], &i[1], &i[2], LAYER_NORM_EPS)
    });
    define(c, "gelu/cpu/12544x384", &[normal("hidden", &[12544, 384]).unwrap()], |i| gelu(&i[0]));
    let weight = normal("weight", &[384, 96]).unwrap();
    let frozen = FrozenLinear::new(&weight, None).unwrap();
    define(c, "frozen_linear/cpu/12544x96x384", std::slice::from_ref(&tokens), |i| frozen.forward(&i[0]));
    define(c, "linear/cpu/12544x96x384", &[tokens, weight], |i| linear(&i[0], &i[1], None));

    let windows = Windows::new(112, 112, 7, 3).unwrap();
    let qkv = normal("qkv", &[1, 112, 112, 288]).unwrap();
    let (prompts, table) = (normal("prompts", &[1, 4, 288]).unwrap(), normal("table", &[169, 3]).unwrap());
    define(c, "window_attention/cpu/112x112x96", &[qkv, prompts, table], |i| {
        Ok(window_attention(&i[0], Some(&i[1]), None, &i[2], &windows, 3)?.context)
    });

    let scores = normal("scores", &[1, 112, 112, 4, 3]).unwrap();
    let context = normal("context", &[1, 112, 112, 96]).unwrap();
    define(c, "task_condition/cpu/4x12544x96", &[scores, context], |i| task_condition(&i[0], &i[1], 4));

    let map = normal("map", &[4, 112, 112, 64]).unwrap();
    let whole = Windows::whole(112, 112).unwrap();
    define(c, "dynamic_conv/cpu/4x12544x64", &[map.clone(), normal("filters", &[4, 576]).unwrap()], |i| {
        dynamic_conv(&i[0], &i[1], &whole, 3)
    });
    let own = normal("own filters", &[4 * 256, 576]).unwrap();
    define(c, "dynamic_conv/cpu/4x256 windows", &[map, own], |i| dynamic_conv(&i[0], &i[1], &windows, 3));

    define(c, "interpolate/cpu/32x56to448", &[normal("planes", &[1, 32, 56, 56]).unwrap()], |i| {
        interpolate_planes(&i[0], (448, 448))
    });
}

criterion_group!(benches, ops);
criterion_main!(benches);
