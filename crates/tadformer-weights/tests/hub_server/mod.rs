//! An HTTP server with the Hub's endpoints that can be told to behave badly, one fault a request.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What goes wrong. Faults of questions (HEAD) and of transfers (GET) wait in their own queues, and each is used once,
/// but for those that describe the server as such.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A question is answered with this status.
    Status(u16),
    /// A question is answered with 503 and this `Retry-After`.
    RetryAfter(u32),
    /// A transfer is answered with this status.
    OnTransfer(u16),
    /// A transfer breaks off after so many bytes.
    Cut(usize),
    /// A transfer's headers and body agree on half of what was announced.
    Short,
    WrongBytes,
    Longer,
    /// A kilobyte now and then.
    Drip,
    /// A question is not answered.
    Silent,
    /// A transfer stops after so many bytes, and the connection stays.
    StallAfter(usize),
    /// Half a second a transfer.
    Slow,
    Html,
    HtmlOnTransfer,
    NoEtag,
    EvilEtag,
    EvilCommit,
    WrongRange,
    IgnoreRange,
    /// Always: transfers come from another host.
    RedirectToOtherHost,
    /// Always: the repository has a new name.
    RenamedRepository,
    /// Always: redirects lead round in a circle.
    RedirectLoop,
}

impl Fault {
    fn is_of_questions(self) -> bool {
        use Fault::*;
        matches!(self, Status(_) | RetryAfter(_) | Silent | Html | NoEtag | EvilEtag | EvilCommit)
    }

    fn is_lasting(self) -> bool {
        matches!(self, Self::RedirectToOtherHost | Self::RenamedRepository | Self::RedirectLoop)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    pub(crate) token: Option<String>,
}

pub(crate) struct Server {
    port: u16,
    state: Arc<State>,
}

struct State {
    file: Vec<u8>,
    faults: Mutex<Vec<Fault>>,
    requests: Mutex<Vec<Request>>,
    port: u16,
}

impl Server {
    pub(crate) fn start(file: Vec<u8>, faults: &[Fault]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let faults = Mutex::new(faults.to_vec());
        let state = Arc::new(State { file, faults, requests: Mutex::default(), port });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                // A client that has seen enough closes the connection: no fault of the server's.
                thread::spawn(move || drop(state.serve(stream)));
            }
        });
        Self { port, state }
    }

    pub(crate) fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state.requests.lock().unwrap().clone()
    }
}

impl State {
    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
        let mut words = first.split(' ').map(str::to_owned);
        let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(()) };
        let mut request = Request { method, path, range: None, token: None };
        for line in lines {
            let line = line?;
            let Some((name, value)) = line.split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "range" => request.range = Some(value.to_owned()),
                "authorization" => request.token = Some(value.to_owned()),
                _ => {}
            }
        }
        self.requests.lock().unwrap().push(request.clone());
        if let Some(location) = self.redirect(&request) {
            let linked = self.announcement(None);
            return write!(
                stream,
                "HTTP/1.1 302 Found\r\nLocation: {location}\r\n{linked}Content-Length: 0\r\nConnection: close\r\n\r\n"
            );
        }
        let is_question = request.method == "HEAD";
        let fault = self.next_fault(is_question);
        if is_question {
            self.answer(&mut stream, fault)
        } else {
            self.transfer(&mut stream, &request, fault)
        }
    }

    fn next_fault(&self, is_question: bool) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let at =
            faults.iter().position(|fault| !fault.is_lasting() && fault.is_of_questions() == is_question)?;
        Some(faults.remove(at))
    }

    fn redirect(&self, request: &Request) -> Option<String> {
        let faults = self.faults.lock().unwrap();
        if faults.contains(&Fault::RedirectLoop) {
            return Some(request.path.clone());
        }
        if faults.contains(&Fault::RenamedRepository) && request.path.starts_with("/org/") {
            return Some(request.path.replace("/org/", "/neworg/"));
        }
        if faults.contains(&Fault::RedirectToOtherHost) && !request.path.starts_with("/cdn/") {
            // `localhost` is another host than `127.0.0.1`.
            return Some(format!("http://localhost:{}/cdn/file", self.port));
        }
        None
    }

    /// The headers by which the Hub describes a file.
    fn announcement(&self, fault: Option<Fault>) -> String {
        let etag = match fault {
            Some(Fault::NoEtag) => String::new(),
            Some(Fault::EvilEtag) => "X-Linked-Etag: \"../../evil\"\r\n".to_owned(),
            _ => format!("X-Linked-Etag: \"{}\"\r\n", sha256(&self.file)),
        };
        let commit = if fault == Some(Fault::EvilCommit) { "../../../evil" } else { COMMIT };
        format!("X-Repo-Commit: {commit}\r\n{etag}X-Linked-Size: {}\r\n", self.file.len())
    }

    fn answer(&self, stream: &mut TcpStream, fault: Option<Fault>) -> std::io::Result<()> {
        let head = match fault {
            Some(Fault::Status(status)) => format!("HTTP/1.1 {status} Fault\r\nContent-Length: 0\r\n"),
            Some(Fault::RetryAfter(seconds)) => {
                format!("HTTP/1.1 503 Busy\r\nRetry-After: {seconds}\r\nContent-Length: 0\r\n")
            }
            Some(Fault::Silent) => {
                thread::sleep(Duration::from_secs(3));
                return Ok(());
            }
            Some(Fault::Html) => {
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 20\r\n".to_owned()
            }
            fault => {
                format!(
                    "HTTP/1.1 200 OK\r\n{}Content-Length: {}\r\n",
                    self.announcement(fault),
                    self.file.len()
                )
            }
        };
        write!(stream, "{head}Connection: close\r\n\r\n")
    }

    fn transfer(
        &self,
        stream: &mut TcpStream,
        request: &Request,
        fault: Option<Fault>,
    ) -> std::io::Result<()> {
        let asked = request
            .range
            .as_deref()
            .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let from: usize = asked.filter(|_| fault != Some(Fault::IgnoreRange)).unwrap_or(0);
        let total = self.file.len();
        let mut body = self.file[from.min(total)..].to_vec();
        match fault {
            Some(Fault::OnTransfer(status)) => {
                return write!(
                    stream,
                    "HTTP/1.1 {status} Fault\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
            }
            Some(Fault::HtmlOnTransfer) => body = b"<html>Please sign in</html>".to_vec(),
            Some(Fault::WrongBytes) => body[1000] ^= 1,
            Some(Fault::Longer) => body.extend([0; 1000]),
            Some(Fault::Short) => body.truncate(body.len() / 2),
            Some(Fault::Slow) => thread::sleep(Duration::from_millis(500)),
            _ => {}
        }
        let length = body.len();
        let status = if from > 0 && fault != Some(Fault::HtmlOnTransfer) {
            let start = if fault == Some(Fault::WrongRange) { from - 1 } else { from };
            format!("206 Partial Content\r\nContent-Range: bytes {start}-{}/{total}", total - 1)
        } else {
            "200 OK".to_owned()
        };
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
        match fault {
            Some(Fault::Cut(count)) => stream.write_all(&body[..count.min(length)]),
            Some(Fault::StallAfter(count)) => {
                stream.write_all(&body[..count])?;
                thread::sleep(Duration::from_secs(3));
                Ok(())
            }
            Some(Fault::Drip) => body.chunks(1024).try_for_each(|piece| {
                thread::sleep(Duration::from_millis(100));
                stream.write_all(piece)
            }),
            _ => stream.write_all(&body),
        }
    }
}

/// In hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
