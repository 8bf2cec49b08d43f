//! Rows times panels, register tile by register tile.

#[cfg(target_arch = "x86_64")]
use super::by_hand::NumbersByHand;
use super::pairs::Left;
use super::step::{Numbers, Right, Step, WidenedPairs};
use super::{WIDE, WIDEST, lanes};
use crate::autocast::Precision;
use crate::simd::{SimdLevel, simd_level};
use crate::vector::{Plain, Vector};
use std::ops::Range;

/// Rows of a register tile where there are 32 registers: AVX-512 and NEON.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) const TALL: usize = TALLEST;
/// Rows of a register tile where there are 16, or where pairs of [`WIDE`] vectors are widened into twice as many.
const MIDDLE: usize = 4;
/// Rows of a register tile where there are 16 and pairs are widened.
const LOW: usize = 2;
/// Rows of the tallest register tile.
const TALLEST: usize = 8;
/// Words of the panels that are worked through together: half of what a core's second-level cache holds, at most.
pub(super) const GROUP: usize = 1 << 16;

/// Where the panels of a matrix lie.
#[derive(Clone, Copy)]
pub(super) struct Panels {
    /// The first word.
    pub(super) at: *const f32,
    /// Rows of words.
    pub(super) depth: usize,
    pub(super) cols: usize,
    /// From one row of a panel to the next where the matrix is not packed but row-major.
    pub(super) row: Option<usize>,
}

/// One product: row `i` of the destination begins as the numbers at `from + i · from_row`, or as zeros where `from` is
/// null.
pub(super) struct Job {
    /// What the words of both sides are.
    pub(super) precision: Precision,
    pub(super) x: Left,
    pub(super) rows: usize,
    pub(super) b: Panels,
    /// The columns to write: whole panels, and the last one.
    pub(super) columns: Range<usize>,
    pub(super) from: *const f32,
    pub(super) from_row: usize,
    pub(super) to: *mut f32,
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16,fma")]
unsafe fn avx512_bf16(job: &Job) {
    // SAFETY: the caller's promise is passed on.
    unsafe { job.run::<std::arch::x86_64::__m512, super::step::DottedPairs, TALL>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,fma")]
unsafe fn avx512<S: Step<std::arch::x86_64::__m512>, const ROWS: usize>(job: &Job) {
    // SAFETY: the caller's promise is passed on.
    unsafe { job.run::<std::arch::x86_64::__m512, S, ROWS>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<S: Step<std::arch::x86_64::__m256>, const ROWS: usize>(job: &Job) {
    // SAFETY: the caller's promise is passed on.
    unsafe { job.run::<std::arch::x86_64::__m256, S, ROWS>() }
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
unsafe fn neon<S: Step<std::arch::aarch64::float32x4_t>, const ROWS: usize>(job: &Job) {
    // SAFETY: the caller's promise is passed on.
    unsafe { job.run::<std::arch::aarch64::float32x4_t, S, ROWS>() }
}

impl Job {
    /// # Safety
    /// `x`, `b`, `from`, unless it is null, and `to` reach as far as the sizes say; nobody else looks at what is at `to`.
    pub(super) unsafe fn run_best(&self) {
        // SAFETY: the caller's promise; the level in use is one that the processor has.
        unsafe {
            match (simd_level(), self.precision) {
                #[cfg(target_arch = "x86_64")]
                (SimdLevel::Avx512Bf16, Precision::Bf16) => avx512_bf16(self),
                #[cfg(target_arch = "x86_64")]
                (SimdLevel::Avx512 | SimdLevel::Avx512Bf16, Precision::F32) => {
                    avx512::<NumbersByHand, TALL>(self);
                }
                #[cfg(target_arch = "x86_64")]
                (SimdLevel::Avx512, Precision::Bf16) => avx512::<WidenedPairs, MIDDLE>(self),
                #[cfg(target_arch = "x86_64")]
                (SimdLevel::Avx2, Precision::F32) => avx2::<Numbers, MIDDLE>(self),
                #[cfg(target_arch = "x86_64")]
                (SimdLevel::Avx2, Precision::Bf16) => avx2::<WidenedPairs, LOW>(self),
                #[cfg(target_arch = "aarch64")]
                (SimdLevel::Neon, Precision::F32) => neon::<Numbers, TALL>(self),
                #[cfg(target_arch = "aarch64")]
                (SimdLevel::Neon, Precision::Bf16) => neon::<WidenedPairs, MIDDLE>(self),
                (_, Precision::F32) => self.run::<Plain, Numbers, MIDDLE>(),
                (_, Precision::Bf16) => self.run::<Plain, WidenedPairs, LOW>(),
            }
        }
    }

    /// # Safety
    /// As [`run_best`](Self::run_best); the processor has the instructions of `V` and `S`, for which `b` was packed.
    #[inline(always)]
    unsafe fn run<V: Vector, S: Step<V>, const ROWS: usize>(&self) {
        let (rows, depth) = (self.rows, self.b.depth);
        let panel = WIDE * V::LANES;
        debug_assert_eq!(V::LANES, lanes());
        // The panels of a group stay in the cache while all rows pass by.
        let group = (GROUP / (panel * depth).max(1)).max(1) * panel;
        for first in self.columns.clone().step_by(group) {
            let end = (first + group).min(self.columns.end);
            let mut i = 0;
            // SAFETY: the tiles cover the rows once; each is within the matrices.
            unsafe {
                while i + ROWS <= rows {
                    self.row_of_tiles::<V, S, ROWS>(i, first, end);
                    i += ROWS;
                }
                while i + 2 <= rows {
                    self.row_of_tiles::<V, S, 2>(i, first, end);
                    i += 2;
                }
                if i < rows {
                    self.row_of_tiles::<V, S, 1>(i, first, end);
                }
            }
        }
    }

    /// # Safety
    /// As [`run`](Self::run).
    #[inline(always)]
    unsafe fn row_of_tiles<V: Vector, S: Step<V>, const ROWS: usize>(
        &self,
        i: usize,
        first: usize,
        end: usize,
    ) {
        for j in (first..end).step_by(WIDE * V::LANES) {
            let vectors = (end - j).div_ceil(V::LANES);
            // SAFETY: the caller's promise.
            unsafe {
                match vectors {
                    1 => self.tile::<V, S, ROWS, 1>(i, j, end - j),
                    2 => self.tile::<V, S, ROWS, 2>(i, j, end - j),
                    _ => self.tile::<V, S, ROWS, WIDE>(i, j, end - j),
                }
            }
        }
    }

    /// Rows `i..i + ROWS` and `W` vectors of columns from `j` on, of which `left` are left.
    ///
    /// # Safety
    /// As [`run`](Self::run).
    #[expect(
        clippy::needless_range_loop,
        reason = "the places of sums must be constants once loops are unrolled"
    )]
    #[inline(always)]
    unsafe fn tile<V: Vector, S: Step<V>, const ROWS: usize, const W: usize>(
        &self,
        i: usize,
        j: usize,
        left: usize,
    ) {
        let Left { at, down, along } = self.x;
        let x = Left { at: at.wrapping_add(i * down), down, along };
        // SAFETY: the caller's promise. All places of sums are constants, or they would lie in memory.
        unsafe {
            let b = match self.b.row {
                Some(row) => Right { at: self.b.at.add(j), down: row },
                None => Right { at: self.b.at.add(j * self.b.depth), down: W * V::LANES },
            };
            let mut sums = [[V::splat(0.0); W]; ROWS];
            S::add_products(x, b, self.b.depth, &mut sums);
            if left < W * V::LANES {
                let mut numbers = [0f32; TALLEST * WIDEST];
                for r in 0..ROWS {
                    for w in 0..W {
                        sums[r][w].store(numbers.as_mut_ptr().add((r * W + w) * V::LANES));
                    }
                }
                return self.write_some(&numbers[..ROWS * W * V::LANES], ROWS, i, j, left);
            }
            let to = self.to.add(i * self.b.cols + j);
            if self.from.is_null() {
                for r in 0..ROWS {
                    for w in 0..W {
                        sums[r][w].store(to.add(r * self.b.cols + w * V::LANES));
                    }
                }
            } else {
                let from = self.from.add(i * self.from_row + j);
                for r in 0..ROWS {
                    for w in 0..W {
                        let start = V::load(from.add(r * self.from_row + w * V::LANES));
                        sums[r][w].add(start).store(to.add(r * self.b.cols + w * V::LANES));
                    }
                }
            }
        }
    }

    /// The first `count` columns of a tile's `sums`, added to what the rows start from, to their places.
    ///
    /// # Safety
    /// As [`run`](Self::run) for `rows` rows from `i` and `count` columns from `j` on.
    #[inline(never)]
    unsafe fn write_some(&self, sums: &[f32], rows: usize, i: usize, j: usize, count: usize) {
        for (r, sums) in sums.chunks_exact(sums.len() / rows).enumerate() {
            for (l, sum) in sums[..count].iter().enumerate() {
                // SAFETY: the caller's promise.
                unsafe {
                    let from = self.from.wrapping_add((i + r) * self.from_row + j + l);
                    let start = if self.from.is_null() { 0.0 } else { *from };
                    *self.to.add((i + r) * self.b.cols + j + l) = sum + start;
                }
            }
        }
    }
}
