//! Settings of the whole process, made before any thread runs.

/// Makes the settings. Call it first in `main`.
pub(crate) fn prepare() {
    keep_memory();
    one_thread_pool();
    no_backtraces_in_errors();
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

/// Keeps `RUST_BACKTRACE=1` to panics: libraries also put backtraces into the text of errors, which here are answers to
/// input and not faults of the program. `RUST_LIB_BACKTRACE` decides if it is set.
fn no_backtraces_in_errors() {
    if std::env::var_os("RUST_LIB_BACKTRACE").is_none() {
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var("RUST_LIB_BACKTRACE", "0") };
    }
}
