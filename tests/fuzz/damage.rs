//! Cases, drawn from seeds: a real archive, changed once or a few times, in its parts or in its bytes.

use std::fmt;

use super::archive::{Archive, put_right};
use super::dice::Dice;
use super::json;
use super::layers::{self, Outer};
use super::samples::Samples;

/// What the reader gets.
pub(crate) enum Form {
    Tar { bytes: Vec<u8>, outer: Option<Outer> },
    Folder(Vec<(String, Vec<u8>)>),
}

/// What a reader has to do with a beginning, since all is there, or since the packing says that it is not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fate {
    Opened,
    Refused,
}

/// An archive that is read.
pub(crate) struct Case {
    pub(crate) form: Form,
    /// The archive of which this is the beginning, if it is nothing else.
    pub(crate) beginning_of: Option<Vec<u8>>,
    /// The expected result, if that is known before it is read.
    pub(crate) fate: Option<Fate>,
    story: Vec<String>,
}

impl Case {
    pub(crate) fn of(seed: u64, samples: &Samples) -> Self {
        let dice = &mut Dice::of_seed(seed);
        let from = if dice.one_in(32) { &samples.whole } else { &samples.short };
        let at = dice.roll(from.len());
        let mut archive = from[at].clone();
        let mut story = vec![format!("sample {at}, whole: {}", std::ptr::eq(from, &raw const samples.whole))];
        if dice.one_in(16) {
            return Self::cut(&mut archive, story, dice);
        }
        for _ in 0..dice.of(&[0, 1, 1, 1, 1, 2, 2, 3, 5]) {
            story.push(match dice.roll(9) {
                0..4 => json::change(&mut archive, dice),
                4 => json::grow(&mut archive, dice),
                5 => change_blob(&mut archive, dice),
                6 => change_layer(&mut archive, dice),
                _ => change_entry(&mut archive, dice),
            });
        }
        let sealed = archive.seal();
        if dice.one_in(12) {
            story.push("as a folder".into());
            let mut files = archive.files(&sealed);
            if dice.one_in(4) && !files.is_empty() {
                let at = dice.roll(files.len());
                dice.damage(&mut files[at].1);
            }
            return Self { form: Form::Folder(files), beginning_of: None, fate: None, story };
        }
        let (mut bytes, headers) = archive.tar(&sealed);
        if dice.one_in(4) {
            for _ in 0..=dice.roll(3) {
                story.push(change_bytes(&mut bytes, &headers, dice));
            }
        }
        let outer = dice.one_in(8).then(|| dice.of(&Outer::ALL));
        if let Some(outer) = outer {
            story.push(format!("packed with {outer:?}"));
            bytes = outer.pack(dice, &bytes);
            if dice.one_in(3) {
                dice.damage(&mut bytes);
                story.push("and damaged".into());
            }
        }
        Self { form: Form::Tar { bytes, outer }, beginning_of: None, fate: None, story }
    }

    /// A good archive that breaks off somewhere.
    fn cut(archive: &mut Archive, mut story: Vec<String>, dice: &mut Dice) -> Self {
        // So that whatever stands last is what is missing.
        if dice.one_in(2) {
            let first = dice.roll(archive.entries.len());
            archive.entries.rotate_left(first);
        }
        let (whole, headers) = archive.tar(&archive.seal());
        if dice.one_in(4) {
            return Self::cut_packed(&whole, story, dice);
        }
        let contents = whole.len() - 1024;
        let at = match dice.roll(8) {
            // Nothing is missing but the end mark, or half of it.
            0 => contents + dice.of(&[0, 512]),
            1..5 => dice.of(&headers) + dice.of(&[0, 511, 512]),
            _ => dice.roll(whole.len()),
        };
        story.push(format!("{at} of {} bytes", whole.len()));
        let form = Form::Tar { bytes: whole[..at.min(whole.len())].to_vec(), outer: None };
        let fate = [contents, contents + 512].contains(&at).then_some(Fate::Opened);
        Self { form, beginning_of: Some(whole), fate, story }
    }

    /// A good archive that is compressed, and breaks off somewhere: every format shows it.
    fn cut_packed(whole: &[u8], mut story: Vec<String>, dice: &mut Dice) -> Self {
        let outer = dice.of(&Outer::ALL);
        // In two members all contents may be in the first, which is a file of its own.
        let (contents, end) = whole.split_at(if dice.one_in(2) { whole.len() - 1024 } else { 0 });
        let first = if contents.is_empty() { Vec::new() } else { outer.one(contents) };
        let whole = [&first[..], &outer.one(end)].concat();
        let at = first.len() + 1 + dice.roll(whole.len() - first.len() - 1);
        story.push(format!("{at} of {} bytes, packed with {outer:?}", whole.len()));
        let form = Form::Tar { bytes: whole[..at].to_vec(), outer: Some(outer) };
        Self { form, beginning_of: Some(whole), fate: Some(Fate::Refused), story }
    }

    /// How many bytes it has.
    pub(crate) fn len(&self) -> usize {
        match &self.form {
            Form::Tar { bytes, .. } => bytes.len(),
            Form::Folder(files) => files.iter().map(|(_, bytes)| bytes.len()).sum(),
        }
    }

    pub(crate) fn is_xz(&self) -> bool {
        matches!(self.form, Form::Tar { outer: Some(Outer::Xz), .. })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} bytes", self.story.join("; "), self.len())
    }
}

/// Damages a file before its digest is computed, or after.
fn change_blob(archive: &mut Archive, dice: &mut Dice) -> String {
    let at = dice.roll(archive.blobs.len());
    if dice.one_in(2) {
        archive.blobs[at].mismatch = Some(dice.roll(usize::MAX) as u64);
        return format!("blob {at} is not what its digest says");
    }
    archive.blobs[at].damage = Some(dice.roll(usize::MAX) as u64);
    format!("blob {at} is damaged")
}

/// Packs a layer in another way, or puts another in its place.
fn change_layer(archive: &mut Archive, dice: &mut Dice) -> String {
    let at = dice.roll(archive.blobs.len());
    if matches!(archive.blobs[at].body, super::archive::Body::Json(_)) && !dice.one_in(8) {
        return change_blob(archive, dice);
    }
    archive.blobs[at].body = layers::draw(dice, &archive.blobs[at].body);
    if dice.one_in(4) {
        archive.blobs[at].damage = Some(dice.roll(usize::MAX) as u64);
    }
    format!("blob {at} is compressed again")
}

/// Drops an entry, doubles it, renames it, or makes it something else.
fn change_entry(archive: &mut Archive, dice: &mut Dice) -> String {
    let entries = &mut archive.entries;
    if entries.is_empty() {
        return "no entry".into();
    }
    let (at, other) = (dice.roll(entries.len()), dice.roll(entries.len()));
    let other_name = entries[other].name.clone();
    let name = entries[at].name.clone();
    match dice.roll(13) {
        0 => drop(entries.remove(at)),
        1 => entries.insert(other, entries[at].clone()),
        2 => entries.swap(at, other),
        3 => {
            // Another content under a name that is there.
            let blob = entries[other].blob;
            entries.push(super::archive::Entry { name: name.clone(), kind: b'0', blob, ..Default::default() });
        }
        4 => {
            let long = "long/".repeat(dice.of(&[20, 60, 300]));
            let names = ["../../x", "./", "/", "a/../", "\u{1b}[2J", "", long.as_str(), "x/../../"].map(str::to_owned);
            entries[at].name = dice.of(&names) + &name;
        }
        5 => {
            let far = "../".repeat(dice.of(&[1, 3, 40]));
            let targets = [other_name, name.clone(), "/etc/passwd".into(), format!("{far}{name}"), String::new()];
            (entries[at].kind, entries[at].link) = (dice.of(b"12"), dice.of(&targets));
            if dice.one_in(2) {
                entries[at].blob = None;
            }
        }
        6 => {
            // What was there, behind a chain of links.
            let steps = dice.of(&[1, 15, 16, 17, 40]);
            let mut link = format!("step0 {at}");
            std::mem::swap(&mut entries[at].name, &mut link);
            for step in 1..=steps {
                let name = if step == steps { name.clone() } else { format!("step{step} {at}") };
                let to_root = "../".repeat(name.matches('/').count());
                let link = format!("{to_root}step{} {at}", step - 1);
                entries.push(super::archive::Entry { name, kind: b'2', link, ..Default::default() });
            }
        }
        7 => entries[at].kind = dice.of(b"\x0037SVMDgxLKAN"),
        8 => {
            let near = dice.roll(2000) as u64;
            entries[at].size = Some(dice.of(&[near, u64::MAX, u64::MAX - 511, i64::MAX as u64, 1 << 40, 0]));
        }
        9 => {
            let values =
                ["0", "512", "18446744073709551615", "-1", "x", "GNU", "a\u{1b}b", "blobs/sha256/../../index.json"];
            let keys = ["path", "size", "linkpath", "GNU.sparse.major", "GNU.sparse.name", "comment", "mtime"];
            let mut record = || (dice.of(&keys).to_owned(), dice.of(&values).to_owned());
            entries[at].pax = vec![record(), record()];
        }
        10 => entries[at].sparse = Some(dice.roll(usize::MAX) as u64),
        11 => entries[at].pax = vec![("path".into(), name.clone())],
        _ => entries.reverse(),
    }
    format!("entry {at}, {name:?}")
}

/// Damages a tar in its bytes, mostly in a header whose checksum is put right again.
fn change_bytes(bytes: &mut Vec<u8>, headers: &[usize], dice: &mut Dice) -> String {
    let block = dice.roll(bytes.len() / 512 + 1) * 512;
    match dice.roll(8) {
        0 => {
            dice.damage(bytes);
            "bytes are damaged".into()
        }
        1 => {
            bytes.splice(block..block, vec![dice.of(&[0, 0, 1]); 512 * dice.of(&[1, 2])]).for_each(drop);
            format!("blocks are inserted at {block}")
        }
        2 if block + 512 <= bytes.len() => {
            bytes.splice(block..block + 512, []).for_each(drop);
            format!("the block at {block} is gone")
        }
        _ if headers.is_empty() => "no header".into(),
        _ => {
            let start = dice.of(headers);
            let Some(header) = bytes.get_mut(start..start + 512) else { return "no header".into() };
            // Fields with a meaning: name, mode, size, checksum, kind, link, magic, prefix.
            let (from, len) = dice.of(&[
                (0, 100),
                (100, 8),
                (124, 12),
                (124, 12),
                (148, 8),
                (156, 1),
                (156, 1),
                (157, 100),
                (257, 8),
                (345, 155),
            ]);
            let at = from + dice.roll(len);
            header[at] = dice.of(&[0, 0x80, 0xff, b'7', b'8', b'/', b'.', b'x', b'L', b'S', header[at] ^ 1]);
            if !dice.one_in(8) {
                put_right(header);
            }
            format!("byte {at} of the header at {start}")
        }
    }
}
