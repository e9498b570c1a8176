//! Records that a lane fails at again and again: one that panics a step, or whose results no topic
//! takes. The lane rewinds and tries smaller and smaller batches, until it fails at one record alone;
//! after [`TRIES`] it steps over that record, with a dead letter.
//!
//! Only failures that a record can cause count. Where many records in a row fail, the records are
//! not the cause, and the lane stops for the error instead.

/// How often a record is tried alone.
pub(super) const TRIES: u32 = 3;
/// By how much a batch that failed is made smaller.
const SMALLER: usize = 8;
/// Records in a row that a lane steps over at most.
const IN_ROW_MAX: u32 = 10;

/// Partition and offset of a record.
pub(super) type Place = (i32, i64);

/// A record that failed alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Stumble {
    pub(super) place: Place,
    pub(super) times: u32,
    /// The last error.
    pub(super) error: String,
}

/// See the module. It outlives the runs of a lane.
#[derive(Default)]
pub struct PoisonWatch {
    /// Records that a batch may have; `None` while nothing is searched for.
    limit: Option<usize>,
    failed: Option<Stumble>,
    /// Records stepped over since one was processed.
    in_row: u32,
}

impl PoisonWatch {
    /// Records that a batch may have, each of which is committed; `None`: as many as usual.
    pub(super) fn limit(&self) -> Option<usize> {
        self.limit
    }

    /// The record that is to be stepped over, where it comes first.
    pub(super) fn steps_over(&self, first: Option<Place>) -> Option<&Stumble> {
        let due = |failed: &&Stumble| failed.times >= TRIES && Some(failed.place) == first;
        self.failed
            .as_ref()
            .filter(due)
            .filter(|_| self.in_row < IN_ROW_MAX)
    }

    /// What was read since the last commit failed; the last batch began with `first`, and a batch
    /// has `usual` records at most. Returns whether the lane is to try again.
    pub(super) fn failed(&mut self, first: Option<Place>, usual: usize, error: String) -> bool {
        if self.in_row >= IN_ROW_MAX {
            return false;
        }
        let Some(1) = self.limit else {
            let limit = self.limit.unwrap_or(usual) / SMALLER;
            self.limit = Some(limit.max(1));
            return true;
        };
        // Without a record, none is the cause.
        let Some(place) = first else { return false };
        let before = self.failed.take().filter(|failed| failed.place == place);
        let times = before.map_or(0, |failed| failed.times) + 1;
        self.failed = Some(Stumble {
            place,
            times,
            error,
        });
        true
    }

    /// A batch that began with `first` is committed.
    pub(super) fn committed(&mut self, first: Place, usual: usize) {
        self.in_row = match self.steps_over(Some(first)) {
            Some(_) => self.in_row + 1,
            None => 0,
        };
        self.failed = None;
        self.limit = self
            .limit
            .map(|limit| limit.saturating_mul(2))
            .filter(|&limit| limit < usual);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: usize = 1_000;

    /// Reads `records` by batches as a lane does, where those of `poison` fail; the offsets that were
    /// stepped over, and how many tries failed. `None` where the lane stopped.
    fn read(watch: &mut PoisonWatch, records: i64, poison: &[i64]) -> Option<(Vec<i64>, usize)> {
        let (mut at, mut stepped_over, mut failures) = (0, Vec::new(), 0);
        while at < records {
            let batch = at..records.min(at + watch.limit().unwrap_or(USUAL) as i64);
            let first = Some((0, at));
            if watch.steps_over(first).is_some() {
                stepped_over.push(at);
            } else if batch.clone().any(|offset| poison.contains(&offset)) {
                failures += 1;
                if !watch.failed(first, USUAL, "too large".into()) {
                    return None;
                }
                continue;
            }
            let steps_over = watch.steps_over(first).is_some();
            watch.committed((0, at), USUAL);
            at = if steps_over { at + 1 } else { batch.end };
        }
        Some((stepped_over, failures))
    }

    #[test]
    fn one_record_that_fails_is_found_and_stepped_over_and_batches_grow_again() {
        let mut watch = PoisonWatch::default();
        let (stepped_over, failures) = read(&mut watch, 5_000, &[1_234]).unwrap();
        assert_eq!(stepped_over, [1_234]);
        assert!(failures < 20, "{failures}");
        assert_eq!(watch.limit(), None);
    }

    #[test]
    fn several_are_stepped_over_one_by_one() {
        let poison = [3, 4, 5, 900, 2_000];
        let (stepped_over, failures) = read(&mut PoisonWatch::default(), 3_000, &poison).unwrap();
        assert_eq!(stepped_over, poison);
        assert!(failures < 60, "{failures}");
    }

    #[test]
    fn where_all_fail_the_lane_stops() {
        let all: Vec<i64> = (100..200).collect();
        let mut watch = PoisonWatch::default();
        assert_eq!(read(&mut watch, 300, &all), None);
        assert!(
            read(&mut watch, 50, &[]).is_some(),
            "healthy records are read"
        );
    }

    #[test]
    fn what_no_record_causes_stops_the_lane() {
        let mut watch = PoisonWatch::default();
        let tries = (0..100).take_while(|_| watch.failed(None, USUAL, "full".into()));
        assert!(tries.count() < 10);
    }
}
