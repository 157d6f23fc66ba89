//! The archives of `testdata/`, in parts.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::archive::{Archive, Blob, Body, Entry, hex};
use super::layers::{gzip, unpack};

/// A layer of most cases: what decides is at its start and its end, and time goes with the bytes.
const SHORT: usize = 3000;

/// Archives by which cases begin.
pub(crate) struct Samples {
    /// As they are in `testdata/`.
    pub(crate) whole: Vec<Archive>,
    /// With short layers.
    pub(crate) short: Vec<Archive>,
}

impl Samples {
    /// All of them, in the order of their names.
    pub(crate) fn load() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join("testdata"));
        let root = root.into_iter().find(|folder| folder.is_dir()).expect("testdata");
        let mut paths: Vec<_> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.retain(|path| path.is_dir() || path.extension().is_some_and(|it| it == "tar"));
        assert!(paths.len() > 10, "{paths:?}");
        let files: Vec<_> = paths.iter().map(|path| read(path)).collect();
        let load = |short| files.iter().map(|files| archive(files, short)).collect();
        Self { whole: load(usize::MAX), short: load(SHORT) }
    }
}

/// An entry, and its bytes if it is a file.
type Raw = (Entry, Option<Vec<u8>>);

fn read(path: &Path) -> Vec<Raw> {
    if path.is_dir() {
        let mut files = Vec::new();
        walk(path, path, &mut files);
        files.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
        return files;
    }
    let mut tar = tar::Archive::new(File::open(path).unwrap());
    let entries = tar.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let kind = entry.header().entry_type();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let link = entry.link_name_bytes().map(|link| text(&link)).unwrap_or_default();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let named = Entry { name: text(&entry.path_bytes()), kind: kind.as_byte(), link, ..Entry::default() };
        (named, kind.is_file().then_some(bytes))
    });
    entries.collect()
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<Raw>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(root, &path, files);
        } else {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            files.push((Entry { name, kind: b'0', ..Entry::default() }, Some(fs::read(&path).unwrap())));
        }
    }
}

/// Takes an archive apart: digests and sizes that mean its blobs become references to them.
fn archive(raw: &[Raw], short: usize) -> Archive {
    let (mut blobs, mut entries) = (Vec::new(), Vec::new());
    let (mut digests, mut diff_ids, mut documents) = (HashMap::new(), HashMap::new(), Vec::new());
    for (entry, bytes) in raw {
        let blob = bytes.as_ref().map(|bytes| {
            let at = blobs.len();
            digests.entry(hex(bytes)).or_insert(at);
            let body = match serde_json::from_slice::<Value>(bytes) {
                Ok(json) if json.is_object() || json.is_array() => {
                    documents.push(at);
                    Body::Json(json)
                }
                _ => {
                    let plain = unpack(bytes).unwrap();
                    diff_ids.entry(hex(&plain)).or_insert(at);
                    let cut = Arc::new(plain[..plain.len().min(short)].to_vec());
                    let packed = match () {
                        () if plain.len() <= short => Arc::new(bytes.clone()),
                        () if bytes.starts_with(&[0x1f, 0x8b]) => Arc::new(gzip(&cut)),
                        () => Arc::clone(&cut),
                    };
                    Body::Layer { plain: cut, packed }
                }
            };
            blobs.push(Blob { body, damage: None, mismatch: None });
            at
        });
        entries.push(Entry { blob, ..entry.clone() });
    }
    for at in documents {
        let Body::Json(json) = &mut blobs[at].body else { continue };
        let is_config = json.get("rootfs").is_some();
        refer(json, &|hex| {
            let digest = || digests.get(hex).map(|at| format!("{{b{at}}}"));
            let diff_id = || diff_ids.get(hex).map(|at| format!("{{d{at}}}"));
            if is_config { diff_id().or_else(digest) } else { digest().or_else(diff_id) }
        });
    }
    for entry in &mut entries {
        for (hex, at) in &digests {
            entry.name = entry.name.replace(hex, &format!("{{b{at}}}"));
        }
    }
    Archive { blobs, entries }
}

/// Puts references into a document.
fn refer(json: &mut Value, reference: &impl Fn(&str) -> Option<String>) {
    match json {
        Value::String(text) => {
            for at in 0..(text.len() + 1).saturating_sub(64) {
                if let Some(found) = text.get(at..at + 64).and_then(reference) {
                    text.replace_range(at..at + 64, &found);
                    return;
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| refer(item, reference)),
        Value::Object(fields) => {
            fields.values_mut().for_each(|value| refer(value, reference));
            let blob = fields.get("digest").and_then(Value::as_str).and_then(|digest| digest.strip_prefix("sha256:{b"));
            if let Some(blob) = blob.map(|blob| format!("{{s{blob}"))
                && fields.contains_key("size")
            {
                fields.insert("size".into(), blob.into());
            }
        }
        _ => {}
    }
}
