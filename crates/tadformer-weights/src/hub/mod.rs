//! Downloads from the Hugging Face Hub into its cache, verified before a file gets its name.
//!
//! The cache's layout and names are hf-hub's; the transfer is ours, on ureq. hf-hub 0.5's own transfer keeps whatever
//! it received under the name of the right checksum (a short body, an HTML page, a damaged partial file), waits for ever
//! for a server that drips, and does not read `HF_HUB_OFFLINE`; its client cannot be interrupted from outside, so a
//! wrapper could not mend that.
//!
//! What is promised: a file appears in the cache only if its length and SHA-256 are the announced (or pinned) ones; a
//! broken transfer is taken up where it ended; two processes that want one file transfer it once; the token is sent to
//! the endpoint alone; a server that delivers less than [`Limits::min_rate`] is given up.

mod client;
mod download;
mod metadata;
mod settings;

use std::path::PathBuf;

use crate::cache::{Cache, Source};
use crate::error::{Error, Result};

use client::Client;
use download::Download;
pub use settings::{Limits, Settings};

/// Hears how a download goes; every method may be left out.
pub trait Progress {
    /// The transfer of `file` begins: `size` bytes in all, of which `have` are there from an earlier attempt.
    fn started(&mut self, _file: &str, _size: Option<u64>, _have: u64) {}
    /// `bytes` more have arrived.
    fn received(&mut self, _bytes: u64) {}
    /// Something the user may want to know: waiting for another process, trying again.
    fn note(&mut self, _text: &str) {}
    /// The transfer ended, well or not.
    fn finished(&mut self) {}
}

/// Nobody listens.
impl Progress for () {}

/// Fetches a file with the settings of the environment: [`Settings::from_env`].
///
/// # Errors
/// Those of [`fetch_with`], and an environment that names no cache.
pub fn fetch(source: &Source, progress: &mut dyn Progress) -> Result<PathBuf> {
    fetch_with(&Settings::from_env()?, source, progress)
}

/// The path of the file in the cache; it is downloaded if it is not there or is not what its checksum says.
///
/// # Errors
/// The source's parts are no names; the file is not cached and the settings forbid the network; the server refuses, is
/// silent, too slow, no Hub, or sends something else than it announced. Nothing of a failed download is in the cache
/// under the file's name.
pub fn fetch_with(settings: &Settings, source: &Source, progress: &mut dyn Progress) -> Result<PathBuf> {
    source.check()?;
    let cache = Cache::new(&settings.cache);
    match cache.verified(source) {
        Ok(Some(path)) => return Ok(path),
        Err(damaged @ Error::Refused { .. }) if settings.offline => return Err(damaged),
        Err(Error::Refused { reason, .. }) => progress.note(&format!("the cached file is damaged: {reason}")),
        Err(other) => return Err(other),
        Ok(None) => {}
    }
    if settings.offline {
        return Err(Error::Download {
            what: source.display(),
            reason: format!(
                "it is not in the cache `{}` and HF_HUB_OFFLINE is set; unset it, or copy the file there",
                settings.cache.display()
            ),
        });
    }
    let client = Client::new(settings);
    let metadata = metadata::ask(&client, settings, source, progress)?;
    Download::new(settings, &cache, source, &metadata).run(&client, progress)
}
