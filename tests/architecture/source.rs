//! What each source file names, read from its syntax: whichever way an import is written, it is
//! found.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemImpl, ItemMod, ItemUse, Type, UseTree};

/// A name from the root of our crate (`gate::field::Plan`), or of a foreign crate
/// (`rdkafka::consumer`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Name {
    Ours(Vec<String>),
    Foreign(Vec<String>),
}

/// A module that has a file.
pub struct Module {
    /// Its path from the root; empty for `lib.rs`.
    pub path: Vec<String>,
    /// All names in it, those of tests left out.
    pub names: BTreeSet<Name>,
    /// Its modules, public or not.
    pub children: BTreeSet<String>,
    /// The types that it declares.
    pub types: BTreeSet<String>,
    /// The types of which it has inherent methods, by the last part of their path.
    pub inherent_impls: BTreeSet<String>,
}

impl Module {
    /// The top-level module that it belongs to; `lib` for the root.
    pub fn top(&self) -> &str {
        self.path.first().map_or("lib", String::as_str)
    }

    /// Whether it is the module `path` (`state/sled`) or below it.
    pub fn is_in(&self, path: &str) -> bool {
        let own = self.path.join("/");
        own == path || own.starts_with(&format!("{path}/"))
    }
}

/// All Rust files below a folder.
pub fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// All modules of `src` that are compiled into the library and the command; those that only tests
/// have are left out.
pub fn modules() -> Vec<Module> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut of_tests = BTreeSet::new();
    let mut found = BTreeMap::new();
    for file in rust_files(&root) {
        let below = file.strip_prefix(&root).unwrap().with_extension("");
        let mut path: Vec<String> = below
            .iter()
            .map(|part| part.to_string_lossy().into_owned())
            .collect();
        path.retain(|part| part != "lib");
        let module = read(&fs::read_to_string(&file).unwrap(), path, &mut of_tests);
        found.insert(module.path.clone(), module);
    }
    let is_of_tests =
        |path: &[String]| (1..=path.len()).any(|length| of_tests.contains(&path[..length]));
    found
        .into_values()
        .filter(|module| !is_of_tests(&module.path))
        .collect()
}

/// Reads the text of the module at `path`; adds the paths of its modules that only tests have to
/// `of_tests`.
pub fn read(text: &str, path: Vec<String>, of_tests: &mut BTreeSet<Vec<String>>) -> Module {
    let file = syn::parse_file(text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let mut reader = Reader {
        // What main.rs names without a prefix is what lib.rs would.
        at: path
            .iter()
            .filter(|part| *part != "main")
            .cloned()
            .collect(),
        names: BTreeSet::new(),
        declared: vec![declared(&file.items)],
        types: BTreeSet::new(),
        inherent_impls: BTreeSet::new(),
        of_tests,
    };
    reader.visit_file(&file);
    Module {
        names: reader.names,
        children: reader.declared.swap_remove(0),
        types: reader.types,
        inherent_impls: reader.inherent_impls,
        path,
    }
}

/// The modules that items declare.
fn declared(items: &[Item]) -> BTreeSet<String> {
    let modules = items.iter().filter_map(|item| match item {
        Item::Mod(module) => Some(module.ident.to_string()),
        _ => None,
    });
    modules.collect()
}

/// The last part of the path of the type that an `impl` is of; none for `impl dyn A`.
fn self_type(item: &ItemImpl) -> Option<String> {
    match &*item.self_ty {
        Type::Path(of) => of.path.segments.last().map(|last| last.ident.to_string()),
        _ => None,
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && attribute
                    .parse_args::<syn::Path>()
                    .is_ok_and(|path| path.is_ident("test"))
    })
}

struct Reader<'t> {
    /// The module that is read now.
    at: Vec<String>,
    names: BTreeSet<Name>,
    /// What is declared in the modules around, outermost first.
    declared: Vec<BTreeSet<String>>,
    types: BTreeSet<String>,
    inherent_impls: BTreeSet<String>,
    of_tests: &'t mut BTreeSet<Vec<String>>,
}

impl Reader<'_> {
    /// Notes the name that a path stands for.
    fn note(&mut self, segments: &[String], from_root: bool) {
        if let Some(name) = self.resolve(segments, from_root) {
            self.names.insert(name);
        }
    }

    /// `crate::`, `self::`, `super::` and our own name lead to a name of ours; a module that is
    /// declared here too. Anything else is a foreign crate, or a name that an import has noted
    /// already, which is no crate.
    fn resolve(&self, segments: &[String], from_root: bool) -> Option<Name> {
        let first = segments.first()?.as_str();
        if from_root {
            return Some(Name::Foreign(segments.to_vec()));
        }
        let (mut base, mut rest) = match first {
            "crate" | "outlierd" => (Vec::new(), &segments[1..]),
            "self" => (self.at.clone(), &segments[1..]),
            "super" => (self.at.clone(), segments),
            _ if self.declared.last().is_some_and(|all| all.contains(first)) => {
                (self.at.clone(), segments)
            }
            _ => return Some(Name::Foreign(segments.to_vec())),
        };
        while rest.first().is_some_and(|segment| segment == "super") {
            base.pop();
            rest = &rest[1..];
        }
        base.extend(rest.iter().cloned());
        Some(Name::Ours(base))
    }

    /// Every leaf of a tree of imports.
    fn note_tree(&mut self, tree: &UseTree, before: &mut Vec<String>, from_root: bool) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.note_tree(&path.tree, before, from_root);
                before.pop();
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.note_tree(tree, before, from_root);
                }
            }
            UseTree::Name(_) | UseTree::Rename(_) | UseTree::Glob(_) => {
                let ident = match tree {
                    UseTree::Name(name) => Some(&name.ident),
                    UseTree::Rename(rename) => Some(&rename.ident),
                    _ => None,
                };
                // `use a::{self}` is `use a`.
                let leaf = ident
                    .map(ToString::to_string)
                    .filter(|leaf| before.is_empty() || leaf != "self");
                let mut segments = before.clone();
                segments.extend(leaf);
                self.note(&segments, from_root);
            }
        }
    }

    /// Names inside a macro, whose tokens are no syntax yet: words joined by `::`.
    fn note_tokens(&mut self, tokens: TokenStream) {
        let mut segments: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(word) => {
                    if colons != 2 {
                        self.note_words(&mut segments);
                    }
                    segments.push(word.to_string());
                    colons = 0;
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.note_words(&mut segments);
                    self.note_tokens(group.stream());
                    colons = 0;
                }
                _ => {
                    self.note_words(&mut segments);
                    colons = 0;
                }
            }
        }
        self.note_words(&mut segments);
    }

    fn note_words(&mut self, segments: &mut Vec<String>) {
        if segments.len() > 1 {
            self.note(segments, false);
        }
        segments.clear();
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            Item::Const(item) => &item.attrs,
            Item::Struct(item) => &item.attrs,
            Item::Enum(item) => &item.attrs,
            _ => &Vec::new(),
        };
        if is_for_tests(attributes) {
            return;
        }
        match item {
            Item::Struct(item) => drop(self.types.insert(item.ident.to_string())),
            Item::Enum(item) => drop(self.types.insert(item.ident.to_string())),
            Item::Impl(item) if item.trait_.is_none() => {
                let name = self_type(item);
                self.inherent_impls.extend(name);
            }
            _ => {}
        }
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        let name = module.ident.to_string();
        self.at.push(name);
        if is_for_tests(&module.attrs) {
            self.of_tests.insert(self.at.clone());
        } else if let Some((_, items)) = &module.content {
            self.declared.push(declared(items));
            visit::visit_item_mod(self, module);
            self.declared.pop();
        }
        self.at.pop();
    }

    fn visit_item_use(&mut self, import: &'ast ItemUse) {
        self.note_tree(
            &import.tree,
            &mut Vec::new(),
            import.leading_colon.is_some(),
        );
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        if segments.len() > 1 {
            self.note(&segments, path.leading_colon.is_some());
        }
        visit::visit_path(self, path);
    }

    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {
        // `pub(in crate::a)` names no import.
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.note_tokens(call.tokens.clone());
    }
}
