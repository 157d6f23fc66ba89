//! Properties with random tars and documents: the index finds the entries that the tar crate wrote, and no statement of an
//! archive is trusted.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::hostile::{Entry, config, tar_of};
use super::layouts::Layout;
use super::*;
use crate::archive::tar_index::TarIndex;

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// The form of an entry's name.
#[derive(Clone, Copy, Debug)]
enum Naming {
    Header,
    GnuLongName,
    Pax,
}

/// An entry: its name, the form of the name, and its content, or `None` for a folder.
type Written = (String, Naming, Option<Vec<u8>>);

fn entry() -> impl Strategy<Value = Written> {
    let part = prop_oneof![Just("a"), Just("b.tar"), Just("blobs"), Just("."), Just(".."), Just("")];
    let name = prop::collection::vec(part, 1..5).prop_map(|parts| parts.join("/"));
    let naming = prop_oneof![Just(Naming::Header), Just(Naming::GnuLongName), Just(Naming::Pax)];
    (name, naming, prop::option::weighted(0.9, prop::collection::vec(any::<u8>(), 0..1500)))
}

fn write(entries: &[Written]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, naming, content) in entries {
        let kind = if content.is_some() { tar::EntryType::Regular } else { tar::EntryType::Directory };
        let content = content.as_deref().unwrap_or_default();
        let in_header = match naming {
            Naming::Header => name,
            Naming::GnuLongName => {
                let long = tar_of(&[("././@LongLink", tar::EntryType::GNULongName, "", name.as_bytes().to_vec())]);
                builder.get_mut().extend_from_slice(&long[..long.len() - 1024]);
                "cut"
            }
            Naming::Pax => {
                builder.append_pax_extensions([("path", name.as_bytes())]).unwrap();
                "cut"
            }
        };
        let entry: Entry<'_> = (in_header, kind, "", content.to_vec());
        let tar = tar_of(&[entry]);
        builder.get_mut().extend_from_slice(&tar[..tar.len() - 1024]);
    }
    builder.into_inner().unwrap()
}

/// Returns the file that each name must give: the last one of that name.
fn expected(entries: &[Written]) -> BTreeMap<String, Vec<u8>> {
    let mut expected = BTreeMap::new();
    for (name, _, content) in entries {
        let mut parts: Vec<&str> = Vec::new();
        let leads_outside = name.split('/').filter(|part| !["", "."].contains(part)).any(|part| {
            if part != ".." {
                parts.push(part);
            }
            part == ".." && parts.pop().is_none()
        });
        if let (Some(content), false, false) = (content, leads_outside, parts.is_empty()) {
            expected.insert(parts.join("/"), content.clone());
        }
    }
    expected
}

fn found(index: &TarIndex, names: &BTreeSet<&str>) -> BTreeMap<String, Vec<u8>> {
    names.iter().filter_map(|name| Some(((*name).to_owned(), all(&index.find(name).unwrap()?)))).collect()
}

proptest! {
    #![proptest_config(cases(128))]

    #[test]
    fn a_tar_has_the_same_index_in_a_file_and_in_a_stream(entries in prop::collection::vec(entry(), 0..12)) {
        let (bytes, expected) = (write(&entries), expected(&entries));
        let names = expected.keys().map(String::as_str).chain(["a", "b.tar", "blobs/a", "x"]).collect();
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &bytes).unwrap();
        let in_file = TarIndex::read(Arc::new(file), 0, &Source::StandardInput).unwrap();
        prop_assert_eq!(found(&in_file, &names), expected.clone());
        let failed = |error, _| Error::input("unread").because(error);
        let streamed =
            TarIndex::stream(Cursor::new(bytes), &Source::StandardInput, failed, &|_| Ok(())).unwrap();
        prop_assert_eq!(found(&streamed, &names), expected);
    }

    /// A truncated or changed tar is an error or gives an index, never a panic, and files that it finds are inside the tar.
    #[test]
    fn a_damaged_tar_never_leads_outside(
        entries in prop::collection::vec(entry(), 1..6), cut in any::<prop::sample::Index>(), changed in any::<prop::sample::Index>(), to in any::<u8>(),
    ) {
        let mut bytes = write(&entries);
        *changed.get_mut(&mut bytes) = to;
        bytes.truncate(cut.index(bytes.len() + 1).max(1));
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &bytes).unwrap();
        if let Ok(index) = TarIndex::read(Arc::new(file), 0, &Source::StandardInput) {
            for range in index.names().filter_map(|name| index.find(name).ok().flatten()) {
                prop_assert!(range.read_all(1 << 20).is_ok());
            }
        }
    }
}

/// Returns a document with descriptors of existing and of missing documents.
fn document(known: Vec<Value>) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        4 => prop::sample::select(known),
        1 => Just(Value::Null),
        1 => any::<i64>().prop_map(Value::from),
        1 => "[ -~]{0,12}".prop_map(Value::from),
    ];
    let keys =
        ["schemaVersion", "mediaType", "manifests", "config", "layers", "digest", "size", "subject", "annotations"];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(prop::sample::select(keys.to_vec()), inner, 0..5)
                .prop_map(|fields| fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

proptest! {
    #![proptest_config(cases(96))]

    /// Blobs are changed without changing their length, so that only the hashes differ.
    #[test]
    fn an_opened_archive_has_the_digests_that_it_states(
        edits in prop::collection::vec((0..3_usize, "[a-zA-Z]{4,8}", document(descriptors())), 0..4),
        names in prop::collection::vec(prop_oneof![Just("config"), Just("layers"), Just("manifests"), Just("size")], 1..3),
        changed in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let layout = Layout::new();
        let good = layout.manifest(&config(&[b"layer"]), &[b"layer"]);
        let mut roots = vec![good];
        for (place, field, value) in edits {
            let mut listing = json!({ "schemaVersion": 2, field: value.clone() });
            names.iter().for_each(|name| listing[*name] = value.clone());
            match place {
                0 => roots.push(layout.listing("manifest", listing)),
                1 => roots.push(layout.listing("index", listing)),
                _ => roots.push(value),
            }
        }
        let blobs = layout.0.0.join("blobs/sha256");
        if let Some(changed) = changed {
            let mut files: Vec<PathBuf> = fs::read_dir(&blobs).unwrap().map(|entry| entry.unwrap().path()).collect();
            files.sort();
            let file = changed.get(&files);
            let text = fs::read_to_string(file).unwrap().replace("linux", "haiku").replace(".tar", ".xyz");
            fs::write(file, text).unwrap();
        }
        let is_there = |digest: Digest| fs::read(blobs.join(digest.hex())).is_ok_and(|it| Digest::of(&it) == digest);
        match layout.open(&roots) {
            Err(error) => prop_assert_eq!(error.kind(), Kind::Input),
            Ok(archive) => {
                for content in archive.images.iter().flat_map(|image| image.content.all()) {
                    if let Some(original) = content.original() {
                        prop_assert!(is_there(original.digest) && Digest::of(&original.bytes) == original.digest);
                    }
                    if let Content::Manifest(manifest) = content {
                        prop_assert!(is_there(manifest.config.digest));
                        prop_assert_eq!(Digest::of(&manifest.config.bytes), manifest.config.digest);
                    }
                }
            }
        }
    }
}

/// Returns descriptors of blobs in the layout, with right and wrong sizes and types.
fn descriptors() -> Vec<Value> {
    let image = config(&[b"layer"]);
    let of = |media_type: &str, bytes: &[u8], size: usize| json!({ "mediaType": format!("application/vnd.oci.image.{media_type}"), "digest": Digest::of(bytes), "size": size });
    vec![
        of("config.v1+json", image.as_bytes(), image.len()),
        of("layer.v1.tar", b"layer", 5),
        of("layer.v1.tar", b"layer", 6),
        of("manifest.v1+json", image.as_bytes(), image.len()),
        of("index.v1+json", b"absent", 6),
    ]
}
