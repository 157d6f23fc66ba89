//! The graph of the source files: an edge leads from a file to each file that defines an item which it uses.
//!
//! Paths are resolved as the compiler does it (`crate`, `self`, `super`, imports, re-exports, globs), as far as names go:
//! method calls need types and are not followed. Code that only tests compile is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, Expr, Item, Token, UseTree};

/// How many imports a name may lead through: more is a cycle of imports.
const DEEPEST: usize = 20;

/// A source file and what it names.
pub(crate) struct SourceFile {
    /// The path below `src`.
    pub(crate) path: PathBuf,
    /// The first component of its path: the module, or `lib` or `main`.
    pub(crate) module: String,
    /// Whether only tests compile it.
    pub(crate) is_test: bool,
    pub(crate) text: String,
    /// Top-level items other than `mod NAME;` and `use`.
    pub(crate) items: Vec<String>,
    /// Modules of the crate that the file names.
    pub(crate) modules: BTreeSet<String>,
    /// Other crates that the file names, and identifiers that look like it.
    pub(crate) crates: BTreeSet<String>,
    /// The files that define items which this one uses, and these items.
    pub(crate) uses: BTreeMap<PathBuf, BTreeSet<String>>,
}

/// What a name stands for in a module.
#[derive(Clone)]
enum Name {
    Item(usize),
    Module(Vec<String>),
    Import(Vec<String>),
}

/// One module: a file or a block in it.
struct Module {
    file: usize,
    names: BTreeMap<String, Vec<Name>>,
    globs: Vec<Vec<String>>,
    /// The paths in its code.
    paths: BTreeSet<Vec<String>>,
    /// Single names that may come from a glob.
    singles: BTreeSet<String>,
}

/// Reads and resolves every file below `src`.
pub(crate) fn read() -> Vec<SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut paths) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                paths.push(path.strip_prefix(&root).unwrap().to_owned());
            }
        }
    }
    paths.sort();
    let mut files: Vec<_> = paths.into_iter().map(|path| source_file(&root, path)).collect();
    let mut modules = BTreeMap::new();
    for (at, file) in files.iter_mut().enumerate() {
        let parsed = syn::parse_file(&file.text).unwrap_or_else(|error| panic!("{}: {error}", file.path.display()));
        file.items = parsed.items.iter().filter_map(definition).collect();
        collect(&mut modules, module_path(&file.path), at, &parsed.items);
    }
    let modules = Modules(modules);
    for (path, module) in &modules.0 {
        let mut found: Vec<(String, usize)> = Vec::new();
        for used in &module.paths {
            let targets = modules.resolve(path, used, 0);
            if targets.is_empty() && !["crate", "self", "super", "Self"].contains(&used[0].as_str()) {
                files[module.file].crates.insert(used[0].clone());
            }
            found.extend(targets.into_iter().filter_map(|target| Some((used.join("::"), target.file()?))));
            if let Some(name) = modules.top_level(path, used) {
                files[module.file].modules.insert(name);
            }
        }
        for single in &module.singles {
            for glob in &module.globs {
                let used = [glob.as_slice(), std::slice::from_ref(single)].concat();
                let targets = modules.resolve(path, &used, 0);
                found.extend(targets.into_iter().filter_map(|target| Some((single.clone(), target.file()?))));
            }
        }
        for (name, file) in found.into_iter().filter(|(_, file)| *file != module.file) {
            let defining = files[file].path.clone();
            files[module.file].uses.entry(defining).or_default().insert(name);
        }
    }
    files
}

/// Groups of more than one file that all use each other, directly or by way of others, largest first.
pub(crate) fn cycles(files: &[&SourceFile]) -> Vec<Vec<PathBuf>> {
    let inside: BTreeSet<_> = files.iter().map(|file| &file.path).collect();
    let direct: BTreeMap<&PathBuf, Vec<&PathBuf>> = files
        .iter()
        .map(|file| (&file.path, file.uses.keys().filter(|used| inside.contains(used)).collect()))
        .collect();
    let reached: BTreeMap<_, _> = inside
        .iter()
        .map(|from| {
            let (mut seen, mut open) = (BTreeSet::new(), vec![*from]);
            while let Some(at) = open.pop() {
                open.extend(direct[at].iter().filter(|to| seen.insert(**to)));
            }
            (*from, seen)
        })
        .collect();
    let mut groups = BTreeSet::new();
    for (from, to) in &reached {
        let group: Vec<_> =
            to.iter().filter(|other| reached[**other].contains(*from)).map(|it| (*it).clone()).collect();
        if group.len() > 1 {
            groups.insert(group);
        }
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
    groups
}

fn source_file(root: &Path, path: PathBuf) -> SourceFile {
    let text = fs::read_to_string(root.join(&path)).unwrap();
    let first = path.components().next().unwrap().as_os_str().to_str().unwrap();
    let module = first.trim_end_matches(".rs").to_owned();
    let is_test = path.components().any(|part| ["tests", "tests.rs"].contains(&part.as_os_str().to_str().unwrap()));
    let (modules, crates, items, uses) = Default::default();
    SourceFile { path, module, is_test, text, items, modules, crates, uses }
}

/// The path of the module that a file holds, with its crate in front.
fn module_path(file: &Path) -> Vec<String> {
    let mut parts: Vec<String> = file.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if parts[0] == "main" {
        return parts;
    }
    if ["mod", "lib"].contains(&parts.last().unwrap().as_str()) {
        parts.pop();
    }
    parts.insert(0, "lib".into());
    parts
}

/// The name of an item, unless it is a `mod` or `use`, or for tests.
fn definition(item: &Item) -> Option<String> {
    let (attributes, name) = match item {
        Item::Const(it) => (&it.attrs, it.ident.to_string()),
        Item::Enum(it) => (&it.attrs, it.ident.to_string()),
        Item::Fn(it) => (&it.attrs, it.sig.ident.to_string()),
        Item::Impl(it) => (&it.attrs, "impl".to_owned()),
        Item::Macro(it) => (&it.attrs, it.ident.as_ref()?.to_string()),
        Item::Static(it) => (&it.attrs, it.ident.to_string()),
        Item::Struct(it) => (&it.attrs, it.ident.to_string()),
        Item::Trait(it) => (&it.attrs, it.ident.to_string()),
        Item::Type(it) => (&it.attrs, it.ident.to_string()),
        Item::Mod(it) if it.content.is_some() => (&it.attrs, it.ident.to_string()),
        _ => return None,
    };
    (!is_for_tests(attributes)).then_some(name)
}

/// Whether `cfg(test)` or `cfg(all(test, ...))` is among the attributes.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let condition = attribute.meta.require_list().map(|list| list.tokens.to_string()).unwrap_or_default();
        attribute.path().is_ident("cfg") && (condition == "test" || condition.replace(' ', "").starts_with("all(test"))
    })
}

fn collect(modules: &mut BTreeMap<Vec<String>, Module>, path: Vec<String>, file: usize, items: &[Item]) {
    let mut module =
        Module { file, names: BTreeMap::new(), globs: Vec::new(), paths: BTreeSet::new(), singles: BTreeSet::new() };
    for item in items {
        if let Item::Mod(inner) = item {
            if is_for_tests(&inner.attrs) {
                continue;
            }
            let name = inner.ident.to_string();
            let inner_path = [path.as_slice(), std::slice::from_ref(&name)].concat();
            module.names.entry(name).or_default().push(Name::Module(inner_path.clone()));
            if let Some((_, items)) = &inner.content {
                collect(modules, inner_path, file, items);
            }
        } else {
            if let Some(name) = definition(item) {
                module.names.entry(name).or_default().push(Name::Item(file));
            }
            Paths(&mut module).visit_item(item);
        }
    }
    modules.insert(path, module);
}

/// Collects the paths of a module's code.
struct Paths<'a>(&'a mut Module);

impl Paths<'_> {
    fn import(&mut self, before: &[String], tree: &UseTree) {
        let leaf = |name: &dyn ToString| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(it) => self.import(&leaf(&it.ident), &it.tree),
            UseTree::Name(it) if it.ident == "self" => self.named(before.last().unwrap().clone(), before.to_vec()),
            UseTree::Name(it) => self.named(it.ident.to_string(), leaf(&it.ident)),
            UseTree::Rename(it) => self.named(it.rename.to_string(), leaf(&it.ident)),
            UseTree::Glob(_) => self.0.globs.push(before.to_vec()),
            UseTree::Group(it) => it.items.iter().for_each(|tree| self.import(before, tree)),
        }
    }

    fn named(&mut self, name: String, path: Vec<String>) {
        self.0.paths.insert(path.clone());
        self.0.names.entry(name).or_default().push(Name::Import(path));
    }

    fn path(&mut self, segments: Vec<String>) {
        match &segments[..] {
            [single] => drop(self.0.singles.insert(single.clone())),
            _ => drop(self.0.paths.insert(segments)),
        }
    }
}

impl<'a> Visit<'a> for Paths<'_> {
    fn visit_item(&mut self, item: &'a Item) {
        let is_left_out = match item {
            Item::Fn(it) => is_for_tests(&it.attrs),
            Item::Impl(it) => is_for_tests(&it.attrs),
            Item::Use(it) => is_for_tests(&it.attrs),
            Item::Struct(it) => is_for_tests(&it.attrs),
            _ => false,
        };
        if !is_left_out {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'a syn::ImplItemFn) {
        if !is_for_tests(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        self.import(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        self.path(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    /// Reads the arguments as expressions where they are some, else as words.
    fn visit_macro(&mut self, item: &'a syn::Macro) {
        self.visit_path(&item.path);
        let arguments = item.parse_body_with(syn::punctuated::Punctuated::<Expr, Token![,]>::parse_terminated);
        if let Ok(arguments) = arguments {
            arguments.iter().for_each(|argument| self.visit_owned(argument));
            return;
        }
        let text = item.tokens.to_string().replace(" :: ", "::");
        for word in text.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':') {
            let segments: Vec<_> = word.trim_matches(':').split("::").map(str::to_owned).collect();
            let is_path = |it: &String| it.starts_with(|c: char| c.is_alphabetic() || c == '_') && !it.contains(':');
            if segments.iter().all(is_path) {
                self.path(segments);
            }
        }
    }
}

impl Paths<'_> {
    /// Visits code that was parsed on the way.
    fn visit_owned(&mut self, expression: &Expr) {
        Paths(self.0).visit_expr(expression);
    }
}

/// What a path leads to.
enum Target {
    Item(usize),
    Module(Vec<String>),
}

impl Target {
    fn file(&self) -> Option<usize> {
        match self {
            Self::Item(file) => Some(*file),
            Self::Module(_) => None,
        }
    }
}

struct Modules(BTreeMap<Vec<String>, Module>);

impl Modules {
    /// What a path leads to that is used in a module.
    fn resolve(&self, from: &[String], path: &[String], depth: usize) -> Vec<Target> {
        let mut at = from.to_vec();
        let mut rest = path;
        loop {
            match rest.first().map(String::as_str) {
                Some("crate") => at.truncate(1),
                Some("ecr_push") => at = vec!["lib".into()],
                Some("super") => drop(at.pop()),
                Some("self") => {}
                _ => break,
            }
            rest = &rest[1..];
        }
        if rest.is_empty() {
            return vec![Target::Module(at)];
        }
        self.walk(&at, rest, depth)
    }

    fn walk(&self, module: &[String], rest: &[String], depth: usize) -> Vec<Target> {
        let mut targets = Vec::new();
        for target in self.lookup(module, &rest[0], depth + 1) {
            match target {
                Target::Module(inner) if rest.len() > 1 => targets.extend(self.walk(&inner, &rest[1..], depth + 1)),
                target => targets.push(target),
            }
        }
        targets
    }

    fn lookup(&self, module: &[String], name: &str, depth: usize) -> Vec<Target> {
        let Some(found) = self.0.get(module).filter(|_| depth < DEEPEST) else { return Vec::new() };
        let mut targets = Vec::new();
        for name in found.names.get(name).into_iter().flatten() {
            match name {
                Name::Item(file) => targets.push(Target::Item(*file)),
                Name::Module(path) => targets.push(Target::Module(path.clone())),
                // `use tar::Entry` beside a `mod tar` of its own is not followed in circles: the depth ends it.
                Name::Import(path) => targets.extend(self.resolve(module, path, depth + 1)),
            }
        }
        if targets.is_empty() && !found.names.contains_key(name) {
            for glob in &found.globs {
                let path = [glob.as_slice(), &[name.to_owned()]].concat();
                targets.extend(self.resolve(module, &path, depth + 1));
            }
        }
        targets
    }

    /// The top-level module that a path names.
    fn top_level(&self, from: &[String], path: &[String]) -> Option<String> {
        let mut at = from.to_vec();
        for (n, segment) in path.iter().enumerate() {
            match segment.as_str() {
                "crate" => at.truncate(1),
                "ecr_push" => at = vec!["lib".into()],
                "super" => drop(at.pop()),
                "self" => {}
                name => {
                    let is_known = at.len() == 1 && n > 0 && at[0] == "lib";
                    return (is_known && self.0.contains_key(&["lib".to_owned(), name.to_owned()][..]))
                        .then(|| name.to_owned());
                }
            }
        }
        None
    }
}
