//! Sums of f64 that do not depend on the order of their terms.
//!
//! Shewchuk, "Adaptive Precision Floating-Point Arithmetic and Fast Robust Geometric Predicates"
//! (1997): the exact sum is kept as a short list of floats that do not overlap, and is
//! rounded once, when it is read. A meter adds one term an image, so the list costs nothing.

/// An exact running sum.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ExactSum {
    /// Floats without common bits, smallest magnitude first; their exact sum is the value.
    parts: Vec<f64>,
}

impl ExactSum {
    /// Adds a finite term.
    pub(crate) fn add(&mut self, term: f64) {
        debug_assert!(term.is_finite(), "meters refuse what is not finite before they sum");
        let mut carry = term;
        let mut kept = 0;
        for i in 0..self.parts.len() {
            let (sum, rest) = two_sum(carry, self.parts[i]);
            if rest != 0.0 {
                self.parts[kept] = rest;
                kept += 1;
            }
            carry = sum;
        }
        self.parts.truncate(kept);
        if carry != 0.0 {
            self.parts.push(carry);
        }
    }

    /// Adds every term of another sum.
    pub(crate) fn merge(&mut self, other: &Self) {
        for &part in &other.parts {
            self.add(part);
        }
    }

    /// The exact sum, rounded to the nearest f64, ties to even.
    pub(crate) fn value(&self) -> f64 {
        let mut parts = self.parts.iter().rev().copied();
        let mut sum = parts.next().unwrap_or(0.0);
        let mut rest = 0.0;
        for part in parts.by_ref() {
            (sum, rest) = two_sum(sum, part);
            if rest != 0.0 {
                break;
            }
        }
        // `sum` is off by `rest` and what follows. Rounding went wrong only if `rest` is exactly half
        // a unit of `sum` (then doubling it moves `sum` exactly) and the next part leans the same way.
        if let Some(next) = parts.next()
            && rest.is_sign_positive() == next.is_sign_positive()
        {
            let doubled = 2.0 * rest;
            let moved = sum + doubled;
            if moved - sum == doubled {
                return moved;
            }
        }
        sum
    }
}

/// `a + b` rounded, and what the rounding lost, exactly (Knuth's two-sum).
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let b_in_sum = sum - a;
    let a_in_sum = sum - b_in_sum;
    (sum, (a - a_in_sum) + (b - b_in_sum))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(terms: &[f64]) -> f64 {
        let mut sum = ExactSum::default();
        for &term in terms {
            sum.add(term);
        }
        sum.value()
    }

    #[test]
    fn nothing_is_lost_to_cancellation() {
        assert_eq!(sum(&[]), 0.0);
        assert_eq!(sum(&[1e100, 1.0, -1e100]), 1.0);
        assert_eq!(sum(&[0.1; 10]), 1.0);
        assert_eq!(sum(&[1e16, 1.0, 1e-16]), 1e16 + 2.0);
    }

    #[test]
    fn a_tie_rounds_to_even_unless_more_follows() {
        let half = f64::EPSILON / 2.0;
        assert_eq!(sum(&[1.0, half]), 1.0);
        assert_eq!(sum(&[1.0, half, half * 1e-10]), 1.0 + f64::EPSILON);
        assert_eq!(sum(&[1.0, half, -half * 1e-10]), 1.0);
    }

    proptest! {
        #[test]
        fn order_and_grouping_do_not_change_a_bit(
            terms in proptest::collection::vec((-1e3f64..1e3, -60i32..60), 0..30),
            cut in 0usize..30,
        ) {
            let terms: Vec<f64> = terms.into_iter().map(|(x, e)| x * f64::from(e).exp2()).collect();
            let forward = sum(&terms);
            let backward: Vec<f64> = terms.iter().rev().copied().collect();
            prop_assert_eq!(forward.to_bits(), sum(&backward).to_bits());
            let (head, tail) = terms.split_at(cut.min(terms.len()));
            let mut merged = ExactSum::default();
            let mut other = ExactSum::default();
            tail.iter().for_each(|&t| merged.add(t));
            head.iter().for_each(|&t| other.add(t));
            merged.merge(&other);
            prop_assert_eq!(forward.to_bits(), merged.value().to_bits());
        }
    }
}
