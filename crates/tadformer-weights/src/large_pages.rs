//! Fewer page faults for memory that is about to be filled.

/// Asks for large pages behind the room that `vector` has left.
///
/// The first write to each 4 KiB of fresh memory is a page fault, and those together take longer than to copy what is
/// written. Linux faults in 2 MiB at once where it is told that this is welcome; elsewhere nothing happens.
pub(crate) fn welcome_large_pages<T>(vector: &mut Vec<T>) {
    #[cfg(target_os = "linux")]
    advise(vector.spare_capacity_mut());
    #[cfg(not(target_os = "linux"))]
    let _ = vector;
}

#[cfg(target_os = "linux")]
fn advise<T>(memory: &mut [T]) {
    /// Less is not worth a call.
    const LEAST: usize = 256 << 10;
    /// No Linux has smaller pages. Where they are larger the advice is refused, which costs nothing but speed.
    const PAGE: usize = 4 << 10;

    let bytes = size_of_val(memory);
    if bytes < LEAST {
        return;
    }
    // Out to whole pages, so that neighbours become one range.
    let first = memory.as_mut_ptr();
    let start = first.addr() / PAGE * PAGE;
    let end = (first.addr() + bytes).next_multiple_of(PAGE);
    // SAFETY: the pages hold the slice, and advice does not change what is in them.
    unsafe { libc::madvise(first.with_addr(start).cast(), end - start, libc::MADV_HUGEPAGE) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_stays_what_it_was() {
        for len in [0, 1, 100_000, 1_000_003] {
            let mut vector = vec![0.5f32];
            vector.reserve_exact(len);
            let (at, room) = (vector.as_ptr(), vector.capacity());
            welcome_large_pages(&mut vector);
            assert_eq!((vector.as_ptr(), vector.capacity(), vector.len()), (at, room, 1));
            vector.resize(1 + len, 1.5);
            assert!(vector[0] == 0.5 && vector[1..].iter().all(|x| *x == 1.5));
        }
    }
}
