//! Series that fall silent: found by the time of the others in their partition.
//!
//! Contract: a partition's clock is the event time of its records. Records that wait in Kafka do
//! not move it, so that neither lag nor a stop of the daemon makes a silence. A partition that has
//! been read to its end and gets no record while others do is scanned by their time
//! ([`SilenceMonitor::scan_idle`]). Where three series or
//! more send, it is the newest time but that of one series: a source whose clock is ahead does not
//! make the others look silent. Where all of them were silent, as in a plant that rests, the time
//! since the first came back counts. At times of this clock that depend on the records alone, the
//! monitor scans all series of the partition, whether they are in memory or only stored. The clock
//! is part of what a lane commits: a run that was stopped and resumed scans at the same times as
//! one that was not.
//!
//! A series that another one replaces has ended and is not silent: a new series begins within the time
//! after which the old one is overdue. Where it begins later, the alert of the silence is closed, and
//! the next one waits for as long. What is open of a series that is forgotten is closed.

mod clock;

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;

pub use self::clock::SilenceClock;
use super::detector::Detector;
use super::series::{LoadError, SeriesAccess, SlotError, StoredSeries};
use crate::config::settings::StreamSettings;
use crate::episode::{EpisodePolicy, SilenceEvent};
use crate::gate::GateState;
use crate::inter_arrival::{SeriesEnd, SilencePolicy, SilenceStatus};
use crate::record::EventTime;
use crate::record::alert::{Alert, AlertKind, CloseReason};
use crate::record::row::{GatedRow, RecordContext};

/// Bounds of the time between two scans, in microseconds of event time.
const SCAN_EVERY: (i64, i64) = (1_000_000, 3_600_000_000);
/// Scans in the shortest time after which a series is overdue.
const SCANS: i64 = 4;
/// Series of a gateway that fall silent together at least.
const GATEWAY_MIN: usize = 2;

/// See the module.
pub struct SilenceMonitor {
    policy: SilencePolicy,
    gateway: Option<String>,
    series_end: SeriesEnd,
    /// Fields of a record.
    fields: usize,
    /// Microseconds after which a series is forgotten; 0: never.
    forget_after: i64,
    clocks: HashMap<i32, SilenceClock>,
}

/// A record that is observed: the series that it concerns, and the alerts that it shows.
struct Observation<'o, 't, 'l> {
    /// The record, without a series.
    record: RecordContext<'o>,
    episodes: &'o EpisodePolicy,
    series: &'o mut SeriesAccess<'t, 'l>,
    /// Whether there is no record: the partition is silent while others send.
    is_idle: bool,
    alerts: Vec<Alert>,
}

/// A series that is overdue.
struct OverdueSeries {
    series: Arc<str>,
    /// What has been announced of it.
    announced: SilenceStatus,
    last: EventTime,
    /// When it became so.
    since: EventTime,
}

/// A series with an open alert.
#[derive(Clone)]
struct SilentSeries {
    series: Arc<str>,
    last: EventTime,
    /// Microseconds of silence after which it was overdue.
    limit: i64,
}

/// What is known of the series of one gateway.
#[derive(Default)]
struct GatewayStatus {
    series: usize,
    /// Whether one of them has sent lately.
    sends: bool,
    newest: Option<EventTime>,
}

/// What a scan of all series of a partition finds.
struct ScanResult {
    overdue: Vec<OverdueSeries>,
    /// Series with an open alert that are to be forgotten.
    expired: Vec<SilentSeries>,
    /// Series of which the silence is announced.
    announced: Vec<SilentSeries>,
    gateways: BTreeMap<String, GatewayStatus>,
    shortest: i64,
}

impl SilenceMonitor {
    /// `None` where the stream does not look for missing data.
    pub(super) fn new(stream: &StreamSettings) -> Option<Self> {
        let forget_after = stream.retention.forget_after.as_micros();
        Some(Self {
            policy: SilencePolicy::new(&stream.silence)?,
            gateway: stream.silence.gateway.clone(),
            series_end: stream.silence.series_end,
            fields: stream.record.fields.len(),
            forget_after: i64::try_from(forget_after).unwrap_or(i64::MAX),
            clocks: HashMap::new(),
        })
    }

    /// The clock of a partition, to be kept with the states of its series; `None` before its first
    /// record.
    pub fn clock(&self, partition: i32) -> Option<&SilenceClock> {
        self.clocks.get(&partition)
    }

    /// Restores a clock that was kept.
    pub fn set_clock(&mut self, partition: i32, clock: SilenceClock) {
        self.clocks.insert(partition, clock);
    }

    /// A partition leaves.
    pub fn drop_partition(&mut self, partition: i32) {
        self.clocks.remove(&partition);
    }

    /// Observes an admitted record: learns the inter-arrival times of its series, ends its silence,
    /// and scans the other series where a scan is due. Returns the alerts that this leads to.
    ///
    /// # Errors
    /// Where the state of another series cannot be loaded.
    pub(super) fn observe(
        &mut self,
        row: &GatedRow<'_>,
        detector: &Detector,
        episodes: &EpisodePolicy,
        series: &mut SeriesAccess<'_, '_>,
    ) -> Result<Vec<Alert>, LoadError> {
        let Some(found) = series.table.get_mut(row.slot) else {
            return Ok(Vec::new());
        };
        let name = found.series.clone();
        let inter_arrival = &mut found.state.inter_arrival;
        let limit = self.policy.overdue_after(inter_arrival).unwrap_or(0);
        let time = row.record_time;
        let is_new = row.previous.is_none();
        let announced = row.previous.map(|last| {
            self.policy.record(inter_arrival, time.micros_since(last));
            (last, std::mem::take(&mut inter_arrival.silent))
        });
        let mut seen = Observation {
            record: RecordContext {
                time,
                ..detector.context(row, "")
            },
            episodes,
            series,
            is_idle: false,
            alerts: Vec::new(),
        };
        match announced {
            None | Some((_, SilenceStatus::No | SilenceStatus::Ended)) => {}
            Some((last, SilenceStatus::Alone)) => seen.announce_end(&name, last, limit, None),
            Some((_, SilenceStatus::WithGateway)) => self.gateway_is_back(&name, &mut seen)?,
        }
        let at_least = self.policy.at_least();
        let clock = self
            .clocks
            .entry(seen.record.partition)
            .or_insert_with(|| SilenceClock::new(&name, time, at_least));
        if is_new {
            clock.begin(time);
        }
        if let Some(now) = clock.advance(&name, time) {
            self.scan(now, &mut seen)?;
        }
        Ok(seen.alerts)
    }

    /// Scans the series of a partition that has had no record for `silent_us` while others had; `last`
    /// is the context of its newest record.
    ///
    /// The clock of the partition stays where its records took it: what comes later may be older, as
    /// from a gateway that kept its records while it was offline.
    ///
    /// # Errors
    /// Where the state of a series cannot be loaded.
    pub(super) fn scan_idle(
        &mut self,
        last: RecordContext<'_>,
        silent_us: i64,
        episodes: &EpisodePolicy,
        series: &mut SeriesAccess<'_, '_>,
    ) -> Result<Vec<Alert>, LoadError> {
        let clock = self.clocks.get(&last.partition);
        let Some(now) = clock.and_then(|clock| clock.due_after(silent_us)) else {
            return Ok(Vec::new());
        };
        let mut seen = Observation {
            record: RecordContext { time: now, ..last },
            episodes,
            series,
            is_idle: true,
            alerts: Vec::new(),
        };
        self.scan(now, &mut seen)?;
        Ok(seen.alerts)
    }

    /// The first of a gateway's series that sends again ends the gateway's silence.
    fn gateway_is_back(
        &self,
        series: &str,
        seen: &mut Observation<'_, '_, '_>,
    ) -> Result<(), LoadError> {
        let Some(name) = self.gateway_of(series).map(of_gateway) else {
            return Ok(());
        };
        let Some(found) = seen.series.known(seen.record.partition, &name)? else {
            return Ok(());
        };
        let announced = std::mem::take(&mut found.state.inter_arrival.silent);
        let last = found.state.gate.newest();
        if let Some(last) = last.filter(|_| announced == SilenceStatus::Alone) {
            seen.announce_end(&name, last, 0, None);
        }
        Ok(())
    }

    fn gateway_of<'s>(&self, series: &'s str) -> Option<&'s str> {
        Some(series.split_once(self.gateway.as_deref()?)?.0)
    }

    /// Scans all series of a partition.
    fn scan(
        &mut self,
        now: EventTime,
        seen: &mut Observation<'_, '_, '_>,
    ) -> Result<(), LoadError> {
        let Some(clock) = self.clocks.get(&seen.record.partition) else {
            return Ok(());
        };
        let mut scanned = self.find(now, clock.since, clock.pause(), seen);
        scanned
            .overdue
            .sort_by(|a, b| (a.since, &a.series).cmp(&(b.since, &b.series)));
        if let Some(clock) = self.clocks.get_mut(&seen.record.partition) {
            clock.shortest = scanned.shortest;
            let wait = (scanned.shortest / SCANS).clamp(SCAN_EVERY.0, SCAN_EVERY.1);
            clock.next = EventTime(now.0.saturating_add(wait));
            if self.series_end == SeriesEnd::Learned {
                for found in clock.take_replaced(&mut scanned.overdue) {
                    seen.set_announced(&found.series, SilenceStatus::Ended)?;
                }
                for found in clock.replaced(scanned.announced) {
                    seen.set_announced(&found.series, SilenceStatus::Ended)?;
                    let why = Some(CloseReason::Ended);
                    seen.announce_end(&found.series, found.last, found.limit, why);
                }
            }
        }
        if seen.is_idle && self.series_end == SeriesEnd::Learned {
            // A key that follows another one may belong to another partition.
            for found in clock::take_replaced_by_any(&mut self.clocks, &mut scanned.overdue) {
                seen.set_announced(&found.series, SilenceStatus::Ended)?;
            }
        }
        for found in &scanned.expired {
            seen.forget(found)?;
        }
        scanned
            .gateways
            .retain(|_, gateway| !gateway.sends && gateway.series >= GATEWAY_MIN);
        for found in &scanned.overdue {
            let gateway = self
                .gateway_of(&found.series)
                .and_then(|name| Some((name, scanned.gateways.get(name)?)));
            match gateway {
                Some((name, gateway)) => self.gateway_is_silent(name, gateway, found, seen)?,
                None => {
                    seen.set_announced(&found.series, SilenceStatus::Alone)?;
                    seen.announce(&found.series, found.last, found.since, 0);
                }
            }
        }
        Ok(())
    }

    /// The series that are overdue, whether they are in memory or stored.
    fn find(
        &self,
        now: EventTime,
        began: EventTime,
        pause: i64,
        seen: &mut Observation<'_, '_, '_>,
    ) -> ScanResult {
        let mut scanned = ScanResult {
            overdue: Vec::new(),
            expired: Vec::new(),
            announced: Vec::new(),
            gateways: BTreeMap::new(),
            shortest: i64::MAX,
        };
        let partition = seen.record.partition;
        let warms_up = seen.record.muted;
        let episodes = seen.episodes;
        let mut take = |series: &Arc<str>, found: &StoredSeries| {
            if let Some(newest) = found.newest.filter(|_| found.alerting) {
                let silent = SilentSeries {
                    series: series.clone(),
                    last: newest,
                    limit: self.policy.overdue_after(&found.inter_arrival).unwrap_or(0),
                };
                if self.expires(newest, now) {
                    scanned.expired.push(silent);
                } else if found.inter_arrival.silent == SilenceStatus::Alone {
                    scanned.announced.push(silent);
                }
            }
            let limit = self.add(&mut scanned, series, found, now, began);
            let Some((limit, last)) = limit.zip(found.newest) else {
                return;
            };
            let is_new = now.micros_since(last.max(began)) > limit.max(pause)
                && !matches!(
                    found.inter_arrival.silent,
                    SilenceStatus::Alone | SilenceStatus::Ended
                )
                && !warms_up;
            if is_new && !episodes.is_muted(series, now) {
                scanned.overdue.push(OverdueSeries {
                    series: series.clone(),
                    announced: found.inter_arrival.silent,
                    last,
                    since: EventTime(last.0.saturating_add(limit)),
                });
            }
        };
        let table = &mut *seen.series.table;
        for slot in table.slots_of(partition) {
            if let Some(found) = table.get_mut(slot) {
                take(&found.series, &StoredSeries::from(&found.state));
            }
        }
        for (series, found) in table.stored_of(partition) {
            take(series, found);
        }
        scanned
    }

    /// Whether a series that sent last at `newest` is forgotten.
    fn expires(&self, newest: EventTime, now: EventTime) -> bool {
        self.forget_after > 0 && now.micros_since(newest) > self.forget_after
    }

    /// Adds a series to what a scan knows of its gateway, and returns the time after which the
    /// series is overdue, where that is known.
    fn add(
        &self,
        scanned: &mut ScanResult,
        series: &Arc<str>,
        found: &StoredSeries,
        now: EventTime,
        began: EventTime,
    ) -> Option<i64> {
        // Whether an expired series has been forgotten already must not matter.
        if found.newest.is_some_and(|newest| self.expires(newest, now)) {
            return None;
        }
        let limit = self.policy.overdue_after(&found.inter_arrival);
        let usual = limit.unwrap_or(self.policy.at_least());
        scanned.shortest = scanned.shortest.min(usual);
        let (limit, last) = limit.zip(found.newest)?;
        if let Some(name) = self.gateway_of(series) {
            let gateway = scanned.gateways.entry(name.to_owned()).or_default();
            gateway.series += 1;
            gateway.sends |= now.micros_since(last.max(began)) < limit / 2;
            gateway.newest = gateway.newest.max(Some(last));
        }
        Some(limit)
    }

    /// One alert for a gateway, whose state is kept like that of a series.
    fn gateway_is_silent(
        &self,
        name: &str,
        gateway: &GatewayStatus,
        found: &OverdueSeries,
        seen: &mut Observation<'_, '_, '_>,
    ) -> Result<(), LoadError> {
        let name = of_gateway(name);
        let last = gateway.newest.unwrap_or(found.last);
        let slot = match seen.series.open(seen.record.partition, &name, self.fields) {
            Ok(slot) => slot,
            Err(SlotError::TooMany) => return Ok(()),
            Err(SlotError::Load(error)) => return Err(error),
        };
        let Some(found_gateway) = seen.series.table.get_mut(slot) else {
            return Ok(());
        };
        let state = &mut found_gateway.state;
        let before = std::mem::replace(&mut state.inter_arrival.silent, SilenceStatus::Alone);
        if before != SilenceStatus::Alone {
            state.gate = GateState::seen(self.fields, last);
            seen.announce(&name, last, last, gateway.series);
        }
        if found.announced != SilenceStatus::WithGateway {
            seen.set_announced(&found.series, SilenceStatus::WithGateway)?;
        }
        Ok(())
    }
}

impl Observation<'_, '_, '_> {
    /// Adds the alert of a series, or of a gateway with `of` series, that is silent.
    fn announce(&mut self, series: &str, last: EventTime, since: EventTime, of: usize) {
        let event = SilenceEvent {
            series,
            last,
            since,
            of,
        };
        self.publish(&event, None);
    }

    /// Adds the close of the alert of a series that was overdue `limit` microseconds after `last`; it
    /// is back where there is no other reason.
    fn announce_end(
        &mut self,
        series: &str,
        last: EventTime,
        limit: i64,
        why: Option<CloseReason>,
    ) {
        let event = SilenceEvent {
            series,
            last,
            since: EventTime(last.0.saturating_add(limit)),
            of: 0,
        };
        self.publish(&event, Some(self.record.time));
        if let Some(alert) = self.alerts.last_mut() {
            alert.close_reason = why;
        }
    }

    fn publish(&mut self, event: &SilenceEvent<'_>, back: Option<EventTime>) {
        let kind = AlertKind::Silence;
        let record = self.record;
        let alert = self
            .episodes
            .alerts()
            .without_episode(kind, event, record, back);
        self.alerts.push(alert);
    }

    /// Closes what is open of a series that is to be forgotten.
    fn forget(&mut self, gone: &SilentSeries) -> Result<(), LoadError> {
        let partition = self.record.partition;
        let Some(found) = self.series.known(partition, &gone.series)? else {
            return Ok(());
        };
        let at = RecordContext {
            series: &gone.series,
            ..self.record
        };
        let closed = self.episodes.forget(&mut found.state.episode, &at);
        self.alerts.extend(closed);
        if std::mem::take(&mut found.state.inter_arrival.silent) == SilenceStatus::Alone {
            let why = Some(CloseReason::Forgotten);
            self.announce_end(&gone.series, gone.last, gone.limit, why);
        }
        Ok(())
    }

    /// Notes in the state of a series what is announced of it.
    fn set_announced(&mut self, series: &str, silent: SilenceStatus) -> Result<(), LoadError> {
        if let Some(found) = self.series.known(self.record.partition, series)? {
            found.state.inter_arrival.silent = silent;
        }
        Ok(())
    }
}

/// The name under which the state of a gateway is kept.
fn of_gateway(name: &str) -> String {
    format!("{name}/*")
}
