//! Settings of the whole process, made before any thread runs.

/// Makes the settings. Call it first in `main`.
pub(crate) fn prepare() {
    keep_memory();
    one_thread_pool();
    end_quietly_on_a_closed_pipe();
}

/// Tells glibc to keep freed memory: a training step frees and takes the same large buffers again and again, and giving
/// them back to the system in between costs a page fault for every 4 KiB. One arena, so that memory freed by one thread is
/// there for all. `TADFORMER_MALLOC=system` leaves its defaults.
fn keep_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if std::env::var_os("TADFORMER_MALLOC").is_none_or(|choice| choice != "system") {
        // SAFETY: `mallopt` only sets numbers of the allocator; no other thread runs yet.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30);
            libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
            libc::mallopt(libc::M_TOP_PAD, 64 << 20);
            libc::mallopt(libc::M_ARENA_MAX, 1);
        }
    }
}

/// Keeps candle from starting threads of its own beside those of our kernels: its workers wait by spinning, and two pools
/// on the same cores hold each other up. `CANDLE_NUM_THREADS` decides if it is set.
fn one_thread_pool() {
    if std::env::var_os("CANDLE_NUM_THREADS").is_none() {
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
    }
}

/// Lets `tadformer-cli … | head` end as other programs do when nobody reads on.
fn end_quietly_on_a_closed_pipe() {
    #[cfg(unix)]
    // SAFETY: sets the default action of a signal; no other thread runs yet.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}
