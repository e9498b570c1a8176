//! Retraining of one stream: the buffer, the schedule, the challenge, the promotion and the
//! rollback.
//!
//! Nothing here knows threads, clocks or Kafka: the daemon's thread ([`super::thread`]) and a
//! replay drive the same engine.

mod feedback;
mod held_out;
mod live;
mod self_test;
mod stored;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

pub use self::feedback::{LabeledFeedback, fingerprint, is_known};
use self::live::LiveModel;
pub use self::self_test::Sight;
use super::buffer::{Admission, Buffer, BufferChange};
use super::collect::slot;
use super::error::RetrainError;
use super::learn::learn;
use super::plan::{Probation, RetrainReason, RetrainSchedule};
use super::proof::{ConfirmedFault, EvaluationInput};
use super::self_test::SelfTest;
use super::set::{RecordRun, TrainingSet};
use crate::config::settings::{StreamSettings, WeightInit};
use crate::events::published::{Event, EventQueue};
use crate::events::retrain::{
    BundleRolledBack, ChallengerJudged, TrainingBufferSize, TrainingStarted,
};
use crate::model::ModelKind;
use crate::model::bundle::Bundle;
use crate::model::manifest::Segment;
use crate::model::registry::Registry;
use crate::promotion::{PromotionVerdict, VERDICT};
use crate::record::EventTime;
use crate::state::codec::{self, CodecError};
use crate::state::{Commit, Store};

/// See the module.
pub struct RetrainEngine {
    stream: Arc<StreamSettings>,
    registry: Arc<Registry>,
    store: Arc<dyn Store>,
    admission: Arc<Admission>,
    buffer: Buffer,
    plan: RetrainSchedule,
    live: Option<LiveModel>,
    /// Whether the stream had no live bundle yet when it was first looked for.
    had_none: bool,
    /// Time ranges that are excluded from training.
    excluded: Vec<Segment>,
    /// Confirmed faults, by alert or time range.
    confirmed: BTreeMap<String, ConfirmedFault>,
    /// Faults that live series would detect at present.
    self_test: SelfTest,
    /// What that means for the stream.
    sight: Option<Sight>,
    /// The number of the series that is tested next.
    next_tested: usize,
    /// Where events are put to be published.
    event_queue: EventQueue,
}

impl RetrainEngine {
    /// Goes on with what the store holds.
    ///
    /// # Errors
    /// Where the store cannot be read; an unreadable run is logged and ignored.
    pub fn open(
        stream: Arc<StreamSettings>,
        registry: Arc<Registry>,
        store: Arc<dyn Store>,
    ) -> Result<Self, RetrainError> {
        let runs = stored::runs(&*store, &stream)?;
        let plan = stored::plan(&*store, &stream)?;
        let buffer = Buffer::new(&stream.retrain, 1, runs);
        let admission = Arc::new(Admission::open());
        buffer.publish(&admission);
        buffer.runs().for_each(|run| admission.observe(run.until()));
        TrainingBufferSize {
            stream: &stream.name,
            records: buffer.len(),
            series: buffer.series(),
        }
        .emit();
        let confirmed = feedback::confirmed(&*store, &stream.name)?;
        let excluded = registry.excluded(&stream.name)?;
        let (live, had_none, self_test, next_tested, event_queue) = Default::default();
        Ok(Self {
            stream,
            registry,
            store,
            admission,
            buffer,
            plan,
            live,
            had_none,
            excluded,
            confirmed,
            self_test,
            sight: None,
            next_tested,
            event_queue,
        })
    }

    /// Publishes what happens from now on.
    pub fn publish_to(&mut self, event_queue: EventQueue) {
        self.event_queue = event_queue;
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
    pub fn plan(&self) -> &RetrainSchedule {
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
                    self.event_queue.put(
                        &self.stream.name,
                        Event::WentLive {
                            bundle: id.clone(),
                            before,
                        },
                    );
                }
                self.live = Some(LiveModel {
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
    pub fn take(&mut self, runs: Vec<RecordRun>) -> Result<(), RetrainError> {
        if runs.is_empty() {
            return Ok(());
        }
        let excluded = &self.excluded;
        let is_fit = |series: &str, time| !excluded.iter().any(|mark| mark.holds(series, time));
        let fit = runs.into_iter().flat_map(|run| {
            let series = run.series.clone();
            if excluded.is_empty() {
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
        changes: Vec<BufferChange>,
        others: Vec<(String, Option<Vec<u8>>)>,
    ) -> Result<(), RetrainError> {
        self.buffer.publish(&self.admission);
        let records = self.buffer.len();
        let series = self.buffer.series();
        TrainingBufferSize {
            stream: &self.stream.name,
            records,
            series,
        }
        .emit();
        let note = |(partition, offset, run): BufferChange| {
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
    pub fn due(&mut self, now: EventTime) -> Result<Option<RetrainReason>, RetrainError> {
        let settings = &self.stream.retrain;
        let name = &self.stream.name;
        let Some(live) = &self.live else {
            return Ok(None);
        };
        let before = self.plan.clone();
        let by_period = self
            .plan
            .period_over(settings, name, now)
            .then_some(RetrainReason::Period);
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

    /// Whether an operator requested a training since the last call.
    ///
    /// # Errors
    /// A bad stream name.
    pub fn is_asked(&self) -> Result<bool, RetrainError> {
        Ok(self.registry.take_wanted(&self.stream.name)?)
    }

    /// Whether the buffer holds as many records as the first model was trained on, or half of its
    /// capacity.
    fn has_enough(&self) -> bool {
        self.buffer.len()
            >= self
                .stream
                .training
                .records
                .min(self.stream.retrain.records / 2)
    }

    /// Trains a challenger, has it examined, keeps both, and makes it live where it passed and the
    /// settings say so.
    ///
    /// # Errors
    /// See [`RetrainError`]; the live bundle then stays. `go_on` is asked now and then, and cancels
    /// by `Break`.
    pub fn challenge(
        &mut self,
        reason: RetrainReason,
        now: EventTime,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<PromotionVerdict, RetrainError> {
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
        TrainingStarted {
            stream: &name,
            reason: reason.to_string(),
            records: self.buffer.len(),
        }
        .emit();
        let start =
            Some(&champion).filter(|_| self.stream.retrain.initial_weights == WeightInit::Warm);
        let challenger = learn(&self.stream, &learned, start, &mut |_| go_on())?;
        challenger.save(self.registry.root())?;
        let verdict = self.evaluate(
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
        ChallengerJudged {
            stream: &name,
            verdict: &verdict,
            promoted,
        }
        .emit(&self.event_queue);
        if promoted {
            self.promote(&verdict, now)?;
        }
        Ok(verdict)
    }

    /// A training that was interrupted at `now` is due again.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn put_off(&mut self, now: EventTime) -> Result<(), RetrainError> {
        self.plan.due = Some(now);
        self.keep_plan()
    }

    fn evaluate(
        &self,
        challenger: Bundle,
        champion: Bundle,
        (learned, held_out): (&TrainingSet, &TrainingSet),
        reason: &str,
        at: EventTime,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<PromotionVerdict, RetrainError> {
        let linear = self.stream.with_kind(ModelKind::Linear);
        let baseline = match self.stream.model.kind {
            ModelKind::Linear => None,
            _ => Some(learn(&linear, learned, None, &mut |_| go_on())?),
        };
        let all = TrainingSet::of_runs(self.buffer.runs());
        let confirmed: Vec<ConfirmedFault> = self.confirmed.values().cloned().collect();
        let case = EvaluationInput {
            stream: &self.stream,
            all: &all,
            held_out,
            confirmed: &confirmed,
            reason,
            at,
        };
        case.evaluate(challenger, champion, baseline, go_on)
    }

    fn may_promote(&self, verdict: &PromotionVerdict) -> Result<bool, RetrainError> {
        let was_rolled_back = self.plan.auto_rolled_back.contains(&verdict.challenger);
        let name = &self.stream.name;
        Ok(self.stream.retrain.promote && !was_rolled_back && !self.registry.is_pinned(name)?)
    }

    fn promote(&mut self, verdict: &PromotionVerdict, now: EventTime) -> Result<(), RetrainError> {
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

    /// Looks at the bundle on probation: brings the last one back where it raised more alerts than
    /// predicted. Returns whether another bundle is live now.
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
        self.plan.note_auto_rollback(&failed.bundle);
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
        BundleRolledBack {
            stream: &name,
            from: &failed.bundle,
            to: &failed.previous,
            alerts: failed.alerts,
            predicted,
        }
        .emit(&self.event_queue);
        self.follow()?;
        Ok(())
    }
}

/// Minimum number of held-out records.
const HELD_OUT_MIN: usize = 64;
