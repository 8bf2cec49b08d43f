//! Where the environment says that Hugging Face's files are, as `huggingface_hub` reads it (`constants.py` of version 2.4).

use std::path::PathBuf;

use crate::error::{Error, Result};

/// The variables of an environment, by name.
pub(crate) type Vars<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A variable's value; one that is empty counts as unset.
pub(crate) fn set(var: Vars<'_>, name: &str) -> Option<String> {
    var(name).filter(|value| !value.is_empty())
}

/// The cache: `HF_HUB_CACHE`, else its former name `HUGGINGFACE_HUB_CACHE`, else `hub` in the [`home`].
pub(crate) fn cache(var: Vars<'_>) -> Result<PathBuf> {
    match set(var, "HF_HUB_CACHE").or_else(|| set(var, "HUGGINGFACE_HUB_CACHE")) {
        Some(cache) => expanded(var, &cache),
        None => Ok(home(var)?.join("hub")),
    }
}

/// The file that somebody named for the token: `HF_TOKEN_PATH`.
#[cfg(feature = "hub")]
pub(crate) fn named_token_file(var: Vars<'_>) -> Result<Option<PathBuf>> {
    set(var, "HF_TOKEN_PATH").map(|path| expanded(var, &path)).transpose()
}

/// The file that has the token otherwise, if there is one: `token` in the [`home`].
#[cfg(feature = "hub")]
pub(crate) fn usual_token_file(var: Vars<'_>) -> Option<PathBuf> {
    Some(home(var).ok()?.join("token"))
}

/// `HF_HOME`, else `huggingface` in `XDG_CACHE_HOME`, else `~/.cache/huggingface`.
fn home(var: Vars<'_>) -> Result<PathBuf> {
    if let Some(home) = set(var, "HF_HOME") {
        return expanded(var, &home);
    }
    let cache = match set(var, "XDG_CACHE_HOME") {
        Some(cache) => expanded(var, &cache)?,
        None => user_home(var)?.join(".cache"),
    };
    Ok(cache.join("huggingface"))
}

fn user_home(var: Vars<'_>) -> Result<PathBuf> {
    set(var, "HOME").or_else(|| set(var, "USERPROFILE")).map(PathBuf::from).ok_or_else(|| {
        Error::Environment("HOME is not set; set HF_HOME to the folder that should hold it".to_owned())
    })
}

/// A path with `~` at its beginning and `$NAME` or `${NAME}` anywhere: shells expand neither in a file of settings, and
/// Python's `expanduser` and `expandvars` do.
fn expanded(var: Vars<'_>, path: &str) -> Result<PathBuf> {
    let path = match path.strip_prefix('~') {
        None => path.to_owned(),
        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
            format!("{}{rest}", user_home(var)?.display())
        }
        Some(_) => {
            return Err(Error::Environment(format!(
                "`{path}` names the home of another user; write the folder out"
            )));
        }
    };
    let mut out = String::new();
    let mut rest = path.as_str();
    while let Some(at) = rest.find('$') {
        out += &rest[..at];
        rest = &rest[at..];
        let (name, length) = variable(&rest[1..]);
        // A variable that is not set stays as it is written.
        out += &var(name).filter(|_| !name.is_empty()).unwrap_or_else(|| rest[..=length].to_owned());
        rest = &rest[1 + length..];
    }
    Ok(PathBuf::from(out + rest))
}

/// The variable's name after a `$`, and the bytes that it takes there.
fn variable(text: &str) -> (&str, usize) {
    if let Some(braced) = text.strip_prefix('{')
        && let Some(end) = braced.find('}')
    {
        return (&braced[..end], end + 2);
    }
    let length = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    (&text[..length], length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn vars<'a>(set: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        move |name| set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn the_cache_is_where_python_looks_for_it() {
        let cache = |set: &[(&str, &str)]| cache(&vars(set)).unwrap();
        assert_eq!(cache(&[("HF_HUB_CACHE", "/c"), ("HF_HOME", "/h")]), Path::new("/c"));
        assert_eq!(cache(&[("HF_HOME", "/h"), ("HOME", "/u")]), Path::new("/h/hub"));
        assert_eq!(cache(&[("HF_HOME", ""), ("HOME", "/u")]), Path::new("/u/.cache/huggingface/hub"));
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/u")]), Path::new("/x/huggingface/hub"));
        // The former name, after the new one and before the home.
        let old = ("HUGGINGFACE_HUB_CACHE", "/old");
        assert_eq!(cache(&[old, ("HF_HOME", "/h")]), Path::new("/old"));
        assert_eq!(cache(&[old, ("HF_HUB_CACHE", "/new")]), Path::new("/new"));
        // What a shell would have expanded, had it seen it.
        let user = ("HOME", "/u");
        assert_eq!(cache(&[("HF_HUB_CACHE", "~/c"), user]), Path::new("/u/c"));
        assert_eq!(cache(&[("HUGGINGFACE_HUB_CACHE", "~/c"), user]), Path::new("/u/c"));
        assert_eq!(cache(&[("HF_HOME", "~"), user]), Path::new("/u/hub"));
        assert_eq!(cache(&[("XDG_CACHE_HOME", "~/x"), user]), Path::new("/u/x/huggingface/hub"));
        assert_eq!(cache(&[("HF_HUB_CACHE", "$BIG/c"), ("BIG", "/b")]), Path::new("/b/c"));
        assert_eq!(cache(&[("HF_HUB_CACHE", "/d/${BIG}c"), ("BIG", "b")]), Path::new("/d/bc"));
        assert_eq!(cache(&[("HF_HUB_CACHE", "/d/$NONE/${NONE}/$/${")]), Path::new("/d/$NONE/${NONE}/$/${"));
        assert_eq!(cache(&[("HF_HUB_CACHE", "/a~/c"), user]), Path::new("/a~/c"));
    }

    #[test]
    fn a_folder_that_cannot_be_named_is_an_error() {
        let message = |set: &[(&str, &str)]| cache(&vars(set)).unwrap_err().to_string();
        assert!(message(&[]).contains("set HF_HOME"), "{}", message(&[]));
        assert!(message(&[("HF_HUB_CACHE", "~/c")]).contains("HOME is not set"));
        let other = [("HF_HUB_CACHE", "~ann/c"), ("HOME", "/u")];
        assert!(message(&other).contains("`~ann/c` names the home of another user"), "{}", message(&other));
    }

    #[cfg(feature = "hub")]
    #[test]
    fn the_token_lies_in_the_home_unless_somebody_names_its_file() {
        let home = [("HF_HOME", "~/h"), ("HOME", "/u")];
        assert_eq!(named_token_file(&vars(&home)).unwrap(), None);
        assert_eq!(usual_token_file(&vars(&home)), Some(PathBuf::from("/u/h/token")));
        assert_eq!(usual_token_file(&vars(&[])), None);
        let named = named_token_file(&vars(&[("HF_TOKEN_PATH", "~/t"), ("HOME", "/u")])).unwrap();
        assert_eq!(named, Some(PathBuf::from("/u/t")));
    }
}
