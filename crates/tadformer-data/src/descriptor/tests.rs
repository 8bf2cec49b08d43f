use super::*;

const SMALL: &str = r#"
name = "mine"
title = "my pictures"

[image]
files = ["images/{id}.jpg"]

[splits]
train = { list = "train.txt" }
val = { scan = true }

[[tasks]]
task = "semseg"
classes = ["ground", "thing"]
palette = [[0, 0, 0], [255, 0, 0]]

[[tasks.sources]]
file = "labels/{id}.png"
encoding = { kind = "class-ids" }
"#;

fn parse(text: &str) -> Result<Descriptor> {
    Descriptor::parse(text, Path::new("dataset.toml"))
}

fn refusal(change: (&str, &str)) -> String {
    assert!(SMALL.contains(change.0), "the text has no `{}`", change.0);
    parse(&SMALL.replace(change.0, change.1)).expect_err("the text must be refused").to_string()
}

#[test]
fn every_known_descriptor_is_read_and_carries_its_folder_s_name() {
    for ((folder, _), descriptor) in KNOWN.iter().zip(Descriptor::known()) {
        assert_eq!(&descriptor.name, folder);
        assert!(!descriptor.licence.is_empty(), "{folder}");
        assert_eq!(descriptor.task_specs().len(), descriptor.tasks.len());
    }
    let find = |name: &str| Descriptor::known().iter().find(|d| d.name == name).unwrap().task_specs();
    let outputs = |name: &str| find(name).iter().map(|s| (s.task.name, s.outputs)).collect::<Vec<_>>();
    assert_eq!(
        outputs("pascal-context"),
        [("semseg", 21), ("human_parts", 7), ("sal", 1), ("normals", 3), ("edge", 1)]
    );
    assert_eq!(outputs("nyud"), [("semseg", 40), ("depth", 1), ("normals", 3), ("edge", 1)]);
    assert_eq!(outputs("bsds500"), [("edge", 1)]);
    assert_eq!(outputs("cityscapes"), [("semseg", 19), ("depth", 1), ("human_parts", 5)]);
}

#[test]
fn the_tolerance_of_edges_belongs_to_the_data_set() {
    let tolerance = |name: &str| {
        let known = Descriptor::known().iter().find(|d| d.name == name).unwrap();
        known.task_specs().iter().find(|spec| spec.task.name == "edge").unwrap().edge_tolerance
    };
    // Published scores on PASCAL-Context and BSDS500 take 0.0075 of the diagonal, those on NYUDv2 0.011.
    assert_eq!(["pascal-context", "bsds500", "nyud"].map(tolerance), [0.0075, 0.0075, 0.011]);
    let edges = |key: &str| {
        let task =
            SMALL.replace("classes = [\"ground\", \"thing\"]\npalette = [[0, 0, 0], [255, 0, 0]]\n", key);
        parse(&task.replace("\"semseg\"", "\"edge\"").replace("class-ids", "binary"))
    };
    assert_eq!(edges("").unwrap().task_specs()[0].edge_tolerance, 0.0075);
    assert_eq!(edges("tolerance = 0.011\n").unwrap().task_specs()[0].edge_tolerance, 0.011);
    for (wrong, expected) in [("tolerance = 0.5\n", "expected 0 to 0.05"), ("tolerance = nan\n", "NaN")] {
        assert!(edges(wrong).unwrap_err().to_string().contains(expected), "{wrong}");
    }
    let error = refusal(("[[tasks.sources]]", "tolerance = 0.01\n[[tasks.sources]]"));
    assert!(error.contains("`tolerance` is for edges"), "{error}");
}

#[test]
fn a_descriptor_survives_being_written_and_read() {
    for descriptor in Descriptor::known() {
        let text = toml::to_string(descriptor).unwrap();
        assert_eq!(&parse(&text).unwrap(), descriptor);
    }
    assert_eq!(
        parse(SMALL).unwrap().tasks[0].sources[0].encoding,
        Encoding::ClassIds { ids: None, ignore: None, numbers: Numbers::Auto, ignore_colours: Vec::new() }
    );
}

#[test]
fn unknown_keys_and_kinds_are_named_with_their_place() {
    let error = refusal(("title", "titel"));
    assert!(error.contains("titel") && error.contains("line 3"), "{error}");
    let error = refusal(("class-ids", "clas-ids"));
    assert!(error.contains("clas-ids") && error.contains("class-ids"), "{error}");
    let error = refusal(("{ kind = \"class-ids\" }", "{ kind = \"class-ids\", ids = \"all\" }"));
    assert!(error.contains("ids"), "{error}");
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    for (change, expected) in [
        (("\"mine\"", "\"a b\""), "name"),
        (("task = \"semseg\"", "task = \"segsem\""), "segsem"),
        (("\"ground\", ", ""), "1 classes"),
        (("[0, 0, 0], ", ""), "1 colours for 2 classes"),
        (("labels/{id}.png", "../{id}.png"), "walks up"),
        (("labels/{id}.png", "labels/x.png"), "{id}"),
        (("labels/{id}.png", "/etc/{id}"), "absolute"),
        (("images/{id}.jpg", "images\\\\{id}.jpg"), "backslash"),
        (("train.txt", "../../train.txt"), "walks up"),
        (("train.txt", "a\\u0000b"), "control character"),
        (("scan = true", "scan = false"), "scan"),
        (("{ kind = \"class-ids\" }", "{ kind = \"metres\" }"), "metres"),
        (("{ kind = \"class-ids\" }", "{ kind = \"class-ids\", ids = [1] }"), "1 ids for 2 classes"),
        (("{ kind = \"class-ids\" }", "{ kind = \"class-ids\", ids = [1, 1] }"), "stands for two"),
        (("{ kind = \"class-ids\" }", "{ kind = \"class-ids\", ids = [1, 99999] }"), "99999"),
        (("{ kind = \"class-ids\" }", "{ kind = \"class-ids\", ignore = [0] }"), "id 0"),
        (("{ kind = \"class-ids\" }", "{ kind = \"pascal-parts\" }"), "2 classes"),
    ] {
        let error = refusal(change);
        assert!(error.contains(expected), "{change:?}: {error}");
    }
}

#[test]
fn every_problem_is_named_at_once() {
    let text = SMALL.replace("\"mine\"", "\"\"").replace("labels/{id}.png", "x").replace("train.txt", "/x");
    let error = parse(&text).unwrap_err().to_string();
    for part in ["name", "{id}", "splits.train"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn numbers_that_are_no_scale_are_refused() {
    let depth = SMALL
        .replace("\"semseg\"", "\"depth\"")
        .replace("classes = [\"ground\", \"thing\"]\npalette = [[0, 0, 0], [255, 0, 0]]\n", "");
    for scale in ["0.0", "-1.0", "nan", "inf"] {
        let text = depth.replace("kind = \"class-ids\"", &format!("kind = \"metres\", scale = {scale}"));
        assert!(parse(&text).unwrap_err().to_string().contains("scale"), "{scale}");
    }
    assert!(parse(&depth.replace("kind = \"class-ids\"", "kind = \"metres\", scale = 0.001")).is_ok());
}
