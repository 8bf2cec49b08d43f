//! What the environment says about the Hub.

use std::path::PathBuf;
use std::time::Duration;

use crate::environment::{self, Vars};
use crate::error::{Error, Result};

const ENDPOINT: &str = "https://huggingface.co";

/// Where to download from and to.
#[derive(Clone)]
pub struct Settings {
    /// The cache folder: [`Cache::from_env`](crate::Cache::from_env).
    pub cache: PathBuf,
    /// Address of the Hub without a slash at its end: `HF_ENDPOINT`, else `https://huggingface.co`.
    pub endpoint: String,
    /// Sent to the endpoint alone: `HF_TOKEN`, else its former name `HUGGING_FACE_HUB_TOKEN`, else the file `HF_TOKEN_PATH`,
    /// else the file `$HF_HOME/token`; none if `HF_HUB_DISABLE_IMPLICIT_TOKEN` is on.
    pub token: Option<String>,
    /// Use the cache and no network: `HF_HUB_OFFLINE`, or else `TRANSFORMERS_OFFLINE`, set to 1, on, yes or true.
    pub offline: bool,
    /// How long to wait for what.
    pub limits: Limits,
}

/// How long a download may take before it is given up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// For a connection, for the headers of an answer, and for each piece of a body; 10 s.
    pub silence: Duration,
    /// The least rate of a body in bytes per second, on average over [`window`](Self::window); 64 KiB/s.
    pub min_rate: u64,
    /// The time over which the rate is measured; 60 s.
    pub window: Duration,
    /// How often a request is tried again after a passing failure; 4.
    pub retries: u32,
    /// Pause before the first retry, doubled for each further one; 1 s. `Retry-After` is honoured up to 60 times this.
    pub pause: Duration,
    /// How long to wait for another process that is downloading the same file; 1 h.
    pub lock: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            silence: Duration::from_secs(10),
            min_rate: 64 * 1024,
            window: Duration::from_secs(60),
            retries: 4,
            pause: Duration::from_secs(1),
            lock: Duration::from_secs(3600),
        }
    }
}

impl Settings {
    /// Settings from the process's environment variables.
    ///
    /// # Errors
    /// No cache folder can be named, the endpoint is no address, or `HF_TOKEN_PATH` cannot be read.
    pub fn from_env() -> Result<Self> {
        Self::from_vars(&|name| std::env::var(name).ok())
    }

    /// As [`from_env`](Self::from_env), with the variables that `var` gives; empty ones count as unset.
    ///
    /// # Errors
    /// Those of [`from_env`](Self::from_env).
    pub fn from_vars(var: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let set =
            |name: &str| var(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        if !(endpoint.starts_with("https://") || endpoint.starts_with("http://")) {
            return Err(Error::Environment(format!(
                "HF_ENDPOINT is `{endpoint}`, expected an address that begins with https:// or http://"
            )));
        }
        Ok(Self {
            cache: environment::cache(var)?,
            endpoint,
            token: token(var, &set)?,
            offline: is_on(set("HF_HUB_OFFLINE").or_else(|| set("TRANSFORMERS_OFFLINE"))),
            limits: Limits::default(),
        })
    }
}

/// Never shows the token.
impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("cache", &self.cache)
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("offline", &self.offline)
            .field("limits", &self.limits)
            .finish()
    }
}

/// The token, unless the environment forbids to send one that nobody gave for the occasion.
fn token(var: Vars<'_>, set: &dyn Fn(&str) -> Option<String>) -> Result<Option<String>> {
    let clean = |text: String| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    if is_on(set("HF_HUB_DISABLE_IMPLICIT_TOKEN")) {
        return Ok(None);
    }
    if let Some(token) = set("HF_TOKEN").or_else(|| set("HUGGING_FACE_HUB_TOKEN")) {
        return Ok(Some(token));
    }
    if let Some(path) = environment::named_token_file(var)? {
        return match std::fs::read_to_string(&path) {
            Ok(text) => Ok(clean(text)),
            Err(e) => Err(Error::io("read the token file", &path, e)),
        };
    }
    let usual = environment::usual_token_file(var);
    Ok(usual.and_then(|path| std::fs::read_to_string(path).ok()).and_then(clean))
}

fn is_on(value: Option<String>) -> bool {
    value.is_some_and(|value| ["1", "on", "yes", "true"].contains(&value.to_ascii_lowercase().as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(set: &[(&str, &str)]) -> Result<Settings> {
        Settings::from_vars(&|name| {
            set.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).to_owned())
        })
    }

    #[test]
    fn the_environment_decides() {
        let found = settings(&[
            ("HF_HOME", "/h"),
            ("HF_ENDPOINT", "http://127.0.0.1:8000/"),
            ("HF_TOKEN", " hf_secret\n"),
            ("HF_HUB_OFFLINE", "True"),
        ])
        .unwrap();
        assert_eq!(found.cache, std::path::Path::new("/h/hub"));
        assert_eq!(found.endpoint, "http://127.0.0.1:8000");
        assert_eq!(found.token.as_deref(), Some("hf_secret"));
        assert!(found.offline);
        assert!(!format!("{found:?}").contains("secret"));
        let plain = settings(&[("HF_HOME", "/h"), ("HF_HUB_OFFLINE", "0")]).unwrap();
        assert_eq!(plain.endpoint, ENDPOINT);
        assert!(!plain.offline && plain.token.is_none());
        let message =
            settings(&[("HF_HOME", "/h"), ("HF_ENDPOINT", "huggingface.co")]).unwrap_err().to_string();
        assert!(message.contains("HF_ENDPOINT is `huggingface.co`, expected an address"), "{message}");
    }

    #[test]
    fn former_names_hold_where_the_new_ones_are_not_set() {
        let found = settings(&[
            ("HUGGINGFACE_HUB_CACHE", "/c"),
            ("HUGGING_FACE_HUB_TOKEN", "hf_former"),
            ("TRANSFORMERS_OFFLINE", "1"),
            ("HOME", "/u"),
        ])
        .unwrap();
        assert_eq!(found.cache, std::path::Path::new("/c"));
        assert_eq!(found.token.as_deref(), Some("hf_former"));
        assert!(found.offline);
        let online =
            settings(&[("TRANSFORMERS_OFFLINE", "1"), ("HF_HUB_OFFLINE", "0"), ("HOME", "/u")]).unwrap();
        assert!(!online.offline);
        let silent = [("HF_TOKEN", "hf_new"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"), ("HOME", "/u")];
        assert_eq!(settings(&silent).unwrap().token, None);
    }

    #[test]
    fn a_token_file_is_read() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("token"), "hf_file\n").unwrap();
        let home = home.path().to_str().unwrap();
        assert_eq!(settings(&[("HF_HOME", home)]).unwrap().token.as_deref(), Some("hf_file"));
        let message =
            settings(&[("HF_HOME", home), ("HF_TOKEN_PATH", "/no/such/file")]).unwrap_err().to_string();
        assert_eq!(message, "cannot read the token file `/no/such/file`");
    }
}
