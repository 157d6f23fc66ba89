//! Documents with false statements: fields dropped, doubled, of another type, digests and sizes of something else.

use serde_json::{Value, json};

use super::archive::{Archive, Blob, Body, Entry};
use super::dice::Dice;

/// Fields that some code reads.
const READ: [&str; 16] = [
    "digest", "size", "mediaType", "layers", "Layers", "Config", "config", "diff_ids", "manifests", "schemaVersion",
    "RepoTags", "annotations", "os", "rootfs", "urls", "imageLayoutVersion",
];

/// The names by which an archive's tables of contents go.
const LISTS: [&str; 2] = ["manifest.json", "index.json"];

/// Changes a document of the archive, and says how.
pub(crate) fn change(archive: &mut Archive, dice: &mut Dice) -> String {
    let documents: Vec<_> = (0..archive.blobs.len()).filter(|at| document(archive, *at).is_some()).collect();
    if documents.is_empty() {
        return "no document".into();
    }
    // The lists decide the most.
    let list = list(archive, dice.of(&LISTS));
    let at = list.filter(|_| dice.one_in(3)).unwrap_or_else(|| dice.of(&documents));
    let others = archive.blobs.len();
    let Body::Json(json) = &mut archive.blobs[at].body else { return "no document".into() };
    if let (true, Some(fields)) = (dice.one_in(8), json.as_object_mut().filter(|fields| !fields.is_empty())) {
        // What a document is by, and what it cannot be without.
        let field = dice.of(&fields.keys().cloned().collect::<Vec<_>>());
        if dice.one_in(3) {
            fields.insert(field.clone(), Value::Null);
        } else {
            fields.remove(&field);
        }
        return format!("document {at} is without {field}");
    }
    // More than a registry takes of a manifest, or than is read of any document.
    let (chances, more) = if json.get("schemaVersion").is_some() { (120, (4 << 20) + 1) } else { (600, (8 << 20) + 1) };
    if dice.one_in(chances) && json.is_object() {
        json["padding"] = "x".repeat(more).into();
        return format!("document {at} is padded");
    }
    let mut places = Vec::new();
    pointers(json, String::new(), &mut places);
    let read: Vec<_> = places.iter().filter(|place| READ.iter().any(|name| place.contains(name))).cloned().collect();
    let shallow: Vec<_> = places.iter().filter(|place| place.matches('/').count() < 2).cloned().collect();
    let place = match dice.roll(4) {
        0 => dice.of(&places),
        1 => dice.of(&shallow),
        _ if read.is_empty() => String::new(),
        _ => dice.of(&read),
    };
    let Some(value) = json.pointer_mut(&place) else { return "nothing".into() };
    change_value(value, at, others, dice);
    format!("document {at} at {place}")
}

fn document(archive: &mut Archive, at: usize) -> Option<&mut Value> {
    match &mut archive.blobs.get_mut(at)?.body {
        Body::Json(json) => Some(json),
        Body::Layer { .. } => None,
    }
}

/// The blob of a table of contents.
fn list(archive: &Archive, name: &str) -> Option<usize> {
    archive.entries.iter().find(|entry| entry.name == name)?.blob
}

/// JSON pointers (RFC 6901) to everything inside.
fn pointers(json: &Value, here: String, places: &mut Vec<String>) {
    match json {
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, item)| pointers(item, format!("{here}/{at}"), places));
        }
        Value::Object(fields) => {
            let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
            fields.iter().for_each(|(key, value)| pointers(value, format!("{here}/{}", escaped(key)), places));
        }
        _ => {}
    }
    places.push(here);
}

fn change_value(value: &mut Value, own: usize, others: usize, dice: &mut Dice) {
    match value {
        Value::Object(fields) if !fields.is_empty() && !dice.one_in(5) => {
            let keys: Vec<_> = fields.keys().cloned().collect();
            let (one, other) = (dice.of(&keys), dice.of(&keys));
            match dice.roll(4) {
                0 | 1 => drop(fields.remove(&one)),
                2 => drop(fields.insert(one, strange(dice))),
                _ => drop(fields.insert(one, fields[&other].clone())),
            }
        }
        Value::Array(items) if !items.is_empty() && !dice.one_in(5) => {
            let (one, other) = (dice.roll(items.len()), dice.roll(items.len()));
            match dice.roll(6) {
                0 | 1 => drop(items.remove(one)),
                2 => items.insert(one, items[other].clone()),
                3 => items.swap(one, other),
                4 => items.push(strange(dice)),
                _ => {
                    let times = dice.of(&[3, 20, 200]);
                    items.extend(vec![items[one].clone(); times]);
                }
            }
        }
        // A size.
        Value::String(text) if text.starts_with("{s") => {
            let others = format!("{{s{}}}", dice.roll(others)).into();
            *value = dice.of(&[others, 0.into(), (1_u64 << 40).into(), u64::MAX.into(), (-1).into(), 1e10.into()]);
        }
        Value::String(text) if !dice.one_in(4) => match dice.roll(9) {
            0 => *text = format!("sha256:{{b{}}}", dice.roll(others)),
            1 => *text = format!("sha256:{{b{own}}}"),
            2 => *text = format!("blobs/sha256/{{b{}}}", dice.roll(others)),
            3 => *text = text.to_uppercase(),
            4 => *text = text.replace("sha256", "sha512"),
            5 => text.insert(dice.roll(2) * text.len(), dice.of(&['0', '\u{1b}', '\n', '.', 'é'])),
            6 => *text = text.replace(['b', 'd'], "d"),
            7 => *text = dice.of(&names()).to_owned(),
            _ => drop(text.pop()),
        },
        Value::Number(number) if !dice.one_in(3) => {
            let near = number.as_i64().unwrap_or_default();
            *value = near.saturating_add(dice.of(&[-1, 1, 512, i64::MAX])).into();
        }
        value => *value = strange(dice),
    }
}

fn names() -> [&'static str; 14] {
    [
        "../../etc/passwd",
        "/etc/passwd",
        "./manifest.json",
        "manifest.json",
        "index.json",
        "",
        "a/../index.json",
        "\u{9b}2J",
        "app",
        "app:1",
        "localhost/fixture/app:v1",
        "x'y z",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
    ]
}

/// An unexpected value.
fn strange(dice: &mut Dice) -> Value {
    match dice.roll(16) {
        0 => Value::Null,
        1 => true.into(),
        2 => (-1).into(),
        3 => u64::MAX.into(),
        4 => i64::MIN.into(),
        5 => 1.5.into(),
        6 => 1e300.into(),
        7 => "".into(),
        8 => "\u{1b}[2J\r\n".repeat(dice.of(&[1, 100])).into(),
        9 => "n".repeat(dice.of(&[199, 201, 3000])).into(),
        10 => json!([]),
        11 => json!({}),
        12 => (0..dice.of(&[10, 120, 500])).fold(Value::Null, |inner, _| json!([inner])),
        13 => json!({ "a": { "b": [1, "c"] } }),
        14 => 0.into(),
        _ => dice.of(&names()).into(),
    }
}

/// Adds to what the archive lists, and says what: indexes above indexes, images many times, names of all sorts.
pub(crate) fn grow(archive: &mut Archive, dice: &mut Dice) -> String {
    let at = list(archive, "index.json");
    match dice.roll(4) {
        0 if at.is_some() => {
            let depth = dice.of(&[1, 2, 7, 8, 9, 12]);
            for _ in 0..depth {
                deepen(archive, at.unwrap(), dice);
            }
            format!("{depth} indexes above")
        }
        1 if at.is_some() => {
            // Some are just above the limit, and would be read to their end without it: their documents are few bytes.
            let (times, levels) = if dice.one_in(30) {
                dice.of(&[(100, 2), (100, 2), (10, 4), (2000, 2)])
            } else {
                (dice.of(&[1, 2, 4]), 2)
            };
            // Each names its child so many times: in few bytes any number of images.
            for _ in 0..levels {
                deepen(archive, at.unwrap(), dice);
                let Some(last) = archive.blobs.len().checked_sub(1).and_then(|at| document(archive, at)) else { break };
                let Some(items) = last.get_mut("manifests").and_then(Value::as_array_mut) else { break };
                items.extend(vec![items[0].clone(); times]);
            }
            format!("indexes of {times} equal children")
        }
        _ => {
            let name = dice.of(&LISTS);
            let Some(json) = list(archive, name).and_then(|at| document(archive, at)) else { return "nothing".into() };
            let items = if json.is_array() {
                json.as_array_mut()
            } else {
                json.get_mut("manifests").and_then(Value::as_array_mut)
            };
            let Some(items) = items.filter(|items| !items.is_empty()) else { return "nothing".into() };
            let times = if dice.one_in(100) { dice.of(&[1000, 9_000, 20_000]) } else { dice.of(&[1, 2, 30]) };
            let (item, alike) = (items[0].clone(), dice.one_in(2));
            for n in 0..times {
                let mut item = item.clone();
                let tag = if alike { dice.of(&names()).to_owned() } else { format!("app:{n}") };
                match item.get("Config") {
                    Some(_) => item["RepoTags"] = json!([tag, dice.of(&names())]),
                    None if !item.is_object() => {}
                    None => item["annotations"] = json!({ "org.opencontainers.image.ref.name": tag }),
                }
                items.push(item);
            }
            format!("{times} more images in {name}, alike: {alike}")
        }
    }
}

/// Puts an index between index.json and what it names first.
fn deepen(archive: &mut Archive, list: usize, dice: &mut Dice) {
    let at = archive.blobs.len();
    let Some(Value::Array(items)) = document(archive, list).and_then(|json| json.get_mut("manifests")) else { return };
    let Some(first) = items.first_mut() else { return };
    let index = "application/vnd.oci.image.index.v1+json";
    let above = json!({ "mediaType": index, "digest": format!("sha256:{{b{at}}}"), "size": format!("{{s{at}}}") });
    let below = std::mem::replace(first, above);
    let children = if dice.one_in(20) {
        json!([below, { "mediaType": index, "size": 9, "digest": format!("sha256:{{b{at}}}") }])
    } else {
        json!([below])
    };
    let body = Body::Json(json!({ "schemaVersion": 2, "mediaType": index, "manifests": children }));
    archive.blobs.push(Blob { body, damage: None, mismatch: None });
    let name = format!("blobs/sha256/{{b{at}}}");
    archive.entries.insert(0, Entry { name, kind: b'0', blob: Some(at), ..Entry::default() });
}
