//! Series that fall silent: told by the time of the others in their partition.
//!
//! Contract: a partition's clock is the event time of its records. Records that wait in Kafka do not move it, so that neither
//! lag nor a stop of the daemon makes a silence. Where three series or more send, it is the newest time but that of one
//! series: a source whose clock is ahead does not make the others look silent. Where all of them were silent, as in a plant that
//! rests, the time since the first came back counts. At marks of this clock, which depend on the records alone, all series of
//! the partition that are in memory are looked at.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;

use super::series::{SeriesState, SeriesTable};
use crate::cadence::{Rules, Silent};
use crate::config::settings;
use crate::episode::{self, Quiet};
use crate::gate::GateState;
use crate::record::EventTime;
use crate::record::alert::Alert;

/// Bounds of the time between two looks, in microseconds of event time.
const LOOK_EVERY: (i64, i64) = (1_000_000, 3_600_000_000);
/// Looks in the shortest time after which a series is overdue.
const LOOKS: i64 = 4;
/// From how many series on one of them does not make the clock.
const SERIES_MIN: usize = 3;
/// Series of a gateway that fall silent together at least.
const GATEWAY_MIN: usize = 2;

/// See the module.
pub(super) struct Watch {
    rules: Rules,
    gateway: Option<String>,
    clocks: HashMap<i32, Clock>,
    /// Alerts of this batch, each with the index of the record that it stands before. Emptied by [`Watch::take`].
    alerts: Vec<(usize, Alert)>,
}

/// The time of one partition.
#[derive(Debug)]
struct Clock {
    /// The slot of the series with the newest time, and that time.
    first: (usize, EventTime),
    /// The newest time of the others.
    second: Option<EventTime>,
    /// When the series are looked at next.
    next: EventTime,
    /// When the partition began to send, or began again: before that nobody was silent alone.
    since: EventTime,
    /// The shortest silence that makes a series overdue, in microseconds; the partition has rested where it was silent for
    /// half of that.
    shortest: i64,
    now: Option<EventTime>,
}

/// Where a record stands, of which a silence is told.
#[derive(Clone, Copy)]
pub(super) struct Here<'a> {
    /// Index of the record in the batch.
    pub(super) record: usize,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) time: EventTime,
    pub(super) bundle: &'a str,
    /// Whether nothing is to be published yet.
    pub(super) warms_up: bool,
}

/// A series that is overdue.
struct Overdue {
    slot: usize,
    series: Arc<str>,
    last: EventTime,
    /// When it became so.
    since: EventTime,
}

/// What is known of the series of one gateway.
#[derive(Default)]
struct Gateway {
    series: usize,
    /// Whether one of them has sent lately.
    sends: bool,
    newest: Option<EventTime>,
}

impl Watch {
    /// `None` where the stream does not look for silence.
    pub(super) fn new(settings: &settings::Silence) -> Option<Self> {
        let (gateway, clocks, alerts) = (settings.gateway.clone(), HashMap::new(), Vec::new());
        Some(Self {
            rules: Rules::new(settings)?,
            gateway,
            clocks,
            alerts,
        })
    }

    /// A partition leaves.
    pub(super) fn drop_partition(&mut self, partition: i32) {
        self.clocks.remove(&partition);
    }

    /// The alerts that stand before a record of the batch.
    pub(super) fn take(&mut self, before: usize) -> impl Iterator<Item = Alert> {
        let due = self.alerts.partition_point(|(record, _)| *record <= before);
        self.alerts.drain(..due).map(|(_, alert)| alert)
    }

    /// A record of the series in `slot` was accepted, whose last one was `before`: its cadence is learned, its silence is
    /// over, and where it is time to the others are looked at.
    pub(super) fn saw(
        &mut self,
        slot: usize,
        before: Option<EventTime>,
        here: Here<'_>,
        table: &mut SeriesTable,
        plan: &episode::Plan,
    ) {
        self.is_back(slot, before, here, table, plan);
        let clock = self.clocks.entry(here.partition).or_insert_with(|| {
            let (time, shortest) = (here.time, self.rules.at_least());
            Clock {
                first: (slot, time),
                second: None,
                next: time,
                since: time,
                shortest,
                now: None,
            }
        });
        if let Some(now) = clock.advance(slot, here.time, table.in_partition(here.partition)) {
            self.look(now, here, table, plan);
        }
    }

    fn is_back(
        &mut self,
        slot: usize,
        before: Option<EventTime>,
        here: Here<'_>,
        table: &mut SeriesTable,
        plan: &episode::Plan,
    ) {
        let (Some(found), Some(before)) = (table.get_mut(slot), before) else {
            return;
        };
        let cadence = &mut found.state.cadence;
        let (limit, silent) = (
            self.rules.overdue_after(cadence).unwrap_or(0),
            cadence.silent,
        );
        self.rules.record(cadence, here.time.micros_since(before));
        if silent == Silent::No {
            return;
        }
        cadence.silent = Silent::No;
        let series = found.series.clone();
        match silent {
            Silent::No => {}
            Silent::Alone => {
                let quiet = Quiet {
                    series: &series,
                    last: before,
                    since: EventTime(before.0 + limit),
                    of: 0,
                };
                self.alerts.push((
                    here.record,
                    plan.silence(&quiet, here.place(), Some(here.time)),
                ));
            }
            Silent::WithGateway => self.gateway_is_back(&series, here, table, plan),
        }
    }

    /// The first of a gateway's series that sends again ends the gateway's silence.
    fn gateway_is_back(
        &mut self,
        series: &str,
        here: Here<'_>,
        table: &mut SeriesTable,
        plan: &episode::Plan,
    ) {
        let Some(name) = self.gateway_of(series).map(of_gateway) else {
            return;
        };
        let Some(slot) = table.find(here.partition, &name) else {
            return;
        };
        let Some(state) = table.get_mut(slot).map(|found| &mut found.state) else {
            return;
        };
        let (silent, last) = (
            std::mem::take(&mut state.cadence.silent),
            state.gate.newest(),
        );
        if let Some(last) = last.filter(|_| silent == Silent::Alone) {
            table.change(slot);
            let quiet = Quiet {
                series: &name,
                last,
                since: last,
                of: 0,
            };
            self.alerts.push((
                here.record,
                plan.silence(&quiet, here.place(), Some(here.time)),
            ));
        }
    }

    fn gateway_of<'s>(&self, series: &'s str) -> Option<&'s str> {
        Some(series.split_once(self.gateway.as_deref()?)?.0)
    }

    /// Looks at all series of a partition.
    fn look(
        &mut self,
        now: EventTime,
        here: Here<'_>,
        table: &mut SeriesTable,
        plan: &episode::Plan,
    ) {
        let (mut overdue, mut gateways) = (Vec::new(), BTreeMap::<String, Gateway>::new());
        let Some(began) = self.clocks.get(&here.partition).map(|clock| clock.since) else {
            return;
        };
        let mut shortest = i64::MAX;
        for slot in table.slots_of(here.partition) {
            let Some(found) = table.get_mut(slot) else {
                continue;
            };
            let state = &found.state;
            let limit = self.rules.overdue_after(&state.cadence);
            shortest = shortest.min(limit.unwrap_or(self.rules.at_least()));
            let Some((limit, last)) = limit.zip(state.gate.newest()) else {
                continue;
            };
            let silent_for = now.micros_since(last.max(began));
            if let Some(name) = self.gateway_of(&found.series) {
                let gateway = gateways.entry(name.to_owned()).or_default();
                gateway.series += 1;
                gateway.sends |= silent_for < limit / 2;
                gateway.newest = gateway.newest.max(Some(last));
            }
            let is_new =
                silent_for > limit && state.cadence.silent != Silent::Alone && !here.warms_up;
            if is_new && !plan.is_muted(&found.series, now) {
                let (series, since) = (
                    found.series.clone(),
                    EventTime(last.0.saturating_add(limit)),
                );
                overdue.push(Overdue {
                    slot,
                    series,
                    last,
                    since,
                });
            }
        }
        if let Some(clock) = self.clocks.get_mut(&here.partition) {
            clock.shortest = shortest;
            clock.next = EventTime(
                now.0
                    .saturating_add((shortest / LOOKS).clamp(LOOK_EVERY.0, LOOK_EVERY.1)),
            );
        }
        gateways.retain(|_, gateway| !gateway.sends && gateway.series >= GATEWAY_MIN);
        overdue.sort_by(|a, b| (a.since, &a.series).cmp(&(b.since, &b.series)));
        for found in overdue {
            let gateway = self
                .gateway_of(&found.series)
                .and_then(|name| Some((name, gateways.get(name)?)));
            if let Some((name, gateway)) = gateway {
                self.gateway_is_silent(name, gateway, &found, here, table, plan);
            } else if self.announce(found.slot, Silent::Alone, table) {
                let quiet = Quiet {
                    series: &found.series,
                    last: found.last,
                    since: found.since,
                    of: 0,
                };
                self.alerts
                    .push((here.record, plan.silence(&quiet, here.place(), None)));
            }
        }
    }

    /// One alert for a gateway, whose state is that of a series of its own.
    fn gateway_is_silent(
        &mut self,
        name: &str,
        gateway: &Gateway,
        found: &Overdue,
        here: Here<'_>,
        table: &mut SeriesTable,
        plan: &episode::Plan,
    ) {
        let name = of_gateway(name);
        let last = gateway.newest.unwrap_or(found.last);
        let fields = table
            .get_mut(found.slot)
            .map_or(0, |found| found.state.gate.fields());
        let new = || SeriesState::new(fields);
        let Ok(slot) = table.slot(here.partition, &name, || None, new) else {
            return;
        };
        if self.announce(slot, Silent::Alone, table) {
            if let Some(of_gateway) = table.get_mut(slot) {
                of_gateway.state.gate = GateState::seen(fields, last);
            }
            let quiet = Quiet {
                series: &name,
                last,
                since: last,
                of: gateway.series,
            };
            self.alerts
                .push((here.record, plan.silence(&quiet, here.place(), None)));
        }
        self.announce(found.slot, Silent::WithGateway, table);
    }

    /// Notes what has been announced; returns whether that is new.
    fn announce(&self, slot: usize, silent: Silent, table: &mut SeriesTable) -> bool {
        let Some(found) = table
            .get_mut(slot)
            .filter(|found| found.state.cadence.silent != silent)
        else {
            return false;
        };
        found.state.cadence.silent = silent;
        table.change(slot);
        true
    }
}

impl Clock {
    /// A record of a series; returns the time where it is time to look.
    fn advance(&mut self, slot: usize, time: EventTime, series: usize) -> Option<EventTime> {
        if slot == self.first.0 {
            self.first.1 = self.first.1.max(time);
        } else if time > self.first.1 {
            self.second = Some(self.first.1);
            self.first = (slot, time);
        } else {
            self.second = self.second.max(Some(time));
        }
        let now = if series >= SERIES_MIN {
            self.second?
        } else {
            self.first.1
        };
        let before = self.now.replace(now);
        if before.is_none_or(|before| now.micros_since(before) > self.shortest / 2) {
            self.since = now;
        }
        (now >= self.next).then_some(now)
    }
}

impl<'a> Here<'a> {
    fn place(&self) -> episode::RecordRef<'a> {
        let (time, partition, offset, bundle) =
            (self.time, self.partition, self.offset, self.bundle);
        episode::RecordRef {
            series: "",
            time,
            partition,
            offset,
            bundle,
            warms_up: self.warms_up,
            spans_gap: false,
        }
    }
}

/// The name of the series that stands for a gateway.
fn of_gateway(name: &str) -> String {
    format!("{name}/*")
}
