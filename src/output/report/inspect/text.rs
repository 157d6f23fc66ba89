//! The content of an archive as text of 80 columns.
//!
//! Digests that people copy are in full and start in the tenth column: they have 71 characters. Text from the archive has
//! no control characters.

use std::iter;

use crate::archive::inspect::{Inspection, Verified};
use crate::archive::{
    Absent, Archive, Child, Content, Image, Index, Layer, Manifest, NonDistributableLayer, Referrer, Role, Unusable,
    shown,
};
use crate::compress::size;
use crate::error::{Error, Result};
use crate::oci::{Compression, OriginalManifest};
use crate::push::compression;

/// The width of a default terminal.
const COLUMNS: usize = 80;
/// Where the second column starts.
const LABEL: usize = 9;

/// Returns the content of an archive, for people.
pub(crate) fn text(inspection: &Inspection) -> String {
    let Inspection { archive, all, verified } = inspection;
    let shown = archive.images.len() + archive.unusable.len();
    let count = if shown == *all { many(shown, "image") } else { format!("{shown} of {}", many(*all, "image")) };
    let mut text = row("archive", &archive.source.to_string());
    text += &row("", &format!("{}, {count}", archive.format));
    for note in &archive.notes {
        text += &format!("{:<LABEL$}{}", "note", wrapped(LABEL, note).trim_start());
    }
    let mut referrers = archive.referrers_of_all().into_iter().peekable();
    for (at, it) in archive.images.iter().enumerate() {
        let below: Vec<_> = iter::from_fn(|| referrers.next_if(|(of, _)| *of == at)).map(|(_, it)| it).collect();
        text += &format!("\n{}", image(it, archive.referrers_of(it).len(), &below, verified.as_ref()));
    }
    for unusable in &archive.unusable {
        text += &format!("\n{}", self::unusable(unusable));
    }
    if let Some(verified) = verified {
        text += &format!("\n{}", row("verified", &verdict(archive, verified)));
    }
    text
}

/// The result of reading the layers.
fn verdict(archive: &Archive, verified: &Verified) -> String {
    let (layers, bytes) = verified.read();
    let verdict = match verified.wrong(archive) {
        0 if layers == 0 => "nothing to read".to_owned(),
        0 => "all match the archive".to_owned(),
        1 => "1 mismatch".to_owned(),
        wrong => format!("{wrong} mismatches"),
    };
    format!("{}, {}: {verdict}", many(layers, "layer"), size(bytes))
}

fn names(names: &[String]) -> String {
    let first = names.first().map_or_else(|| "unnamed".to_owned(), |name| shown(name));
    let others = names.iter().skip(1).map(|name| row("", &shown(name)));
    row("image", &first) + &others.collect::<String>()
}

/// An image with the number of its referrers, and those of them that are not below another image yet.
fn image(image: &Image, count: usize, below: &[Result<&Referrer, &Error>], verified: Option<&Verified>) -> String {
    let mut text = names(&image.names);
    if let Some(index) = image.part_of.first() {
        text += &row("part of", &index.to_string());
    }
    if count > 0 {
        let above = count.saturating_sub(below.len());
        let above = if above > 0 { format!("; {above} of them above") } else { String::new() };
        text += &row("attached", &format!("{} (pushed with --referrers){above}", many(count, "referrer")));
    }
    text += &content(&image.content, None, verified);
    for it in below {
        text += &format!("\n{}", referrer(*it, verified));
    }
    text
}

/// A referrer.
fn referrer(referrer: Result<&Referrer, &Error>, verified: Option<&Verified>) -> String {
    let Referrer { subject, tag, content, .. } = match referrer {
        Ok(referrer) => referrer,
        Err(error) => return row("referrer", "cannot be pushed") + &reason(error),
    };
    let kind = match tag.as_ref().and_then(|tag| tag.as_str().rsplit('.').next()) {
        Some("sig") => "cosign signature, by its tag (.sig)".to_owned(),
        Some("att") => "cosign attestation, by its tag (.att)".to_owned(),
        Some("sbom") => "cosign SBOM, by its tag (.sbom)".to_owned(),
        _ => content.artifact_type().unwrap_or_else(|| "of an unknown type".into()),
    };
    let manifests = content.manifests();
    let layers: Vec<&Layer> = manifests.iter().flat_map(|manifest| &manifest.layers).collect();
    let bytes = layers.iter().map(|layer| layer.bytes.len()).fold(0, u64::saturating_add);
    let verdict = match verified {
        None => "",
        Some(verified) if layers.iter().all(|layer| verified.layer(layer).is_ok()) => "  ok",
        Some(_) => "  MISMATCH",
    };
    let digest = content.original().map_or_else(|| content.id(), |stated| stated.digest);
    let of = format!("of {}, {}, {}{verdict}", subject.short(), many(layers.len(), "layer"), size(bytes));
    row("referrer", &digest.to_string()) + &row("", &kind) + &row("", &of)
}

/// An image that cannot be pushed.
fn unusable(unusable: &Unusable) -> String {
    let mut text = names(&unusable.names);
    if let Some(id) = unusable.id {
        text += &row("ID", &id.to_string());
    }
    text + &row("push", "not possible") + &reason(&unusable.error)
}

/// Why something cannot be pushed, and what to do about it.
fn reason(error: &Error) -> String {
    let causes = error.causes();
    let sentence = if causes.is_empty() { error.to_string() } else { format!("{error}: {}", causes.join(": ")) };
    // A command has a line of its own, however long.
    let advice = error.advice().map(ToString::to_string);
    let hint = advice.as_deref().map(|hint| hint.split_once('\n').map_or((hint, ""), |(words, lines)| (words, lines)));
    let hint = hint.map(|(words, lines)| {
        let lines = lines.lines().map(|line| format!("{line}\n")).collect::<String>();
        wrapped(2, &format!("hint: {words}")) + &lines
    });
    wrapped(2, &sentence) + &hint.unwrap_or_default()
}

/// A manifest or an index, which an index lists for `role` if one does.
fn content(content: &Content, role: Option<&Role>, verified: Option<&Verified>) -> String {
    match content {
        Content::Manifest(it) => manifest(it, role, compression::manifest_action(content).text(), verified),
        Content::Index(it) => index(it, compression::manifest_action(content).text(), verified),
    }
}

fn index(index: &Index, push_action: &str, verified: Option<&Verified>) -> String {
    let below: usize = index.children.iter().map(|child| child.content.manifests().len()).sum();
    let missing_text = if index.absent.is_empty() {
        String::new()
    } else {
        format!(", and {} more missing from the archive", index.absent.len())
    };
    let mut text = stated("index", &index.original);
    text += &row("push", push_action);
    text += &row("lists", &format!("{}{missing_text}", many(below, "manifest")));
    for (n, absent) in index.absent.iter().enumerate() {
        text += &row(if n == 0 { "missing" } else { "" }, &missing(absent));
    }
    for Child { role, content: child } in &index.children {
        text += &format!("\n{}", content(child, Some(role), verified));
    }
    text
}

/// An entry of an index that cannot be pushed, mostly since it is missing from the archive.
fn missing(Absent { role, digest, .. }: &Absent) -> String {
    let what = match role {
        Role::Image(Some(platform)) => platform.to_string(),
        Role::Image(None) => "without a platform".to_owned(),
        Role::Attestation(Some(about)) => format!("attestation of {}", about.short()),
        Role::Attestation(None) => "attestation".to_owned(),
    };
    format!("{}  {what}", digest.short())
}

fn manifest(manifest: &Manifest, role: Option<&Role>, push_action: &str, verified: Option<&Verified>) -> String {
    let Manifest { config, layers, non_distributable: foreign, .. } = manifest;
    let mut text = match role {
        Some(Role::Attestation(Some(about))) => row("attests", &about.to_string()),
        Some(Role::Attestation(None)) => row("attests", "unspecified"),
        Some(Role::Image(Some(listed))) if !config.platform.as_ref().is_some_and(|own| own.matches(listed)) => {
            let own = config.platform.as_ref().map(|own| format!(" (its config has {own})"));
            row("platform", &format!("{listed}{}", own.unwrap_or_default()))
        }
        Some(Role::Image(_)) | None => {
            row("platform", &config.platform.as_ref().map_or_else(|| "unspecified".to_owned(), ToString::to_string))
        }
    };
    text += &manifest.original.as_ref().map_or_else(|| row("manifest", "none"), |it| stated("manifest", it));
    text += &row("push", push_action);
    text += &row("config", &config.digest.to_string());
    text += &row("", &about(config.media_type.as_deref(), config.bytes.len()));
    let bytes = layers.iter().map(|layer| layer.bytes.len()).fold(0, u64::saturating_add);
    let elsewhere = if foreign.is_empty() {
        String::new()
    } else {
        format!(", and {} non-distributable, not uploaded", foreign.len())
    };
    text += &row("layers", &format!("{}, {}{elsewhere}", layers.len(), size(bytes)));
    if !(layers.is_empty() && foreign.is_empty()) {
        text += &row("", "diff_id       digest        compression        size");
    }
    let (mut layers, mut foreign) = (layers.iter(), foreign.iter().peekable());
    for at in 0.. {
        match (foreign.next_if(|foreign| foreign.at == at), layers.len()) {
            (Some(it), _) => text += &reference(it),
            // Positions have no gaps; if they had, those layers would come last.
            (None, 0) => match foreign.next() {
                Some(it) => text += &reference(it),
                None => break,
            },
            (None, _) => layers.by_ref().take(1).for_each(|layer| text += &row("", &entry(layer, verified))),
        }
    }
    text
}

/// A non-distributable layer and its URLs.
fn reference(NonDistributableLayer { descriptor, layer, .. }: &NonDistributableLayer) -> String {
    let short = |digest: &str| digest.rsplit(':').next().unwrap_or_default().chars().take(12).collect::<String>();
    let diff_id =
        layer.as_ref().and_then(|layer| layer.diff_id).map_or_else(|| "-".into(), |it| short(&it.to_string()));
    let bytes = size(u64::try_from(descriptor.size).unwrap_or_default());
    let here = if layer.is_some() { "  in the archive" } else { "" };
    let line = format!("{diff_id:<12}  {:<12}  foreign      {bytes:>10}{here}", short(&descriptor.digest));
    let urls = descriptor.urls.iter().flatten().map(|url| row("", &format!("  {}", shown(url))));
    row("", &line) + &urls.collect::<String>()
}

fn entry(layer: &Layer, verified: Option<&Verified>) -> String {
    let short = |hex: Option<String>| hex.map_or_else(|| "-".to_owned(), |hex| hex[..12].to_owned());
    let diff_id = short(layer.diff_id.map(|diff_id| diff_id.hex()));
    let digest = short(layer.digest.map(|digest| digest.hex()));
    let verdict = match verified.map(|verified| verified.layer(layer)) {
        _ if layer.bytes.is_missing() => "  not in the archive",
        None => "",
        Some(Ok(_)) => "  ok",
        Some(Err(_)) => "  MISMATCH",
    };
    format!("{diff_id:<12}  {digest:<12}  {:<11}  {:>10}{verdict}", compression(layer), size(layer.bytes.len()))
}

fn compression(layer: &Layer) -> &'static str {
    match layer.compression {
        Compression::Uncompressed => "none",
        other => other.name(),
    }
}

fn stated(label: &str, stated: &OriginalManifest) -> String {
    row(label, &stated.digest.to_string()) + &row("", &about(Some(&stated.media_type), stated.bytes.len()))
}

/// The media type and size of a document.
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

/// Wraps a text into lines that start at `indent`. A word is never broken.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_of_a_hint_is_not_wrapped() {
        let command = format!("  docker pull --platform linux/arm64 {}", "a/".repeat(COLUMNS));
        let error = Error::input("it is not there").hint(format!("Pull it:\n{command}"));
        assert_eq!(reason(&error), format!("  it is not there\n  hint: Pull it:\n{command}\n"));
    }
}
