//! Who imports whom, and where that leads in a circle.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{Module, Name};

/// Of each module, the modules that it imports.
pub type Graph = BTreeMap<String, BTreeSet<String>>;

/// What each top-level module imports.
pub fn graph(modules: &[Module]) -> Graph {
    let known = &modules
        .iter()
        .find(|module| module.path.is_empty())
        .unwrap()
        .children;
    let mut graph = Graph::new();
    for module in modules.iter().filter(|module| !module.path.is_empty()) {
        let imports = graph.entry(module.top().to_owned()).or_default();
        for name in &module.names {
            let Name::Ours(path) = name else { continue };
            let top = path
                .first()
                .unwrap_or_else(|| panic!("{} imports the whole crate", module.path.join("/")));
            assert!(
                known.contains(top),
                "{} names crate::{}, which is no module",
                module.path.join("/"),
                path.join("::")
            );
            if top != module.top() {
                imports.insert(top.clone());
            }
        }
    }
    graph
}

/// All modules that can be reached from one, itself only where it is on a cycle.
fn reached(graph: &Graph, from: &str) -> BTreeSet<String> {
    let (mut seen, mut left) = (BTreeSet::new(), vec![from.to_owned()]);
    while let Some(module) = left.pop() {
        for next in graph.get(&module).into_iter().flatten() {
            if seen.insert(next.clone()) {
                left.push(next.clone());
            }
        }
    }
    seen
}

/// The groups of modules that import each other, directly or through others.
pub fn cycles(graph: &Graph) -> BTreeSet<BTreeSet<String>> {
    let reached: BTreeMap<&String, BTreeSet<String>> = graph
        .keys()
        .map(|module| (module, reached(graph, module)))
        .collect();
    let on_cycle = reached
        .iter()
        .filter(|(module, all)| all.contains(**module));
    let group = |(module, all): (&&String, &BTreeSet<String>)| {
        let back = |other: &&String| reached[*other].contains(*module);
        all.iter().filter(back).cloned().collect()
    };
    on_cycle.map(group).collect()
}

/// What each file imports of its own room; a module and what is below it are one.
pub fn graph_inside(modules: &[Module]) -> Graph {
    let files: BTreeSet<&[String]> = modules.iter().map(|m| m.path.as_slice()).collect();
    let mut graph = Graph::new();
    for module in modules {
        let own = module.path.join("/");
        let imports = graph.entry(own.clone()).or_default();
        for name in &module.names {
            let Name::Ours(path) = name else { continue };
            // The file that the name is in: the longest beginning that is one.
            let file = (1..=path.len()).rev().find(|&n| files.contains(&path[..n]));
            let file = path[..file.unwrap_or(0)].join("/");
            let is_apart = !module.is_in(&file) && !file.starts_with(&format!("{own}/"));
            if path.first() == module.path.first() && !file.is_empty() && is_apart {
                imports.insert(file);
            }
        }
    }
    graph
}
