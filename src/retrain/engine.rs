//! Retraining of one stream: the buffer, the plan, the challenge, the promotion and the way back.
//!
//! Nothing here knows threads, clocks or Kafka: the daemon's thread ([`super::thread`]) and a replay drive the same engine.

mod held_out;
mod lessons;
mod live;
mod seeing;
mod stored;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

pub use self::lessons::{Lesson, fingerprint, is_known};
use self::live::Live;
pub use self::seeing::Sight;
use super::buffer::{Admission, Buffer, Change};
use super::collect::slot;
use super::error::RetrainError;
use super::learn::learn;
use super::plan::{Plan, Probation, Reason};
use super::proof::{Case, Confirmed};
use super::self_test::SelfTest;
use super::set::{Run, TrainingSet};
use crate::config::settings::{ModelKind, Stream, Warmth};
use crate::events::published::{Event, Outbox};
use crate::events::retrain::{BundleBroughtBack, ChallengerJudged, NormalKept, TrainingBegan};
use crate::model::bundle::Bundle;
use crate::model::manifest::Segment;
use crate::model::registry::Registry;
use crate::promotion::{VERDICT, Verdict};
use crate::record::EventTime;
use crate::state::codec::{self, CodecError};
use crate::state::{Commit, Store};

/// See the module.
pub struct Engine {
    stream: Arc<Stream>,
    registry: Arc<Registry>,
    store: Arc<dyn Store>,
    admission: Arc<Admission>,
    buffer: Buffer,
    plan: Plan,
    live: Option<Live>,
    /// Whether the stream had no live bundle yet when it was first looked for.
    had_none: bool,
    /// Stretches of time that nothing is learned from.
    marked: Vec<Segment>,
    /// Confirmed faults, by what they were said of.
    confirmed: BTreeMap<String, Confirmed>,
    /// What live series would catch today.
    seeing: SelfTest,
    /// What that means for the stream.
    sight: Option<Sight>,
    /// The number of the series that is tested next.
    next_tested: usize,
    /// Where events are put to be published.
    outbox: Outbox,
}

impl Engine {
    /// Goes on with what the store holds.
    ///
    /// # Errors
    /// Where the store cannot be read; an unreadable run is said and left out.
    pub fn open(
        stream: Arc<Stream>,
        registry: Arc<Registry>,
        store: Arc<dyn Store>,
    ) -> Result<Self, RetrainError> {
        let (runs, plan) = (
            stored::runs(&*store, &stream)?,
            stored::plan(&*store, &stream)?,
        );
        let buffer = Buffer::new(&stream.retrain, 1, runs);
        let admission = Arc::new(Admission::open());
        buffer.publish(&admission);
        buffer.runs().for_each(|run| admission.saw(run.until()));
        NormalKept {
            stream: &stream.name,
            records: buffer.len(),
            series: buffer.series(),
        }
        .emit();
        let confirmed = lessons::confirmed(&*store, &stream.name)?;
        let marked = registry.marked(&stream.name)?;
        let (live, had_none, seeing, next_tested, outbox) = Default::default();
        Ok(Self {
            stream,
            registry,
            store,
            admission,
            buffer,
            plan,
            live,
            had_none,
            marked,
            confirmed,
            seeing,
            sight: None,
            next_tested,
            outbox,
        })
    }

    /// Publishes what happens from now on.
    pub fn publish_to(&mut self, outbox: Outbox) {
        self.outbox = outbox;
    }

    /// What the lanes' collectors share with this engine.
    pub fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }

    /// The normal traffic that is kept.
    pub fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    /// What outlives a restart.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Takes note of which bundle is live, by whomever it was made so.
    ///
    /// # Errors
    /// Where it cannot be loaded.
    pub fn follow(&mut self) -> Result<Option<&str>, RetrainError> {
        let current = self.registry.current(&self.stream.name)?;
        self.had_none |= current.is_none();
        if self.live.as_ref().map(|live| &live.id) != current.as_ref() {
            let before = self.live.take().map(|live| live.id);
            if let Some(id) = current {
                let bundle = self.registry.load(&self.stream.name, &id)?;
                let period = bundle.calibration.period_micros;
                self.buffer.set_slot(slot(self.stream.window, period));
                if before.is_some() {
                    // Whoever made it live: the next training by time is a whole period away.
                    self.plan.due = None;
                }
                // Of the bundle that a start finds there is nothing new to tell.
                if before.is_some() || self.had_none {
                    self.outbox.put(
                        &self.stream.name,
                        Event::WentLive {
                            bundle: id.clone(),
                            before,
                        },
                    );
                }
                self.live = Some(Live {
                    id,
                    scores: bundle.calibration.scores,
                });
                if let Some(live) = &self.live {
                    live.show_sensitivity(&self.registry, &self.stream.name)?;
                }
                self.look_at_marks(&bundle.manifest);
            }
        }
        Ok(self.live.as_ref().map(|live| live.id.as_str()))
    }

    /// Takes normal traffic.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn take(&mut self, runs: Vec<Run>) -> Result<(), RetrainError> {
        if runs.is_empty() {
            return Ok(());
        }
        let marked = &self.marked;
        let is_fit = |series: &str, time| !marked.iter().any(|mark| mark.holds(series, time));
        let fit = runs.into_iter().flat_map(|run| {
            let series = run.series.clone();
            if marked.is_empty() {
                vec![run]
            } else {
                run.split(|time| is_fit(&series, time))
            }
        });
        let changes = self.buffer.add(fit);
        self.keep(changes, Vec::new())
    }

    /// Makes changes of the buffer durable, with other notes.
    fn keep(
        &mut self,
        changes: Vec<Change>,
        others: Vec<(String, Option<Vec<u8>>)>,
    ) -> Result<(), RetrainError> {
        self.buffer.publish(&self.admission);
        let (records, series) = (self.buffer.len(), self.buffer.series());
        NormalKept {
            stream: &self.stream.name,
            records,
            series,
        }
        .emit();
        let note = |(partition, offset, run): Change| {
            let bytes = run.map(|run| codec::encode(&run)).transpose()?;
            Ok((stored::run_key(partition, offset), bytes))
        };
        let notes: Result<Vec<_>, CodecError> = changes.into_iter().map(note).collect();
        let notes = notes?.into_iter().chain(others).collect();
        Ok(self.store.commit(
            &self.stream.name,
            &Commit {
                notes,
                ..Commit::default()
            },
        )?)
    }

    fn keep_plan(&self) -> Result<(), RetrainError> {
        let notes = vec![(stored::PLAN.to_owned(), Some(codec::encode(&self.plan)?))];
        Ok(self.store.commit(
            &self.stream.name,
            &Commit {
                notes,
                ..Commit::default()
            },
        )?)
    }

    /// Whether a training is due at `now`, the newest event time, and why.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn due(&mut self, now: EventTime) -> Result<Option<Reason>, RetrainError> {
        let (settings, name) = (&self.stream.retrain, &self.stream.name);
        let Some(live) = &self.live else {
            return Ok(None);
        };
        let before = self.plan.clone();
        let by_period = self
            .plan
            .period_over(settings, name, now)
            .then_some(Reason::Period);
        let looks = self.plan.look_for_drift(settings, now);
        let by_drift = if looks && by_period.is_none() && self.has_enough() {
            live.drifted(&self.buffer, &self.stream)
        } else {
            None
        };
        if before != self.plan {
            self.keep_plan()?;
        }
        Ok(by_period.or(by_drift))
    }

    /// Whether an operator asked for a training since the last call.
    ///
    /// # Errors
    /// A bad stream name.
    pub fn is_asked(&self) -> Result<bool, RetrainError> {
        Ok(self.registry.take_wanted(&self.stream.name)?)
    }

    /// Whether the buffer holds as much as the first model learned from, or half of what it can hold.
    fn has_enough(&self) -> bool {
        self.buffer.len()
            >= self
                .stream
                .training
                .records
                .min(self.stream.retrain.records / 2)
    }

    /// Trains a challenger, has it examined, keeps both, and makes it live where it passed and the settings say so.
    ///
    /// # Errors
    /// See [`RetrainError`]; the live bundle then stays. `go_on` is asked now and then, and cancels by `Break`.
    pub fn challenge(
        &mut self,
        reason: Reason,
        now: EventTime,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Verdict, RetrainError> {
        let name = self.stream.name.clone();
        self.plan.began(&self.stream.retrain, &name, now);
        self.keep_plan()?;
        let Some(champion) = self.registry.load_current(&name)? else {
            return Err(RetrainError::NoChampion { stream: name });
        };
        let (learned, held_out) = held_out::split(&self.buffer, self.stream.retrain.hold_out);
        if held_out.len() < HELD_OUT_MIN || !self.has_enough() {
            return Err(RetrainError::TooFew {
                records: self.buffer.len(),
                held_out: held_out.len(),
            });
        }
        TrainingBegan {
            stream: &name,
            reason: reason.to_string(),
            records: self.buffer.len(),
        }
        .emit();
        let start = Some(&champion).filter(|_| self.stream.retrain.start == Warmth::Warm);
        let challenger = learn(&self.stream, &learned, start, &mut |_| go_on())?;
        challenger.save(self.registry.root())?;
        let verdict = self.examine(
            challenger,
            champion,
            (&learned, &held_out),
            &reason.to_string(),
            now,
            go_on,
        )?;
        self.registry.attach(
            &name,
            &verdict.challenger,
            VERDICT,
            &serde_json::to_vec_pretty(&verdict)?,
        )?;
        let promoted = verdict.passed && self.may_promote(&verdict)?;
        let judged = ChallengerJudged {
            stream: &name,
            verdict: &verdict,
            promoted,
        };
        judged.emit();
        let event = Event::ChallengerJudged {
            outcome: judged.outcome().into(),
            verdict: verdict.clone(),
        };
        self.outbox.put(&name, event);
        if promoted {
            self.promote(&verdict, now)?;
        }
        Ok(verdict)
    }

    /// A training that was broken off at `now` is due again.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn put_off(&mut self, now: EventTime) -> Result<(), RetrainError> {
        self.plan.due = Some(now);
        self.keep_plan()
    }

    fn examine(
        &self,
        challenger: Bundle,
        champion: Bundle,
        (learned, held_out): (&TrainingSet, &TrainingSet),
        reason: &str,
        at: EventTime,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Verdict, RetrainError> {
        let linear = self.stream.with_kind(ModelKind::Linear);
        let baseline = match self.stream.model.kind {
            ModelKind::Linear => None,
            _ => Some(learn(&linear, learned, None, &mut |_| go_on())?),
        };
        let all = TrainingSet::of_runs(self.buffer.runs());
        let confirmed: Vec<Confirmed> = self.confirmed.values().cloned().collect();
        let case = Case {
            stream: &self.stream,
            all: &all,
            held_out,
            confirmed: &confirmed,
            reason,
            at,
        };
        case.examine(challenger, champion, baseline, go_on)
    }

    fn may_promote(&self, verdict: &Verdict) -> Result<bool, RetrainError> {
        let was_brought_back = self.plan.brought_back.contains(&verdict.challenger);
        let name = &self.stream.name;
        Ok(self.stream.retrain.promote && !was_brought_back && !self.registry.is_pinned(name)?)
    }

    fn promote(&mut self, verdict: &Verdict, now: EventTime) -> Result<(), RetrainError> {
        if verdict.challenger == verdict.champion {
            return Ok(());
        }
        self.registry.promote(
            &self.stream.name,
            &verdict.challenger,
            &format!("passed its promotion tests ({})", verdict.reason),
        )?;
        self.admission.take_counts();
        self.plan.probation = (!self.stream.retrain.probation.is_zero()).then(|| Probation {
            bundle: verdict.challenger.clone(),
            previous: verdict.champion.clone(),
            until: now.after(self.stream.retrain.probation),
            predicted: (verdict.alerts / verdict.budgeted.max(f64::MIN_POSITIVE)).max(1.0),
            alerts: 0,
            budgeted: 0.0,
        });
        self.keep_plan()?;
        self.follow()?;
        Ok(())
    }

    /// Looks at the bundle on probation: brings the last one back where it raised more alerts than predicted. Returns whether
    /// another bundle is live now.
    ///
    /// # Errors
    /// Where the last bundle cannot be made live, or the store not be written.
    pub fn probe(&mut self, now: EventTime) -> Result<bool, RetrainError> {
        let (alerts, budgeted) = self.admission.take_counts();
        let current = self.live.as_ref().map(|live| live.id.as_str());
        let Some(probation) = self
            .plan
            .probation
            .as_mut()
            .filter(|p| Some(p.bundle.as_str()) == current)
        else {
            return Ok(false);
        };
        probation.alerts += alerts;
        probation.budgeted += budgeted;
        if !probation.has_failed() {
            if now >= probation.until {
                self.plan.probation = None;
            }
            if alerts > 0 || self.plan.probation.is_none() {
                self.keep_plan()?;
            }
            return Ok(false);
        }
        let Some(failed) = self.plan.probation.take() else {
            return Ok(false);
        };
        if self.registry.is_pinned(&self.stream.name)? {
            return Ok(false);
        }
        self.bring_back(&failed)?;
        Ok(true)
    }

    /// Makes the bundle live again that was before one whose probation failed.
    fn bring_back(&mut self, failed: &Probation) -> Result<(), RetrainError> {
        let name = self.stream.name.clone();
        self.plan.note_brought_back(&failed.bundle);
        self.keep_plan()?;
        let predicted = failed.predicted * failed.budgeted;
        let why = format!(
            "{} alerts in its probation, {predicted:.2} were predicted",
            failed.alerts
        );
        self.registry.promote(
            &name,
            &failed.previous,
            &format!("automatic rollback: {} raised {why}", failed.bundle),
        )?;
        let (from, to, alerts) = (&failed.bundle, &failed.previous, failed.alerts);
        BundleBroughtBack {
            stream: &name,
            from,
            to,
            alerts,
            predicted,
        }
        .emit();
        let (from, to) = (failed.bundle.clone(), failed.previous.clone());
        self.outbox.put(
            &name,
            Event::BroughtBack {
                from,
                to,
                alerts,
                predicted,
            },
        );
        self.follow()?;
        Ok(())
    }
}

/// Records that a challenger is proved on at least.
const HELD_OUT_MIN: usize = 64;
