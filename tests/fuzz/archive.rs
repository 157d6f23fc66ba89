//! An archive in parts, of which any can be changed before all are put together: digests and sizes are filled in last,
//! so that a change in the depth of it does not end at the first digest on the way there.
//!
//! In names and documents `{b3}` stands for the hex digest of blob 3, `{d3}` for that of its plain bytes, and the text
//! `"{s3}"` for the number of its bytes.

use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::dice::Dice;
use super::sparse;

/// What a file holds.
#[derive(Clone)]
pub(crate) enum Body {
    Json(Value),
    Layer { plain: Arc<Vec<u8>>, packed: Arc<Vec<u8>> },
}

/// A file's contents.
#[derive(Clone)]
pub(crate) struct Blob {
    pub(crate) body: Body,
    /// Dice by which its bytes are damaged before they are hashed.
    pub(crate) damage: Option<u64>,
    /// Dice by which one of its digits is changed afterwards.
    pub(crate) mismatch: Option<u64>,
}

/// An entry of a tar.
#[derive(Clone, Default)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// The tar's type flag.
    pub(crate) kind: u8,
    pub(crate) link: String,
    pub(crate) blob: Option<usize>,
    /// A size that is not that of the bytes.
    pub(crate) size: Option<u64>,
    /// Records of a PAX header in front of it.
    pub(crate) pax: Vec<(String, String)>,
    /// Dice by which it is stored with holes.
    pub(crate) sparse: Option<u64>,
}

/// An archive in parts.
#[derive(Clone)]
pub(crate) struct Archive {
    pub(crate) blobs: Vec<Blob>,
    pub(crate) entries: Vec<Entry>,
}

/// The bytes of all blobs, with what they say of each other.
pub(crate) struct Sealed {
    blobs: Vec<Option<(Vec<u8>, String, String)>>,
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Archive {
    /// The digests of everything, from the leaves up.
    pub(crate) fn seal(&self) -> Sealed {
        let mut sealed = Sealed { blobs: vec![None; self.blobs.len()] };
        for at in 0..self.blobs.len() {
            self.seal_one(at, &mut sealed, &mut Vec::new());
        }
        sealed
    }

    fn seal_one(&self, at: usize, sealed: &mut Sealed, above: &mut Vec<usize>) {
        if sealed.blobs[at].is_some() || above.contains(&at) {
            return;
        }
        above.push(at);
        let (mut bytes, plain) = match &self.blobs[at].body {
            Body::Json(json) => {
                let text = json.to_string();
                for (_, below) in references(&text) {
                    if below < self.blobs.len() {
                        self.seal_one(below, sealed, above);
                    }
                }
                (sealed.fill_in(&text).into_bytes(), None)
            }
            Body::Layer { plain, packed } => (packed.to_vec(), Some(hex(plain))),
        };
        if let Some(seed) = self.blobs[at].damage {
            Dice::of_seed(seed).damage(&mut bytes);
        }
        let digest = hex(&bytes);
        let digits: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at].is_ascii_digit()).collect();
        if let (Some(seed), false) = (self.blobs[at].mismatch, digits.is_empty()) {
            let at = Dice::of_seed(seed).of(&digits);
            bytes[at] = if bytes[at] == b'7' { b'1' } else { b'7' };
        }
        sealed.blobs[at] = Some((bytes, digest.clone(), plain.unwrap_or(digest)));
        above.pop();
    }

    /// The files of a folder: those entries whose names stay inside.
    pub(crate) fn files(&self, sealed: &Sealed) -> Vec<(String, Vec<u8>)> {
        let files = self.entries.iter().filter(|entry| matches!(entry.kind, 0 | b'0'));
        let files = files.map(|entry| (sealed.fill_in(&entry.name), sealed.bytes(entry.blob).to_vec()));
        files.filter(|(name, _)| fits_folder(name)).collect()
    }

    /// The tar, and where its headers are.
    pub(crate) fn tar(&self, sealed: &Sealed) -> (Vec<u8>, Vec<usize>) {
        let (mut tar, mut headers) = (Vec::new(), Vec::new());
        for entry in &self.entries {
            let (name, link) = (sealed.fill_in(&entry.name), sealed.fill_in(&entry.link));
            let mut add = |name: &[u8], kind: u8, link: &[u8], bytes: &[u8], size: Option<u64>| {
                headers.push(tar.len());
                tar.extend_from_slice(&header(name, kind, link, size.unwrap_or(bytes.len() as u64)));
                tar.extend_from_slice(bytes);
                tar.resize(tar.len().next_multiple_of(512), 0);
            };
            let long = |text: &str| [text.as_bytes(), b"\0"].concat();
            let bytes = sealed.bytes(entry.blob);
            let stored = entry.sparse.filter(|_| entry.kind == b'0');
            let stored = stored.map(|seed| sparse::store(seed, &name, bytes));
            let sparse_records = stored.iter().flat_map(|stored| &stored.records);
            let records: Vec<u8> =
                entry.pax.iter().chain(sparse_records).flat_map(|(key, value)| record(key, value)).collect();
            if !records.is_empty() {
                add(b"pax", b'x', b"", &records, None);
            }
            if name.len() > 100 {
                add(b"././@LongLink", b'L', b"", &long(&name), None);
            }
            if link.len() > 100 {
                add(b"././@LongLink", b'K', b"", &long(&link), None);
            }
            let Some(stored) = stored else {
                add(name.as_bytes(), entry.kind, link.as_bytes(), bytes, entry.size);
                continue;
            };
            add(name.as_bytes(), entry.kind, link.as_bytes(), &stored.contents, Some(stored.size));
            let header = headers.last().copied().unwrap_or_default();
            stored.put_into(&mut tar[header..header + 512]);
        }
        tar.resize(tar.len() + 1024, 0);
        (tar, headers)
    }
}

impl Sealed {
    fn bytes(&self, blob: Option<usize>) -> &[u8] {
        let blob = blob.and_then(|at| self.blobs.get(at)?.as_ref());
        blob.map_or(&[], |(bytes, ..)| bytes)
    }

    /// The text with what its references stand for.
    fn fill_in(&self, text: &str) -> String {
        let (mut filled, mut done) = (String::with_capacity(text.len()), 0);
        for (at, blob) in references(text) {
            let what = text.as_bytes()[at + 1];
            let end = at + text[at..].find('}').unwrap() + 1;
            // A document that refers to itself gets a digest that nothing has.
            let blob = self.blobs.get(blob).and_then(Option::as_ref);
            let (len, digest, plain) = blob.map_or_else(
                || (0, "0".repeat(64), "0".repeat(64)),
                |(bytes, d, p)| (bytes.len(), d.clone(), p.clone()),
            );
            let quoted = what == b's' && at > 0 && text[..at].ends_with('"') && text[end..].starts_with('"');
            filled.push_str(&text[done..if quoted { at - 1 } else { at }]);
            match what {
                b'b' => filled.push_str(&digest),
                b'd' => filled.push_str(&plain),
                _ => filled.push_str(&len.to_string()),
            }
            done = if quoted { end + 1 } else { end };
        }
        filled.push_str(&text[done..]);
        filled
    }
}

/// Where a text refers to blobs, and to which.
fn references(text: &str) -> Vec<(usize, usize)> {
    let starts =
        text.match_indices('{').filter(|(at, _)| matches!(text.as_bytes().get(at + 1), Some(b'b' | b'd' | b's')));
    let reference = |(at, _): (usize, &str)| {
        let rest = &text[at + 2..];
        let number = rest.split('}').next().filter(|digits| digits.len() < 6)?.parse().ok()?;
        Some((at, number))
    };
    starts.filter_map(reference).collect()
}

fn fits_folder(name: &str) -> bool {
    let is_plain = |part: &str| !matches!(part, "" | "." | "..") && part.len() < 200 && !part.contains('\0');
    name.split('/').all(is_plain) && name.len() < 1000
}

fn record(key: &str, value: &str) -> Vec<u8> {
    let rest = format!(" {key}={value}\n");
    let mut len = rest.len();
    while len.to_string().len() + rest.len() != len {
        len = len.to_string().len() + rest.len();
    }
    format!("{len}{rest}").into_bytes()
}

fn header(name: &[u8], kind: u8, link: &[u8], size: u64) -> [u8; 512] {
    let mut header = [0; 512];
    let mut put = |at: usize, room: usize, bytes: &[u8]| {
        let len = bytes.len().min(room);
        header[at..at + len].copy_from_slice(&bytes[..len]);
    };
    put(0, 100, name);
    put(100, 8, b"0000644\0");
    put(108, 8, b"0000000\0");
    put(116, 8, b"0000000\0");
    if size < 1 << 33 {
        put(124, 12, format!("{size:011o}\0").as_bytes());
    } else {
        // GNU's way of writing what does not fit.
        put(124, 12, &[&[0x80, 0, 0, 0][..], &size.to_be_bytes()].concat());
    }
    put(136, 12, b"00000000000\0");
    put(156, 1, &[kind]);
    put(157, 100, link);
    put(257, 8, b"ustar\x0000");
    put_right(&mut header);
    header
}

/// Puts a header's checksum right.
pub(crate) fn put_right(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}
