use super::*;

fn regions(height: usize, width: usize, classes: &[u16]) -> Regions {
    Regions { path: PathBuf::from("regions.mat"), height, width, classes: classes.to_vec() }
}

#[test]
fn a_uniform_picture_has_no_edges_at_any_size() {
    for (height, width) in [(1, 1), (1, 5), (5, 1), (3, 4)] {
        let edges = regions(height, width, &vec![9; height * width]).edges();
        assert_eq!((edges.height, edges.width), (height, width));
        assert!(edges.data.iter().all(|&v| v == 0.0));
    }
}

#[test]
fn a_straight_boundary_becomes_a_line_one_pixel_wide() {
    let classes: Vec<u16> = (0..8 * 9).map(|i| if i % 9 < 4 { 1 } else { 300 }).collect();
    let edges = regions(8, 9, &classes).edges();
    for y in 2..6 {
        assert_eq!(edges.data[y * 9..(y + 1) * 9].iter().sum::<f32>(), 1.0, "row {y}");
    }
}

#[test]
fn blocks_and_single_pixels_paint_the_same_mask() {
    let mask: Vec<u8> = (0..37).map(|i| u8::from(i % 5 == 0) * 255).collect();
    let mut painted = vec![3; 37];
    paint(&mask, 6, &mut painted);
    for (i, &v) in painted.iter().enumerate() {
        assert_eq!(v, if i % 5 == 0 { 6 } else { 3 });
    }
}

#[test]
fn every_part_belongs_to_one_of_six() {
    assert!(PARTS.iter().all(|(_, class)| (1..=6).contains(class)));
    let mut names: Vec<_> = PARTS.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 24);
}
