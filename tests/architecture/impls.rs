//! Which files hold the inherent methods of a type.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::Module;

/// A type: the path of the module that declares it, and its name.
pub type TypePath = (Vec<String>, String);

/// Of each type with inherent methods, the modules whose files hold them.
pub fn impls(modules: &[Module]) -> BTreeMap<TypePath, BTreeSet<String>> {
    let mut found: BTreeMap<TypePath, BTreeSet<String>> = BTreeMap::new();
    for module in modules {
        for name in &module.inherent_impls {
            let declared = declared_in(modules, module, name);
            let files = found.entry((declared, name.clone())).or_default();
            files.insert(module.path.join("/"));
        }
    }
    found
}

/// The module that declares the type that a module calls `name`: itself, one that it is in, or the
/// only other one that declares such a type.
fn declared_in(modules: &[Module], module: &Module, name: &str) -> Vec<String> {
    let declaring = || modules.iter().filter(|other| other.types.contains(name));
    let around = declaring()
        .filter(|other| module.path.starts_with(&other.path))
        .max_by_key(|other| other.path.len());
    let declared = around.unwrap_or_else(|| {
        let others: Vec<&Module> = declaring().collect();
        assert_eq!(
            others.len(),
            1,
            "{} has methods of {name}, which several modules declare, or none",
            module.path.join("/")
        );
        others[0]
    });
    declared.path.clone()
}
