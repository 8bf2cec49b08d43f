use super::*;

/// Black, a dark red, and a grey that is a level too.
const PALETTE: [[u8; 3]; 3] = [[0, 0, 0], [128, 0, 0], [9, 9, 9]];

/// A PNG of one row.
fn map(bits: u8, palette: Option<&[[u8; 3]]>, samples: Samples) -> LabelPng {
    let width = match &samples {
        Samples::U8(v) => v.len(),
        Samples::U16(v) => v.len(),
        Samples::Rgb(v) => v.len(),
    };
    LabelPng { width, height: 1, bits, palette: palette.map(<[_]>::to_vec), samples }
}

fn grey(bits: u8, samples: &[u8]) -> LabelPng {
    map(bits, None, Samples::U8(samples.to_vec()))
}

fn indexed(palette: &[[u8; 3]], samples: &[u8]) -> LabelPng {
    map(8, Some(palette), Samples::U8(samples.to_vec()))
}

fn rgb(samples: &[[u8; 3]]) -> LabelPng {
    map(8, None, Samples::Rgb(samples.to_vec()))
}

/// Classes as `numbers` and the rules have them, with 255 for no label; NaN for a number that must not occur.
fn read_as(map: LabelPng, palette: &[[u8; 3]], numbers: Numbers) -> Result<(Vec<f32>, Taken), String> {
    let class_of = |id: usize| match id {
        255 => Some(IGNORE),
        id => (id < palette.len()).then_some(id as f32),
    };
    let known = Known { numbers, class_of: &class_of, ids: &Some, palette, ignore_colours: &[[1, 2, 3]] };
    let (ids, form) = read(map, &known)?;
    let number = |v: usize| class_of(v).unwrap_or(f32::NAN);
    let labels = match ids {
        Ids::Labels(map) => map.data,
        Ids::Numbers(LabelPng { samples: Samples::U8(v), .. }) => {
            v.into_iter().map(|v| number(v.into())).collect()
        }
        Ids::Numbers(LabelPng { samples: Samples::U16(v), .. }) => {
            v.into_iter().map(|v| number(v.into())).collect()
        }
        Ids::Numbers(_) => panic!("colours are no numbers"),
    };
    Ok((labels, form.taken))
}

fn auto(map: LabelPng) -> (Vec<f32>, Taken) {
    read_as(map, &PALETTE, Numbers::Auto).unwrap()
}

fn refused(map: LabelPng) -> String {
    read_as(map, &PALETTE, Numbers::Auto).unwrap_err()
}

#[test]
fn what_an_optimiser_makes_of_grey_levels_keeps_its_classes() {
    let expected = vec![0.0, 1.0, 255.0];
    assert_eq!(auto(grey(8, &[0, 1, 255])), (expected.clone(), Taken::Grey));
    assert_eq!(auto(indexed(&[[0; 3], [1; 3], [255; 3]], &[0, 1, 2])), (expected, Taken::GreyPalette));
    assert_eq!(auto(grey(1, &[0, 1])), (vec![0.0, 255.0], Taken::StretchedGrey));
}

#[test]
fn genuine_palettes_keep_their_indices() {
    let descriptors = indexed(&PALETTE, &[0, 1, 2]);
    assert_eq!(auto(descriptors), (vec![0.0, 1.0, 2.0], Taken::Indices));
    let voc: Vec<[u8; 3]> = (0..256).map(voc_colour).collect();
    assert_eq!((voc[1], voc[7], voc[20], voc[255]), ([128, 0, 0], [128; 3], [0, 64, 128], [224, 224, 192]));
    assert_eq!(auto(indexed(&voc, &[2, 0, 255])), (vec![2.0, 0.0, 255.0], Taken::Indices));
    let greys: Vec<[u8; 3]> = (0..=255).map(|v| [v; 3]).collect();
    assert_eq!(auto(indexed(&greys, &[0, 1, 2, 255])), (vec![0.0, 1.0, 2.0, 255.0], Taken::Indices));
    // "No label" may have any colour, and an index beyond the palette has none.
    let mut own = PALETTE.to_vec();
    own.resize(256, [77, 0, 9]);
    assert_eq!(auto(indexed(&own, &[1, 255])).1, Taken::Indices);
    assert_eq!(auto(indexed(&PALETTE, &[1, 255])).1, Taken::Indices);
    let foreign = indexed(&[[10, 0, 0], [0, 10, 0], [0, 0, 10]], &[0, 1, 2]);
    assert_eq!(auto(foreign), (vec![0.0, 1.0, 2.0], Taken::ForeignPalette));
}

#[test]
fn a_renumbered_palette_is_refused_with_both_ways_out() {
    // The unused black is gone, so dark red is number 0.
    let error = refused(indexed(&[[128, 0, 0]], &[0, 0]));
    for part in ["index 0", "class 0", "(0, 0, 0)", "(128, 0, 0)", "class 1", "\"colours\"", "\"stored\""] {
        assert!(error.contains(part), "`{part}` is not in {error}");
    }
    // VOC's colour of 255 at number 1.
    let voc = [[0, 0, 0], [128, 0, 0], [0, 128, 0]];
    let lost = || indexed(&[[0, 0, 0], [224, 224, 192]], &[0, 1]);
    let error = read_as(lost(), &voc, Numbers::Auto).unwrap_err();
    assert!(error.contains("no label") && error.contains("(224, 224, 192)"), "{error}");
    assert_eq!(read_as(lost(), &voc, Numbers::Colours), Ok((vec![0.0, 255.0], Taken::Colours)));
    assert_eq!(read_as(lost(), &voc, Numbers::Stored), Ok((vec![0.0, 1.0], Taken::Stored)));
}

#[test]
fn colours_are_the_classes_that_have_them() {
    assert_eq!(auto(rgb(&[[128, 0, 0], [9; 3], [1, 2, 3]])), (vec![1.0, 2.0, 255.0], Taken::Colours));
    let error = refused(rgb(&[[128, 0, 0], [128, 0, 1]]));
    assert!(
        error.contains("x 1, y 0") && error.contains("(128, 0, 1)") && error.contains("ignore_colours"),
        "{error}"
    );
}

#[test]
fn three_equal_channels_are_levels_unless_they_can_only_be_colours() {
    assert_eq!(
        auto(rgb(&[[0; 3], [1; 3], [2; 3], [255; 3]])),
        (vec![0.0, 1.0, 2.0, 255.0], Taken::EqualChannels)
    );
    assert_eq!(auto(rgb(&[[0; 3], [9; 3]])), (vec![0.0, 2.0], Taken::Colours));
    assert_eq!(auto(grey(8, &[0, 9])), (vec![0.0, 2.0], Taken::Colours));
    // White is a class, and 255 means "no label".
    let white = [[0; 3], [255; 3]];
    let both = || rgb(&[[0; 3], [255; 3]]);
    let error = read_as(both(), &white, Numbers::Auto).unwrap_err();
    assert!(error.contains("\"levels\"") && error.contains("\"colours\""), "{error}");
    assert_eq!(read_as(both(), &white, Numbers::Levels).unwrap().0, [0.0, 255.0]);
    assert_eq!(read_as(both(), &white, Numbers::Colours).unwrap().0, [0.0, 1.0]);
    // A grey file is read by its levels, whatever the palette.
    assert_eq!(read_as(grey(8, &[0, 255]), &white, Numbers::Auto).unwrap().0, [0.0, 255.0]);
}

#[test]
fn the_descriptor_can_say_which_numbers_count() {
    assert_eq!(read_as(grey(1, &[0, 1]), &PALETTE, Numbers::Stored), Ok((vec![0.0, 1.0], Taken::Stored)));
    assert!(read_as(rgb(&[[0; 3]]), &PALETTE, Numbers::Stored).unwrap_err().contains("three channels"));
    assert!(read_as(rgb(&[[1, 0, 0]]), &PALETTE, Numbers::Levels).unwrap_err().contains("(1, 0, 0)"));
    assert_eq!(read_as(map(16, None, Samples::U16(vec![2])), &PALETTE, Numbers::Auto).unwrap().0, [2.0]);
}
