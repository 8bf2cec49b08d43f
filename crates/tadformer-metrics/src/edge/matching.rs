//! Which predicted edge pixels are right, and which labelled ones are found, at every threshold at once.
//!
//! Going down the thresholds only adds predicted pixels, so the largest set of pairs grows by augmenting paths
//! and is never built anew. A search that fails has reached labelled pixels from which no free one can be
//! reached, now or after any later pair (Kuhn's Hungarian tree), so they are never visited again: all
//! failures together cost one pass over the pairs that are near enough.
//!
//! With several annotators each one's edges are matched on their own: a predicted pixel is right if anybody's matching
//! uses it, and labelled and found pixels are added up (Martin, Fowlkes and Malik, TPAMI 2004, section 4).

use super::{Matching, THRESHOLDS, f_measure, share};

/// Pixel counts at one threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    /// Predicted edge pixels.
    pub(super) predicted: u64,
    /// Predicted edge pixels that are right, for one annotator or more.
    pub(super) right: u64,
    /// Labelled edge pixels, of all annotators together.
    pub(super) labelled: u64,
    /// Labelled edge pixels that are found.
    pub(super) found: u64,
}

impl Counts {
    /// The harmonic mean of precision and recall, 1 if nothing is predicted and nothing labelled.
    pub(super) fn f(&self) -> f64 {
        if self.predicted == 0 && self.labelled == 0 {
            return 1.0;
        }
        f_measure(share(self.right, self.predicted), share(self.found, self.labelled), 1.0)
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.predicted += other.predicted;
        self.right += other.right;
        self.labelled += other.labelled;
        self.found += other.found;
    }
}

/// The counts of one image by threshold: `levels` says how many thresholds a pixel passes, `annotators` has the edges that
/// each of them drew.
pub(super) fn count(
    matching: Matching,
    levels: &[u8],
    annotators: &[Vec<bool>],
    width: usize,
    radius: f64,
) -> [Counts; THRESHOLDS] {
    let disk = Disk::new(width, levels.len() / width, radius);
    // Found edges by the level of what finds them; predicted pixels that are right do not change their level.
    let mut right_pixels = vec![false; levels.len()];
    let mut found = [0; THRESHOLDS + 1];
    let mut labelled = 0;
    for edges in annotators {
        match matching {
            Matching::OneToOne => find_pairs(levels, edges, &disk, &mut right_pixels, &mut found),
            Matching::Distance => find_near(levels, edges, &disk, &mut right_pixels, &mut found),
        }
        labelled += edges.iter().filter(|&&edge| edge).count() as u64;
    }
    let mut right = [0; THRESHOLDS + 1];
    for (&level, _) in levels.iter().zip(&right_pixels).filter(|(_, right)| **right) {
        right[usize::from(level)] += 1;
    }
    let mut predicted = [0; THRESHOLDS + 1];
    for &level in levels {
        predicted[usize::from(level)] += 1;
    }
    let mut counts = [Counts::default(); THRESHOLDS];
    let mut sum = Counts { labelled, ..Counts::default() };
    for i in (0..THRESHOLDS).rev() {
        sum.predicted += predicted[i + 1];
        sum.right += right[i + 1];
        sum.found += found[i + 1];
        counts[i] = sum;
    }
    counts
}

type ByLevel = [u64; THRESHOLDS + 1];

/// The pixels around a pixel, nearest first.
struct Disk {
    width: usize,
    height: usize,
    /// Steps right and down.
    steps: Vec<(isize, isize)>,
}

impl Disk {
    fn new(width: usize, height: usize, radius: f64) -> Self {
        let (across, down) = (reach(radius, width), reach(radius, height));
        let mut steps: Vec<_> = (-down..=down)
            .flat_map(|dy| (-across..=across).map(move |dx| (dx, dy)))
            .filter(|&(dx, dy)| ((dx * dx + dy * dy) as f64) <= radius * radius)
            .collect();
        steps.sort_by_key(|&(dx, dy)| (dx * dx + dy * dy, dy, dx));
        Self { width, height, steps }
    }

    /// The pixels within the radius of `pixel`, itself first.
    fn around(&self, pixel: usize) -> impl Iterator<Item = usize> + '_ {
        let (x, y) = (pixel % self.width, pixel / self.width);
        self.steps.iter().filter_map(move |&(dx, dy)| {
            let x = x.checked_add_signed(dx).filter(|&x| x < self.width)?;
            let y = y.checked_add_signed(dy).filter(|&y| y < self.height)?;
            Some(y * self.width + x)
        })
    }
}

/// How many steps `radius` allows along a side.
fn reach(radius: f64, side: usize) -> isize {
    (radius as usize).min(side - 1) as isize
}

/// Marks the predicted pixels with an edge around in `right`, and counts the edges with a predicted pixel around by the
/// level where that begins.
fn find_near(levels: &[u8], edges: &[bool], disk: &Disk, right: &mut [bool], found: &mut ByLevel) {
    for pixel in (0..edges.len()).filter(|&pixel| edges[pixel]) {
        let mut highest = 0;
        for near in disk.around(pixel) {
            highest = highest.max(levels[near]);
            right[near] = true;
        }
        found[usize::from(highest)] += 1;
    }
}

/// Finds as many pairs of a predicted pixel and an edge around it as there can be at every level: marks their predicted
/// pixels in `right`, and counts them by the level where each is gained.
///
/// A predicted pixel that is paired once stays so at every lower level, with whatever edge.
fn find_pairs(levels: &[u8], edges: &[bool], disk: &Disk, right: &mut [bool], found: &mut ByLevel) {
    let mut by_level = vec![Vec::new(); THRESHOLDS + 1];
    for (pixel, &level) in levels.iter().enumerate() {
        by_level[usize::from(level)].push(pixel);
    }
    let mut pairs = Pairs::new(edges, disk);
    for level in (1..=THRESHOLDS).rev() {
        for &pixel in &by_level[level] {
            if pairs.augment(pixel) {
                right[pixel] = true;
                found[level] += 1;
            }
        }
    }
}

const NOBODY: usize = usize::MAX;

/// Pairs of predicted pixels and edges, each in one pair at most.
struct Pairs<'a> {
    edges: &'a [bool],
    disk: &'a Disk,
    /// The predicted pixel that an edge is paired with.
    prediction_of: Vec<usize>,
    /// The edge that a predicted pixel is paired with.
    edge_of: Vec<usize>,
    /// The predicted pixel from which the search reached an edge; left in place where a search failed.
    reached_from: Vec<usize>,
    /// The predicted pixels whose surroundings are searched, and the edges reached; kept to reuse their memory.
    queue: Vec<usize>,
    reached: Vec<usize>,
}

impl<'a> Pairs<'a> {
    fn new(edges: &'a [bool], disk: &'a Disk) -> Self {
        let nobody = vec![NOBODY; edges.len()];
        Self {
            edges,
            disk,
            prediction_of: nobody.clone(),
            edge_of: nobody.clone(),
            reached_from: nobody,
            queue: Vec::new(),
            reached: Vec::new(),
        }
    }

    /// Pairs one more predicted pixel if that is possible by pairing others anew.
    fn augment(&mut self, prediction: usize) -> bool {
        self.queue.clear();
        self.reached.clear();
        self.queue.push(prediction);
        let mut next = 0;
        while let Some(&from) = self.queue.get(next) {
            next += 1;
            for edge in self.disk.around(from) {
                if !self.edges[edge] || self.reached_from[edge] != NOBODY {
                    continue;
                }
                self.reached_from[edge] = from;
                self.reached.push(edge);
                if self.prediction_of[edge] == NOBODY {
                    self.pair_along_the_path_to(edge);
                    for &edge in &self.reached {
                        self.reached_from[edge] = NOBODY;
                    }
                    return true;
                }
                self.queue.push(self.prediction_of[edge]);
            }
        }
        false
    }

    /// Gives each predicted pixel on the way to the free `edge` the edge that it reached.
    fn pair_along_the_path_to(&mut self, mut edge: usize) {
        while edge != NOBODY {
            let prediction = self.reached_from[edge];
            let before = std::mem::replace(&mut self.edge_of[prediction], edge);
            self.prediction_of[edge] = prediction;
            edge = before;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The largest number of pairs by plain recursion, for one threshold.
    fn most_pairs(predicted: &[bool], edges: &[bool], width: usize, radius: f64) -> u64 {
        fn place(
            from: usize,
            near: &dyn Fn(usize, usize) -> bool,
            edges: &[bool],
            seen: &mut [bool],
            owner: &mut [Option<usize>],
        ) -> bool {
            for edge in 0..edges.len() {
                if edges[edge] && near(from, edge) && !std::mem::replace(&mut seen[edge], true) {
                    let free = match owner[edge] {
                        None => true,
                        Some(other) => place(other, near, edges, seen, owner),
                    };
                    if free {
                        owner[edge] = Some(from);
                        return true;
                    }
                }
            }
            false
        }
        let near = |a: usize, b: usize| {
            let dx = (a % width).abs_diff(b % width) as f64;
            let dy = (a / width).abs_diff(b / width) as f64;
            dx.hypot(dy) <= radius
        };
        let mut owner = vec![None; edges.len()];
        (0..predicted.len())
            .filter(|&from| {
                predicted[from] && place(from, &near, edges, &mut vec![false; edges.len()], &mut owner)
            })
            .count() as u64
    }

    proptest! {
        #[test]
        fn pairs_grown_over_thresholds_are_the_most_at_each(
            levels in proptest::collection::vec(prop_oneof![2 => Just(0u8), 3 => 1u8..6], 42),
            edges in proptest::collection::vec(any::<bool>(), 42),
            radius in prop_oneof![Just(0.0), Just(1.0), Just(1.5), Just(2.3)],
        ) {
            let counts = count(Matching::OneToOne, &levels, std::slice::from_ref(&edges), 7, radius);
            for (i, counts) in counts.iter().enumerate().take(6) {
                let predicted: Vec<bool> = levels.iter().map(|&level| usize::from(level) > i).collect();
                let expected = most_pairs(&predicted, &edges, 7, radius);
                prop_assert_eq!((counts.right, counts.found), (expected, expected));
                prop_assert_eq!(counts.predicted, predicted.iter().filter(|&&p| p).count() as u64);
            }
        }

        #[test]
        fn matching_by_distance_counts_who_has_a_neighbour(
            levels in proptest::collection::vec(0u8..6, 42),
            edges in proptest::collection::vec(any::<bool>(), 42),
            radius in prop_oneof![Just(0.0), Just(1.0), Just(1.5), Just(2.3)],
        ) {
            let near = |a: usize, b: usize| {
                let (dx, dy) = ((a % 7).abs_diff(b % 7) as f64, (a / 7).abs_diff(b / 7) as f64);
                dx.hypot(dy) <= radius
            };
            let counts = count(Matching::Distance, &levels, std::slice::from_ref(&edges), 7, radius);
            for (i, counts) in counts.iter().enumerate().take(6) {
                let predicted = |at: usize| usize::from(levels[at]) > i;
                let right = (0..42).filter(|&p| predicted(p) && (0..42).any(|e| edges[e] && near(p, e))).count();
                let found = (0..42).filter(|&e| edges[e] && (0..42).any(|p| predicted(p) && near(p, e))).count();
                prop_assert_eq!((counts.right, counts.found), (right as u64, found as u64));
                let pairs = count(Matching::OneToOne, &levels, std::slice::from_ref(&edges), 7, radius)[i];
                prop_assert!(pairs.right <= counts.right && pairs.found <= counts.found);
            }
        }

        #[test]
        fn annotators_are_matched_apart_and_their_counts_added(
            levels in proptest::collection::vec(prop_oneof![2 => Just(0u8), 3 => 1u8..6], 42),
            annotators in proptest::collection::vec(proptest::collection::vec(any::<bool>(), 42), 1..4),
            radius in prop_oneof![Just(0.0), Just(1.0), Just(2.3)],
        ) {
            for matching in [Matching::OneToOne, Matching::Distance] {
                let together = count(matching, &levels, &annotators, 7, radius);
                let apart: Vec<_> =
                    annotators.iter().map(|one| count(matching, &levels, std::slice::from_ref(one), 7, radius)).collect();
                for (i, counts) in together.iter().enumerate().take(6) {
                    let sum = |of: fn(&Counts) -> u64| apart.iter().map(|one| of(&one[i])).sum::<u64>();
                    prop_assert_eq!(counts.found, sum(|c| c.found));
                    prop_assert_eq!(counts.labelled, sum(|c| c.labelled));
                    prop_assert_eq!(counts.predicted, apart[0][i].predicted);
                    // A pixel that serves several annotators counts once.
                    let most = apart.iter().map(|one| one[i].right).max().unwrap();
                    prop_assert!(counts.right >= most && counts.right <= sum(|c| c.right).min(counts.predicted));
                }
            }
        }
    }
}
