//! How a task's specification is written into a file, and how the one of a trained model compares with that of a data set.

use serde::{Deserialize, Serialize};

use crate::{Drawing, EDGE_TOLERANCE, LabelKind, Metric, Task, TaskSpec};

/// Differences between two lists of classes that are spelled out.
const LISTED: usize = 3;

/// A [`TaskSpec`] in a file. Every field is one of the specification's, so that a file says without a data set what a model
/// predicts; what they say twice must agree.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written {
    task: String,
    label: LabelKind,
    outputs: usize,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    classes: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    palette: Vec<[u8; 3]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    edge_tolerance: Option<f64>,
}

impl From<TaskSpec> for Written {
    fn from(spec: TaskSpec) -> Self {
        let TaskSpec { task, outputs, classes, palette, edge_tolerance } = spec;
        let edge_tolerance = (task.metric == Metric::Edge).then_some(edge_tolerance);
        Self { task: task.name.to_owned(), label: task.label, outputs, classes, palette, edge_tolerance }
    }
}

impl TryFrom<Written> for TaskSpec {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { task: name, label, outputs, classes, palette, edge_tolerance } = written;
        let known = || format!("there is no task `{name}`; expected one of `{}`", Task::names().join("`, `"));
        let task = Task::from_name(&name).ok_or_else(known)?;
        if label != task.label {
            return Err(format!("the labels of `{name}` are {label:?}, expected {:?}", task.label));
        }
        if task.label == LabelKind::Classes && !(2..255).contains(&classes.len()) {
            return Err(format!("`{name}` has {} classes, expected 2 to 254", classes.len()));
        }
        if task.label != LabelKind::Classes && !classes.is_empty() {
            return Err(format!("`{name}` has {} classes, expected none", classes.len()));
        }
        let expected = task.outputs(classes.len());
        if outputs != expected {
            return Err(format!("`{name}` has {outputs} outputs, expected {expected}"));
        }
        let colours = if task.drawing == Drawing::Palette { classes.len() } else { 0 };
        if palette.len() != colours {
            return Err(format!("`{name}` has {} colours, expected {colours}", palette.len()));
        }
        if edge_tolerance.is_some() && task.metric != Metric::Edge {
            return Err(format!("`{name}` has a tolerance, which is for edges"));
        }
        let edge_tolerance = edge_tolerance.unwrap_or(EDGE_TOLERANCE);
        if !(0.0..=0.05).contains(&edge_tolerance) {
            return Err(format!("`{name}` has a tolerance of {edge_tolerance}, expected 0 to 0.05"));
        }
        Ok(Self { task, outputs, classes, palette, edge_tolerance })
    }
}

impl TaskSpec {
    /// What a data set means by this task's labels that this specification does not, one sentence each. Colours are not
    /// compared: they say how classes are drawn, not what they are.
    pub fn differences(&self, data: &Self) -> Vec<String> {
        let task = self.task;
        if self.task != data.task {
            return vec![format!("it is `{task}` here and `{}` in the data", data.task)];
        }
        let mut differences = Vec::new();
        if self.outputs != data.outputs {
            differences
                .push(format!("`{task}` has {} outputs here and {} in the data", self.outputs, data.outputs));
        }
        let pairs = self.classes.iter().zip(&data.classes).enumerate();
        let renamed: Vec<_> = pairs.filter(|(_, (ours, theirs))| ours != theirs).collect();
        differences.extend(renamed.iter().take(LISTED).map(|(class, (ours, theirs))| {
            format!("class {class} of `{task}` is `{ours}` here and `{theirs}` in the data")
        }));
        if renamed.len() > LISTED {
            differences.push(format!("{} more classes of `{task}` have other names", renamed.len() - LISTED));
        }
        if task.metric == Metric::Edge && self.edge_tolerance != data.edge_tolerance {
            differences.push(format!(
                "`{task}` is matched within {} of the diagonal here and {} in the data",
                self.edge_tolerance, data.edge_tolerance
            ));
        }
        differences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn semseg(classes: &[&str]) -> TaskSpec {
        TaskSpec {
            task: Task::from_name("semseg").unwrap(),
            outputs: classes.len(),
            classes: classes.iter().map(|name| (*name).to_owned()).collect(),
            palette: (0..classes.len()).map(|class| [class as u8, 0, 200]).collect(),
            edge_tolerance: EDGE_TOLERANCE,
        }
    }

    fn without_classes(task: &str, edge_tolerance: f64) -> TaskSpec {
        let task = Task::from_name(task).unwrap();
        TaskSpec { task, outputs: 1, classes: Vec::new(), palette: Vec::new(), edge_tolerance }
    }

    fn depth() -> TaskSpec {
        without_classes("depth", EDGE_TOLERANCE)
    }

    #[test]
    fn what_is_written_reads_back_as_itself() {
        for spec in [semseg(&["road", "sky"]), depth(), without_classes("edge", 0.011)] {
            let text = serde_json::to_string(&spec).unwrap();
            assert_eq!(serde_json::from_str::<TaskSpec>(&text).unwrap(), spec, "{text}");
        }
        let text = serde_json::to_string(&depth()).unwrap();
        assert_eq!(text, r#"{"task":"depth","label":"metres","outputs":1}"#);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let read = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut json = serde_json::to_value(semseg(&["road", "sky"])).unwrap();
            change(&mut json);
            serde_json::from_value::<TaskSpec>(json).unwrap_err().to_string()
        };
        for (key, value, expected) in [
            ("task", "segsem".into(), "there is no task `segsem`; expected one of `semseg`"),
            ("label", "metres".into(), "the labels of `semseg` are Metres, expected Classes"),
            ("outputs", 3.into(), "`semseg` has 3 outputs, expected 2"),
            ("classes", vec!["road"].into(), "`semseg` has 1 classes, expected 2 to 254"),
            ("palette", serde_json::json!([]), "`semseg` has 0 colours, expected 2"),
            ("edge_tolerance", 0.01.into(), "`semseg` has a tolerance, which is for edges"),
            ("colours", 3.into(), "unknown field `colours`"),
        ] {
            let message = read(&|json| json[key] = serde_json::Value::clone(&value));
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn differences_are_of_meaning_and_not_of_colour() {
        let ours = semseg(&["road", "sky"]);
        let mut data = ours.clone();
        data.palette[1] = [1, 2, 3];
        assert!(ours.differences(&data).is_empty());
        assert_eq!(
            ours.differences(&semseg(&["road", "sea", "sky"])),
            [
                "`semseg` has 2 outputs here and 3 in the data",
                "class 1 of `semseg` is `sky` here and `sea` in the data"
            ]
        );
        let many = semseg(&["a", "b", "c", "d", "e"]).differences(&semseg(&["b", "c", "d", "e", "a"]));
        assert_eq!(many.len(), 4);
        assert_eq!(many[3], "2 more classes of `semseg` have other names");
        let edges = |tolerance| without_classes("edge", tolerance);
        assert_eq!(
            edges(0.0075).differences(&edges(0.011)),
            ["`edge` is matched within 0.0075 of the diagonal here and 0.011 in the data"]
        );
        assert_eq!(ours.differences(&depth()), ["it is `semseg` here and `depth` in the data"]);
    }
}
