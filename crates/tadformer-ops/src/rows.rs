//! Rows shared out among threads in blocks of fixed size, so that no result depends on how many threads there are.

use crate::simd::{Kernel, vectorize};
use crate::vector::{Level, Vector};
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// Numbers a task: enough to be worth waking a thread, and few enough for a core's cache.
const BLOCK: usize = 1 << 14;

/// Numbers that are zeroed and written at a time: few enough to stay in the first-level cache between the two.
const ZEROED: usize = 1 << 11;

/// Rows a task when rows are summed.
const SUMMED: usize = 64;

/// Into how many parts a sum over rows is cut, at most.
const PARTS: usize = 32;

/// Fewer numbers than this are worked through by the calling thread: waking others would cost more.
const SERIAL: usize = 1 << 14;

/// `len` numbers in memory that nothing wrote before `write`.
///
/// # Safety
/// `write` writes every number.
pub(crate) unsafe fn fresh(len: usize, write: impl FnOnce(&mut [MaybeUninit<f32>])) -> Vec<f32> {
    let mut values = Vec::with_capacity(len);
    write(&mut values.spare_capacity_mut()[..len]);
    // SAFETY: the caller's promise.
    unsafe { values.set_len(len) };
    values
}

/// The numbers in memory that was written.
///
/// # Safety
/// Every number was written.
pub(crate) unsafe fn written(space: &mut [MaybeUninit<f32>]) -> &mut [f32] {
    // SAFETY: the caller's promise; `MaybeUninit` has the layout of what it holds.
    unsafe { &mut *(std::ptr::from_mut(space) as *mut [f32]) }
}

/// Copies numbers into memory that need not hold any yet.
pub(crate) fn copy_into<'d>(space: &'d mut [MaybeUninit<f32>], from: &[f32]) -> &'d mut [f32] {
    assert_eq!(space.len(), from.len(), "numbers to copy");
    space.iter_mut().zip(from).for_each(|(place, x)| {
        place.write(*x);
    });
    // SAFETY: they were just written.
    unsafe { written(space) }
}

/// `len` numbers in rows of `row`, written by `kernel(first_row, rows)` for consecutive blocks of rows.
///
/// Rows are zeroed by the thread that writes them, a few at a time and just before: cheaper than a pass of its own.
pub(crate) fn make(len: usize, row: usize, kernel: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    let rows = (BLOCK / row.max(1)).max(1);
    let few = (ZEROED / row.max(1)).max(1);
    let write = |(i, block): (usize, &mut [MaybeUninit<f32>])| {
        for (j, part) in block.chunks_mut((few * row).max(1)).enumerate() {
            part.fill(MaybeUninit::new(0.0));
            // SAFETY: every number of the part was just written.
            kernel(i * rows + j * few, unsafe { written(part) });
        }
    };
    // SAFETY: the blocks cover all of it.
    unsafe {
        fresh(len, |space| {
            if len <= SERIAL {
                space.chunks_mut((rows * row).max(1)).enumerate().for_each(write);
            } else {
                space.par_chunks_mut(rows * row).enumerate().for_each(write);
            }
        })
    }
}

/// [`for_blocks`] that also sums over rows: `kernel(first_row, rows_of_dst, sum)` adds to a fresh sum of `width` zeros; the
/// blocks' sums are added in their order.
pub(crate) fn make_and_sum(
    len: usize,
    row: usize,
    width: usize,
    kernel: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) -> (Vec<f32>, Vec<f32>) {
    let mut values = zeros(len);
    let rows = (len / row.max(1)).div_ceil(PARTS).max(SUMMED);
    let part = |(i, block): (usize, &mut [f32])| {
        let mut sum = vec![0f32; width];
        kernel(i * rows, block, &mut sum);
        sum
    };
    let size = (rows * row).max(1);
    let parts: Vec<Vec<f32>> = if len <= SERIAL {
        values.chunks_mut(size).enumerate().map(part).collect()
    } else {
        values.par_chunks_mut(size).enumerate().map(part).collect()
    };
    (values, add_up(parts, width))
}

/// `len` zeros, written by all threads: the pages of new memory are set up side by side.
pub(crate) fn zeros(len: usize) -> Vec<f32> {
    make(len, 1, |_, _| {})
}

/// Calls `kernel(first_row, rows_of_dst)` for consecutive blocks of rows of `dst`.
pub(crate) fn for_blocks(dst: &mut [f32], row: usize, kernel: impl Fn(usize, &mut [f32]) + Sync) {
    let rows = (BLOCK / row.max(1)).max(1);
    if dst.len() <= SERIAL {
        dst.chunks_mut((rows * row).max(1)).enumerate().for_each(|(i, block)| kernel(i * rows, block));
    } else {
        dst.par_chunks_mut((rows * row).max(1)).enumerate().for_each(|(i, block)| kernel(i * rows, block));
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
    let block = rows.div_ceil(PARTS).max(SUMMED);
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
    add_up(parts, width)
}

/// The sum of `parts`, in their order.
pub(crate) fn add_up(parts: Vec<Vec<f32>>, width: usize) -> Vec<f32> {
    make(width, 1, |first, total| {
        for part in &parts {
            vectorize(AddTo(&part[first..][..total.len()], total));
        }
    })
}

/// Adds the first slice to the second.
pub(crate) struct AddTo<'a>(pub(crate) &'a [f32], pub(crate) &'a mut [f32]);

impl Kernel for AddTo<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: Level<V>) {
        let Self(xs, sum) = self;
        sum.iter_mut().zip(xs).for_each(|(sum, x)| *sum += x);
    }
}

/// Rows of one buffer that several tasks write, each its own.
pub(crate) struct SharedRows<'a, T = f32> {
    start: *mut T,
    rows: usize,
    width: usize,
    _borrow: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: rows are handed out only through `row`, whose caller promises that no row is held twice.
unsafe impl<T: Send> Sync for SharedRows<'_, T> {}

impl<'a, T> SharedRows<'a, T> {
    /// The rows of `buffer`, each `width` wide.
    pub(crate) fn new(buffer: &'a mut [T], width: usize) -> Self {
        let rows = buffer.len().checked_div(width).unwrap_or(0);
        Self { start: buffer.as_mut_ptr(), rows, width, _borrow: std::marker::PhantomData }
    }

    /// Row `index`.
    ///
    /// # Safety
    /// Nobody else holds this row.
    #[expect(clippy::mut_from_ref, reason = "each row is exclusive by the caller's promise")]
    pub(crate) unsafe fn row(&self, index: usize) -> &mut [T] {
        // SAFETY: the caller's promise.
        unsafe { self.rows(index, 1) }
    }

    /// Rows `first` up to `count` of them.
    ///
    /// # Safety
    /// Nobody else holds any of them.
    #[expect(clippy::mut_from_ref, reason = "each row is exclusive by the caller's promise")]
    pub(crate) unsafe fn rows(&self, first: usize, count: usize) -> &mut [T] {
        if self.width == 0 {
            return &mut [];
        }
        let within = first <= self.rows && count <= self.rows - first;
        assert!(within, "{count} rows from {first} on of {}", self.rows);
        // SAFETY: the rows lie within the buffer, and the caller promises that each is held once.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(first * self.width), count * self.width) }
    }
}
