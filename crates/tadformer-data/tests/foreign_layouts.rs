//! Conventions of other programs: upright labels of pictures that lie, and lists of pairs.

mod tree;

use std::fs;

use tadformer_data::check::{Report, check, look};
use tadformer_data::dataset;
use tree::{SEMSEG, Tree, grey, jpeg, open, refusal, turned_jpeg};

fn report(tree: &Tree) -> Report {
    let descriptor = dataset::descriptor("folder", tree.root()).unwrap();
    check(&descriptor, tree.root(), &[], &[], 20, |_, _, _| {}).unwrap()
}

fn seen(tree: &Tree) -> tadformer_data::Result<tadformer_data::check::Look> {
    let descriptor = dataset::descriptor("folder", tree.root()).unwrap();
    look(&descriptor, tree.root(), "train", &descriptor.task_list())
}

/// Writes `text` in front of `[splits]`, that is, under `[image]`.
fn say(tree: &Tree, text: &str) {
    let old = fs::read_to_string(tree.path("dataset.toml")).unwrap();
    tree.write("dataset.toml", old.replace("[splits]", &format!("{text}\n[splits]")));
}

#[test]
fn labels_of_turned_pictures_are_told_by_their_sides_and_read_with_a_key() {
    for resize in ["", "resize = true\n"] {
        let tree = Tree::new();
        tree.describe("a\n", &SEMSEG.replace("palette", &format!("{resize}palette")));
        tree.write("images/a.jpg", turned_jpeg(4, 2, 6)).write("labels/a.png", grey(2, 4, &[1; 8]));
        let error = refusal(open(tree.root(), &["semseg"]).unwrap().load(0));
        for part in
            ["4 rows by 2 columns", "sides are swapped", "EXIF orientation 6", "`orientation = \"upright\"`"]
        {
            assert!(error.contains(part), "{error}");
        }
        assert!(!error.contains("resize"), "{error}");
        assert!(report(&tree).to_string().contains("EXIF orientation 6"));
        assert!(refusal(seen(&tree)).contains("EXIF orientation 6"));
        say(&tree, "orientation = \"upright\"");
        let sample = open(tree.root(), &["semseg"]).unwrap().load(0).unwrap();
        assert_eq!((sample.image.height, sample.image.width), (4, 2));
        assert_eq!(report(&tree).problem_count(), 0);
        // And the other way round: labels as stored, pictures turned.
        tree.write("labels/a.png", grey(4, 2, &[1; 8]));
        let error = refusal(open(tree.root(), &["semseg"]).unwrap().load(0));
        assert!(error.contains("`orientation = \"stored\"`") && !error.contains("resize"), "{error}");
    }
    let tree = Tree::new();
    tree.describe("a\n", SEMSEG).write("images/a.jpg", jpeg(4, 2)).write("labels/a.png", grey(2, 4, &[1; 8]));
    let error = refusal(open(tree.root(), &["semseg"]).unwrap().load(0));
    assert!(error.contains("turned or transposed") && !error.contains("resize"), "{error}");
    say(&tree, "orientation = \"lying\"");
    let error = refusal(open(tree.root(), &["semseg"]));
    assert!(error.contains("lying") && error.contains("upright"), "{error}");
}

#[test]
fn an_upright_picture_turns_as_viewers_turn_it() {
    let tree = Tree::new();
    tree.describe("a\n", SEMSEG).write("labels/a.png", grey(24, 32, &[1; 24 * 32]));
    tree.write("images/a.jpg", fs::read(tree::data("pictures").join("exif_6.jpg")).unwrap());
    say(&tree, "orientation = \"upright\"");
    let image = open(tree.root(), &["semseg"]).unwrap().load(0).unwrap().image;
    // The stored picture is red, green over blue, grey; tag 6 turns it by 90 degrees with the clock.
    let at = |y: usize, x: usize| [0, 1, 2].map(|c| image.plane(c)[y * image.width + x] > 100.0);
    assert_eq!((at(8, 6), at(8, 18)), ([false, false, true], [true, false, false]), "blue, red");
    assert_eq!((at(24, 6), at(24, 18)), ([true, true, true], [false, true, false]), "grey, green");
}

#[test]
fn square_pictures_with_a_tag_are_remarked_on_until_something_is_said() {
    let tree = Tree::new();
    tree.describe("a\nb\nc\nd\n", SEMSEG);
    for (id, picture) in ["a", "b", "c", "d"].into_iter().zip([
        turned_jpeg(3, 3, 6),
        turned_jpeg(3, 3, 1),
        turned_jpeg(4, 2, 3),
        turned_jpeg(4, 2, 8),
    ]) {
        let (width, height) = if id < "c" { (3, 3) } else { (4, 2) };
        tree.write(&format!("images/{id}.jpg"), picture);
        tree.write(&format!("labels/{id}.png"), grey(width, height, &vec![1; (width * height) as usize]));
    }
    let found = report(&tree);
    assert_eq!(found.problem_count(), 0, "{found}");
    let [remark] = &found.splits[0].remarks[..] else { panic!("{found}") };
    assert_eq!(&seen(&tree).unwrap().remarks[0], remark);
    for part in ["2 pictures", "(3 in 1, 6 in 1)", "1 others", "orientation = \"upright\""] {
        assert!(remark.contains(part), "`{part}` is not in {remark}");
    }
    assert!(found.to_string().ends_with("no problems, but see the notes above"), "{found}");
    say(&tree, "orientation = \"stored\"");
    assert!(report(&tree).splits[0].remarks.is_empty());
}

/// Two pictures and their masks where no pattern would look for them, and a list of them.
fn pairs(list: &str, split: &str) -> Tree {
    let tree = Tree::new();
    tree.describe(list, SEMSEG);
    let text = fs::read_to_string(tree.path("dataset.toml")).unwrap();
    tree.write("dataset.toml", text.replace("{ list = \"train.txt\" }", split));
    for id in ["1", "2"] {
        tree.write(&format!("images/{id}.jpg"), jpeg(3, 2));
        tree.write(&format!("masks of/{id}.png"), grey(3, 2, &[1; 6]));
    }
    tree
}

#[test]
fn a_list_of_pairs_is_named_once_and_read_with_a_key() {
    for (front, separator) in [("", "\t"), ("/data/", " "), ("/data/", ","), ("./", ";")] {
        let line = |id: &str| format!("{front}images/{id}.jpg{separator}{front}masks of/{id}.png\n");
        let list = line("1") + &line("2");
        let tree = pairs(&list, "{ list = \"train.txt\" }");
        let error = refusal(open(tree.root(), &["semseg"]));
        let strip = if front.is_empty() { String::new() } else { format!(", strip = \"{front}\"") };
        let key = format!("{{ list = \"train.txt\", columns = [\"image\", \"semseg\"]{strip} }}");
        assert!(error.contains("this line holds two paths; one id a line is expected"), "{error}");
        assert_eq!(error.matches("line ").count(), 3, "{error}");
        assert!(error.contains(&format!("`train = {key}`")), "{error}");
        let found = report(&tree);
        assert_eq!(found.problem_count(), 1, "{found}");

        let tree = pairs(&list, &key);
        let set = open(tree.root(), &["semseg"]).unwrap();
        assert_eq!((set.len(), set.id(1)), (2, "2".to_owned()));
        assert_eq!(set.load(1).unwrap().labels[0].1.data, [1.0; 6]);
        assert_eq!(report(&tree).problem_count(), 0);
        fs::remove_file(tree.path("masks of/2.png")).unwrap();
        let error = refusal(open(tree.root(), &["semseg"]));
        assert!(error.contains("semseg: `masks of/2.png`"), "{error}");
    }
}

#[test]
fn lines_that_are_no_ids_are_told_by_the_files_that_are_there() {
    for (list, parts) in [
        ("1  -1\n2   1\n", ["`1  -1` holds more than an id", "columns = [\"id\", \"-\"]"]),
        ("1.jpg\n2.jpg\n", ["`1.jpg` has an ending", "images/1.jpg"]),
        ("images/1.jpg\nimages/2.jpg\n", ["is itself a file", "columns = [\"image\"]"]),
    ] {
        let tree = pairs(list, "{ list = \"train.txt\" }");
        let error = refusal(open(tree.root(), &["semseg"]));
        for part in parts {
            assert!(error.contains(part), "{error}");
            assert!(report(&tree).to_string().contains(part), "{}", report(&tree));
        }
    }
    let tree = pairs("1  -1\n2   1\n", "{ list = \"train.txt\", columns = [\"id\", \"-\"] }");
    tree.write("labels/1.png", grey(3, 2, &[2; 6])).write("labels/2.png", grey(3, 2, &[2; 6]));
    assert_eq!(open(tree.root(), &["semseg"]).unwrap().load(0).unwrap().labels[0].1.data, [2.0; 6]);
}

#[test]
fn columns_that_cannot_be_are_refused_by_name() {
    for (split, parts) in [
        ("{ list = \"train.txt\", columns = [\"picture\"] }", ["`picture`", "semseg"]),
        ("{ list = \"train.txt\", columns = [\"semseg\"] }", ["`image`", "`id`"]),
        ("{ list = \"train.txt\", columns = [\"image\", \"image\"] }", ["`image`", "twice"]),
        ("{ scan = true, columns = [\"image\"] }", ["columns", "scan"]),
        ("{ list = \"train.txt\", scan = true }", ["list", "scan"]),
        ("{ list = \"train.txt\", colums = [\"image\"] }", ["colums", "columns"]),
        (
            "{ list = \"train.txt\", columns = [\"image\", \"semseg\"], strip = \"/other\" }",
            ["line 1", "absolute"],
        ),
    ] {
        let tree = pairs("/x/1.jpg /y/1.png\n", split);
        let error = refusal(open(tree.root(), &["semseg"]));
        for part in parts {
            assert!(error.contains(part), "{split}: {error}");
        }
    }
}

#[cfg(unix)]
#[test]
fn paths_of_a_list_must_not_be_links_out_of_their_folder() {
    use std::os::unix::fs::symlink;
    let outside = Tree::new();
    outside.write("1.png", grey(3, 2, &[1; 6]));
    let tree =
        pairs("images/1.jpg\tlinks/1.png\n", "{ list = \"train.txt\", columns = [\"image\", \"semseg\"] }");
    fs::create_dir(tree.path("links")).unwrap();
    symlink(outside.path("1.png"), tree.path("links/1.png")).unwrap();
    let error = refusal(open(tree.root(), &["semseg"]).unwrap().load(0));
    assert!(error.contains("links/1.png") && error.contains("follow_links = true"), "{error}");
}
