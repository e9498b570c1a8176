//! Rules between values: the problems that neither the schema nor the type of a value can see.
//!
//! A value that a stream inherits is named where it was written, in `defaults`, and is then
//! reported once.

mod image;
mod model;
mod streams;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::merged::{MergedTree, usual_fix};
use super::problems::{ConfigProblem, KeyPath};
use super::settings::{Settings, StreamSettings};
use super::syntax;
use crate::options::OptionFault;
use crate::schema_registry::client::RegistryClient;
use crate::source::OidcFault;

/// Longest list of fields.
const FIELDS_MAX: usize = 1024;

/// Every problem between the values of `settings`, which were read from `tree`. Those that only
/// follow from one of the `known` ones are left out.
pub fn problems(
    settings: &Settings,
    tree: &MergedTree,
    known: &[ConfigProblem],
) -> Vec<ConfigProblem> {
    let mut report = Report {
        tree,
        known,
        problems: Vec::new(),
    };
    service(&mut report, settings);
    for stream in &settings.streams {
        options(&mut report, stream);
        streams::within(&mut report, stream, &settings.registry);
        match &stream.image {
            Some(format) => image::check(&mut report, stream, format),
            None => model::check(&mut report, stream),
        }
    }
    streams::across(&mut report, settings);
    report.problems
}

/// `[service]` and `[kafka]`.
fn service(report: &mut Report<'_>, settings: &Settings) {
    let service = &settings.service;
    if service.state_dir == service.model_dir {
        let fault = "must differ from service.model_dir";
        let key = KeyPath::of("service.state_dir");
        report.add(key, fault, "give each its own folder");
    }
    let share = &settings.share;
    if !share.trusted_keys.is_empty() && share.signing_key.is_none() {
        let fault = "needs share.signing_key: the other instances would ignore the bundles that this one trains";
        let fix = "give each instance a private key: openssl genpkey -algorithm ed25519 -out FILE";
        report.add_found(KeyPath::of("share.trusted_keys"), None, fault, fix);
    }
    if !settings.registry.urls.is_empty()
        && let Err(fault) = RegistryClient::new(&settings.registry)
    {
        report.option(KeyPath::of("registry").key(fault.key), fault);
    }
    for fault in settings.kafka.faults() {
        report.option(KeyPath::of("kafka").key(fault.key), fault);
    }
    for (table, key, fix) in settings.kafka.refused() {
        let key = KeyPath::of("kafka").key(table).key(key);
        report.add(key, "cannot be set here: outlierd sets it itself", fix);
    }
    if let Some(OidcFault { key, fault, fix }) = settings.kafka.oidc_fault() {
        let key = KeyPath::of("kafka").key("properties").key(&key);
        report.add(key, fault, fix);
    }
}

/// The rules of each table of a stream.
fn options(report: &mut Report<'_>, stream: &StreamSettings) {
    let name = &stream.name;
    if let Err(fault) = syntax::stream_name(name) {
        report.note(ConfigProblem::new(
            KeyPath::of("streams").key(name),
            fault,
            "choose another name",
        ));
    }
    let image = stream.image.iter().flat_map(|image| image.faults());
    let tables = [
        ("gate", stream.gate.faults().collect::<Vec<_>>()),
        ("silence", stream.silence.faults().collect()),
        ("image", image.collect()),
        ("model", stream.model.faults().collect()),
        ("threshold", stream.threshold.faults().collect()),
    ];
    for (table, faults) in tables {
        for fault in faults {
            let place = report.place(name, &format!("{table}.{}", fault.key));
            report.option(place, fault);
        }
    }
}

/// The problems that were found, and what they are found in.
struct Report<'t> {
    tree: &'t MergedTree,
    /// Problems that were found before.
    known: &'t [ConfigProblem],
    /// Those found here.
    problems: Vec<ConfigProblem>,
}

impl Report<'_> {
    /// Where a stream's value was written; see [`MergedTree::place`].
    fn place(&self, stream: &str, key: &str) -> KeyPath {
        self.tree.place(stream, key)
    }

    /// A list of a stream as it was written, with `None` at the places of invalid elements.
    fn list<T: DeserializeOwned>(&self, at: &KeyPath) -> Vec<Option<T>> {
        let list = self.tree.value(at).and_then(Value::as_array);
        list.into_iter()
            .flatten()
            .map(|element| T::deserialize(element).ok())
            .collect()
    }

    /// Adds a problem with the value at the key.
    fn add(&mut self, key: KeyPath, fault: impl Into<String>, fix: impl Into<String>) {
        let found = self.tree.value(&key).cloned();
        self.add_found(key, found.as_ref(), fault, fix);
    }

    /// The same with another value than that at the key, or none.
    fn add_found(
        &mut self,
        key: KeyPath,
        found: Option<&Value>,
        fault: impl Into<String>,
        fix: impl Into<String>,
    ) {
        let problem = ConfigProblem::new(key, fault, fix);
        self.note(match found {
            Some(found) if !found.is_object() && !found.is_array() => problem.found(found),
            _ => problem,
        });
    }

    /// Adds the fault of an option.
    fn option(&mut self, key: KeyPath, OptionFault { fault, fix, .. }: OptionFault) {
        let fix = fix.map_or_else(|| usual_fix(&key), str::to_owned);
        self.add(key, fault, fix);
    }

    /// Adds a problem with the usual fix.
    fn fault(&mut self, key: KeyPath, fault: String) {
        let fix = usual_fix(&key);
        self.add(key, fault, fix);
    }

    /// Adds a problem, unless it only follows from one at the same key or below it.
    fn note(&mut self, problem: ConfigProblem) {
        if !self
            .known
            .iter()
            .any(|known| problem.key.is_prefix_of(&known.key))
        {
            self.problems.push(problem);
        }
    }

    /// Whether a problem was found at a key or below it.
    fn has_problem(&self, key: &KeyPath) -> bool {
        self.known
            .iter()
            .chain(&self.problems)
            .any(|problem| key.is_prefix_of(&problem.key))
    }
}
