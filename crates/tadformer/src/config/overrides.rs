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
        let text = format!("{key}={}", value.to_string().trim());
        Self { text, keys: key.split('.').map(str::to_owned).collect(), value }
    }

    /// `key` (dotted) set to a list of strings.
    pub fn list(key: &str, values: &[String]) -> Self {
        Self::new(key, values.iter().map(String::as_str).collect::<toml_edit::Array>())
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
        Error::Config(format!("`--set {self}`: what `{key}` is to be set in is not a table"))
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
        Ok(Self { text: text.to_owned(), keys, value })
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
            assert!(text.parse::<Override>().is_err(), "{text}");
        }
        let mut document: DocumentMut = "seed = 1".parse().unwrap();
        assert!("seed.x=2".parse::<Override>().unwrap().apply(&mut document).is_err());
    }
}
