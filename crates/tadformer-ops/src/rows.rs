//! Rows shared out among threads in blocks of fixed size, so that no result depends on how many threads there are.

use rayon::prelude::*;

/// Numbers a task: enough to be worth waking a thread, and few enough for a core's cache.
const BLOCK: usize = 1 << 14;

/// Rows a task when rows are summed.
const SUMMED: usize = 64;

/// Fewer numbers than this are worked through by the calling thread: waking others would cost more.
const SERIAL: usize = 1 << 14;

/// Calls `kernel(first_row, rows_of_dst)` for consecutive blocks of rows of `dst`.
pub(crate) fn for_blocks(dst: &mut [f32], row: usize, kernel: impl Fn(usize, &mut [f32]) + Sync) {
    let rows = (BLOCK / row.max(1)).max(1);
    if dst.len() <= SERIAL {
        dst.chunks_mut(rows * row).enumerate().for_each(|(i, block)| kernel(i * rows, block));
    } else {
        dst.par_chunks_mut(rows * row).enumerate().for_each(|(i, block)| kernel(i * rows, block));
    }
}

/// Sums over rows: `kernel(first_row, last_row, sum)` adds rows to a fresh sum of `width` zeros; the blocks' sums are
/// added in their order.
pub(crate) fn sum_blocks(
    rows: usize,
    width: usize,
    kernel: impl Fn(usize, usize, &mut [f32]) + Sync,
) -> Vec<f32> {
    // Few large blocks: each costs `width` floats.
    let block = rows.div_ceil(32).max(SUMMED);
    let part = |i: usize| {
        let mut sum = vec![0f32; width];
        kernel(i * block, ((i + 1) * block).min(rows), &mut sum);
        sum
    };
    let blocks = 0..rows.div_ceil(block);
    let parts: Vec<Vec<f32>> = if rows * width <= SERIAL {
        blocks.map(part).collect()
    } else {
        blocks.into_par_iter().map(part).collect()
    };
    let mut total = vec![0f32; width];
    for part in parts {
        for (total, part) in total.iter_mut().zip(part) {
            *total += part;
        }
    }
    total
}

/// Rows of one buffer that several tasks write, each its own.
pub(crate) struct SharedRows<'a> {
    start: *mut f32,
    rows: usize,
    width: usize,
    _borrow: std::marker::PhantomData<&'a mut [f32]>,
}

// SAFETY: rows are handed out only through `row`, whose caller promises that no row is held twice.
unsafe impl Sync for SharedRows<'_> {}

impl<'a> SharedRows<'a> {
    /// The rows of `buffer`, each of `width` numbers.
    pub(crate) fn new(buffer: &'a mut [f32], width: usize) -> Self {
        let rows = buffer.len().checked_div(width).unwrap_or(0);
        Self { start: buffer.as_mut_ptr(), rows, width, _borrow: std::marker::PhantomData }
    }

    /// Row `index`.
    ///
    /// # Safety
    /// Nobody else holds this row.
    #[expect(clippy::mut_from_ref, reason = "each row is exclusive by the caller's promise")]
    pub(crate) unsafe fn row(&self, index: usize) -> &mut [f32] {
        if self.width == 0 {
            return &mut [];
        }
        assert!(index < self.rows, "row {index} of {}", self.rows);
        // SAFETY: the row lies within the buffer, and the caller promises that it is held once.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(index * self.width), self.width) }
    }
}
