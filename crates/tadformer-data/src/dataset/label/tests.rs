use super::*;

#[test]
fn thousandths_are_divided_not_multiplied() {
    let unit = Unit::new(0.001);
    assert_eq!(unit.apply(4253.0).to_bits(), (4253.0f32 / 1000.0).to_bits());
    assert_eq!(Unit::new(1.0).apply(2.5), 2.5);
    assert_eq!(Unit::new(0.3).apply(2.0), 0.6);
    assert_eq!(Unit::new(1e-12).apply(1e12), 1.0);
}

#[test]
fn only_positive_distances_below_255_metres_are_labels() {
    for v in [0.0, -1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 255.0, 1e9] {
        assert_eq!(valid_metres(v), IGNORE, "{v}");
    }
    assert_eq!((valid_metres(0.001), valid_metres(254.9)), (0.001, 254.9));
}

#[test]
fn the_class_table_knows_classes_ignored_numbers_and_nothing_else() {
    let table = class_table(2, Some(&[7, 9]), &[0, 255]);
    assert_eq!((table[7], table[9], table[0], table[255]), (0.0, 1.0, IGNORE, IGNORE));
    assert!(table[1].is_nan() && table[8].is_nan());
    let plain = class_table(3, None, &[255]);
    assert_eq!((plain[0], plain[2], plain[255]), (0.0, 2.0, IGNORE));
    assert!(plain[3].is_nan());
}

#[test]
fn nearest_resize_takes_the_pixel_above_and_left() {
    let map = Raster { channels: 1, height: 2, width: 2, data: vec![1.0, 2.0, 3.0, 4.0] };
    let large = resize_nearest(&map, (3, 4));
    assert_eq!(large.data, [1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0]);
    assert_eq!(resize_nearest(&large, (1, 1)).data, [1.0]);
}
