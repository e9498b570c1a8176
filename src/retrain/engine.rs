//! Retraining of one stream: the buffer, the schedule, the challenge, the promotion and the
//! rollback.
//!
//! Nothing here knows threads, clocks or Kafka: the daemon's thread ([`super::thread`]) and a
//! replay drive the same engine.

mod challenge;
mod confirmed;
mod excluded;
mod feedback;
mod held_out;
mod live;
mod notes;
mod self_test;

use std::ops::ControlFlow;
use std::sync::Arc;

use self::challenge::BufferChallenge;
use self::confirmed::ConfirmedFaults;
use self::excluded::ExcludedTraffic;
pub use self::feedback::{LabeledFeedback, fingerprint, forget_applied, is_known};
use self::live::LiveModel;
use self::notes::{EngineNotes, NoteChange};
pub use self::self_test::Sight;
use self::self_test::{SelfTestInput, SelfTestRound};
use super::budget::{BudgetStatus, BudgetWatch};
use super::buffer::{Admission, Buffer, BufferChange};
use super::collect::slot;
use super::error::RetrainError;
use super::schedule::{Probation, ProbationStatus, RetrainReason, RetrainSchedule};
use super::self_test::SelfTest;
use super::set::RecordRun;
use crate::config::settings::StreamSettings;
use crate::events::published::{Event, EventQueue};
use crate::events::retrain::{
    BudgetChanged, BundleRolledBack, ChallengerJudged, TrainingBufferSize,
};
use crate::events::share::FeedbackApplied;
use crate::model::registry::{AUTOMATIC_ROLLBACK, Registry};
use crate::promotion::PromotionVerdict;
use crate::record::EventTime;
use crate::record::feedback::FeedbackLabel;
use crate::state::Store;

/// See the module.
pub struct RetrainEngine {
    stream: Arc<StreamSettings>,
    registry: Arc<Registry>,
    notes: EngineNotes,
    admission: Arc<Admission>,
    buffer: Buffer,
    schedule: RetrainSchedule,
    live: Option<LiveModel>,
    /// The bundle that the model folder names as live and that does not fit; reported once.
    refused: Option<String>,
    /// Whether the stream had no live bundle yet when it was first looked for.
    had_none: bool,
    excluded: ExcludedTraffic,
    confirmed: ConfirmedFaults,
    self_test: SelfTestRound,
    budget: BudgetWatch,
    /// Whether a training is asked for since the budget is exceeded.
    over_budget: bool,
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
        let notes = EngineNotes::new(store, stream.clone());
        let runs = notes.runs()?;
        let schedule = notes.schedule()?;
        let buffer = Buffer::new(&stream.retrain, 1, runs);
        let admission = Arc::new(Admission::open());
        buffer.publish(&admission);
        buffer.runs().for_each(|run| admission.observe(run.until()));
        show_size(&stream.name, &buffer);
        Ok(Self {
            confirmed: ConfirmedFaults::stored(&notes)?,
            excluded: ExcludedTraffic::read(&registry, &stream.name)?,
            stream,
            registry,
            notes,
            admission,
            buffer,
            schedule,
            live: None,
            refused: None,
            had_none: false,
            self_test: SelfTestRound::default(),
            budget: BudgetWatch::default(),
            over_budget: false,
            event_queue: EventQueue::default(),
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
    pub fn schedule(&self) -> &RetrainSchedule {
        &self.schedule
    }

    /// Takes note of which bundle is live, by whomever it was made so. One that does not fit the
    /// stream as it runs is refused, and the live one stays: the next start may have the
    /// configuration that it was trained for.
    ///
    /// # Errors
    /// Where it cannot be loaded.
    pub fn follow(&mut self) -> Result<Option<&str>, RetrainError> {
        let current = self.registry.current(&self.stream.name)?;
        self.had_none |= current.is_none();
        match current {
            None => self.live = None,
            Some(id) if self.live_id() == Some(id.as_str()) => self.refused = None,
            Some(id) if self.refused.as_ref() == Some(&id) => {}
            Some(id) => self.go_live(id)?,
        }
        Ok(self.live_id())
    }

    fn live_id(&self) -> Option<&str> {
        self.live.as_ref().map(|live| live.id.as_str())
    }

    fn go_live(&mut self, id: String) -> Result<(), RetrainError> {
        let loaded = live::load_fitting(&self.registry, &self.stream, &id, self.live_id())?;
        let Some(bundle) = loaded else {
            self.refused = Some(id);
            return Ok(());
        };
        let before = self.live.take().map(|live| live.id);
        let period = bundle.calibration.period_micros;
        self.buffer.set_slot(slot(self.stream.window, period));
        if before.is_some() {
            // Whoever made it live: the next training by time is a whole period away.
            self.schedule.due = None;
        }
        // Of the bundle that a start finds there is nothing new to tell.
        if before.is_some() || self.had_none {
            let bundle = id.clone();
            self.event_queue
                .put(&self.stream.name, Event::WentLive { bundle, before });
        }
        let live = self.live.insert(LiveModel::new(id, &bundle));
        live.show_sensitivity(&self.registry, &self.stream.name)?;
        self.excluded
            .report(&self.stream.name, &bundle.manifest, &self.event_queue);
        self.refused = None;
        Ok(())
    }

    /// Takes normal traffic.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn take(&mut self, runs: Vec<RecordRun>) -> Result<(), RetrainError> {
        if runs.is_empty() {
            return Ok(());
        }
        let fit = runs.into_iter().flat_map(|run| self.excluded.without(run));
        let changes = self.buffer.add(fit);
        self.keep(changes, Vec::new())
    }

    /// Makes changes of the buffer durable, with other notes.
    fn keep(
        &mut self,
        changes: Vec<BufferChange>,
        others: Vec<NoteChange>,
    ) -> Result<(), RetrainError> {
        self.buffer.publish(&self.admission);
        show_size(&self.stream.name, &self.buffer);
        self.notes.keep_runs(changes, others)
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
        let before = self.schedule.clone();
        let by_period = self
            .schedule
            .period_over(settings, name, now)
            .then_some(RetrainReason::Period);
        let looks = self.schedule.look_for_drift(settings, now);
        let by_drift = if looks && by_period.is_none() && self.has_enough() {
            live.drifted(&self.buffer, &self.stream)
        } else {
            None
        };
        if before != self.schedule {
            self.notes.keep_schedule(&self.schedule)?;
        }
        let has_enough = self.has_enough();
        // Asked once for each time that the budget is exceeded.
        let by_budget = (has_enough && std::mem::take(&mut self.over_budget))
            .then_some(RetrainReason::OverBudget);
        Ok(by_period.or(by_drift).or(by_budget))
    }

    /// Whether an operator requested a training since the last call.
    ///
    /// # Errors
    /// A bad stream name.
    pub fn is_asked(&self) -> Result<bool, RetrainError> {
        Ok(self
            .registry
            .flags(&self.stream.name)?
            .take_training_request())
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
        self.schedule.began(&self.stream.retrain, &name, now);
        self.notes.keep_schedule(&self.schedule)?;
        let challenge = BufferChallenge {
            stream: &self.stream,
            registry: &self.registry,
            champion: self.live_id(),
            buffer: &self.buffer,
            confirmed: &self.confirmed.to_vec(),
            has_enough: self.has_enough(),
        };
        let verdict = challenge.run(reason, now, go_on)?;
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
        self.schedule.due = Some(now);
        self.notes.keep_schedule(&self.schedule)
    }

    fn may_promote(&self, verdict: &PromotionVerdict) -> Result<bool, RetrainError> {
        let was_rolled_back = self.schedule.auto_rolled_back.contains(&verdict.challenger);
        let name = &self.stream.name;
        let is_pinned = self.registry.flags(name)?.is_pinned();
        Ok(self.stream.retrain.promote && !was_rolled_back && !is_pinned)
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
        let duration = self.stream.retrain.probation;
        self.schedule.probation =
            (!duration.is_zero()).then(|| Probation::of(verdict, now.after(duration)));
        self.notes.keep_schedule(&self.schedule)?;
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
        self.watch_budget(alerts, budgeted);
        let current = self.live.as_ref().map(|live| live.id.as_str());
        match self
            .schedule
            .observe_probation(current, alerts, budgeted, now)
        {
            ProbationStatus::Unchanged => Ok(false),
            ProbationStatus::Changed => {
                self.notes.keep_schedule(&self.schedule)?;
                Ok(false)
            }
            ProbationStatus::Failed(failed) => {
                let is_pinned = self.registry.flags(&self.stream.name)?.is_pinned();
                if !is_pinned {
                    self.bring_back(&failed)?;
                }
                Ok(!is_pinned)
            }
        }
    }

    /// Reports when more alerts open than the budget explains, and asks for a training then.
    fn watch_budget(&mut self, alerts: u64, budgeted: f64) {
        let Some(status) = self.budget.count(alerts, budgeted) else {
            return;
        };
        let (over, alerts, budgeted) = match status {
            BudgetStatus::Over { alerts, budgeted } => (true, alerts, budgeted),
            BudgetStatus::Within => (false, 0, 0.0),
        };
        self.over_budget = over;
        BudgetChanged {
            stream: &self.stream.name,
            alerts,
            budgeted,
            over,
        }
        .emit(&self.event_queue);
    }

    /// Makes the bundle live again that was before one whose probation failed.
    fn bring_back(&mut self, failed: &Probation) -> Result<(), RetrainError> {
        let name = self.stream.name.clone();
        self.schedule.note_auto_rollback(&failed.bundle);
        self.notes.keep_schedule(&self.schedule)?;
        let predicted = failed.predicted * failed.budgeted;
        let why = format!(
            "{} alerts in its probation, {predicted:.2} were predicted",
            failed.alerts
        );
        self.registry.promote(
            &name,
            &failed.previous,
            &format!("{AUTOMATIC_ROLLBACK}: {} raised {why}", failed.bundle),
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

    /// Tests some live series if due; reports when the detector becomes degraded, or has recovered.
    ///
    /// # Errors
    /// Where store or model folder cannot be read, or the bundle cannot score.
    pub fn run_self_test(&mut self, now: EventTime) -> Result<(), RetrainError> {
        let every = self.stream.retrain.self_test;
        let is_due = self.schedule.self_test.is_none_or(|at| now >= at);
        let Some(live) = self.live.as_ref().filter(|_| is_due && !every.is_zero()) else {
            return Ok(());
        };
        self.schedule.self_test = Some(now.after(every));
        self.notes.keep_schedule(&self.schedule)?;
        let input = SelfTestInput {
            stream: &self.stream,
            registry: &self.registry,
            buffer: &self.buffer,
            notes: &self.notes,
        };
        self.self_test.test_series(&input, &live.id, now)?;
        let verdict = PromotionVerdict::read(&self.registry, &self.stream.name, &live.id)?;
        if self.self_test.conclude(
            &self.stream,
            &live.id,
            verdict.as_ref(),
            &mut self.schedule,
            now,
            &self.event_queue,
        ) {
            self.notes.keep_schedule(&self.schedule)?;
        }
        Ok(())
    }

    /// Faults that live series would detect at present.
    pub fn self_test(&self) -> &SelfTest {
        self.self_test.detectable()
    }

    /// What the self-test last found; `None` until enough series have been tested since the start.
    /// The lane that owns partition 0 publishes it.
    pub fn sight(&self) -> Option<&Sight> {
        self.self_test.sight()
    }

    /// Applies operator feedback; once, even if it is received several times.
    ///
    /// # Errors
    /// Where store or model folder cannot be read or written.
    pub fn learn_from(&mut self, labeled: &LabeledFeedback) -> Result<(), RetrainError> {
        let feedback = &labeled.feedback;
        let subject = feedback.subject();
        let (changes, done, mut notes) = match feedback.label {
            FeedbackLabel::FalseAlarm | FeedbackLabel::NewNormal => {
                let runs = feedback::labeled_normal(labeled);
                let rows: usize = runs.iter().map(|run| run.times.len()).sum();
                let done = format!("{rows} records added to the training buffer");
                (self.buffer.add(runs), done, Vec::new())
            }
            label => {
                let changes = self
                    .buffer
                    .retain(|series, time| !feedback.is_about(series, time));
                let (done, notes) = match label {
                    FeedbackLabel::Confirmed => self.confirmed.confirm(&subject, labeled)?,
                    FeedbackLabel::MarkRange => {
                        let done = self.excluded.add(
                            &self.registry,
                            &self.stream.name,
                            feedback,
                            &self.event_queue,
                        )?;
                        (done, Vec::new())
                    }
                    _ => ("excluded from training", Vec::new()),
                };
                (changes, done.to_owned(), notes)
            }
        };
        if feedback.label != FeedbackLabel::Confirmed {
            // Later feedback on the same alert revokes that it was a fault.
            notes.extend(self.confirmed.revoke(&subject));
        }
        notes.push(feedback::applied(feedback));
        self.keep(changes, notes)?;
        FeedbackApplied {
            feedback,
            done: &done,
        }
        .emit(&self.event_queue);
        Ok(())
    }
}

/// Shows how much normal traffic is kept.
fn show_size(stream: &str, buffer: &Buffer) {
    TrainingBufferSize {
        stream,
        records: buffer.len(),
        series: buffer.series(),
    }
    .emit();
}
