//! Every public operation on tensors with an empty side: without an image, a token, a feature.
//!
//! No rows, samples or places give a result that has none either; a width of 0 is refused. Whichever it is, it is the same
//! whether a variable leads to the inputs or not, the backward can run, and nothing panics.

use crate::testing::named_tensor;
use crate::*;
use candle_core::{Result, Tensor, Var};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// An operation and the tensors that it takes.
struct Row {
    /// The public name, and after a comma what is particular.
    name: &'static str,
    /// The tensors' sides by name: one of a length that [`length`] knows, a multiple of one, or a number.
    shapes: &'static str,
    /// The sides that may be 0; the others are refused.
    empty: &'static str,
    run: fn(&[Tensor]) -> Result<Vec<Tensor>>,
}

/// How long a side is where it is not empty.
fn length(side: &str) -> usize {
    match side {
        "b" | "r" => 2,
        "n" | "s" => 3,
        "h" | "w" | "in" | "c" => 4,
        "out" => 6,
        _ => panic!("no side is called {side}"),
    }
}

/// A factor and the name of a side; a number alone has none.
fn factor(side: &str) -> (usize, Option<&str>) {
    let digits = side.find(|c: char| !c.is_ascii_digit()).unwrap_or(side.len());
    let factor = if digits == 0 { 1 } else { side[..digits].parse().unwrap() };
    (factor, (digits < side.len()).then(|| &side[digits..]))
}

impl Row {
    fn tensors(&self) -> Vec<Vec<&'static str>> {
        self.shapes.split(',').map(|sides| sides.split_whitespace().collect()).collect()
    }

    /// The names of all sides.
    fn sides(&self) -> BTreeSet<&'static str> {
        self.tensors().into_iter().flatten().filter_map(|side| factor(side).1).collect()
    }

    /// The shapes with `empty` of length 0.
    fn dims(&self, empty: Option<&str>) -> Vec<Vec<usize>> {
        let side = |side: &str| match factor(side) {
            (number, None) => number,
            (_, name) if name == empty => 0,
            (factor, Some(name)) => factor * length(name),
        };
        self.tensors().into_iter().map(|sides| sides.into_iter().map(side).collect()).collect()
    }
}

/// Shapes of the outputs, or the first line of the refusal.
type Outcome = std::result::Result<Vec<Vec<usize>>, String>;

/// What comes of tensors of those shapes; the inputs that are `recorded` are variables, and then the backward runs too.
fn outcome(row: &Row, dims: &[Vec<usize>], recorded: &dyn Fn(usize) -> bool) -> Outcome {
    let run = || -> Result<Vec<Vec<usize>>> {
        let (mut inputs, mut vars) = (Vec::new(), Vec::new());
        for (i, dims) in dims.iter().enumerate() {
            let value = named_tensor(&format!("input {i}"), dims.as_slice(), 0.5, 0.5)?;
            if recorded(i) {
                vars.push(Var::from_tensor(&value)?);
                inputs.push(vars[vars.len() - 1].as_tensor().clone());
            } else {
                inputs.push(value);
            }
        }
        let outputs = (row.run)(&inputs)?;
        for output in &outputs {
            assert_eq!(output.flatten_all()?.to_vec1::<f32>()?.len(), output.elem_count());
        }
        let losses = outputs.iter().filter(|output| output.track_op()).map(|output| output.sqr()?.sum_all());
        if let Some(loss) = losses.reduce(|a, b| a? + b?) {
            let grads = loss?.backward()?;
            for var in &vars {
                assert!(grads.get(var).is_none_or(|grad| grad.dims() == var.dims()), "a gradient's shape");
            }
        }
        Ok(outputs.iter().map(|output| output.dims().to_vec()).collect())
    };
    let caught = catch_unwind(AssertUnwindSafe(run));
    let found = caught.unwrap_or_else(|_| panic!("{} panics for {dims:?}", row.name));
    found.map_err(|error| error.to_string().lines().next().unwrap_or_default().to_owned())
}

/// The outcome, which is the same whatever is recorded, in either precision. (Which part of an operation refuses first may
/// differ.)
fn same_outcome(row: &Row, dims: &[Vec<usize>]) -> Outcome {
    let found = outcome(row, dims, &|_| false);
    let check = |what: &str, recorded: &dyn Fn(usize) -> bool| {
        let other = outcome(row, dims, recorded);
        let same = found == other || found.is_err() && other.is_err();
        assert!(same, "{} for {dims:?}: {found:?}, but {other:?} {what}", row.name);
    };
    for precision in [Precision::F32, Precision::Bf16] {
        autocast(precision, || {
            check(&format!("in {precision}"), &|_| false);
            check(&format!("in {precision}, recorded"), &|_| true);
            for one in 0..dims.len() {
                check(&format!("in {precision}, input {one} recorded"), &|i| i == one);
            }
        });
    }
    found
}

fn norm(weight: &Tensor, bias: &Tensor) -> LayerNorm {
    LayerNorm { weight: weight.clone(), bias: bias.clone() }
}

fn batch_norm(i: &[Tensor]) -> Result<BatchNorm> {
    let [running_mean, running_var] = [Var::from_tensor(&i[3])?, Var::from_tensor(&i[4])?];
    Ok(BatchNorm { weight: i[1].clone(), bias: i[2].clone(), running_mean, running_var })
}

/// The mask of a dropout of a half.
fn mask() -> Result<Option<DropoutMask>> {
    DropoutMask::draw(0.5, &mut Mode::Train(&mut Rng::named(0, "mask", 0)))
}

/// Windows of side 2 over the grid of `xs` `(n, h, w, …)`.
fn windows(xs: &Tensor) -> Result<Windows> {
    let (_, h, w, _) = xs.dims4()?;
    Windows::new(h, w, 2, 1)
}

fn update<'a>(i: &'a [Tensor], mask: Option<DropoutMask>) -> LowRankUpdate<'a> {
    LowRankUpdate { down: &i[2], up: &i[3], scale: 2.0, mask }
}

/// A loss of the first tensor, planes or tokens, and of labels that are all 0.
fn loss<'a>(
    i: &'a [Tensor],
    logits: impl Into<DenseLogits<'a>>,
    f: impl Fn(DenseLogits<'a>, &Tensor) -> Result<LossValue>,
) -> Result<Vec<Tensor>> {
    Ok(vec![f(logits.into(), &i[1].zeros_like()?)?.value])
}

fn tokens<'a>(grid: &'a Tensor, labels: &Tensor) -> Result<DenseLogits<'a>> {
    let (_, _, h, w) = labels.dims4()?;
    Ok(DenseLogits::Tokens { grid, size: (h, w), weight: 2.0 })
}

const ROWS: &[Row] = &[
    Row {
        name: "linear",
        shapes: "b n in, out in, out",
        empty: "b n",
        run: |i| Ok(vec![linear(&i[0], &i[1], Some(&i[2]))?]),
    },
    Row {
        name: "linear_kept",
        shapes: "b n in, out in, out",
        empty: "b n",
        run: |i| {
            let inner = i[0].clone();
            let kept = Kept::again(move || gelu(&inner));
            Ok(vec![linear_kept(&gelu(&i[0])?, kept, &i[1], Some(&i[2]))?])
        },
    },
    Row { name: "Kept", shapes: "b n", empty: "b n", run: |i| Ok(vec![Kept::from(i[0].clone()).get()?]) },
    Row {
        name: "linear_columns",
        shapes: "b n in, out 3in, out",
        empty: "b n",
        run: |i| Ok(vec![linear_columns(&i[0], &i[1], 0, Some(&i[2]))?]),
    },
    Row {
        name: "linear_around",
        shapes: "b n in, out in, b n out",
        empty: "b n",
        run: |i| {
            let onto = Residual::new(&i[2], Some(vec![2.0; i[0].dim(0)?]))?;
            Ok(vec![linear_around(&i[0], &i[1], None, Around { before: Before::Gelu, onto: Some(&onto) })?])
        },
    },
    Row {
        name: "Linear, after a LayerNorm",
        shapes: "b n in, out in, in, in",
        empty: "b n",
        run: |i| {
            let (linear, norm) = (Linear { weight: i[1].clone(), bias: None }, norm(&i[2], &i[3]));
            Ok(vec![linear.forward_around(&i[0], Around::after(Before::LayerNorm(&norm)))?])
        },
    },
    Row {
        name: "Around, after a sum and a LayerNorm",
        shapes: "2b n in, out in, in, in, b n in",
        empty: "b n",
        run: |i| {
            let (norm, sum) = (norm(&i[2], &i[3]), Residual::new(&i[4], None)?);
            Ok(vec![linear_around(&i[0], &i[1], None, Around::after(Before::AddNorm(&sum, &norm)))?])
        },
    },
    Row {
        name: "Before, BatchNorm and ReLU",
        shapes: "b n in, in, in, in, in, out in",
        empty: "b n",
        run: |i| {
            let norm = batch_norm(i)?;
            Ok(vec![linear_around(&i[0], &i[5], None, Around::after(Before::BatchNormRelu(&norm)))?])
        },
    },
    Row {
        name: "FrozenLinear",
        shapes: "b n in, out in, out",
        empty: "b n",
        run: |i| Ok(vec![FrozenLinear::new(&i[1], Some(&i[2]))?.forward(&i[0])?]),
    },
    Row {
        name: "FrozenLinear, packed",
        shapes: "b n in, out in, in, in, b n in, b n out",
        empty: "b n",
        run: |i| {
            let packed = FrozenLinear::new(&i[1], None)?.packed(None)?;
            let norm = norm(&i[2], &i[3]);
            let (sum, onto) = (Residual::new(&i[4], None)?, Residual::new(&i[5], None)?);
            let around = Around { before: Before::AddNorm(&sum, &norm), onto: Some(&onto) };
            Ok(vec![no_grad(|| packed.forward_around(&i[0], around))?])
        },
    },
    Row {
        name: "FrozenLinear, with an update packed",
        shapes: "b n in, out in, r in, out r",
        empty: "b n",
        run: |i| {
            let packed = FrozenLinear::new(&i[1], None)?.packed(Some(&update(i, None)))?;
            Ok(vec![no_grad(|| packed.forward(&i[0]))?])
        },
    },
    Row {
        name: "low_rank_linear",
        shapes: "b n in, out in, r in, out r",
        empty: "b n",
        run: |i| {
            let frozen = FrozenLinear::new(&i[1], None)?;
            Ok(vec![low_rank_linear(&i[0], Around::default(), &frozen, &update(i, None))?])
        },
    },
    Row {
        name: "low_rank_linear, with a mask, a GELU and a residual",
        shapes: "b n in, out in, r in, out r, b n out",
        empty: "b n",
        run: |i| {
            let (frozen, onto) = (FrozenLinear::new(&i[1], None)?, Residual::new(&i[4], None)?);
            let around = Around { before: Before::Gelu, onto: Some(&onto) };
            Ok(vec![low_rank_linear(&i[0], around, &frozen, &update(i, mask()?))?])
        },
    },
    Row {
        name: "LowRankUpdate, of many rows",
        shapes: "b 40 in, out in, r in, out r, b 40 out",
        empty: "b",
        run: |i| {
            let (frozen, onto) = (FrozenLinear::new(&i[1], None)?, Residual::new(&i[4], None)?);
            Ok(vec![low_rank_linear(&i[0], Around::onto(&onto), &frozen, &update(i, None))?])
        },
    },
    Row {
        name: "low_rank_up",
        shapes: "b n out, 3b n r, out r",
        empty: "b n",
        run: |i| Ok(vec![low_rank_up(&i[0], &i[1], &i[2], 2.0, None)?]),
    },
    Row {
        name: "low_rank_up, onto a residual",
        shapes: "b n out, 3b n r, out r, b n out",
        empty: "b n",
        run: |i| {
            let onto = Residual::new(&i[3], Some(vec![2.0; i[1].dim(0)?]))?;
            Ok(vec![low_rank_up(&i[0], &i[1], &i[2], 2.0, Some(&onto))?])
        },
    },
    Row {
        name: "task_codes",
        shapes: "b n c, 3b n r, c r, s c",
        empty: "b n",
        run: |i| Ok(vec![task_codes(&i[0], &i[1], &i[2], 2.0, &i[3])?]),
    },
    Row {
        name: "layer_norm",
        shapes: "b n c, c, c",
        empty: "b n",
        run: |i| Ok(vec![layer_norm(&i[0], &i[1], &i[2], LAYER_NORM_EPS)?]),
    },
    Row {
        name: "LayerNorm",
        shapes: "n c, c, c",
        empty: "n",
        run: |i| Ok(vec![norm(&i[1], &i[2]).forward(&i[0])?]),
    },
    Row {
        name: "BatchNorm, in evaluation",
        shapes: "b n c, c, c, c, c",
        empty: "b n",
        run: |i| {
            let norm = batch_norm(i)?;
            Ok(vec![norm.forward(&i[0], &Mode::Eval)?, norm.forward_relu(&i[0], &Mode::Eval)?])
        },
    },
    Row {
        // Without two rows there is no variance.
        name: "BatchNorm, in training",
        shapes: "b n c, c, c, c, c",
        empty: "",
        run: |i| {
            let (norm, mut rng) = (batch_norm(i)?, Rng::named(0, "", 0));
            Ok(vec![norm.forward(&i[0], &Mode::Train(&mut rng))?])
        },
    },
    Row { name: "gelu", shapes: "b n", empty: "b n", run: |i| Ok(vec![gelu(&i[0])?]) },
    Row { name: "relu", shapes: "b n", empty: "b n", run: |i| Ok(vec![relu(&i[0])?]) },
    Row {
        name: "dropout",
        shapes: "b n",
        empty: "b n",
        run: |i| Ok(vec![dropout(&i[0], 0.5, &mut Rng::named(0, "dropout", 0))?]),
    },
    Row {
        name: "DropoutMask",
        shapes: "b n",
        empty: "b n",
        run: |i| Ok(vec![mask()?.expect("half of it is dropped").apply(&i[0])?]),
    },
    Row {
        name: "residual",
        shapes: "b n c, 3b n c",
        empty: "b n c",
        run: |i| {
            let factors = drop_path_factors(i[1].dim(0)?, 0.5, &mut Rng::named(0, "path", 0))?;
            Ok(vec![residual(&i[0], &i[1], None)?, residual(&i[0], &i[1], Some(factors))?])
        },
    },
    Row {
        name: "Residual",
        shapes: "b n, b n",
        empty: "b n",
        run: |i| Ok(vec![Around::onto(&Residual::new(&i[0], None)?).finish(i[1].clone())?]),
    },
    Row {
        name: "window_attention",
        shapes: "b h w 6c, b n 6c, 9 2",
        empty: "b",
        run: |i| {
            // No prompts are `None`.
            let Attended { context, prompts, scores } =
                window_attention(&i[0], Some(&i[1]), None, &i[2], &windows(&i[0])?, 2)?;
            Ok([Some(context), prompts, scores].into_iter().flatten().collect())
        },
    },
    Row {
        name: "window_attention, without prompts",
        shapes: "b h w 6c, 9 2",
        empty: "b",
        run: |i| Ok(vec![window_attention(&i[0], None, None, &i[1], &windows(&i[0])?, 2)?.context]),
    },
    Row {
        name: "window_attention, padded",
        shapes: "b h w 6c, 6c, 9 2",
        empty: "b",
        run: |i| Ok(vec![window_attention(&i[0], None, Some(&i[1]), &i[2], &windows(&i[0])?, 2)?.context]),
    },
    Row {
        name: "task_condition",
        shapes: "b h w 3n 2, b h w 2c",
        empty: "b h w",
        run: |i| Ok(vec![task_condition(&i[0], &i[1], 3)?]),
    },
    Row {
        name: "window_mean",
        shapes: "n h w c",
        empty: "n",
        run: |i| Ok(vec![window_mean(&i[0], &windows(&i[0])?)?]),
    },
    Row {
        name: "dynamic_conv",
        shapes: "n h w c, 9n 9c",
        empty: "n",
        // A grid of 4 × 4 has nine windows of side 2 once they are shifted past its edge.
        run: |i| {
            let (_, h, w, _) = i[0].dims4()?;
            let windows = Windows::new(h + 2 * h.min(1), w + 2 * w.min(1), 2, 0)?;
            let xs = interpolate_tokens(&i[0], windows.grid())?;
            Ok(vec![dynamic_conv(&xs, &i[1], &windows, 3)?])
        },
    },
    Row {
        name: "filter_norm",
        shapes: "n 9c, 9c, 9c",
        empty: "n",
        run: |i| Ok(vec![filter_norm(&i[0], &i[1], &i[2], 9)?]),
    },
    Row {
        name: "image_patches",
        shapes: "b c h w",
        empty: "b c h w",
        run: |i| Ok(vec![image_patches(&i[0], 2)?]),
    },
    Row {
        name: "merge_patches",
        shapes: "b h w c",
        empty: "b h w c",
        run: |i| Ok(vec![merge_patches(&i[0])?]),
    },
    Row {
        name: "Features",
        shapes: "2b h w in, in, in, c in, out c",
        empty: "b h w",
        run: |i| {
            let features = Features::reduced(i[0].clone(), &norm(&i[1], &i[2]), &i[3])?;
            let part = features.split(2)?.remove(1);
            Ok(vec![features.tensor()?, features.linear(&i[4], None)?, part.linear(&i[4], None)?])
        },
    },
    Row { name: "split", shapes: "3b n c", empty: "b n c", run: |i| split(&i[0], 3) },
    Row {
        name: "gated_mix",
        shapes: "b n c, b n c, 1",
        empty: "b n c",
        run: |i| Ok(vec![gated_mix(&i[0], &i[1], &i[2])?]),
    },
    Row {
        name: "interpolate_planes",
        shapes: "b c h w",
        empty: "b",
        run: |i| Ok(vec![interpolate_planes(&i[0], (7, 3))?]),
    },
    Row {
        name: "interpolate_tokens",
        shapes: "b h w c",
        empty: "b",
        run: |i| Ok(vec![interpolate_tokens(&i[0], (7, 3))?]),
    },
    Row {
        name: "interpolate_tokens_sum",
        shapes: "b h w c, b 2h 2w c",
        empty: "b",
        run: |i| Ok(vec![interpolate_tokens_sum(&[&i[0], &i[1]], (8, 8))?]),
    },
    Row {
        name: "linear_of_resized",
        shapes: "b h w in, b 2h 2w in, out in, out",
        empty: "b",
        run: |i| Ok(vec![linear_of_resized(&[&i[0], &i[1]], (7, 3), Before::Gelu, &i[2], Some(&i[3]))?]),
    },
    Row {
        name: "resized_strips",
        shapes: "b h w c",
        empty: "b",
        run: |i| {
            let step = ResizeStep { size: (9, 7), kept: (8, 7) };
            let strips = resized_strips(&i[0], &[step], |strip: Strip| Ok(strip.planes.len()))?;
            Ok(vec![named_tensor("numbers of all strips", strips.iter().sum::<usize>(), 0.0, 1.0)?])
        },
    },
    Row {
        name: "each_resized_strip",
        shapes: "b h w c",
        empty: "b",
        run: |i| {
            let (step, mut numbers) = (ResizeStep { size: (9, 7), kept: (8, 7) }, 0);
            each_resized_strip(&i[0], &[step], Ok, |strip: Strip| {
                numbers += strip.planes.len();
                Ok(())
            })?;
            Ok(vec![named_tensor("numbers of all strips", numbers, 0.0, 1.0)?])
        },
    },
    Row {
        name: "checkpoint",
        shapes: "b n c, c, c",
        empty: "b n",
        run: |i| {
            let parameters = [i[1].clone(), i[2].clone()];
            let own = norm(&i[1], &i[2]);
            checkpoint(&[&i[0]], &parameters, &mut Mode::Eval, move |i, _| {
                Ok(vec![own.forward(&i[0])?, gelu(&i[0])?])
            })
        },
    },
    Row {
        name: "cross_entropy",
        shapes: "b c h w, b 1 h w",
        empty: "b h w",
        run: |i| loss(i, &i[0], cross_entropy),
    },
    Row {
        name: "cross_entropy, of tokens",
        shapes: "b h w c, b 1 2n n",
        empty: "b",
        run: |i| loss(i, tokens(&i[0], &i[1])?, cross_entropy),
    },
    Row {
        name: "balanced_bce",
        shapes: "b c h w, b c h w",
        empty: "b c h w",
        run: |i| loss(i, &i[0], |x, y| balanced_bce(x, y, None)),
    },
    Row {
        name: "balanced_bce, of tokens",
        shapes: "b h w c, b c 2n n",
        empty: "b c",
        run: |i| loss(i, tokens(&i[0], &i[1])?, |x, y| balanced_bce(x, y, None)),
    },
    Row {
        name: "balanced_bce_labelled",
        shapes: "b c h w, b c h w",
        empty: "b c h w",
        run: |i| loss(i, &i[0], |x, y| balanced_bce_labelled(x, y, Some(0.9))),
    },
    Row {
        name: "masked_l1",
        shapes: "b c h w, b c h w",
        empty: "b c h w",
        run: |i| loss(i, &i[0], masked_l1),
    },
    Row {
        name: "normals_l1",
        shapes: "b 3 h w, b 3 h w",
        empty: "b h w",
        run: |i| loss(i, &i[0], normals_l1),
    },
    Row {
        name: "normals_l1, of tokens",
        shapes: "b h w 3, b 3 2n n",
        empty: "b",
        run: |i| loss(i, tokens(&i[0], &i[1])?, normals_l1),
    },
];

#[test]
fn an_empty_side_gives_an_empty_result_or_the_same_refusal_recorded_or_not() {
    for row in ROWS {
        let whole = same_outcome(row, &row.dims(None));
        assert!(whole.is_ok(), "{}: {whole:?}", row.name);
        let may_be_empty: BTreeSet<&str> = row.empty.split_whitespace().collect();
        assert!(may_be_empty.is_subset(&row.sides()), "{}: {may_be_empty:?}", row.name);
        for side in row.sides() {
            let found = same_outcome(row, &row.dims(Some(side)));
            assert_eq!(found.is_ok(), may_be_empty.contains(side), "{}, no {side}: {found:?}", row.name);
            if let Err(message) = found {
                assert!(message.contains('0'), "{}, no {side}: {message}", row.name);
            }
        }
    }
}

#[test]
fn one_tensor_with_an_empty_side_or_without_sides_is_no_trouble_either() {
    for row in ROWS {
        let whole = row.dims(None);
        for (i, dims) in whole.iter().enumerate() {
            for at in 0..=dims.len() {
                let mut changed = whole.clone();
                match changed[i].get_mut(at) {
                    Some(side) => *side = 0,
                    None => changed[i].clear(),
                }
                let _ = same_outcome(row, &changed);
            }
        }
    }
}

#[test]
fn a_matrix_that_outweighs_its_rows_takes_none() {
    let weight = named_tensor("weight", (1000, 600), 0.0, 1.0).unwrap();
    let packed = FrozenLinear::new(&weight, None).unwrap().packed(None).unwrap();
    for shape in [[0, 3, 600], [2, 0, 600]] {
        let xs = named_tensor("xs", &shape[..], 0.0, 1.0).unwrap();
        let ys = [packed.forward(&xs), linear(&xs, &weight, None)].map(|ys| ys.unwrap().dims().to_vec());
        assert_eq!(ys, [[shape[0], shape[1], 1000]; 2]);
    }
}

/// What is public and takes no tensor, or is a part of an operation that has a row.
const WITHOUT_TENSORS: &[&str] = &[
    "BATCH_NORM_EPS",
    "BATCH_NORM_MOMENTUM",
    "LAYER_NORM_EPS",
    "Precision",
    "autocast",
    "no_grad",
    "Init",
    "Mode",
    "Rng",
    "Entry",
    "ParamStore",
    "Params",
    "Role",
    "Source",
    "SimdLevel",
    "simd_level",
    "simd_limit",
    "Windows",
    "Attended",
    "DenseLogits",
    "LossValue",
    "ResizeStep",
    "Strip",
    "drop_path_factors",
];

#[test]
fn every_public_operation_has_a_row() {
    let source = include_str!("lib.rs");
    let statements = source.split(';').filter_map(|statement| statement.split("pub use ").nth(1));
    let public: BTreeSet<&str> = statements
        .flat_map(|path| path.split_once("::").expect("a module").1.split(['{', '}', ',']))
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    assert!(public.len() > 40, "{public:?}");
    let rows: BTreeSet<&str> =
        ROWS.iter().map(|row| row.name.split(',').next().unwrap_or_default()).collect();
    let known: BTreeSet<&str> = rows.iter().chain(WITHOUT_TENSORS).copied().collect();
    assert_eq!(public, known, "a public operation without a row, or a row without one");
}
