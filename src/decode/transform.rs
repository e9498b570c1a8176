//! `record.transform`: a filter in the jq language between the encoding and the layout, which makes
//! none, one or many values of one.
//!
//! It runs on a thread of its own, which a filter that takes too long takes down with it. Its result
//! depends on the record alone, so that a replay gives the same.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::DecodeProblem;
use super::filter::Filter;
use super::worker::{NoAnswer, Worker};
use crate::record::{PARTS_MAX, RejectReason};

/// How long the filter may take for one message.
const LIMIT: Duration = Duration::from_millis(500);

/// See the module.
pub(super) struct Transform {
    worker: RefCell<Worker<Value, Result<Vec<Value>, String>>>,
}

/// Whether a text is a filter.
///
/// # Errors
/// What is wrong with it, and where.
pub fn check(text: &str) -> Result<(), String> {
    Filter::compile(text).map(drop)
}

impl Transform {
    /// A filter that was checked; `None` where the text is empty.
    pub(super) fn new(text: &str) -> Option<Self> {
        let text: Arc<str> = (!text.is_empty()).then(|| text.into())?;
        let make = move || -> Box<dyn FnMut(Value) -> Result<Vec<Value>, String>> {
            let filter = Filter::compile(&text);
            Box::new(move |value| match &filter {
                Ok(filter) => filter.run(value, PARTS_MAX as usize),
                Err(wrong) => Err(wrong.clone()),
            })
        };
        Some(Self {
            worker: RefCell::new(Worker::new("transform", LIMIT, make)),
        })
    }

    /// What the filter makes of a value.
    ///
    /// # Errors
    /// Its error, or that it took too long.
    pub(super) fn run(&self, value: Value) -> Result<Vec<Value>, DecodeProblem> {
        let wrong = match self.worker.borrow_mut().run(value) {
            Ok(Ok(values)) => return Ok(values),
            Ok(Err(wrong)) => wrong,
            Err(NoAnswer::TooLong) => format!("it takes longer than {} ms", LIMIT.as_millis()),
            Err(NoAnswer::Failed) => "it panicked".to_owned(),
            Err(NoAnswer::Busy) => "it still runs for messages before".to_owned(),
            Err(NoAnswer::NoThread(error)) => format!("no thread can be started for it: {error}"),
        };
        let detail = format!("record.transform: {wrong}");
        Err(DecodeProblem::new(RejectReason::TransformFailed, detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_filter_that_does_not_end_costs_its_message() {
        let filter = "def f: f; if .x == 0 then f else .x end";
        let transform = Transform::new(filter).unwrap();
        assert_eq!(transform.run(json!({"x": 1})), Ok(vec![json!(1)]));
        let problem = transform.run(json!({"x": 0})).expect_err("it has no end");
        assert_eq!(problem.reason, RejectReason::TransformFailed);
        assert!(
            problem.detail.contains("a loop takes too long"),
            "{problem:?}"
        );
        assert_eq!(transform.run(json!({"x": 2})), Ok(vec![json!(2)]));
        let problem = transform.run(json!([])).expect_err("an array");
        assert!(
            problem.detail.starts_with("record.transform: "),
            "{problem:?}"
        );
    }
}
