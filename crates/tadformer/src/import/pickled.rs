//! Values of a pickled `yacs` configuration by dotted key.

use tadformer_weights::PickleValue;

/// A node of the configuration.
#[derive(Clone, Copy)]
pub(super) struct Pickled<'a>(pub(super) PickleValue<'a>);

/// Why a value could not be taken: the key and what was found.
pub(super) type Result<T> = std::result::Result<T, String>;

impl<'a> Pickled<'a> {
    /// The value under `key` (`MODEL.SWIN.DEPTHS`), if there is one.
    pub(super) fn find(self, key: &str) -> Option<PickleValue<'a>> {
        key.split('.').try_fold(self.0, PickleValue::get)
    }

    fn get<T>(self, key: &str, what: &str, take: impl Fn(PickleValue<'a>) -> Option<T>) -> Result<T> {
        let value = self.find(key).ok_or_else(|| format!("it has no `{key}`"))?;
        take(value).ok_or_else(|| format!("`{key}` is {}, expected {what}", value.kind()))
    }

    pub(super) fn size(self, key: &str) -> Result<usize> {
        self.get(key, "a count", |value| usize::try_from(value.as_i64()?).ok())
    }

    pub(super) fn number(self, key: &str) -> Result<f64> {
        self.get(key, "a finite number", |value| value.as_f64().filter(|x| x.is_finite()))
    }

    pub(super) fn flag(self, key: &str) -> Result<bool> {
        self.get(key, "True or False", PickleValue::as_bool)
    }

    pub(super) fn text(self, key: &str) -> Result<&'a str> {
        self.get(key, "a text", PickleValue::as_str)
    }

    pub(super) fn texts(self, key: &str) -> Result<Vec<&'a str>> {
        self.get(key, "a list of texts", |list| list.members().map(PickleValue::as_str).collect())
    }

    pub(super) fn sizes(self, key: &str) -> Result<Vec<usize>> {
        let size = |value: PickleValue<'a>| usize::try_from(value.as_i64()?).ok();
        self.get(key, "a list of counts", |list| list.members().map(size).collect())
    }

    pub(super) fn four(self, key: &str) -> Result<[usize; 4]> {
        let sizes = self.sizes(key)?;
        <[usize; 4]>::try_from(sizes.as_slice())
            .map_err(|_| format!("`{key}` has {} values, expected one a stage, that is 4", sizes.len()))
    }

    /// The one number that a list repeats; networks here have the same in every stage.
    pub(super) fn same(self, key: &str) -> Result<f64> {
        let list: Vec<f64> =
            self.get(key, "a list of numbers", |list| list.members().map(PickleValue::as_f64).collect())?;
        match list.split_first() {
            Some((first, rest)) if rest.iter().all(|other| other == first) => Ok(*first),
            _ => Err(format!("`{key}` is {list:?}, expected the same number for every stage")),
        }
    }
}
