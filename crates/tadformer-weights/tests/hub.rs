//! Downloads from a server that speaks the Hub's endpoints, well and badly.
#![cfg(feature = "hub")]

mod hub_server;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hub_server::{COMMIT, Fault, Server, sha256};
use tadformer_weights::hub::{Limits, Progress, Settings, fetch_with};
use tadformer_weights::{Error, Source};

struct Case {
    folder: tempfile::TempDir,
    server: Server,
    settings: Settings,
    source: Source,
}

/// 300 kB that no two positions of which look alike.
fn weights() -> Vec<u8> {
    (0..75_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

impl Case {
    fn new(faults: &[Fault]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(weights(), faults);
        let limits = Limits {
            silence: Duration::from_millis(700),
            min_rate: 64 * 1024,
            window: Duration::from_millis(600),
            retries: 3,
            pause: Duration::from_millis(10),
            lock: Duration::from_secs(20),
        };
        let settings = Settings {
            cache: folder.path().join("hub"),
            endpoint: server.address(),
            token: Some("hf_secret".into()),
            offline: false,
            limits,
        };
        let source = Source {
            repo: "org/swin".into(),
            revision: "main".into(),
            file: "model.safetensors".into(),
            sha256: None,
        };
        Self { folder, server, settings, source }
    }

    fn fetch(&self) -> Result<PathBuf, Error> {
        fetch_with(&self.settings, &self.source, &mut ())
    }

    fn repo(&self) -> PathBuf {
        self.settings.cache.join("models--org--swin")
    }

    fn blobs(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.repo().join("blobs")) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn part(&self) -> PathBuf {
        self.repo().join("blobs").join(format!("{}.tadformer.part", sha256(&weights())))
    }

    /// Puts a partial file in place, as a killed process leaves it.
    fn leave_part(&self, bytes: &[u8]) {
        std::fs::create_dir_all(self.repo().join("blobs")).unwrap();
        std::fs::write(self.part(), bytes).unwrap();
    }

    /// The file arrives, whole and under the cache's names.
    fn check_arrives(&self) {
        let path = self.fetch().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), weights());
        assert_eq!(path, self.repo().join("snapshots").join(COMMIT).join("model.safetensors"));
        assert_eq!(std::fs::read_to_string(self.repo().join("refs/main")).unwrap(), COMMIT);
        assert_eq!(self.blobs(), [sha256(&weights())]);
        #[cfg(unix)]
        assert_eq!(std::fs::read_link(&path).unwrap(), Path::new("../../blobs").join(sha256(&weights())));
    }

    /// The download fails for `reason`, in time, and nothing has got the file's name.
    fn check_refused(&self, reason: &str) {
        let begun = Instant::now();
        let message = self.fetch().unwrap_err().to_string();
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}: {message}", begun.elapsed());
        assert!(message.contains(reason), "expected `{reason}` in: {message}");
        assert!(message.contains("org/swin/model.safetensors"), "{message}");
        assert!(!message.contains("hf_secret"), "{message}");
        assert!(self.blobs().iter().all(|name| name.ends_with(".part")), "{:?}", self.blobs());
        assert!(!self.repo().join("snapshots").exists());
    }
}

#[test]
fn a_file_arrives_and_is_not_fetched_again() {
    let case = Case::new(&[]);
    case.check_arrives();
    let requests = case.server.requests().len();
    assert_eq!(requests, 2, "one question, one transfer");
    case.check_arrives();
    assert_eq!(case.server.requests().len(), requests);
}

#[test]
fn a_file_arrives_through_a_redirect_and_the_token_stays_behind() {
    let case = Case::new(&[Fault::RedirectToOtherHost]);
    case.check_arrives();
    let elsewhere: Vec<_> =
        case.server.requests().into_iter().filter(|r| r.path.starts_with("/cdn/")).collect();
    assert_eq!(elsewhere.len(), 1);
    assert!(elsewhere.iter().all(|request| request.token.is_none()));
    let home = case.server.requests().into_iter().filter(|r| !r.path.starts_with("/cdn/"));
    assert!(home.map(|request| request.token).all(|token| token.as_deref() == Some("Bearer hf_secret")));
}

#[test]
fn a_renamed_repository_is_followed() {
    let case = Case::new(&[Fault::RenamedRepository]);
    case.check_arrives();
}

#[test]
fn endless_redirects_end() {
    Case::new(&[Fault::RedirectLoop]).check_refused("more than 5 redirects");
}

#[test]
fn a_cut_transfer_is_taken_up_where_it_ended() {
    let case = Case::new(&[Fault::Cut(100_000), Fault::Cut(50_000)]);
    case.check_arrives();
    let ranges: Vec<_> = case.server.requests().into_iter().filter_map(|request| request.range).collect();
    assert_eq!(ranges, ["bytes=100000-", "bytes=150000-"]);
}

#[test]
fn a_transfer_that_is_cut_each_time_is_given_up_and_resumed_later() {
    let case = Case::new(&[Fault::Cut(10_000), Fault::Cut(10_000), Fault::Cut(10_000), Fault::Cut(10_000)]);
    case.check_refused("given up after 4 attempts");
    assert_eq!(std::fs::metadata(case.part()).unwrap().len(), 40_000);
    case.check_arrives();
}

#[test]
fn a_short_body_that_claims_to_be_whole_is_refused() {
    let case = Case::new(&[Fault::Short; 8]);
    case.check_refused("the transfer ended after");
}

#[test]
fn wrong_bytes_are_refused_and_not_kept() {
    let case = Case::new(&[Fault::WrongBytes]);
    case.check_refused("its SHA-256 is");
    assert!(case.blobs().is_empty());
    case.check_arrives();
}

#[test]
fn a_longer_body_is_refused() {
    Case::new(&[Fault::Longer]).check_refused("bytes arrived, 300000 were announced");
}

#[test]
fn a_pinned_checksum_must_be_the_hubs() {
    let mut case = Case::new(&[]);
    case.source.sha256 = Some("0".repeat(64));
    case.check_refused("it was replaced");
    case.source.sha256 = Some(sha256(&weights()));
    case.check_arrives();
}

#[test]
fn refusals_say_what_to_do() {
    Case::new(&[Fault::Status(404)]).check_refused("no such repository, revision or file");
    Case::new(&[Fault::Status(401)]).check_refused("private or gated");
    Case::new(&[Fault::Status(403)]).check_refused("private or gated");
    let mut case = Case::new(&[Fault::Status(401)]);
    case.settings.token = None;
    case.check_refused("set HF_TOKEN");
    Case::new(&[Fault::Status(418)]).check_refused("status 418");
    // A proxy's own refusal, for addresses without encryption.
    let case = Case::new(&[Fault::Status(407)]);
    case.check_refused("wants a name and a password (status 407)");
    assert_eq!(case.server.requests().len(), 1, "asked again");
}

#[test]
fn a_busy_server_is_asked_again() {
    let case = Case::new(&[Fault::Status(429), Fault::Status(503), Fault::Status(500)]);
    case.check_arrives();
    let case = Case::new(&[Fault::OnTransfer(429), Fault::OnTransfer(503)]);
    case.check_arrives();
    Case::new(&[Fault::Status(503); 4]).check_refused("status 503");
    Case::new(&[Fault::OnTransfer(500); 4]).check_refused("status 500");
}

#[test]
fn retry_after_is_honoured_within_reason() {
    // 100 s are asked for; 60 pauses of 10 ms are granted.
    let case = Case::new(&[Fault::RetryAfter(100)]);
    let begun = Instant::now();
    case.check_arrives();
    assert!((Duration::from_millis(600)..Duration::from_secs(10)).contains(&begun.elapsed()));
}

#[test]
fn a_dripping_server_is_given_up() {
    Case::new(&[Fault::Drip; 4]).check_refused("less than 65536 a second");
}

#[test]
fn a_silent_server_is_given_up() {
    Case::new(&[Fault::Silent; 8]).check_refused("given up after 4 attempts");
    let case = Case::new(&[Fault::StallAfter(70_000)]);
    case.check_arrives();
}

#[test]
fn a_page_instead_of_a_file_is_refused() {
    Case::new(&[Fault::Html]).check_refused("is not that of a Hub");
    Case::new(&[Fault::HtmlOnTransfer; 8]).check_refused("bytes");
}

#[test]
fn a_file_without_checksum_is_refused_unless_pinned() {
    Case::new(&[Fault::NoEtag]).check_refused("has no `ETag`");
    let mut case = Case::new(&[Fault::NoEtag]);
    case.source.sha256 = Some(sha256(&weights()));
    case.check_arrives();
}

#[test]
fn names_that_would_leave_the_cache_are_refused() {
    Case::new(&[Fault::EvilEtag]).check_refused("the `ETag` is `../../evil`");
    Case::new(&[Fault::EvilCommit]).check_refused("expected 40 hexadecimal digits");
}

#[test]
fn a_range_that_was_not_asked_for_is_refused() {
    let case = Case::new(&[Fault::WrongRange]);
    case.leave_part(&weights()[..1000]);
    case.check_refused("bytes from 1000 on were asked for");
}

#[test]
fn a_server_without_ranges_sends_the_whole_file() {
    let case = Case::new(&[Fault::IgnoreRange]);
    case.leave_part(&weights()[..1000]);
    case.check_arrives();
}

#[test]
fn what_a_killed_process_left_is_resumed_or_replaced() {
    let whole = weights();
    let case = Case::new(&[]);
    case.leave_part(&whole[..123_456]);
    case.check_arrives();
    assert!(case.server.requests().iter().any(|request| request.range.as_deref() == Some("bytes=123456-")));

    let case = Case::new(&[]);
    case.leave_part(&whole);
    case.check_arrives();
    assert_eq!(case.server.requests().len(), 1, "nothing was left to transfer");

    // Damaged: the checksum tells, and the file is fetched from its beginning.
    let case = Case::new(&[]);
    case.leave_part(&[0; 123_456]);
    case.check_arrives();

    let case = Case::new(&[]);
    case.leave_part(&vec![7; whole.len() + 1]);
    case.check_arrives();
}

#[test]
fn a_damaged_blob_in_the_cache_is_replaced() {
    let case = Case::new(&[]);
    case.check_arrives();
    let blob = case.repo().join("blobs").join(sha256(&weights()));
    std::fs::write(&blob, b"half a file").unwrap();
    case.check_arrives();
    // A blob without its link: killed between the two.
    std::fs::remove_dir_all(case.repo().join("snapshots")).unwrap();
    let transfers = case.server.requests().iter().filter(|request| request.method == "GET").count();
    case.check_arrives();
    let again = case.server.requests().iter().filter(|request| request.method == "GET").count();
    assert_eq!(transfers, again);
}

#[test]
fn offline_means_the_cache_alone() {
    let mut case = Case::new(&[]);
    case.settings.offline = true;
    case.check_refused("HF_HUB_OFFLINE is set");
    assert!(case.server.requests().is_empty());
    case.settings.offline = false;
    case.check_arrives();
    case.settings.offline = true;
    case.settings.endpoint = "http://127.0.0.1:1".into();
    case.check_arrives();
    std::fs::write(case.repo().join("blobs").join(sha256(&weights())), b"damaged").unwrap();
    let message = case.fetch().unwrap_err().to_string();
    assert!(message.contains("delete it and download it again"), "{message}");
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let mut case = Case::new(&[]);
    case.settings.endpoint = "http://127.0.0.1:1".into();
    case.check_refused("http://127.0.0.1:1/org/swin/resolve/main");
}

#[test]
fn downloads_of_one_file_make_one_transfer() {
    let case = Case::new(&[Fault::Slow]);
    std::thread::scope(|scope| {
        let fetches: Vec<_> = (0..4).map(|_| scope.spawn(|| case.fetch().unwrap())).collect();
        for fetch in fetches {
            assert_eq!(std::fs::read(fetch.join().unwrap()).unwrap(), weights());
        }
    });
    assert_eq!(case.server.requests().iter().filter(|request| request.method == "GET").count(), 1);
}

#[test]
fn a_download_waits_for_another_process_and_says_so() {
    let mut case = Case::new(&[]);
    case.settings.limits.lock = Duration::from_millis(200);
    let locks = case.settings.cache.join(".locks/models--org--swin");
    std::fs::create_dir_all(&locks).unwrap();
    let lock = std::fs::File::create(locks.join(format!("{}.lock", sha256(&weights())))).unwrap();
    lock.lock().unwrap();
    case.check_refused("another process has been downloading it");
    // The system frees the lock of a process that ends.
    drop(lock);
    case.check_arrives();
}

#[cfg(unix)]
#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let case = Case::new(&[]);
    // A file where the folder should be: fails for every user, root too.
    std::fs::write(case.folder.path().join("hub"), b"").unwrap();
    let message = case.fetch().unwrap_err().to_string();
    assert!(message.contains("cannot create") && message.contains("hub"), "{message}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named_and_nothing_gets_the_files_name() {
    let case = Case::new(&[]);
    case.leave_part(b"");
    std::fs::remove_file(case.part()).unwrap();
    // Each write to it fails with "no space left".
    std::os::unix::fs::symlink("/dev/full", case.part()).unwrap();
    let message = case.fetch().unwrap_err().to_string();
    assert!(message.contains("set HF_HOME to another disk"), "{message}");
    assert!(!case.repo().join("snapshots").exists());
}

#[derive(Default)]
struct Heard {
    have: Vec<u64>,
    received: u64,
    notes: Vec<String>,
    finished: usize,
}

impl Progress for Heard {
    fn started(&mut self, file: &str, size: Option<u64>, have: u64) {
        assert_eq!((file, size), ("org/swin/model.safetensors", Some(300_000)));
        self.have.push(have);
    }

    fn received(&mut self, bytes: u64) {
        self.received += bytes;
    }

    fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }

    fn finished(&mut self) {
        self.finished += 1;
    }
}

#[test]
fn progress_is_told() {
    let case = Case::new(&[Fault::Status(503)]);
    case.leave_part(&weights()[..1000]);
    let mut heard = Heard::default();
    fetch_with(&case.settings, &case.source, &mut heard).unwrap();
    assert_eq!((heard.have, heard.received, heard.finished), (vec![1000], 299_000, 1));
    assert!(
        heard.notes[0].contains("status 503") && heard.notes[0].contains("trying again"),
        "{:?}",
        heard.notes
    );
}
