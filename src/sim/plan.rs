//! A plan: which pump breaks how and when, drawn from a seed, so that the truth of a run is known
//! before it starts.
//!
//! Every kind comes in every size before one comes twice. A pump has one fault at a time and is
//! healthy in between; every fourth pump never breaks, so that false alarms are counted on whole
//! undisturbed series too.

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::fault::{Direction, FaultSize, PlantFault, PlantFaultKind};
use super::sensor::{SENSORS, Sensor};

/// When faults may happen, in records of a pump.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FaultPlan {
    /// Training records at the start, without any fault.
    pub quiet: u64,
    /// Records of the whole run: every fault is over before its end.
    pub length: u64,
    /// Healthy records between two faults of a pump at least; up to twice as many are drawn. At
    /// least as long as the recovery that [`super::report::MatchRules`] allows, or that recovery
    /// hides false alarms.
    pub gap: u64,
}

impl Default for FaultPlan {
    /// Two hours of training records, then four with faults, at one record a second.
    fn default() -> Self {
        Self {
            quiet: 7_200,
            length: 21_600,
            gap: 1_800,
        }
    }
}

/// The faults of a run, by start. No pump has two at a time; pumps 3, 7, 11, ... have none.
pub fn draw(seed: u64, pumps: usize, plan: &FaultPlan) -> Vec<PlantFault> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // The pumps draw from the even and odd streams from 0 up; this one is none of theirs.
    rng.set_stream(u64::MAX);
    let breaking = (0..pumps).filter(|pump| pump % 4 != 3);
    let mut free: Vec<(u64, usize)> = breaking
        .map(|pump| {
            (
                plan.quiet.saturating_add(rng.random_range(0..=plan.gap)),
                pump,
            )
        })
        .collect();
    let mut deck = Vec::new();
    let mut faults = Vec::new();
    // The pump that is free first takes the next fault, so that the kinds spread evenly over the
    // run.
    while let Some(slot) = free
        .iter()
        .enumerate()
        .min_by_key(|(_, slot)| **slot)
        .map(|(index, _)| index)
    {
        let (start, pump) = free.swap_remove(slot);
        if deck.is_empty() {
            deck = shuffled_deck(&mut rng);
        }
        let Some((kind, size)) = deck.pop() else {
            break;
        };
        let (shortest, longest) = kind.lasts();
        let end = start.saturating_add(rng.random_range(shortest..=longest));
        if end > plan.length {
            // Too long for what is left of the run: somebody else may still have the time.
            deck.push((kind, size));
            continue;
        }
        faults.push(PlantFault {
            pump,
            kind,
            size,
            start,
            end,
        });
        free.push((
            end.saturating_add(rng.random_range(plan.gap..=plan.gap.saturating_mul(2))),
            pump,
        ));
    }
    faults.sort_by_key(|fault| (fault.start, fault.pump));
    faults
}

/// Every kind in every size once (twice where it has no sizes), on sensors that are drawn, in
/// random order.
fn shuffled_deck(rng: &mut ChaCha8Rng) -> Vec<(PlantFaultKind, FaultSize)> {
    let mut deck = Vec::new();
    for size in FaultSize::ALL {
        let sensor = |rng: &mut ChaCha8Rng| Sensor::ALL[rng.random_range(0..SENSORS)];
        let direction = |rng: &mut ChaCha8Rng| {
            if rng.random() {
                Direction::Up
            } else {
                Direction::Down
            }
        };
        let kinds = [
            PlantFaultKind::BearingWear,
            PlantFaultKind::Cavitation,
            PlantFaultKind::Leak,
            PlantFaultKind::ValveBlockage,
            PlantFaultKind::ImpellerDamage,
            PlantFaultKind::CoolingLoss,
            PlantFaultKind::Stuck(sensor(rng)),
            PlantFaultKind::Spike(sensor(rng), direction(rng)),
            PlantFaultKind::Shift(sensor(rng), direction(rng)),
            PlantFaultKind::Drift(sensor(rng), direction(rng)),
            PlantFaultKind::UnitChange(sensor(rng)),
        ];
        let due = kinds
            .into_iter()
            .filter(|kind| kind.has_sizes() || size != FaultSize::Small);
        deck.extend(due.map(|kind| {
            (
                kind,
                if kind.has_sizes() {
                    size
                } else {
                    FaultSize::Medium
                },
            )
        }));
    }
    deck.shuffle(rng);
    deck
}
