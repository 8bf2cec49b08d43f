use super::strips::in_waves;
use super::*;
use crate::testing::{assert_close, assert_refused, gradcheck, named_tensor};
use crate::{LayerNorm, linear};
use candle_core::{Device, Var};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The resize of planes straight from its definition, in `f64`.
fn by_definition(xs: &Tensor, (oh, ow): (usize, usize)) -> Tensor {
    let (b, c, h, w) = xs.dims4().unwrap();
    let values: Vec<f32> = xs.flatten_all().unwrap().to_vec1().unwrap();
    let at = |o: usize, from: usize, to: usize| {
        let at = ((o as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0);
        (at.floor() as usize, (at.floor() as usize + 1).min(from - 1), at - at.floor())
    };
    let mut out = Vec::new();
    for plane in values.chunks_exact(h * w) {
        let point = |y: usize, x: usize| f64::from(plane[y * w + x]);
        for y in 0..oh {
            let (y0, y1, fy) = at(y, h, oh);
            for x in 0..ow {
                let (x0, x1, fx) = at(x, w, ow);
                let top = point(y0, x0) * (1.0 - fx) + point(y0, x1) * fx;
                let bottom = point(y1, x0) * (1.0 - fx) + point(y1, x1) * fx;
                out.push((top * (1.0 - fy) + bottom * fy) as f32);
            }
        }
    }
    Tensor::from_vec(out, (b, c, oh, ow), &Device::Cpu).unwrap()
}

fn to_tokens(planes: &Tensor) -> Tensor {
    planes.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap()
}

const CASES: [((usize, usize), (usize, usize)); 9] = [
    ((1, 1), (5, 3)),
    ((4, 5), (13, 9)),
    ((7, 3), (7, 11)),
    ((3, 7), (20, 7)),
    ((9, 8), (4, 3)),
    ((37, 2), (5, 64)),
    ((8, 8), (32, 32)),
    ((2, 5), (1, 1)),
    ((6, 6), (6, 6)),
];

#[test]
fn both_layouts_match_the_definition() {
    for (grid, size) in CASES {
        let xs = named_tensor("xs", (2, 3, grid.0, grid.1), 0.0, 1.0).unwrap();
        let expected = by_definition(&xs, size);
        let what = format!("{grid:?} to {size:?}");
        assert_close(&what, &interpolate_planes(&xs, size).unwrap(), &expected, 1e-6);
        let tokens = interpolate_tokens(&to_tokens(&xs), size).unwrap();
        assert_close(&what, &tokens, &to_tokens(&expected), 1e-6);
        // A strided input is read through its layout.
        let strided = xs.permute((0, 2, 3, 1)).unwrap();
        assert_close(&what, &interpolate_tokens(&strided, size).unwrap(), &to_tokens(&expected), 1e-6);
    }
}

#[test]
fn row_by_row_is_the_same_to_the_last_bit_and_so_is_the_way_back() {
    for ((h, w), size) in CASES {
        let what = format!("{h}×{w} to {size:?}");
        let xs = Var::from_tensor(&named_tensor("xs", (1, 3, h, w), 0.0, 1.0).unwrap()).unwrap();
        let ys = interpolate_planes(&xs, size).unwrap();
        let weights = named_tensor("weights", (1, 3, size.0, size.1), 0.0, 1.0).unwrap();
        let grads = (&ys * &weights).unwrap().sum_all().unwrap().backward().unwrap();
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (source, expected, weights) = (flat(&xs), flat(&ys), flat(&weights));

        let resize = RowResize::new((h, w), size, size, 3);
        let (mut rows, mut back) = (ResizedRows::new(&resize), RowGradients::new(&resize, &(0..size.0)));
        let of = |planes: &[f32], y: usize, width: usize, height: usize| -> Vec<f32> {
            planes.chunks_exact(width * height).flat_map(|p| p[y * width..][..width].to_vec()).collect()
        };
        for y in 0..size.0 {
            let row = rows.row(y, |i, row| row.copy_from_slice(&of(&source, i, w, h)));
            assert_eq!(row, of(&expected, y, size.1, size.0), "{what}: row {y}");
            back.add(y, &of(&weights, y, size.1, size.0));
        }
        let (first, gradient) = back.finish();
        let expected = flat(grads.get(&xs).unwrap());
        for (i, row) in gradient.chunks_exact(3 * w).enumerate() {
            assert_eq!(row, of(&expected, first + i, w, h), "{what}: gradient of row {}", first + i);
        }
    }
}

#[test]
fn strips_of_several_steps_are_those_of_whole_maps() {
    let step = |size, kept| ResizeStep { size, kept };
    let chains = [
        vec![step((40, 36), (40, 36))],
        vec![step((9, 7), (9, 7))],
        vec![step((64, 64), (50, 37)), step((71, 113), (71, 113))],
        vec![step((40, 33), (40, 33)), step((40, 33), (39, 20)), step((11, 90), (10, 90))],
        vec![step((96, 96), (96, 96)), step((5, 3), (5, 3))],
    ];
    let xs = named_tensor("xs", (2, 9, 7, 3), 0.0, 1.0).unwrap();
    for steps in chains {
        let mut expected = xs.permute((0, 3, 1, 2)).unwrap();
        for ResizeStep { size, kept } in &steps {
            let resized = interpolate_planes(&expected, *size).unwrap();
            expected = resized.narrow(2, 0, kept.0).unwrap().narrow(3, 0, kept.1).unwrap();
        }
        let (_, _, rows, columns) = expected.dims4().unwrap();
        let expected = expected.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let found = resized_strips(&xs, &steps, |s| Ok((s.image, s.first, s.rows, s.planes))).unwrap();
        assert_eq!(found.iter().map(|(_, _, rows, _)| rows).sum::<usize>(), 2 * rows);
        let mut next = (0, 0);
        for (image, first, count, planes) in found {
            assert_eq!((image, first), next, "strips come in their order");
            for (channel, plane) in planes.chunks_exact(count * columns).enumerate() {
                let start = ((image * 3 + channel) * rows + first) * columns;
                assert_eq!(plane, &expected[start..][..count * columns], "{steps:?}, row {first}");
            }
            next = if first + count == rows { (image + 1, 0) } else { (image, first + count) };
        }
    }
    let refused = |steps: &[ResizeStep]| resized_strips(&xs, steps, |_| Ok(())).unwrap_err().to_string();
    assert!(refused(&[]).contains("no step"));
    assert!(refused(&[step((8, 8), (9, 8))]).contains("keep (9, 8)"));
    assert!(refused(&[step((0, 8), (0, 8))]).contains("(0, 8)"));
}

#[test]
fn strips_in_waves_are_those_of_whole_maps_and_few_at_a_time() {
    let xs = named_tensor("xs", (2, 9, 7, 3), 0.0, 1.0).unwrap();
    let steps = [((64, 64), (50, 37)), ((71, 113), (71, 113))].map(|(size, kept)| ResizeStep { size, kept });
    let row_bytes = 3 * 113 * size_of::<f32>();
    let whole: Vec<(usize, usize, Vec<f32>)> = {
        let strips = resized_strips(&xs, &steps, |s| Ok((s.image, s.first, s.rows, s.planes))).unwrap();
        // Row by row: strips of another height have other bounds.
        let rows = |(image, first, count, planes): (usize, usize, usize, Vec<f32>)| {
            (0..count).map(move |y| (image, first + y, row_of(&planes, y, count, 113)))
        };
        strips.into_iter().flat_map(rows).collect()
    };
    for rows_at_once in [1, 5, 40, 1000] {
        let (alive, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let mut found = Vec::new();
        let make = |strip: Strip| {
            let now = alive.fetch_add(strip.rows, Ordering::SeqCst) + strip.rows;
            most.fetch_max(now, Ordering::SeqCst);
            Ok(strip)
        };
        let take = |strip: Strip| {
            alive.fetch_sub(strip.rows, Ordering::SeqCst);
            let row = |y| (strip.image, strip.first + y, row_of(&strip.planes, y, strip.rows, 113));
            found.extend((0..strip.rows).map(row));
            Ok(())
        };
        in_waves(&xs, &steps, rows_at_once * row_bytes + 1, make, take).unwrap();
        assert!(most.into_inner() <= rows_at_once, "{rows_at_once} rows at once");
        assert!(found == whole, "{rows_at_once} rows at once");
    }
    let stop = |_| Err(candle_core::Error::Msg("stop".to_owned()));
    let message = each_resized_strip(&xs, &steps, Ok, stop).unwrap_err().to_string();
    assert!(message.contains("stop"), "{message}");
}

/// Row `y` of every plane of a strip of `rows` rows.
fn row_of(planes: &[f32], y: usize, rows: usize, columns: usize) -> Vec<f32> {
    planes.chunks_exact(rows * columns).flat_map(|plane| plane[y * columns..][..columns].to_vec()).collect()
}

#[test]
fn the_gradient_is_that_of_the_differences() {
    for (grid, size) in CASES {
        let what = format!("{grid:?} to {size:?}");
        let planes = named_tensor("xs", (2, 2, grid.0, grid.1), 0.0, 1.0).unwrap();
        gradcheck(&what, std::slice::from_ref(&planes), 1e-2, |i| interpolate_planes(&i[0], size));
        gradcheck(&what, &[to_tokens(&planes)], 1e-2, |i| interpolate_tokens(&i[0], size));
    }
}

#[test]
fn a_sum_is_the_sum_of_its_levels() {
    let size = (9, 11);
    let levels: Vec<Tensor> = [(9, 11), (5, 6), (3, 3), (1, 2)]
        .iter()
        .map(|&(h, w)| named_tensor(&format!("level {h}"), (2, h, w, 5), 0.0, 1.0).unwrap())
        .collect();
    let sum = |levels: &[Tensor]| interpolate_tokens_sum(&levels.iter().collect::<Vec<_>>(), size);
    let expected = levels[1..]
        .iter()
        .fold(levels[0].clone(), |sum, level| (sum + interpolate_tokens(level, size).unwrap()).unwrap());
    assert_close("sum", &sum(&levels).unwrap(), &expected, 1e-6);
    gradcheck("sum", &levels, 1e-2, sum);
}

#[test]
fn gradients_add_up_to_what_came_in() {
    // Each output is a mean of source points, so a gradient of ones is passed on whole.
    let xs = Var::from_tensor(&named_tensor("xs", (1, 2, 5, 7), 0.0, 1.0).unwrap()).unwrap();
    let grads = interpolate_planes(&xs, (17, 33)).unwrap().sum_all().unwrap().backward().unwrap();
    let total = grads.get(&xs).unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
    assert!((total - 2.0 * 17.0 * 33.0).abs() < 0.01, "{total}");
}

#[test]
fn the_same_size_is_the_same_tensor() {
    let xs = named_tensor("xs", (1, 4, 5, 3), 0.0, 1.0).unwrap();
    assert_eq!(interpolate_tokens(&xs, (4, 5)).unwrap().id(), xs.id());
    assert_eq!(interpolate_planes(&xs, (5, 3)).unwrap().id(), xs.id());
}

#[test]
fn empty_sides_and_unequal_levels_are_named() {
    let xs = named_tensor("xs", (1, 4, 5, 3), 0.0, 1.0).unwrap();
    let message = interpolate_tokens(&xs, (0, 5)).unwrap_err().to_string();
    assert!(message.contains("[1, 4, 5, 3]") && message.contains("0×5"), "{message}");
    let empty = Tensor::zeros((1, 0, 5, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
    assert_refused(interpolate_planes(&empty, (2, 2)), &["[1, 0, 5, 3]", "a side is empty"]);
    let wider = named_tensor("xs", (1, 2, 2, 4), 0.0, 1.0).unwrap();
    let message = interpolate_tokens_sum(&[&xs, &wider], (4, 5)).unwrap_err().to_string();
    assert!(message.contains("[1, 2, 2, 4]"), "{message}");
    assert_refused(interpolate_tokens_sum(&[], (4, 5)), &["there is no level"]);
    let vast = (usize::MAX / 2, 5);
    assert_refused(interpolate_tokens(&xs, vast), &["memory of any machine"]);
    // Of no images, too, and where no map is made whole.
    let none = xs.narrow(0, 0, 0).unwrap();
    assert_refused(interpolate_tokens(&none, vast), &["memory of any machine"]);
    let step = ResizeStep { size: vast, kept: (2, 2) };
    assert_refused(resized_strips(&none, &[step], |_| Ok(())), &["memory of any machine"]);
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let xs = Var::from_tensor(&named_tensor("xs", (2, 19, 23, 9), 0.0, 1.0).unwrap()).unwrap();
            let ys = interpolate_tokens(&xs, (61, 47)).unwrap();
            let grads = ys.sqr().unwrap().sum_all().unwrap().backward().unwrap();
            let bits = |t: &Tensor| {
                let values: Vec<f32> = t.flatten_all().unwrap().to_vec1().unwrap();
                values.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            (bits(&ys), bits(grads.get(&xs).unwrap()))
        })
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn a_linear_of_the_sum_is_that_linear_of_that_sum() {
    // Rows longer and shorter than what a product takes at a time; more rows than a task has; a single point.
    for (grids, c, out_dim) in
        [(vec![(9, 37), (5, 19), (3, 10)], 33, 5), (vec![(21, 3), (4, 4)], 7, 17), (vec![(1, 1)], 2, 1)]
    {
        let tensor = |name: &str, shape: &[usize]| named_tensor(name, shape, 0.1, 1.0).unwrap();
        let levels: Vec<Tensor> =
            grids.iter().map(|&(h, w)| tensor(&format!("level {h}"), &[2, h, w, c])).collect();
        let levels: Vec<&Tensor> = levels.iter().collect();
        let norm = LayerNorm { weight: tensor("scale", &[c]), bias: tensor("shift", &[c]) };
        let (weight, bias) = (tensor("w", &[out_dim, c]), tensor("b", &[out_dim]));
        for before in [Before::Nothing, Before::Gelu, Before::LayerNorm(&norm)] {
            let found = linear_of_resized(&levels, grids[0], before, &weight, Some(&bias)).unwrap();
            let sum = before.apply(&interpolate_tokens_sum(&levels, grids[0]).unwrap()).unwrap();
            let expected = linear(&sum, &weight, Some(&bias)).unwrap();
            assert_close(&format!("{grids:?}, {before:?}"), &found, &expected, 5e-6);
        }
        let linear =
            |weight: &Tensor, bias| linear_of_resized(&levels, grids[0], Before::Nothing, weight, bias);
        assert_refused(linear(&bias, None), &["unexpected rank, expected: 2, got: 1"]);
        assert_refused(linear(&weight, Some(&weight)), &["the bias has shape"]);
    }
}

#[test]
fn a_linear_of_the_sum_has_the_gradients_of_both() {
    let levels = [(3, 4), (2, 2)].map(|(h, w)| named_tensor("level", (1, h, w, 3), 0.0, 1.0).unwrap());
    let weight = named_tensor("w", (2, 3), 0.0, 1.0).unwrap();
    gradcheck("linear of resized", &[levels[0].clone(), levels[1].clone(), weight], 1e-2, |i| {
        linear_of_resized(&[&i[0], &i[1]], (3, 4), Before::Gelu, &i[2], None)
    });
}
