//! How the C library's allocator treats large buffers.

/// Tells glibc to keep freed memory: a training step frees and takes the same large buffers again and again, and giving
/// them back to the system in between costs a page fault for every 4 KiB. `TADFORMER_MALLOC=system` leaves its defaults.
pub(crate) fn keep_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if std::env::var_os("TADFORMER_MALLOC").is_none_or(|choice| choice != "system") {
        // SAFETY: `mallopt` only sets numbers of the allocator; no other thread runs yet.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30);
            libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
            libc::mallopt(libc::M_TOP_PAD, 64 << 20);
        }
    }
}
