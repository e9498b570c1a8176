//! Keeps the model folder of a machine and the shared topics alike.
//!
//! Contract: what came from the topics goes in by [`RegistrySync::take_control`] and
//! [`RegistrySync::take_part`]; [`RegistrySync::reconcile`] then does to the folder what the others
//! have changed, and returns the messages that tell them what has changed here. What both last
//! agreed on is kept in the store, so that it is known which of the two has changed, also over a
//! restart. Where both have, the later change counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::archive::{ArchiveHeader, BundleArchive, IncompleteBundles, part_key, part_of};
use super::control::{ControlMessage, LiveBundle, live_key, pin_key};
use crate::config::settings::StreamSettings;
use crate::events::share::{BundlePublished, BundleReceived, BundlesPruned, MessageSkipped};
use crate::failure::{Failure, FailureClass};
use crate::model::registry::{Registry, RegistryError, prune};
use crate::pipeline::load_fitting;
use crate::record::feedback::Feedback;
use crate::retrain::verdict::VERDICT;
use crate::state::{Commit, Store, StoreError, codec};

/// Bundles of a stream that the topic holds: the newest ones.
const KEPT_MAX: usize = 16;
/// Bundles of a stream on the topic that are known: far more than the instances leave there.
const KNOWN_MAX: usize = 1_000;
/// The note of what folder and topic last agreed on.
const LAST_SYNCED: &str = "share/last-synced";

/// Why folder and topics are not alike.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The model folder.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A note or a parcel that cannot be written.
    #[error(transparent)]
    Archive(#[from] super::archive::ArchiveError),
}

impl Failure for SyncError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Registry(error) => error.class(),
            Self::Store(error) => error.class(),
            Self::Archive(error) => error.class(),
        }
    }
}

/// A message to send.
#[derive(Clone, PartialEq, Debug)]
pub enum OutgoingMessage {
    /// To the control topic; `None` removes the message of the key.
    Control(String, Option<ControlMessage>),
    /// A part of a bundle, or its removal, to the topic of the bundles.
    Part(String, Option<(ArchiveHeader, Vec<u8>)>),
}

impl OutgoingMessage {
    fn control(message: ControlMessage) -> Self {
        Self::Control(message.key(), Some(message))
    }
}

/// What folder and topic last agreed on.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct LastSynced {
    bundle: Option<String>,
    pinned: bool,
}

/// One stream.
#[derive(Debug)]
struct SharedStream {
    settings: Arc<StreamSettings>,
    last_synced: LastSynced,
    live: Option<LiveBundle>,
    pinned: bool,
    /// Whether a training is asked for.
    challenge: bool,
    /// The bundles on the topic, and how many parts each has.
    archives: BTreeMap<String, usize>,
    /// Those of which not every part has come yet.
    assembling: IncompleteBundles,
    /// The bundles of the folder that could be sent, when they were last held against the topic: to
    /// order them by age all manifests are read.
    looked_at: Vec<String>,
    /// A live bundle of the others that could not be made live here: said once.
    refused: Option<String>,
    unreadable: UnreadableMessages,
}

/// Which control messages this release cannot read.
#[derive(Debug, Default)]
struct UnreadableMessages {
    live: bool,
    pin: bool,
}

impl SharedStream {
    fn new(settings: Arc<StreamSettings>, last_synced: LastSynced) -> Self {
        Self {
            settings,
            last_synced,
            live: None,
            pinned: false,
            challenge: false,
            archives: BTreeMap::new(),
            assembling: IncompleteBundles::default(),
            looked_at: Vec::new(),
            refused: None,
            unreadable: UnreadableMessages::default(),
        }
    }
}

/// See the module.
pub struct RegistrySync {
    registry: Arc<Registry>,
    store: Arc<dyn Store>,
    streams: BTreeMap<String, SharedStream>,
}

impl RegistrySync {
    /// A mirror of these streams that has read nothing yet.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn open(
        registry: Arc<Registry>,
        store: Arc<dyn Store>,
        streams: impl IntoIterator<Item = Arc<StreamSettings>>,
    ) -> Result<Self, SyncError> {
        let mut of = BTreeMap::new();
        for settings in streams {
            let note = store.notes(&settings.name, LAST_SYNCED)?.pop();
            let last_synced = note
                .and_then(|(_, bytes)| codec::decode(&bytes).ok())
                .unwrap_or_default();
            let name = settings.name.clone();
            of.insert(name, SharedStream::new(settings, last_synced));
        }
        Ok(Self {
            registry,
            store,
            streams: of,
        })
    }

    /// Takes a message of the control topic; returns the feedback that it holds.
    pub fn take_control(
        &mut self,
        topic: &str,
        key: &str,
        value: Option<&[u8]>,
    ) -> Option<Feedback> {
        let Some(value) = value else {
            let stream =
                ControlMessage::challenge_of(key).and_then(|stream| self.streams.get_mut(stream));
            if let Some(shared) = stream {
                shared.challenge = false;
            }
            return None;
        };
        let control = match ControlMessage::parse(value) {
            Ok(control) => control,
            Err(error) => {
                MessageSkipped { topic, key, error }.emit();
                self.set_unreadable(key, true);
                return None;
            }
        };
        self.set_unreadable(key, false);
        // Streams of other machines, that this one does not have.
        let shared = self.streams.get_mut(control.stream())?;
        match control {
            ControlMessage::Live(live) => shared.live = Some(live),
            ControlMessage::Pin { pinned, .. } => shared.pinned = pinned,
            ControlMessage::Challenge { .. } => shared.challenge = true,
            ControlMessage::Feedback(feedback) => return Some(feedback),
        }
        None
    }

    /// A newer release may have written a message that cannot be read: nothing takes its place.
    fn set_unreadable(&mut self, key: &str, is_unreadable: bool) {
        for (stream, shared) in &mut self.streams {
            if key == live_key(stream) {
                shared.unreadable.live = is_unreadable;
            }
            if key == pin_key(stream) {
                shared.unreadable.pin = is_unreadable;
            }
        }
    }

    /// Takes a part of a bundle; the last one brings the bundle into the model folder.
    pub fn take_part(&mut self, topic: &str, key: &str, part: Option<(ArchiveHeader, &[u8])>) {
        let Some((stream, id, number)) = part_of(key) else {
            return MessageSkipped {
                topic,
                key,
                error: "the key is not STREAM/BUNDLE/NUMBER".into(),
            }
            .emit();
        };
        let Some(shared) = self.streams.get_mut(stream) else {
            return;
        };
        let Some((header, bytes)) = part else {
            shared.archives.remove(id);
            shared.assembling.remove(id);
            shared.looked_at.clear();
            return;
        };
        let parts = header.parts();
        if shared.archives.len() >= KNOWN_MAX && !shared.archives.contains_key(id) {
            let error = format!("the topic has more than {KNOWN_MAX} bundles of the stream");
            return MessageSkipped { topic, key, error }.emit();
        }
        let Some(dropped) = shared.assembling.begin(id, header) else {
            let error = "its header claims a size larger than any bundle".into();
            return MessageSkipped { topic, key, error }.emit();
        };
        shared.archives.insert(id.to_owned(), parts);
        for id in dropped {
            let error = format!("incomplete bundles take too much memory: {id} is dropped");
            MessageSkipped { topic, key, error }.emit();
        }
        let Some(assembling) = shared.assembling.get_mut(id) else {
            return;
        };
        assembling.take(number, bytes);
        let taken = match assembling.open() {
            Ok(None) => return,
            Ok(Some(archive)) => import(&self.registry, stream, id, &archive),
            Err(error) => Err(error.into()),
        };
        shared.assembling.remove(id);
        // Of one that has been here before there is nothing to tell.
        if !matches!(taken, Ok(false)) {
            let refused = taken.as_ref().err();
            BundleReceived {
                stream,
                bundle: id,
                refused: refused.map(|error| error as &dyn Failure),
            }
            .emit();
        }
    }

    /// Does to the folder what the others have changed, and tells what has changed here;
    /// `is_trainer`: whether this instance trains a stream.
    ///
    /// # Errors
    /// See [`SyncError`]; the next call continues.
    pub fn reconcile(
        &mut self,
        is_trainer: impl Fn(&str) -> bool,
    ) -> Result<Vec<OutgoingMessage>, SyncError> {
        let mut out = Vec::new();
        let registry = &*self.registry;
        let store = &*self.store;
        for (stream, shared) in &mut self.streams {
            let before = shared.last_synced.clone();
            let is_trainer = is_trainer(stream);
            bundles(registry, stream, shared, is_trainer, &mut out)?;
            if !shared.unreadable.live {
                live(registry, stream, shared, &mut out)?;
            }
            if !shared.unreadable.pin {
                pin(registry, stream, shared, &mut out)?;
            }
            challenge(registry, stream, shared, is_trainer, &mut out)?;
            if shared.last_synced != before {
                let bytes = codec::encode(&shared.last_synced)
                    .map_err(super::archive::ArchiveError::from)?;
                let notes = vec![(LAST_SYNCED.to_owned(), Some(bytes))];
                store.commit(
                    stream,
                    &Commit {
                        notes,
                        ..Commit::default()
                    },
                )?;
            }
        }
        Ok(out)
    }
}

/// Brings a bundle into the model folder, which keeps a bounded number of them. Returns whether it
/// is new there.
fn import(
    registry: &Registry,
    stream: &str,
    id: &str,
    archive: &BundleArchive,
) -> Result<bool, SyncError> {
    let bundles = &prune(registry, stream)?;
    BundlesPruned { stream, bundles }.emit();
    Ok(registry.import_bundle(stream, id, &archive.files)?)
}

/// Sends the newest bundles that the topic does not have, and, where this machine leads, removes
/// older ones from it.
fn bundles(
    registry: &Registry,
    stream: &str,
    shared: &mut SharedStream,
    is_trainer: bool,
    out: &mut Vec<OutgoingMessage>,
) -> Result<(), SyncError> {
    let current = registry.current(stream)?;
    // A challenger that has not sat its tests yet may still be written to.
    let mut ready = registry.ids(stream)?;
    ready.retain(|id| {
        current.as_ref() == Some(id) || registry.has_attached(stream, id, VERDICT).unwrap_or(false)
    });
    if ready == shared.looked_at && shared.archives.len() <= KEPT_MAX {
        return Ok(());
    }
    let newest: Vec<String> = registry
        .list(stream)?
        .into_iter()
        .rev()
        .map(|bundle| bundle.id)
        .collect();
    let keeps = |id: &String| {
        current.as_ref() == Some(id) || newest.iter().take(KEPT_MAX).any(|kept| kept == id)
    };
    for id in newest.iter().filter(|id| keeps(id) && ready.contains(id)) {
        if shared.archives.contains_key(id) {
            continue;
        }
        let (header, parts) = BundleArchive {
            files: registry.files(stream, id)?,
        }
        .pack()?;
        BundlePublished {
            stream,
            bundle: id,
            parts: parts.len(),
        }
        .emit();
        shared.archives.insert(id.clone(), parts.len());
        let part = |(number, bytes)| {
            OutgoingMessage::Part(part_key(stream, id, number), Some((header.clone(), bytes)))
        };
        out.extend(parts.into_iter().enumerate().map(part));
    }
    if is_trainer {
        let old: Vec<String> = shared
            .archives
            .keys()
            .filter(|id| newest.contains(id) && !keeps(id))
            .cloned()
            .collect();
        for id in old {
            let parts = shared.archives.remove(&id).unwrap_or(0);
            out.extend(
                (0..parts).map(|number| OutgoingMessage::Part(part_key(stream, &id, number), None)),
            );
        }
    }
    shared.looked_at = ready;
    Ok(())
}

/// Which bundle is live, here and on the topic.
fn live(
    registry: &Registry,
    stream: &str,
    shared: &mut SharedStream,
    out: &mut Vec<OutgoingMessage>,
) -> Result<(), SyncError> {
    let here = registry.current(stream)?;
    let there = shared.live.as_ref().map(|live| live.bundle.clone());
    if here == there {
        shared.last_synced.bundle = here;
        return Ok(());
    }
    let last = registry.history(stream)?.entries()?.pop();
    let changed = (
        here.is_some() && here != shared.last_synced.bundle,
        there.is_some() && there != shared.last_synced.bundle,
    );
    let later_here = match (&last, &shared.live) {
        (Some(last), Some(live)) => last.at > live.at,
        _ => here.is_some(),
    };
    if changed.0 && (!changed.1 || later_here) || there.is_none() {
        let Some(bundle) = here else { return Ok(()) };
        let why = last.as_ref().map_or(String::new(), |last| last.why.clone());
        // Later than what it takes the place of, whatever this machine's clock says; no time is
        // later than the last one that there is.
        let at = last.map_or(Timestamp::UNIX_EPOCH, |last| last.at);
        let at = shared.live.as_ref().map_or(at, |live| {
            let later = live.at.checked_add(jiff::SignedDuration::from_micros(1));
            at.max(later.unwrap_or(Timestamp::MAX))
        });
        let live = LiveBundle {
            stream: stream.to_owned(),
            bundle: bundle.clone(),
            why,
            at,
        };
        shared.live = Some(live.clone());
        shared.last_synced.bundle = Some(bundle);
        out.push(OutgoingMessage::control(ControlMessage::Live(live)));
        return Ok(());
    }
    let Some(live) = &shared.live else {
        return Ok(());
    };
    // Control messages may be here before the bundle's parts.
    if !registry.ids(stream)?.contains(&live.bundle)
        || shared.refused.as_ref() == Some(&live.bundle)
    {
        return Ok(());
    }
    let why = format!("{}, on another instance", live.why);
    let promoted = load_fitting(registry, &shared.settings, &live.bundle)
        .and_then(|_| Ok(registry.promote(stream, &live.bundle, &why)?));
    match promoted {
        Ok(()) => shared.last_synced.bundle = Some(live.bundle.clone()),
        Err(error) => {
            BundleReceived {
                stream,
                bundle: &live.bundle,
                refused: Some(&error),
            }
            .emit();
            shared.refused = Some(live.bundle.clone());
        }
    }
    Ok(())
}

/// Whether the live bundle is pinned, here and on the topic.
fn pin(
    registry: &Registry,
    stream: &str,
    shared: &mut SharedStream,
    out: &mut Vec<OutgoingMessage>,
) -> Result<(), SyncError> {
    let flags = registry.flags(stream)?;
    let here = flags.is_pinned();
    if here != shared.pinned {
        if here == shared.last_synced.pinned {
            flags.pin(shared.pinned)?;
        } else {
            shared.pinned = here;
            out.push(OutgoingMessage::control(ControlMessage::Pin {
                stream: stream.to_owned(),
                pinned: here,
            }));
        }
    }
    shared.last_synced.pinned = shared.pinned;
    Ok(())
}

/// A training that is asked for goes to the machine that trains.
fn challenge(
    registry: &Registry,
    stream: &str,
    shared: &mut SharedStream,
    is_trainer: bool,
    out: &mut Vec<OutgoingMessage>,
) -> Result<(), SyncError> {
    let control = ControlMessage::Challenge {
        stream: stream.to_owned(),
    };
    let flags = registry.flags(stream)?;
    if is_trainer && shared.challenge {
        flags.request_training()?;
        shared.challenge = false;
        out.push(OutgoingMessage::Control(control.key(), None));
    } else if !is_trainer && flags.take_training_request() {
        shared.challenge = true;
        out.push(OutgoingMessage::control(control));
    }
    Ok(())
}
