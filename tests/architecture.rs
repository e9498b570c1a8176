//! Who may import whom, what may be read where, and how long a file may be.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says what it expects by unwrapping it, in its helpers too"
)]

#[path = "architecture/graph.rs"]
mod graph;
#[path = "architecture/impls.rs"]
mod impls;
#[path = "architecture/imports.rs"]
mod imports;
#[path = "architecture/source.rs"]
mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use graph::{Graph, cycles, graph, graph_inside};
use impls::impls;
use imports::IMPORTS;
use source::{Module, Name, read, rust_files};

/// Longest file, in lines.
const LINES_MAX: usize = 500;

/// The steps of the path; none imports another.
const STEPS: [&str; 10] = [
    "source",
    "decode",
    "gate",
    "resample",
    "hold",
    "window",
    "score",
    "threshold",
    "episode",
    "sink",
];

/// Crates that only some modules may name, by their paths below `src`.
const CRATES: [(&str, &[&str]); 4] = [
    (
        "rdkafka",
        &[
            "state/changelog",
            "source",
            "sink",
            "destination",
            "lane",
            "share/error",
            "share/history",
            "share/message",
            "share/thread",
            "app",
            "cli/demo",
            "cli/feedback",
            "cli/topic_range",
            "cli/topic_sample",
        ],
    ),
    ("sled", &["state/sled"]),
    ("tch", &["model", "score"]),
    ("statrs", &["threshold", "retrain"]),
];

/// Modules that may read the machine's clock, which can jump.
const CLOCK: [&str; 7] = [
    "record",
    "lane/status",
    "events/retrain",
    "model/registry",
    "retrain/learn",
    "cli/demo",
    "cli/feedback",
];

/// All modules, read once for all tests.
fn modules() -> &'static [Module] {
    static MODULES: OnceLock<Vec<Module>> = OnceLock::new();
    MODULES.get_or_init(source::modules)
}

fn table() -> Graph {
    let row = |(module, imports): &(&str, &[&str])| {
        let imports = imports.iter().map(|import| (*import).to_owned()).collect();
        ((*module).to_owned(), imports)
    };
    IMPORTS.iter().map(row).collect()
}

#[test]
fn each_module_imports_what_the_table_says() {
    let (due, found) = (table(), graph(modules()));
    let mut wrong = Vec::new();
    for module in due.keys().chain(found.keys()).collect::<BTreeSet<_>>() {
        match (due.get(module), found.get(module)) {
            (Some(due), Some(found)) => {
                let new = found.difference(due);
                wrong.extend(
                    new.map(|new| {
                        format!("{module} imports {new}, which the table does not allow")
                    }),
                );
                let gone = due.difference(found);
                wrong.extend(gone.map(|gone| {
                    format!("{module} no longer imports {gone}: take it out of the table")
                }));
            }
            (None, _) => wrong.push(format!("{module} is not in the table")),
            (_, None) => wrong.push(format!("the table has {module}, which is no module")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn modules_do_not_import_each_other() {
    assert_eq!(cycles(&graph(modules())), BTreeSet::new());
}

#[test]
fn files_of_a_room_do_not_import_each_other() {
    assert_eq!(cycles(&graph_inside(modules())), BTreeSet::new());
}

#[test]
fn no_step_imports_another() {
    let graph = graph(modules());
    let mut wrong = Vec::new();
    for step in STEPS {
        let others = STEPS.iter().filter(|other| graph[step].contains(**other));
        wrong.extend(others.map(|other| (step, *other)));
    }
    // How to reach the brokers is one thing, used by both ends of the path.
    assert_eq!(wrong, [("sink", "source")], "only pipeline joins the steps");
}

#[test]
fn record_imports_only_options_and_nothing_imports_app_or_cli() {
    let graph = graph(modules());
    assert_eq!(graph["record"], BTreeSet::from(["options".to_owned()]));
    assert_eq!(graph["options"], BTreeSet::new());
    for (module, imports) in &graph {
        let tops: Vec<&String> = imports
            .iter()
            .filter(|import| ["app", "cli"].contains(&import.as_str()))
            .collect();
        assert!(
            tops.is_empty() || ["cli", "main"].contains(&module.as_str()),
            "{module} imports {tops:?}"
        );
    }
}

#[test]
fn each_foreign_crate_stays_behind_its_modules() {
    let mut wrong = Vec::new();
    for module in modules() {
        for (name, allowed) in CRATES {
            let names = |found: &Name| matches!(found, Name::Foreign(path) if path[0] == name);
            let allowed = allowed.iter().any(|path| module.is_in(path));
            if module.names.iter().any(names) && !allowed {
                wrong.push(format!("{} names {name}", module.path.join("/")));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Intervals are measured on the clock that only goes forward. The machine's own, which can jump,
/// is read where a point in time is meant.
#[test]
fn the_machines_clock_is_read_where_a_date_is_meant() {
    let reads = |name: &Name| {
        let (Name::Ours(path) | Name::Foreign(path)) = name;
        path.last().is_some_and(|last| last == "now")
            && path
                .iter()
                .any(|part| ["SystemTime", "Timestamp", "Zoned"].contains(&part.as_str()))
    };
    let wrong: Vec<String> = modules()
        .iter()
        .filter(|module| module.names.iter().any(reads))
        .filter(|module| !CLOCK.iter().any(|allowed| module.is_in(allowed)))
        .map(|module| module.path.join("/"))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_map_has_every_module_and_no_file_that_is_gone() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let map = fs::read_to_string(root.join("src/lib.rs")).unwrap();
    let page = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    for (module, _) in IMPORTS.iter().filter(|(module, _)| *module != "main") {
        let line = format!("//! | [`{module}`] | ");
        assert_eq!(map.matches(&line).count(), 1, "{module} in lib.rs");
    }
    let named = page.split('`').filter(|text| text.ends_with(".rs"));
    let gone: Vec<&str> = named
        .filter(|path| !root.join(path).exists() && !root.join("src").join(path).exists())
        .collect();
    assert!(gone.is_empty(), "ARCHITECTURE.md names {gone:?}");
}

#[test]
fn files_stay_readable() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    for folder in ["src", "tests", "benches", "scripts"] {
        for path in rust_files(&root.join(folder)) {
            let lines = fs::read_to_string(&path).unwrap().lines().count();
            if lines > LINES_MAX {
                wrong.push(format!("{} has {lines} lines", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "at most {LINES_MAX} lines: {wrong:#?}");
}

/// A file that grows too long wants a new type: methods of one type in several files hide how many
/// concerns it has.
#[test]
fn the_methods_of_a_type_are_in_one_file() {
    let spread: Vec<String> = impls(modules())
        .into_iter()
        .filter(|(_, files)| files.len() > 1)
        .map(|((_, name), files)| format!("{name}: {files:?}"))
        .collect();
    assert!(spread.is_empty(), "pull out a type: {spread:#?}");
}

#[test]
fn methods_belong_to_the_nearest_type_of_their_name() {
    let module = |path: &str, text: &str| {
        let path = path.split('/').map(str::to_owned).collect();
        read(text, path, &mut BTreeSet::new())
    };
    let found = impls(&[
        module(
            "gate",
            "struct Plan<'a>(&'a u8); impl Plan<'_> { fn a() {} }",
        ),
        module("gate/field", "impl super::Plan<'_> { fn b() {} }"),
        module("gate/clock", "enum Plan { A } impl Plan { fn c() {} }"),
        module("window", "struct Rows; impl Clone for Rows {} impl Rows {}"),
        module(
            "score",
            "impl crate::window::Rows {} #[cfg(test)] impl A {}",
        ),
    ]);
    let files: Vec<(&str, Vec<&str>)> = found
        .iter()
        .map(|((_, name), files)| (name.as_str(), files.iter().map(String::as_str).collect()))
        .collect();
    assert_eq!(
        files,
        [
            ("Plan", vec!["gate", "gate/field"]),
            ("Plan", vec!["gate/clock"]),
            ("Rows", vec!["score", "window"]),
        ]
    );
}

/// The names of ours that a text in the module `gate::field` has.
fn ours(text: &str) -> Vec<String> {
    let path = vec!["gate".to_owned(), "field".to_owned()];
    let module = read(text, path, &mut BTreeSet::new());
    let name = |name: &Name| match name {
        Name::Ours(path) => Some(path.join("::")),
        Name::Foreign(_) => None,
    };
    module.names.iter().filter_map(name).collect()
}

#[test]
fn every_way_of_naming_a_module_is_seen() {
    for (text, due) in [
        ("use crate::{window, score as s};", &["score", "window"][..]),
        (
            "use crate::{self as ours, window::{Place, Rows}};",
            &["", "window::Place", "window::Rows"],
        ),
        ("use super::super::window::Place;", &["window::Place"]),
        (
            "use super::{clock, super::window};",
            &["gate::clock", "window"],
        ),
        (
            "use self::inner::Thing; mod inner {}",
            &["gate::field::inner::Thing"],
        ),
        (
            "fn f() -> u8 { crate::window::place(0) }",
            &["window::place"],
        ),
        ("fn f(p: &crate::window::Place) {}", &["window::Place"]),
        (
            "fn f() { match 1 { crate::window::ONE => {} _ => {} } }",
            &["window::ONE"],
        ),
        (
            "fn f() { println!(\"{}\", super::super::window::place(0)); }",
            &["window::place"],
        ),
        (
            "impl From<crate::window::Place> for A {}",
            &["window::Place"],
        ),
        ("fn f() { use crate::window::Place; }", &["window::Place"]),
        (
            "mod deeper { use super::super::super::window; }",
            &["window"],
        ),
        ("pub(in crate::gate) struct A;", &[]),
        ("#[cfg(test)] mod tests { use crate::window; }", &[]),
        ("use std::sync::Arc; use serde::Serialize;", &[]),
    ] {
        assert_eq!(ours(text), due, "{text}");
    }
}

#[test]
fn cycles_are_found_through_others() {
    let graph = |edges: &[(&str, &str)]| {
        let mut graph = Graph::new();
        for (from, to) in edges {
            graph.entry((*to).to_owned()).or_default();
            graph
                .entry((*from).to_owned())
                .or_default()
                .insert((*to).to_owned());
        }
        cycles(&graph)
    };
    assert_eq!(
        graph(&[("a", "b"), ("b", "c"), ("a", "c")]),
        BTreeSet::new()
    );
    let found = graph(&[
        ("a", "b"),
        ("b", "c"),
        ("c", "a"),
        ("d", "a"),
        ("d", "e"),
        ("e", "d"),
    ]);
    let group = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(
        found,
        BTreeSet::from([group(&["a", "b", "c"]), group(&["d", "e"])])
    );
}
