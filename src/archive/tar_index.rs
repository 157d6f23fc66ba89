//! The index of a tar: the offset and length of each entry.
//!
//! The headers are read once, with seeks, and no content. Of a streamed tar ([`TarIndex::stream`]), small files stay in
//! memory and layers are passed to a handler. Links are followed inside the index only: no path of the file system is
//! opened. Rejected are entries that reach past the end of the file, extension records that another reader may understand
//! differently, and headers that need more memory than any real one.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use super::reencoding::{TextCheck, reencoded};
use super::source::Source;
use super::sparse::{PartCount, Records, Sparse, Unreadable};
use super::streaming::{self, LayerHandler};
use crate::compress::{ByteSource, SparseReader};
use crate::error::{Code, Error, Result, shown};

/// The limit for entries. Every layer, config and manifest is one: an image has about a hundred, a layout of many images
/// thousands.
const MAX_ENTRIES: u64 = 1_000_000;
/// The limit for the headers of one entry: its names and PAX records. The tar crate reads all of them, without a limit.
const MAX_HEADER: u64 = 1 << 20;
/// The limit for all names and link targets together.
const MAX_NAMES: usize = 64 << 20;
/// The limit for a chain of links.
const MAX_HOPS: usize = 16;

/// The entries of a tar by name.
#[derive(Debug)]
pub(super) struct TarIndex {
    places: HashMap<String, Place>,
    len: u64,
    has_end_mark: bool,
}

#[derive(Debug)]
enum Place {
    File(ByteSource),
    /// A link, with its target as written.
    Link {
        target: Vec<u8>,
        base: Base,
    },
    /// An entry without content, such as a device.
    Special,
    /// A sparse file that cannot be read.
    Sparse(Unreadable),
    /// An entry that is never looked up, such as a folder.
    Ignored,
}

/// The kind of an entry.
enum Found {
    File { start: u64, len: u64 },
    Sparse(Sparse),
    Other(Place),
}

/// What a link's target is relative to.
#[derive(Clone, Copy, Debug)]
enum Base {
    /// Hard links name another entry.
    Archive,
    /// Symbolic links start at their own folder.
    Folder,
}

impl TarIndex {
    /// Indexes the tar that starts at the position `from` of `file`; `source` is for messages.
    pub(super) fn read(file: Arc<File>, from: u64, source: &Source) -> Result<Self> {
        let broken = |error: io::Error| {
            Error::input(format!("cannot read {source}")).code(Code::ArchiveUnreadable).because(error)
        };
        let file_len = file.metadata().map_err(broken)?.len();
        (&*file).seek(SeekFrom::Start(from)).map_err(broken)?;
        let gate = Gate::default();
        let mut tar = tar::Archive::new(Gated { bytes: &*file, gate: &gate, from });
        let entries = tar.entries_with_seek().map_err(broken)?;
        let mut parts = PartCount::default();
        let index = Self::of(
            entries,
            &gate,
            source,
            || file_len,
            |entry, name, found| {
                let check = |start: u64, len| match start.saturating_add(len).saturating_sub(file_len) {
                    0 => Ok(()),
                    missing => {
                        let how = format!("the last {missing} bytes of its entry {name} are missing");
                        Err(cut_off(source, &how, file_len))
                    }
                };
                Ok(match found {
                    Found::Other(place) => place,
                    Found::File { start, len } => {
                        let start = start.saturating_add(from);
                        check(start, len)?;
                        Place::File(ByteSource::new(Arc::clone(&file), start, len))
                    }
                    Found::Sparse(sparse) => {
                        // The tar crate has read everything before the content.
                        let start = (&*file).stream_position().map_err(broken)?;
                        check(start, sparse.stored)?;
                        let map = entry.raw_file_position().saturating_add(from);
                        let range = sparse.in_file(&file, map, start, &mut parts);
                        Place::File(range.map_err(|error| malformed(name, source, &error))?)
                    }
                })
            },
        );
        let is_text = || {
            let whole = ByteSource::new(Arc::clone(&file), 0, file_len);
            TextCheck::default().all_reencoded(whole.reader())
        };
        index.map_err(|error| gate.explain(error, source, is_text))
    }

    /// Indexes a streamed tar, to its end. Small files stay in memory; files that may be layers are passed to `handler`, which
    /// may skip them. `failed` converts an error of reading, given the number of bytes read.
    pub(super) fn stream(
        bytes: impl Read,
        source: &Source,
        failed: impl Fn(io::Error, u64) -> Error,
        handler: LayerHandler<'_>,
    ) -> Result<Self> {
        let gate = Gate::default();
        let mut tar = tar::Archive::new(Gated { bytes, gate: &gate, from: 0 });
        let index = tar.entries().map_err(|error| failed(error, 0)).and_then(|entries| {
            let (mut in_memory, mut parts) = (0, PartCount::default());
            Self::of(
                entries,
                &gate,
                source,
                || gate.read.get(),
                |entry, name, found| {
                    gate.allowance.set(u64::MAX);
                    // The tar crate fills the holes of such an entry with zeros; skipping those would take as long as the
                    // header claims.
                    let is_filled = entry.header().entry_type().is_gnu_sparse();
                    if is_filled {
                        let stored = entry.header().entry_size().unwrap_or_default();
                        gate.next.set(gate.read.get().saturating_add(stored));
                    }
                    let place = match found {
                        Found::Other(place) => Ok(place),
                        Found::File { start, len } => {
                            streaming::file(entry, name, start, len, &mut in_memory, handler).map(Place::File)
                        }
                        Found::Sparse(sparse) if is_filled => {
                            streaming::file(entry, name, gate.read.get(), sparse.len, &mut in_memory, handler)
                                .map(Place::File)
                        }
                        Found::Sparse(sparse) => {
                            let (start, len) = (gate.read.get(), sparse.len);
                            let map = sparse.map(entry, &mut parts).map_err(|error| malformed(name, source, &error));
                            map.and_then(|(map, _)| {
                                let mut bytes = SparseReader::new(map, &mut *entry);
                                streaming::file(&mut bytes, name, start, len, &mut in_memory, handler).map(Place::File)
                            })
                        }
                    };
                    // The rest of the entry is before the next header.
                    let rest = if place.is_ok() && !is_filled { drain(entry) } else { Ok(()) };
                    if gate.at_end.get() {
                        return Err(cut_off(source, &format!("it ends inside its entry {name}"), gate.read.get()));
                    }
                    rest.map_err(|error| failed(error, gate.read.get()))?;
                    place
                },
            )
        });
        // The writer of a pipe must be able to write everything, including bytes after the end of the tar.
        gate.allowance.set(u64::MAX);
        let mut bytes = tar.into_inner();
        let is_text = || gate.text.take().all_reencoded(&mut bytes);
        let index = index.map_err(|error| gate.explain(error, source, is_text));
        let rest = if index.is_ok() { drain(bytes) } else { Ok(()) };
        match (gate.failure.take(), rest) {
            (Some(error), _) | (None, Err(error)) => Err(failed(error, gate.read.get())),
            (None, Ok(())) => index,
        }
    }

    /// Indexes the entries. `content` returns the place of each entry's bytes, `len` the length of the tar.
    fn of<R: Read>(
        mut entries: tar::Entries<'_, R>,
        gate: &Gate,
        source: &Source,
        len: impl Fn() -> u64,
        mut content: impl FnMut(&mut tar::Entry<'_, R>, &str, Found) -> Result<Place>,
    ) -> Result<Self> {
        let mut places = HashMap::new();
        let (mut count, mut names_len) = (0_u64, 0_usize);
        let mut last = String::from("its start");
        loop {
            gate.allowance.set(MAX_HEADER.saturating_add(gate.next.take().saturating_sub(gate.read.get())));
            let mut entry = match entries.next() {
                None => break,
                Some(Ok(entry)) => entry,
                Some(Err(_)) if gate.at_end.get() => {
                    let how = format!("it ends inside the header after {last}");
                    return Err(cut_off(source, &how, len()));
                }
                Some(Err(error)) => {
                    gate.is_broken.set(true);
                    return Err(Error::input(format!("{source} is a broken tar after {last}"))
                        .code(Code::ArchiveDamaged)
                        // Its text may quote the header.
                        .because(shown(&error.to_string()))
                        .hint("Save the image again; if the file was copied or downloaded, compare its checksum."));
                }
            };
            count += 1;
            if count > MAX_ENTRIES {
                return Err(Error::input(format!("{source} has more than {MAX_ENTRIES} entries"))
                    .code(Code::ArchiveUnsupported));
            }
            let mut name = entry.path_bytes().into_owned();
            last = shown(&String::from_utf8_lossy(&name));
            let start = entry.raw_file_position();
            let mut found = kind_of(&mut entry, start).map_err(|error| malformed(&last, source, &error))?;
            if let Found::Sparse(sparse) = &mut found {
                if let Some(own) = sparse.name.take() {
                    last = shown(&String::from_utf8_lossy(&own));
                    name = own;
                }
                if let Some(unreadable) = sparse.unreadable() {
                    found = Found::Other(Place::Sparse(unreadable));
                }
            }
            let place = content(&mut entry, &last, found)?;
            // Looked-up names come from JSON, so a name that is not UTF-8 or leads outside is never looked up.
            let key = str::from_utf8(&name).ok().and_then(normalize);
            if let (Some(key), false) = (key, matches!(place, Place::Ignored)) {
                names_len += key.len() + if let Place::Link { target, .. } = &place { target.len() } else { 0 };
                if names_len > MAX_NAMES {
                    return Err(Error::input(format!(
                        "the entries of {source} have names of more than {MAX_NAMES} bytes"
                    ))
                    .code(Code::ArchiveUnsupported));
                }
                // The last of several entries with one name is used: tar extracts that one (`tar --append` updates files
                // in this way), and so does Docker, which extracts an archive before it reads it. So different contents
                // under one name give the same image as `docker load`.
                places.insert(key, place);
            }
        }
        Ok(Self { places, len: len(), has_end_mark: !gate.at_end.get() })
    }

    /// Returns the bytes of an entry, after following links, or `None` if there is no such entry.
    pub(super) fn find(&self, name: &str) -> Result<Option<ByteSource>> {
        let Some(mut key) = normalize(name) else { return Ok(None) };
        let mut link = None;
        for _ in 0..=MAX_HOPS {
            let (target, base) = match self.places.get(&key) {
                Some(Place::Ignored) | None => {
                    return link.map_or(Ok(None), |(link, target): (String, &Vec<u8>)| {
                        Err(dangling(&format!("the entry {}", shown(&link)), &String::from_utf8_lossy(target)))
                    });
                }
                Some(Place::File(range)) => return Ok(Some(range.clone())),
                Some(Place::Special) => {
                    return Err(Error::input(format!("the entry {} is not a regular file", shown(&key)))
                        .code(Code::ArchiveUnsupported)
                        .hint("Write the archive again with regular files."));
                }
                Some(Place::Sparse(why)) => return Err(why.error(&key)),
                Some(Place::Link { target, base }) => (target, *base),
            };
            let joined = str::from_utf8(target).ok().filter(|target| !target.starts_with('/')).and_then(|target| {
                let folder = key.rsplit_once('/').map_or("", |(folder, _)| folder);
                normalize(&match base {
                    Base::Archive => target.to_owned(),
                    Base::Folder => format!("{folder}/{target}"),
                })
            });
            let joined = joined.ok_or_else(|| {
                let target = shown(&String::from_utf8_lossy(target));
                Error::input(format!("the entry {} is a link that leaves the archive, to {target}", shown(&key)))
                    .code(Code::ArchiveUnsupported)
                    .hint("Links are followed inside the archive only. Write it again with tar --dereference.")
            })?;
            link = Some((std::mem::replace(&mut key, joined), target));
        }
        Err(Error::input(format!("the entry {} is a link that leads to no file in {MAX_HOPS} steps", shown(name)))
            .hint("It may lead in a circle. Write the archive again with tar --dereference."))
    }

    /// Returns whether the tar ends with a block of zeros, as it should. Without one, the end may be missing: only the content
    /// shows whether it is.
    pub(super) fn has_end_mark(&self) -> bool {
        self.has_end_mark
    }

    /// Returns the error that the tar is cut off.
    pub(super) fn cut_off(&self, source: &Source, how: &str) -> Error {
        cut_off(source, how, self.len)
    }

    /// Returns the names of all entries, in no particular order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }
}

/// Returns the kind of an entry.
fn kind_of(entry: &mut tar::Entry<'_, impl Read>, start: u64) -> io::Result<Found> {
    let kind = entry.header().entry_type();
    // GNU tar's volume labels, and continued files of a previous volume.
    let is_of_volume = matches!(kind.as_byte(), b'V' | b'M');
    if kind.is_pax_global_extensions() || kind.is_dir() || is_of_volume {
        return Ok(Found::Other(Place::Ignored));
    }
    let len = entry.size();
    let mut sparse = Records::default();
    for record in entry.pax_extensions()?.into_iter().flatten() {
        // The tar crate stops at the first record that it cannot read, and then uses the header.
        let record = record?;
        sparse.add(record.key_bytes(), record.value_bytes())?;
        if record.key_bytes() == b"size" && record.value().ok().and_then(|size| size.parse().ok()) != Some(len) {
            return Err(io::Error::other("its PAX records contradict each other about its size"));
        }
    }
    let link = |base, entry: &tar::Entry<'_, _>| {
        let target = entry.link_name_bytes().ok_or_else(|| io::Error::other("it is a link to nothing"))?;
        Ok(Found::Other(Place::Link { target: target.into_owned(), base }))
    };
    if kind.is_gnu_sparse() {
        Ok(Found::Sparse(Sparse::of_header(entry.header(), len)?))
    } else if kind.is_symlink() {
        link(Base::Folder, entry)
    } else if kind.is_hard_link() {
        link(Base::Archive, entry)
    } else if kind.is_file() || kind.is_contiguous() {
        Ok(sparse.sparse(len)?.map_or(Found::File { start, len }, Found::Sparse))
    } else {
        Ok(Found::Other(Place::Special))
    }
}

/// Normalizes a name: no `./`, no empty parts, `..` resolved. `None` if it leads outside.
fn normalize(name: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    if parts.is_empty() { None } else { Some(parts.join("/")) }
}

fn malformed(name: &str, source: &Source, error: &io::Error) -> Error {
    Error::input(format!("the entry {name} of {source} is malformed"))
        .code(Code::ArchiveInvalid)
        // Its text may quote the header.
        .because(shown(&error.to_string()))
}

/// Returns the error that the target of `link`, a file or an entry, does not exist.
pub(super) fn dangling(link: &str, target: &str) -> Error {
    Error::input(format!("{link} is a link to {}, which does not exist", shown(target)))
        .code(Code::ArchiveIncomplete)
        .hint("The archive is incomplete, or its links were changed when it was copied: save the image again.")
}

/// Returns the error that the archive is cut off.
fn cut_off(source: &Source, how: &str, file_len: u64) -> Error {
    Error::input(format!("{source} is cut off: {how}")).code(Code::ArchiveDamaged).hint(format!(
        "The tar is {file_len} bytes long. Copy, download or save it again, and check that the disk is not full."
    ))
}

/// Reads to the end.
fn drain(mut bytes: impl Read) -> io::Result<()> {
    io::copy(&mut bytes, &mut io::sink()).map(drop)
}

/// The limits and the state of reading a tar, shared with the reader that the tar crate uses.
#[derive(Default)]
struct Gate {
    /// The number of bytes that may still be read.
    allowance: Cell<u64>,
    read: Cell<u64>,
    at_end: Cell<bool>,
    /// The end of the content that is skipped before the next header, if there is any.
    next: Cell<u64>,
    /// Whether a header could not be read.
    is_broken: Cell<bool>,
    text: RefCell<TextCheck>,
    /// The error of the source, if it failed.
    failure: Cell<Option<io::Error>>,
}

impl Gate {
    /// Returns the error of a tar that cannot be read, or a better one if all bytes were reencoded as text. In a streamed tar
    /// the first layer shows that, before a header does.
    fn explain(&self, error: Error, source: &Source, is_text: impl FnOnce() -> bool) -> Error {
        self.allowance.set(u64::MAX);
        if (self.is_broken.get() || error.stable_code() == Code::ArchiveDamaged) && is_text() {
            return reencoded(&source.to_string(), "a tar that was turned into text in UTF-8");
        }
        error
    }
}

/// The reader for the tar crate. It limits the bytes read, so that a header which claims a name of many gigabytes causes an
/// error and uses no memory.
struct Gated<'a, R> {
    bytes: R,
    gate: &'a Gate,
    /// The offset of the tar.
    from: u64,
}

impl<R: Read> Read for Gated<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Gate { allowance, read: so_far, at_end, failure, text, .. } = self.gate;
        let allowed = usize::try_from(allowance.get()).map_or(buffer.len(), |left| left.min(buffer.len()));
        if allowed == 0 && !buffer.is_empty() {
            return Err(io::Error::other(format!("the names of an entry take more than {MAX_HEADER} bytes")));
        }
        let read = self.bytes.read(&mut buffer[..allowed]).map_err(|error| {
            let kind = error.kind();
            if kind != io::ErrorKind::Interrupted {
                failure.set(Some(error));
            }
            kind
        })?;
        allowance.set(allowance.get() - read as u64);
        so_far.set(so_far.get() + read as u64);
        at_end.set(read == 0);
        text.borrow_mut().add(&buffer[..read]);
        Ok(read)
    }
}

impl<R: Seek> Seek for Gated<'_, R> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        Ok(self.bytes.seek(position)?.saturating_sub(self.from))
    }
}
