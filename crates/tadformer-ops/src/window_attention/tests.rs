use super::*;
use crate::testing::{assert_close, gradcheck, named_tensor};
use candle_core::{D, DType, Device, IndexOp};

/// The same attention, composed of candle's operations, one window at a time.
fn composed(
    qkv: &Tensor,
    prompts: Option<&Tensor>,
    table: &Tensor,
    windows: &Windows,
    heads: usize,
) -> Result<Attended> {
    let (b, h, w, c3) = qkv.dims4()?;
    let (c, t) = (c3 / 3, prompts.map_or(0, |p| p.dims()[1]));
    let d = c / heads;
    let span = table.dims()[0].isqrt();
    let mut context = vec![0f32; b * h * w * c];
    let mut scores = vec![0f32; b * h * w * t * heads];
    let mut means = vec![0f32; b * t * c];
    for image in 0..b {
        let tokens = qkv.i(image)?.reshape((h * w, c3))?;
        for index in 0..windows.count() {
            let places = windows.places(index);
            let picks: Vec<u32> = places.iter().map(|p| p.token as u32).collect();
            let n = picks.len();
            let mut rows = tokens.index_select(&Tensor::from_vec(picks, n, &Device::Cpu)?, 0)?;
            if let Some(prompts) = prompts {
                rows = Tensor::cat(&[&prompts.i(image)?, &rows], 0)?;
            }
            for head in 0..heads {
                let part = |i: usize| rows.narrow(1, i * c + head * d, d)?.contiguous();
                let (q, k, v) = (part(0)?, part(1)?, part(2)?);
                let raw = q.matmul(&k.t()?)?;
                let mut extra = vec![0f32; (t + n) * (t + n)];
                for (i, from) in places.iter().enumerate() {
                    for (j, to) in places.iter().enumerate() {
                        let offset = (from.row + span / 2 - to.row) * span + from.col + span / 2 - to.col;
                        let mask = if from.region == to.region { 0.0 } else { -100.0 };
                        extra[(t + i) * (t + n) + t + j] =
                            table.i((offset, head))?.to_scalar::<f32>()? + mask;
                    }
                }
                let extra = Tensor::from_vec(extra, (t + n, t + n), &Device::Cpu)?;
                let logits = ((&raw / (d as f64).sqrt())? + extra)?;
                let output = candle_nn::ops::softmax(&logits, D::Minus1)?.matmul(&v)?.to_vec2::<f32>()?;
                let raw = raw.to_vec2::<f32>()?;
                for i in 0..t {
                    for f in 0..d {
                        means[(image * t + i) * c + head * d + f] += output[i][f] / windows.count() as f32;
                    }
                    for (j, to) in places.iter().enumerate() {
                        scores[((image * h * w + to.token) * t + i) * heads + head] = raw[i][t + j];
                    }
                }
                for (j, to) in places.iter().enumerate() {
                    let at = (image * h * w + to.token) * c + head * d;
                    context[at..at + d].copy_from_slice(&output[t + j]);
                }
            }
        }
    }
    Ok(Attended {
        context: Tensor::from_vec(context, (b, h, w, c), &Device::Cpu)?,
        prompts: Some(Tensor::from_vec(means, (b, t, c), &Device::Cpu)?),
        scores: Some(Tensor::from_vec(scores, (b, h, w, t, heads), &Device::Cpu)?),
    })
}

struct Case {
    qkv: Tensor,
    prompts: Tensor,
    table: Tensor,
    windows: Windows,
    heads: usize,
}

fn case(
    b: usize,
    (h, w): (usize, usize),
    side: usize,
    shift: usize,
    (heads, d): (usize, usize),
    t: usize,
) -> Case {
    let c = heads * d;
    Case {
        qkv: named_tensor("qkv", (b, h, w, 3 * c), 0.0, 1.0).unwrap(),
        prompts: named_tensor("prompts", (b, t, 3 * c), 0.0, 1.0).unwrap(),
        table: named_tensor("table", ((2 * side - 1).pow(2), heads), 0.0, 0.5).unwrap(),
        windows: Windows::new(h, w, side, shift).unwrap(),
        heads,
    }
}

fn cases() -> Vec<Case> {
    vec![
        case(1, (7, 7), 7, 0, (3, 32), 4),
        case(2, (8, 8), 4, 2, (2, 8), 4),
        case(1, (9, 5), 4, 1, (1, 5), 1),
        case(2, (14, 21), 7, 3, (1, 32), 3),
        case(1, (1, 1), 1, 0, (2, 16), 2),
        case(1, (3, 10), 5, 2, (3, 7), 5),
    ]
}

#[test]
fn the_kernel_matches_the_composition() {
    for (i, case) in cases().iter().enumerate() {
        let Case { qkv, prompts, table, windows, heads } = case;
        let found = window_attention(qkv, Some(prompts), None, table, windows, *heads).unwrap();
        let expected = composed(qkv, Some(prompts), table, windows, *heads).unwrap();
        assert_close(&format!("context {i}"), &found.context, &expected.context, 2e-6);
        assert_close(&format!("prompts {i}"), &found.prompts.unwrap(), &expected.prompts.unwrap(), 2e-6);
        assert_close(&format!("scores {i}"), &found.scores.unwrap(), &expected.scores.unwrap(), 2e-6);
    }
}

#[test]
fn without_prompts_it_is_plain_window_attention() {
    let Case { qkv, table, windows, heads, .. } = case(2, (6, 8), 4, 2, (2, 8), 1);
    let found = window_attention(&qkv, None, None, &table, &windows, heads).unwrap();
    let expected = composed(&qkv, None, &table, &windows, heads).unwrap();
    assert_close("context", &found.context, &expected.context, 2e-6);
    assert!(found.prompts.is_none() && found.scores.is_none());
}

#[test]
fn gradients_match_finite_differences() {
    for case in [case(2, (4, 6), 3, 1, (2, 4), 2), case(1, (5, 7), 4, 2, (2, 5), 1)] {
        let Case { qkv, prompts, table, windows, heads } = case;
        gradcheck("window attention", &[qkv, prompts, table], 1e-2, |inputs| {
            let out = window_attention(&inputs[0], Some(&inputs[1]), None, &inputs[2], &windows, heads)?;
            let (prompts, scores) = (out.prompts.unwrap(), out.scores.unwrap());
            Tensor::cat(&[out.context.flatten_all()?, prompts.flatten_all()?, scores.flatten_all()?], 0)
        });
    }
}

#[test]
fn shifted_windows_do_not_mix_regions() {
    // A change in the last column must not reach the first, although the shift puts them into one window.
    let Case { qkv, table, windows, heads, .. } = case(1, (8, 8), 4, 2, (2, 8), 1);
    let attend = |qkv: &Tensor| window_attention(qkv, None, None, &table, &windows, heads).unwrap().context;
    let last = Tensor::cat(
        &[
            &Tensor::zeros((1, 8, 7, 48), DType::F32, &Device::Cpu).unwrap(),
            &Tensor::ones((1, 8, 1, 48), DType::F32, &Device::Cpu).unwrap(),
        ],
        2,
    )
    .unwrap();
    let difference = (attend(&qkv) - attend(&(&qkv + last).unwrap())).unwrap().abs().unwrap();
    let by_column = difference.sum((0, 1, 3)).unwrap().to_vec1::<f32>().unwrap();
    assert!(by_column[..6].iter().all(|x| *x == 0.0), "{by_column:?}");
    assert!(by_column[6..].iter().all(|x| *x > 0.0), "{by_column:?}");
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let Case { qkv, prompts, table, windows, heads } = case(2, (14, 14), 7, 3, (3, 8), 4);
    let attend = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let out =
            pool.install(|| window_attention(&qkv, Some(&prompts), None, &table, &windows, heads)).unwrap();
        (
            out.context.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
            out.prompts.unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap(),
        )
    };
    assert_eq!(attend(1), attend(3));
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let Case { qkv, prompts, table, windows, heads } = case(1, (8, 8), 4, 0, (2, 8), 2);
    let message = |r: Result<Attended>| r.unwrap_err().to_string();
    let small = table.narrow(0, 0, 25).unwrap();
    assert!(
        message(window_attention(&qkv, Some(&prompts), None, &small, &windows, heads)).contains("bias table")
    );
    let other = Windows::new(4, 8, 4, 0).unwrap();
    assert!(message(window_attention(&qkv, Some(&prompts), None, &table, &other, heads)).contains("grid"));
    let narrow = prompts.narrow(2, 0, 24).unwrap();
    assert!(
        message(window_attention(&qkv, Some(&narrow), None, &table, &windows, heads)).contains("prompts")
    );
    let message = message(window_attention(&qkv, None, Some(&qkv), &table, &windows, heads));
    assert!(message.contains("padding [1, 8, 8, 48]"), "{message}");
}

/// Cases whose grids hang over: at both edges, at one, under one window only, and with a shift along one axis.
fn padded_cases() -> Vec<Case> {
    [
        case(2, (9, 6), 4, 2, (2, 8), 4),
        case(1, (8, 5), 4, 0, (1, 5), 1),
        case(1, (2, 3), 7, 3, (3, 32), 2),
        case(2, (3, 10), 5, 2, (2, 7), 3),
    ]
    .into_iter()
    .map(|case| {
        let ((h, w), (side, _)) = (case.windows.grid(), case.windows.window());
        let windows = Windows::padded(h, w, side, side / 2).unwrap();
        Case { windows, ..case }
    })
    .collect()
}

fn padding_row(qkv: &Tensor) -> Tensor {
    named_tensor("padding", qkv.dims()[3], 0.0, 1.0).unwrap()
}

/// The attention of a grid that is padded as a tensor, cut back to `windows`' grid.
fn padded_as_a_tensor(i: &[Tensor], windows: &Windows, heads: usize) -> Result<Attended> {
    let (b, h, w, c3) = i[0].dims4()?;
    let (side, _) = windows.window();
    let (rows, cols) = (h.next_multiple_of(side), w.next_multiple_of(side));
    let fill = |h: usize, w: usize| i[3].reshape((1, 1, 1, c3))?.broadcast_as((b, h, w, c3));
    let wide = Tensor::cat(&[&i[0], &fill(h, cols - w)?], 2)?;
    let whole = Tensor::cat(&[&wide, &fill(rows - h, cols)?], 1)?;
    let windows = Windows::padded(rows, cols, side, side / 2)?;
    let Attended { context, prompts, scores } =
        window_attention(&whole, Some(&i[1]), None, &i[2], &windows, heads)?;
    let cut = |xs: Tensor| xs.narrow(1, 0, h)?.narrow(2, 0, w);
    Ok(Attended { context: cut(context)?, prompts, scores: scores.map(cut).transpose()? })
}

#[test]
fn padding_is_a_grid_that_was_padded_before_it_was_rolled() {
    for (n, case) in padded_cases().iter().enumerate() {
        let Case { qkv, prompts, table, windows, heads } = case;
        let inputs = [qkv.clone(), prompts.clone(), table.clone(), padding_row(qkv)];
        let row = |i: &[Tensor]| window_attention(&i[0], Some(&i[1]), Some(&i[3]), &i[2], windows, *heads);
        let tensor = |i: &[Tensor]| padded_as_a_tensor(i, windows, *heads);
        let (found, expected) = (row(&inputs).unwrap(), tensor(&inputs).unwrap());
        assert_close(&format!("context {n}"), &found.context, &expected.context, 2e-6);
        assert_close(&format!("prompts {n}"), &found.prompts.unwrap(), &expected.prompts.unwrap(), 2e-6);
        assert_close(&format!("scores {n}"), &found.scores.unwrap(), &expected.scores.unwrap(), 2e-6);
        let (found, expected) = (gradients(&inputs, row), gradients(&inputs, tensor));
        for (found, (expected, name)) in
            found.iter().zip(expected.iter().zip(["qkv", "prompts", "table", "padding"]))
        {
            assert_close(&format!("gradient of {name} {n}"), found, expected, 5e-6);
        }
        let of_padding = expected[3].abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(of_padding > 1e-3, "padding {n} has no gradient");
    }
}

/// Gradients of all outputs together.
fn gradients(inputs: &[Tensor], attend: impl Fn(&[Tensor]) -> Result<Attended>) -> Vec<Tensor> {
    let vars: Vec<_> = inputs.iter().map(|input| candle_core::Var::from_tensor(input).unwrap()).collect();
    let plain: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let Attended { context, prompts, scores } = attend(&plain).unwrap();
    let weigh = |name: &str, ys: Tensor| {
        let cotangent = named_tensor(name, ys.shape(), 0.0, 1.0).unwrap();
        (ys * cotangent).unwrap().sum_all().unwrap()
    };
    let rest = (weigh("p", prompts.unwrap()) + weigh("s", scores.unwrap())).unwrap();
    let grads = (weigh("c", context) + rest).unwrap().backward().unwrap();
    vars.iter().map(|var| grads.get(var).unwrap().clone()).collect()
}

#[test]
fn padding_changes_nothing_where_windows_fit() {
    let Case { qkv, prompts, table, windows, heads } = case(2, (8, 12), 4, 2, (2, 8), 4);
    let attend = |padding: Option<&Tensor>| {
        let out = window_attention(&qkv, Some(&prompts), padding, &table, &windows, heads).unwrap();
        [out.context, out.prompts.unwrap(), out.scores.unwrap()]
    };
    let padding = padding_row(&qkv);
    for (with, without) in attend(Some(&padding)).iter().zip(attend(None)) {
        assert_close("padded", with, &without, 0.0);
    }
}

#[test]
fn gradients_of_padding_match_finite_differences() {
    let Case { qkv, prompts, table, windows, heads } = case(1, (4, 5), 3, 1, (2, 4), 2);
    let inputs = [padding_row(&qkv), qkv, prompts, table];
    gradcheck("window attention, padded", &inputs, 1e-2, |i| {
        let out = window_attention(&i[1], Some(&i[2]), Some(&i[0]), &i[3], &windows, heads)?;
        Tensor::cat(&[out.context.flatten_all()?, out.prompts.unwrap().flatten_all()?], 0)
    });
}
