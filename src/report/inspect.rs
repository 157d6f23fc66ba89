//! What is in an archive, as text of 80 columns and as JSON.
//!
//! Digests stand in full where people copy them from, and then start in the tenth column: they are 71 characters long.
//! What the archive says is cleaned of control characters, which could do things to a terminal.

mod json;

pub use json::json;

use crate::error::Error;
use crate::image::{Archive, Content, Index, Layer, Manifest, Stated, Unusable, shown};
use crate::inspect::{Inspection, Verified};
use crate::layer::size;
use crate::plan;

/// The columns of a terminal that nobody has resized.
const COLUMNS: usize = 80;
/// Where the second column starts.
const LABEL: usize = 9;

/// What is in an archive, for people.
pub fn text(inspection: &Inspection) -> String {
    let Inspection { archive, verified } = inspection;
    let count = archive.images.len() + archive.unusable.len();
    let mut text = row("archive", &archive.source.to_string());
    text += &row("", &format!("{}, {}", archive.format.name(), many(count, "image")));
    for note in &archive.notes {
        text += &format!("{:<LABEL$}{}", "note", wrapped(LABEL, note).trim_start());
    }
    for image in &archive.images {
        text += &format!("\n{}{}", names(&image.names), content(&image.content, verified.as_ref()));
    }
    for unusable in &archive.unusable {
        text += &format!("\n{}", refused(unusable));
    }
    if let Some(verified) = verified {
        text += &format!("\n{}", row("verified", &verdict(archive, verified)));
    }
    text
}

/// What came of reading the layers.
fn verdict(archive: &Archive, verified: &Verified) -> String {
    let (layers, bytes) = verified.read();
    let verdict = match verified.wrong(archive) {
        0 if layers == 0 => "there are none to read".to_owned(),
        0 => "all as the archive says".to_owned(),
        1 => "1 is not what the archive says".to_owned(),
        wrong => format!("{wrong} are not what the archive says"),
    };
    format!("{}, {}: {verdict}", many(layers, "layer"), size(bytes))
}

fn names(names: &[String]) -> String {
    let first = names.first().map_or_else(|| "without a name".to_owned(), |name| shown(name));
    let others = names.iter().skip(1).map(|name| row("", &shown(name)));
    row("image", &first) + &others.collect::<String>()
}

/// An image that cannot be pushed. Names of blobs fit the line from the third column on.
fn refused(unusable: &Unusable) -> String {
    let reason = |error: &Error| {
        let causes = error.causes();
        if causes.is_empty() { error.to_string() } else { format!("{error}: {}", causes.join(": ")) }
    };
    let mut text = names(&unusable.names);
    if let Some(id) = unusable.id {
        text += &row("ID", &id.to_string());
    }
    text += &row("push", "impossible");
    text += &wrapped(2, &reason(&unusable.error));
    if let Some(hint) = unusable.error.advice() {
        text += &wrapped(2, &format!("hint: {hint}"));
    }
    text
}

fn content(content: &Content, verified: Option<&Verified>) -> String {
    match content {
        Content::Manifest(it) => manifest(it, plan::fate(content).text(), verified),
        Content::Index(it) => index(it, plan::fate(content).text(), verified),
    }
}

fn index(index: &Index, fate: &str, verified: Option<&Verified>) -> String {
    let below: usize = index.children.iter().map(|child| child.content.manifests().len()).sum();
    let mut text = stated("index", &index.stated);
    text += &row("push", fate);
    text += &row("lists", &many(below, "manifest"));
    for child in &index.children {
        text += &format!("\n{}", content(&child.content, verified));
    }
    text
}

fn manifest(manifest: &Manifest, fate: &str, verified: Option<&Verified>) -> String {
    let Manifest { config, layers, .. } = manifest;
    let mut text = row("platform", config.platform.as_deref().unwrap_or("none stated"));
    text += &manifest.stated.as_ref().map_or_else(|| row("manifest", "none"), |it| stated("manifest", it));
    text += &row("push", fate);
    text += &row("config", &config.digest.to_string());
    text += &row("", &about(config.media_type.as_deref(), config.bytes.len()));
    let bytes = layers.iter().map(|layer| layer.bytes.len()).fold(0, u64::saturating_add);
    text += &row("layers", &format!("{}, {}", layers.len(), size(bytes)));
    if !layers.is_empty() {
        text += &row("", "diff_id       digest        packing        size");
    }
    for layer in layers {
        text += &row("", &entry(layer, verified));
    }
    text
}

fn entry(layer: &Layer, verified: Option<&Verified>) -> String {
    let short = |hex: Option<String>| hex.map_or_else(|| "-".to_owned(), |hex| hex[..12].to_owned());
    let diff_id = short(layer.diff_id.map(|diff_id| diff_id.hex()));
    let digest = short(layer.digest.map(|digest| digest.hex()));
    let verdict = match verified.map(|verified| verified.layer(layer)) {
        None => "",
        Some(Ok(_)) => "  right",
        Some(Err(_)) => "  WRONG",
    };
    format!("{diff_id:<12}  {digest:<12}  {:<7}  {:>10}{verdict}", layer.packing.name(), size(layer.bytes.len()))
}

fn stated(label: &str, stated: &Stated) -> String {
    row(label, &stated.digest.to_string()) + &row("", &about(Some(&stated.media_type), stated.bytes.len()))
}

/// What a document says that it is, and how long it is.
fn about(media_type: Option<&str>, len: usize) -> String {
    let media_type = media_type.filter(|media_type| !media_type.is_empty());
    let media_type = media_type.map(|media_type| shown(media_type) + ", ").unwrap_or_default();
    media_type + &size(len as u64)
}

fn row(label: &str, text: &str) -> String {
    format!("{label:<LABEL$}{text}\n")
}

fn many(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// The words of a text in lines that start at `indent`. A word is never broken.
fn wrapped(indent: usize, text: &str) -> String {
    let mut lines = String::new();
    let mut width = COLUMNS;
    for word in text.split_whitespace() {
        let long = word.chars().count();
        if width + 1 + long > COLUMNS {
            lines += &format!("{}{:indent$}{word}", if lines.is_empty() { "" } else { "\n" }, "");
            width = indent + long;
        } else {
            lines += &format!(" {word}");
            width += 1 + long;
        }
    }
    lines + "\n"
}
