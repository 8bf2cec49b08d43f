//! `--set a.b=c`: one change of a configuration.

use crate::{Error, Result};
use std::fmt;
use std::str::FromStr;
use toml_edit::{DocumentMut, Item, Table, Value};

/// A value for a key of the configuration.
#[derive(Debug, Clone)]
pub struct Override {
    text: String,
    keys: Vec<String>,
    value: Value,
}

impl Override {
    /// `key` (dotted) set to `value`.
    pub fn new(key: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        let text = format!("--set {key}={}", value.to_string().trim());
        Self { text, keys: key.split('.').map(str::to_owned).collect(), value }
    }

    /// `key` (dotted) set to `value` because of the flag `flag`, which errors then name.
    pub fn flag(flag: &str, key: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        let text = value.to_string();
        let given = value.as_str().unwrap_or(text.trim());
        Self { text: format!("{flag} {given}"), ..Self::new(key, value.clone()) }
    }

    /// A list of strings, as a value.
    pub fn list(values: &[String]) -> Value {
        values.iter().map(String::as_str).collect::<toml_edit::Array>().into()
    }

    /// Whether `problem`, a sentence about a configuration, is about this key: it names the key or what is in it.
    pub(crate) fn is_named_in(&self, problem: &str) -> bool {
        let key = self.keys.join(".");
        let quoted = problem.split('`').skip(1).step_by(2);
        let mut quoted = quoted.map(|name| name.split('[').next().unwrap_or(name));
        // Some sentences begin with the table and go on with the name in it: "in `train.schedule`, `warmup_epochs` is …".
        let (table, last) = key.rsplit_once('.').unwrap_or(("", &key));
        let in_table = problem.starts_with(&format!("in `{table}`"));
        quoted.any(|name| {
            name == key
                || name.strip_prefix(&key).is_some_and(|rest| rest.starts_with('.'))
                || in_table && name == last
        })
    }

    /// Puts the value into a document, with the tables on its way.
    ///
    /// # Errors
    /// A key on the way that holds a value instead of a table.
    pub(crate) fn apply(&self, document: &mut DocumentMut) -> Result<()> {
        let (last, path) = self.keys.split_last().expect("parsing refuses an empty key");
        let mut item: &mut Item = document.as_item_mut();
        for key in path {
            let table = item.as_table_like_mut().ok_or_else(|| self.not_a_table(key))?;
            item = table.entry(key).or_insert_with(|| Item::Table(Table::new()));
        }
        let table = item.as_table_like_mut().ok_or_else(|| self.not_a_table(last))?;
        table.insert(last, Item::Value(self.value.clone()));
        Ok(())
    }

    fn not_a_table(&self, key: &str) -> Error {
        Error::Config(format!("`{self}`: what `{key}` is to be set in is not a table"))
    }
}

impl FromStr for Override {
    type Err = Error;

    /// Reads `a.b=value`; what is not a TOML value is taken as a string.
    fn from_str(text: &str) -> Result<Self> {
        let refused =
            || Error::Config(format!("`--set {text}`: expected `key=value`, for example `train.epochs=10`"));
        let (key, value) = text.split_once('=').ok_or_else(refused)?;
        let keys: Vec<String> = key.trim().split('.').map(|key| key.trim().to_owned()).collect();
        if keys.iter().any(String::is_empty) {
            return Err(refused());
        }
        let value = value.trim();
        let value = value.parse().unwrap_or_else(|_| Value::from(value));
        Ok(Self { text: format!("--set {text}"), keys, value })
    }
}

impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(start: &str, change: &str) -> String {
        let mut document: DocumentMut = start.parse().unwrap();
        change.parse::<Override>().unwrap().apply(&mut document).unwrap();
        document.to_string()
    }

    #[test]
    fn values_are_toml_or_else_strings() {
        assert_eq!(apply("", "seed=4").trim(), "seed = 4");
        assert_eq!(apply("", "seed=[1, 2]").trim(), "seed = [1, 2]");
        assert_eq!(apply("", "name=swin-tiny").trim(), "name = \"swin-tiny\"");
        assert!(apply("[a]\nb = 1\n", "a.b=2").contains("b = 2"));
        assert!(apply("", "a.b=2").contains("[a]"));
    }

    #[test]
    fn what_is_not_an_assignment_is_refused() {
        for text in ["seed", "=3", "a..b=3"] {
            let message = text.parse::<Override>().unwrap_err().to_string();
            assert!(message.contains(&format!("`--set {text}`: expected `key=value`")), "{message}");
        }
        let mut document: DocumentMut = "seed = 1".parse().unwrap();
        let error = "seed.x=2".parse::<Override>().unwrap().apply(&mut document).unwrap_err().to_string();
        assert!(error.contains("`--set seed.x=2`: what `x` is to be set in is not a table"), "{error}");
    }
}
