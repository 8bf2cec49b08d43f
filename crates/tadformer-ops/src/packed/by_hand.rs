//! The inner loop of the largest register tile for AVX-512, in assembly.
//!
//! Where two threads share a core, what counts is how many instructions there are beside the multiply-adds. A word of depth
//! takes 40 of them here, 24 of which multiply; the compiler's loop takes 48, because it computes the places of the eight
//! rows again for each word.

use super::pairs::Left;
use super::step::{Numbers, Right, Step, add_products};
use super::{WIDE, tiles::TALL};
use std::arch::asm;
use std::arch::x86_64::__m512;

/// [`Numbers`] with a loop by hand for whole tiles.
pub(super) struct NumbersByHand;

// SAFETY: the assembly is AVX-512F, which `__m512` stands for; it reads what the trait says.
unsafe impl Step<__m512> for NumbersByHand {
    #[inline(always)]
    unsafe fn step(x: __m512, b: __m512, sum: __m512) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { <Numbers as Step<__m512>>::step(x, b, sum) }
    }

    #[inline(always)]
    unsafe fn add_products<const ROWS: usize, const W: usize>(
        x: Left,
        b: Right,
        depth: usize,
        sums: &mut [[__m512; W]; ROWS],
    ) {
        const { assert!(TALL == 8 && WIDE == 3, "the loops have eight rows and three vectors written out") };
        const { assert!(AHEAD.is_multiple_of(8), "an address has the distance in eighths") };
        // SAFETY: the caller's promise. The loops get a whole tile's sums, and rows or columns that lie as they read them.
        unsafe {
            match x {
                _ if (ROWS, W) != (TALL, WIDE) => add_products::<_, Self, ROWS, W>(x, b, depth, sums),
                Left { along: 1, .. } => beside(x, b, depth, sums.as_mut_ptr().cast()),
                Left { down: 1, .. } => below(x, b, depth, sums.as_mut_ptr().cast()),
                _ => add_products::<_, Self, ROWS, W>(x, b, depth, sums),
            }
        }
    }
}

/// Rows of a panel between asking for words and needing them: as long as the third-level cache takes.
const AHEAD: usize = 16;

/// A row's number times three vectors of the panel.
#[rustfmt::skip]
macro_rules! row {
    ($x:expr, $a:literal, $b:literal, $c:literal) => {
        concat!(
            "vbroadcastss zmm27, dword ptr [", $x, "]\n",
            "vfmadd231ps ", $a, ", zmm27, zmm24\n",
            "vfmadd231ps ", $b, ", zmm27, zmm25\n",
            "vfmadd231ps ", $c, ", zmm27, zmm26\n",
        )
    };
}

/// One word of depth: eight rows, whose numbers are at the given places.
macro_rules! word {
    ($x0:expr, $x1:expr, $x2:expr, $x3:expr, $x4:expr, $x5:expr, $x6:expr, $x7:expr) => {
        concat!(
            "vmovups zmm24, zmmword ptr [{b}]\n",
            "vmovups zmm25, zmmword ptr [{b} + 64]\n",
            "vmovups zmm26, zmmword ptr [{b} + 128]\n",
            "prefetcht0 byte ptr [{b} + 8*{ahead}]\n",
            "prefetcht0 byte ptr [{b} + 8*{ahead} + 64]\n",
            "prefetcht0 byte ptr [{b} + 8*{ahead} + 128]\n",
            row!($x0, "zmm0", "zmm1", "zmm2"),
            row!($x1, "zmm3", "zmm4", "zmm5"),
            row!($x2, "zmm6", "zmm7", "zmm8"),
            row!($x3, "zmm9", "zmm10", "zmm11"),
            row!($x4, "zmm12", "zmm13", "zmm14"),
            row!($x5, "zmm15", "zmm16", "zmm17"),
            row!($x6, "zmm18", "zmm19", "zmm20"),
            row!($x7, "zmm21", "zmm22", "zmm23"),
            "add {b}, {b_row}\n",
        )
    };
}

/// Four words at a time, then the others.
macro_rules! run {
    ($fours:expr, $one:expr, $b:ident, $depth:ident, $sums:ident, $($operands:tt)*) => {
        asm!(
            "test {fours}, {fours}",
            "jz 3f",
            "2:",
            $fours,
            "dec {fours}",
            "jnz 2b",
            "3:",
            "test {ones}, {ones}",
            "jz 5f",
            "4:",
            $one,
            "dec {ones}",
            "jnz 4b",
            "5:",
            $($operands)*
            b = inout(reg) $b.at => _,
            ahead = in(reg) AHEAD / 8 * $b.down * size_of::<f32>(),
            b_row = in(reg) $b.down * size_of::<f32>(),
            fours = inout(reg) $depth / 4 => _,
            ones = inout(reg) $depth % 4 => _,
            inout("zmm0") *$sums, inout("zmm1") *$sums.add(1), inout("zmm2") *$sums.add(2),
            inout("zmm3") *$sums.add(3), inout("zmm4") *$sums.add(4), inout("zmm5") *$sums.add(5),
            inout("zmm6") *$sums.add(6), inout("zmm7") *$sums.add(7), inout("zmm8") *$sums.add(8),
            inout("zmm9") *$sums.add(9), inout("zmm10") *$sums.add(10), inout("zmm11") *$sums.add(11),
            inout("zmm12") *$sums.add(12), inout("zmm13") *$sums.add(13), inout("zmm14") *$sums.add(14),
            inout("zmm15") *$sums.add(15), inout("zmm16") *$sums.add(16), inout("zmm17") *$sums.add(17),
            inout("zmm18") *$sums.add(18), inout("zmm19") *$sums.add(19), inout("zmm20") *$sums.add(20),
            inout("zmm21") *$sums.add(21), inout("zmm22") *$sums.add(22), inout("zmm23") *$sums.add(23),
            out("zmm24") _, out("zmm25") _, out("zmm26") _, out("zmm27") _,
            options(nostack, readonly),
        )
    };
}

/// The numbers of a row lie side by side.
///
/// # Safety
/// As [`Step::add_products`], with [`Left::along`] 1; `sums` are the 24 of a whole tile.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn beside(x: Left, b: Right, depth: usize, sums: *mut __m512) {
    macro_rules! at {
        ($ahead:literal) => {
            word!(
                concat!("{x} + ", $ahead),
                concat!("{x} + {d} + ", $ahead),
                concat!("{x} + 2*{d} + ", $ahead),
                concat!("{x} + {d3} + ", $ahead),
                concat!("{x} + 4*{d} + ", $ahead),
                concat!("{x5} + ", $ahead),
                concat!("{x} + 2*{d3} + ", $ahead),
                concat!("{x5} + 2*{d} + ", $ahead)
            )
        };
    }
    // SAFETY: the caller's promise.
    unsafe {
        run!(
            concat!(at!(0), at!(4), at!(8), at!(12), "add {x}, 16\n", "add {x5}, 16\n"),
            concat!(at!(0), "add {x}, 4\n", "add {x5}, 4\n"),
            b, depth, sums,
            x = inout(reg) x.at => _,
            x5 = inout(reg) x.at.wrapping_add(5 * x.down) => _,
            d = in(reg) x.down * size_of::<f32>(),
            d3 = in(reg) 3 * x.down * size_of::<f32>(),
        );
    }
}

/// The numbers of a column lie side by side.
///
/// # Safety
/// As [`beside`], with [`Left::down`] 1 instead.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn below(x: Left, b: Right, depth: usize, sums: *mut __m512) {
    macro_rules! next {
        () => {
            concat!(
                word!(
                    "{x}", "{x} + 4", "{x} + 8", "{x} + 12", "{x} + 16", "{x} + 20", "{x} + 24", "{x} + 28"
                ),
                "add {x}, {along}\n",
            )
        };
    }
    // SAFETY: the caller's promise.
    unsafe {
        run!(
            concat!(next!(), next!(), next!(), next!()),
            next!(),
            b, depth, sums,
            x = inout(reg) x.at => _,
            along = in(reg) x.along * size_of::<f32>(),
        );
    }
}
