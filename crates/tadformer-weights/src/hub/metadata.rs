//! What the Hub says about a file before it is transferred: commit, checksum, size.

use ureq::Body;
use ureq::http::Response;

use crate::cache::{Source, is_sha256};
use crate::error::Result;

use super::Progress;
use super::client::{Client, Failure};
use super::settings::Settings;

/// What a transfer is checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Metadata {
    /// Address of the file at its commit, so that a push in between cannot mix two versions.
    pub(super) address: String,
    /// 40 hexadecimal digits.
    pub(super) commit: String,
    /// Name of the blob: the SHA-256 of large files.
    pub(super) etag: String,
    /// The checksum that the contents must have; `None` for small files, which the Hub names by their git hash.
    pub(super) sha256: Option<String>,
    pub(super) size: Option<u64>,
}

/// Asks the endpoint about a file.
pub(super) fn ask(
    client: &Client,
    settings: &Settings,
    source: &Source,
    progress: &mut dyn Progress,
) -> Result<Metadata> {
    let revision = source.revision.replace('/', "%2F");
    let address =
        |revision: &str| format!("{}/{}/resolve/{revision}/{}", settings.endpoint, source.repo, source.file);
    client.retrying(&source.display(), progress, |_| {
        let answer = client.head(&address(&revision))?;
        read(&answer, source.sha256.as_deref(), address).map_err(Failure::Final)
    })
}

fn read(
    answer: &Response<Body>,
    pin: Option<&str>,
    address: impl Fn(&str) -> String,
) -> std::result::Result<Metadata, String> {
    let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let Some(commit) = header("x-repo-commit") else {
        let kind = header("content-type").unwrap_or("no type");
        return Err(format!(
            "the answer (status {}, {kind}) has no `X-Repo-Commit`: the address is not that of a Hub, or a proxy or login page answers for it; check HF_ENDPOINT",
            answer.status().as_u16()
        ));
    };
    if commit.len() != 40 || !commit.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(format!("`X-Repo-Commit` is `{commit}`, expected 40 hexadecimal digits"));
    }
    let tag = header("x-linked-etag").or_else(|| header("etag"));
    let tag = tag.map(|tag| tag.trim_start_matches("W/").trim_matches('"').to_ascii_lowercase());
    let etag = match (tag, pin) {
        (Some(tag), _) => tag,
        (None, Some(pin)) => pin.to_owned(),
        (None, None) => {
            return Err("the answer has no `ETag`, so the file could not be verified; pin its SHA-256 to fetch it all the same".to_owned());
        }
    };
    // It becomes a file name.
    if !(1..=128).contains(&etag.len()) || !etag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Err(format!("the `ETag` is `{etag}`, expected a hash in hexadecimal digits"));
    }
    if let Some(pin) = pin
        && is_sha256(&etag)
        && etag != pin
    {
        return Err(format!(
            "the Hub has a file of SHA-256 {etag}, expected {pin}: it was replaced; pin a revision that has it"
        ));
    }
    let is_direct = answer.status().is_success();
    let size = header("x-linked-size").or_else(|| header("content-length").filter(|_| is_direct));
    let size = match size.map(str::parse::<u64>) {
        None => None,
        Some(Ok(size)) => Some(size),
        Some(Err(_)) => return Err("the size in the answer is no number".to_owned()),
    };
    let sha256 = pin.map(str::to_owned).or_else(|| Some(etag.clone()).filter(|etag| is_sha256(etag)));
    if sha256.is_none() && size.is_none() {
        return Err("the answer has neither size nor SHA-256, so the file could not be verified".to_owned());
    }
    Ok(Metadata { address: address(commit), commit: commit.to_owned(), etag, sha256, size })
}
