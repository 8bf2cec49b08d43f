use super::*;

#[test]
fn the_class_table_knows_classes_ignored_numbers_and_nothing_else() {
    let table = ClassTable::new(2, Some(&[7, 9]), &[0, 255]);
    assert_eq!([7, 9, 0, 255].map(|id| table.class(id)), [0.0, 1.0, IGNORE, IGNORE]);
    let plain = ClassTable::new(3, None, &[255]);
    assert_eq!([0, 2, 255].map(|id| plain.class(id)), [0.0, 2.0, IGNORE]);
    let negative = ClassTable::new(2, Some(&[-3, 5]), &[-1]);
    assert_eq!([-3, 5, -1].map(|id| negative.class(id)), [0.0, 1.0, IGNORE]);
    for (table, others) in [
        (table, vec![1, 8, -1, 256]),
        (plain, vec![3, -1]),
        (negative, vec![-4, -2, 0, 6, i32::MIN, i32::MAX]),
    ] {
        for id in others {
            assert!(table.class(id).is_nan(), "{id}");
        }
    }
}

#[test]
fn nearest_resize_takes_the_pixel_above_and_left() {
    let map = Raster { channels: 1, height: 2, width: 2, data: vec![1.0, 2.0, 3.0, 4.0] };
    let large = resize_nearest(&map, (3, 4));
    assert_eq!(large.data, [1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0]);
    assert_eq!(resize_nearest(&large, (1, 1)).data, [1.0]);
}
