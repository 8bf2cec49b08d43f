//! Requests to the Hub: redirects by hand, so that the token stays with the endpoint; retries of passing failures.

use std::time::Duration;

use ureq::http::{Response, Uri};
use ureq::{Agent, Body};

use crate::error::{Error, Result};

use super::Progress;
use super::settings::{Limits, Settings};

const MAX_REDIRECTS: usize = 5;

/// An HTTP client with the settings' endpoint, token and patience.
pub(super) struct Client {
    agent: Agent,
    origin: Option<Origin>,
    token: Option<String>,
    pub(super) limits: Limits,
}

/// Scheme, host and port: what a token is meant for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    is_https: bool,
    host: String,
    port: u16,
}

impl Origin {
    fn of(address: &str) -> Option<Self> {
        let uri: Uri = address.parse().ok()?;
        let is_https = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let host = uri.host()?.to_ascii_lowercase();
        Some(Self { is_https, host, port: uri.port_u16().unwrap_or(if is_https { 443 } else { 80 }) })
    }

    fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host == "[::1]" || self.host.starts_with("127.")
    }
}

/// What one request failed of.
pub(super) enum Failure {
    /// May go away: the server is busy, the connection broke.
    Passing { reason: String, wait: Option<Duration> },
    /// Will not.
    Final(String),
}

impl Client {
    pub(super) fn new(settings: &Settings) -> Self {
        let limits = settings.limits;
        let origin = Origin::of(&settings.endpoint);
        let mut config = Agent::config_builder()
            .user_agent(concat!("tadformer/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_response_header_size(64 * 1024)
            .timeout_resolve(Some(limits.silence))
            .timeout_connect(Some(limits.silence))
            .timeout_send_request(Some(limits.silence))
            .timeout_recv_response(Some(limits.silence))
            .timeout_per_read(Some(limits.silence));
        if origin.as_ref().is_some_and(Origin::is_loopback) {
            config = config.proxy(None);
        }
        Self { agent: config.build().new_agent(), origin, token: settings.token.clone(), limits }
    }

    /// The answer to a HEAD, redirects on the endpoint itself followed: the Hub moves renamed repositories so. A
    /// redirect to another host is the answer, for it carries the Hub's headers.
    pub(super) fn head(&self, address: &str) -> Result<Response<Body>, Failure> {
        self.follow(address, None, true)
    }

    /// The answer to a GET from byte `from` on.
    pub(super) fn get(&self, address: &str, from: u64) -> Result<Response<Body>, Failure> {
        self.follow(address, Some(from), false)
    }

    fn follow(&self, address: &str, from: Option<u64>, stay: bool) -> Result<Response<Body>, Failure> {
        let mut address = address.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            let answer = self.send(&address, from)?;
            let status = answer.status().as_u16();
            if !matches!(status, 301 | 302 | 303 | 307 | 308) {
                return self.judge(&address, answer);
            }
            let next = answer.headers().get("location").and_then(|value| value.to_str().ok());
            let Some(next) = next.and_then(|next| resolve(&address, next)) else {
                return Err(Failure::Final(format!("`{address}` redirects to nowhere (status {status})")));
            };
            let (Some(here), Some(there)) = (Origin::of(&address), Origin::of(&next)) else {
                return Err(Failure::Final(format!(
                    "`{address}` redirects to `{next}`, which is no web address"
                )));
            };
            if here.is_https && !there.is_https {
                return Err(Failure::Final(format!("`{address}` redirects to the unencrypted `{next}`")));
            }
            if stay && here != there {
                return Ok(answer);
            }
            address = next;
        }
        Err(Failure::Final(format!("more than {MAX_REDIRECTS} redirects; the last was to `{address}`")))
    }

    fn send(&self, address: &str, from: Option<u64>) -> Result<Response<Body>, Failure> {
        let mut request = if from.is_some() { self.agent.get(address) } else { self.agent.head(address) };
        // Checksums and ranges are of the file's own bytes.
        request = request.header("Accept-Encoding", "identity");
        if let Some(from) = from.filter(|&from| from > 0) {
            request = request.header("Range", format!("bytes={from}-"));
        }
        if let Some(token) =
            self.token.as_ref().filter(|_| self.origin.is_some() && Origin::of(address) == self.origin)
        {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        request.call().map_err(|e| unanswered(address, &e))
    }

    /// Successes pass; failures say what to do about them.
    fn judge(&self, address: &str, answer: Response<Body>) -> Result<Response<Body>, Failure> {
        let status = answer.status().as_u16();
        let told = if self.token.is_some() { "its token" } else { "no token (set HF_TOKEN)" };
        match status {
            200..=299 => Ok(answer),
            401 | 403 => Err(Failure::Final(format!(
                "status {status} for `{address}` with {told}: the repository is private or gated, or does not exist"
            ))),
            404 => {
                // The Hub says what is missing: the repository, the revision or the file.
                let code = answer.headers().get("x-error-code").and_then(|code| code.to_str().ok());
                let code = code.map_or_else(String::new, |code| format!(" ({code})"));
                Err(Failure::Final(format!(
                    "status 404 for `{address}`{code}: no such repository, revision or file"
                )))
            }
            407 => Err(Failure::Final(proxy_wants_a_password(address))),
            status if is_passing(status) => {
                let seconds =
                    answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
                let longest = self.limits.pause.saturating_mul(60);
                let wait = seconds.map(|seconds| Duration::from_secs(seconds).min(longest));
                Err(Failure::Passing { reason: format!("status {status} for `{address}`"), wait })
            }
            _ => Err(Failure::Final(format!("status {status} for `{address}`"))),
        }
    }

    /// Tries `attempt` until it succeeds, fails for good, or has failed too often.
    pub(super) fn retrying<T>(
        &self,
        what: &str,
        progress: &mut dyn Progress,
        mut attempt: impl FnMut(&mut dyn Progress) -> Result<T, Failure>,
    ) -> Result<T> {
        let failed = |reason: String| Error::Download { what: what.to_owned(), reason };
        let mut pause = self.limits.pause;
        for tried in 0.. {
            match attempt(progress) {
                Ok(value) => return Ok(value),
                Err(Failure::Final(reason)) => return Err(failed(reason)),
                Err(Failure::Passing { reason, .. }) if tried == self.limits.retries => {
                    return Err(failed(format!("{reason}; given up after {} attempts", tried + 1)));
                }
                Err(Failure::Passing { reason, wait }) => {
                    progress.note(&format!("{reason}; trying again"));
                    std::thread::sleep(wait.unwrap_or(pause));
                    pause = pause.saturating_mul(2);
                }
            }
        }
        unreachable!("the range is without end")
    }
}

/// Whether a refusal with this status may go away by itself.
fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500..=599)
}

fn proxy_wants_a_password(address: &str) -> String {
    format!(
        "the proxy on the way to `{address}` wants a name and a password (status 407): they belong into its address, \
         HTTPS_PROXY=http://NAME:PASSWORD@HOST:PORT"
    )
}

/// What a request failed of that no answer came to.
fn unanswered(address: &str, error: &ureq::Error) -> Failure {
    let passing = || Failure::Passing { reason: format!("`{address}`: {error}"), wait: None };
    match error {
        ureq::Error::BadUri(reason) => Failure::Final(format!("`{address}` is no web address: {reason}")),
        ureq::Error::InvalidProxyUrl => {
            Failure::Final("the proxy in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY is no address".to_owned())
        }
        // The proxy's status is in the text alone.
        ureq::Error::ConnectProxyFailed(reason) => {
            let status = reason.split(|c: char| !c.is_ascii_digit()).find_map(|part| part.parse().ok());
            match status {
                Some(407) => Failure::Final(proxy_wants_a_password(address)),
                Some(status) if !is_passing(status) => Failure::Final(format!(
                    "the proxy on the way to `{address}` refuses it (status {status})"
                )),
                _ => passing(),
            }
        }
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => untrusted(address, error),
        // A certificate that is not accepted arrives as an error of reading.
        ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::InvalidData => untrusted(address, error),
        _ => passing(),
    }
}

fn untrusted(address: &str, error: &ureq::Error) -> Failure {
    Failure::Final(format!(
        "no trusted connection to `{address}`: {error}; if a proxy opens encrypted traffic here, fetch the file by other \
         means and put it into the cache"
    ))
}

/// The address that `location` means, seen from `base`.
fn resolve(base: &str, location: &str) -> Option<String> {
    if location.starts_with("https://") || location.starts_with("http://") {
        return Some(location.to_owned());
    }
    let (scheme, rest) = base.split_once("://")?;
    if let Some(other_host) = location.strip_prefix("//") {
        return Some(format!("{scheme}://{other_host}"));
    }
    let host = rest.split('/').next()?;
    // The Hub's own redirects begin with a slash; others would be relative to a file.
    location.starts_with('/').then(|| format!("{scheme}://{host}{location}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn the_origin_decides_who_sees_the_token() {
        let origin = |address| Origin::of(address).unwrap();
        assert_eq!(origin("https://Host/a"), origin("https://host:443/b?c"));
        assert_ne!(origin("https://host/"), origin("http://host/"));
        assert_ne!(origin("http://host:1/"), origin("http://host:2/"));
        assert_ne!(origin("https://host/"), origin("https://host.evil/"));
        assert_eq!(origin("https://user@host/").host, "host");
        assert!(Origin::of("ftp://host/").is_none() && Origin::of("/path").is_none());
    }

    /// What becomes of a request through a proxy that answers with `status`.
    fn through_a_proxy(status: &str) -> Failure {
        let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = proxy.local_addr().unwrap().port();
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = proxy.accept().unwrap();
            // The whole question, in however many pieces: a socket closed on unread bytes takes its answer back.
            let mut question = Vec::new();
            let mut byte = [0];
            while !question.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                question.push(byte[0]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let proxy = ureq::Proxy::new(&format!("http://127.0.0.1:{port}")).unwrap();
        let agent = Agent::config_builder().proxy(Some(proxy)).build().new_agent();
        let error = agent.head("https://127.0.0.1:1/f").call().unwrap_err();
        thread.join().unwrap();
        unanswered("https://127.0.0.1:1/f", &error)
    }

    #[test]
    fn a_proxy_that_refuses_is_not_asked_again() {
        let text = |failure| match failure {
            Failure::Final(reason) => ("final", reason),
            Failure::Passing { reason, .. } => ("passing", reason),
        };
        let (kind, reason) = text(through_a_proxy("407 Proxy Authentication Required"));
        assert!(
            kind == "final" && reason.contains("wants a name and a password (status 407)"),
            "{kind}: {reason}"
        );
        let (kind, reason) = text(through_a_proxy("403 Forbidden"));
        assert!(kind == "final" && reason.contains("refuses it (status 403)"), "{kind}: {reason}");
        let (kind, reason) = text(through_a_proxy("503 Busy"));
        assert!(kind == "passing" && reason.contains("503"), "{kind}: {reason}");
    }

    #[test]
    fn relative_redirects_are_resolved() {
        let base = "https://hub.co/a/resolve/main/f";
        assert_eq!(resolve(base, "/b/f").as_deref(), Some("https://hub.co/b/f"));
        assert_eq!(resolve(base, "//cdn.co/f").as_deref(), Some("https://cdn.co/f"));
        assert_eq!(resolve(base, "http://x/f").as_deref(), Some("http://x/f"));
        assert_eq!(resolve(base, "f"), None);
    }
}
