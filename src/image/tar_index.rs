//! The table of contents of a tar: which entry lies where.
//!
//! The tar is gone through once, by header, with seeks; no content is read. Of a tar that goes by ([`TarIndex::pass`]) the small
//! files are kept, and layers are handed on. Links are followed inside the table only: nothing here ever touches a path of
//! the file system. Refused: entries that reach past the file's end, extension
//! records that another reader could understand differently, and headers that want more memory than any honest one.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use super::passing::{self, Take};
use super::shown;
use super::source::Source;
use crate::error::{Code, Error, Result};
use crate::layer::FileRange;

/// Every layer, config and manifest is an entry; images have a hundred or so, and layouts of many images thousands.
const MAX_ENTRIES: u64 = 1_000_000;
/// What one entry's headers may take: its names and PAX records. The tar crate reads them whole, without a limit.
const MAX_HEADER: u64 = 1 << 20;
/// What all names and link targets may take together.
const MAX_NAMES: usize = 64 << 20;
/// How many links may lead from one to the next.
const MAX_HOPS: usize = 16;

/// Where the entries of a tar lie.
#[derive(Debug)]
pub(super) struct TarIndex {
    places: HashMap<String, Place>,
    len: u64,
    has_end_mark: bool,
}

#[derive(Debug)]
enum Place {
    File(FileRange),
    /// A link's target, as written.
    Link {
        target: Vec<u8>,
        base: Base,
    },
    /// Something whose bytes do not lie in one stretch, or that has none.
    Unreadable(&'static str),
    /// Nothing that anybody could name.
    Nowhere,
}

/// What an entry is.
enum Found {
    File { start: u64, len: u64 },
    Other(Place),
}

impl From<Found> for Place {
    fn from(found: Found) -> Self {
        match found {
            Found::File { .. } => Self::Nowhere,
            Found::Other(place) => place,
        }
    }
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
    /// Reads all headers of the tar in `file`; `source` is where it comes from.
    pub(super) fn read(file: Arc<File>, source: &Source) -> Result<Self> {
        let broken = |error: io::Error| Error::input(format!("cannot read {source}")).because(error);
        let file_len = file.metadata().map_err(broken)?.len();
        (&*file).seek(SeekFrom::Start(0)).map_err(broken)?;
        let gate = Gate::default();
        let mut tar = tar::Archive::new(Gated { bytes: &*file, gate: &gate });
        let entries = tar.entries_with_seek().map_err(broken)?;
        Self::of(
            entries,
            &gate,
            source,
            || file_len,
            |_, name, found| {
                if let Found::File { start, len } = found {
                    let missing = start.saturating_add(len).saturating_sub(file_len);
                    if missing > 0 {
                        return Err(cut_off(
                            source,
                            &format!("its entry {name} lacks the last {missing} bytes"),
                            file_len,
                        ));
                    }
                    return Ok(Place::File(FileRange::new(Arc::clone(&file), start, len)));
                }
                Ok(found.into())
            },
        )
    }

    /// Reads a tar that goes by once, to its end. Small files are kept, and what may be a layer is handed to `take`, which need
    /// not read it. `failed` words an error in reading, by how many bytes were read.
    pub(super) fn pass(
        bytes: impl Read,
        source: &Source,
        failed: impl Fn(io::Error, u64) -> Error,
        take: Take<'_>,
    ) -> Result<Self> {
        let gate = Gate::default();
        let mut tar = tar::Archive::new(Gated { bytes, gate: &gate });
        let index = tar.entries().map_err(|error| failed(error, 0)).and_then(|entries| {
            let mut kept = 0;
            Self::of(
                entries,
                &gate,
                source,
                || gate.read.get(),
                |entry, name, found| {
                    gate.allowance.set(u64::MAX);
                    if entry.header().entry_type().is_gnu_sparse() {
                        // To read over one takes as long as it claims to be.
                        let what =
                            format!("the entry {name} of {source} is a sparse file, which cannot be read as it comes");
                        let hint = "Write the archive again with ordinary files: tar without --sparse.";
                        return Err(Error::input(what).code(Code::ArchiveUnsupported).hint(hint));
                    }
                    let range = match found {
                        Found::File { start, len } => passing::file(entry, name, start, len, &mut kept, take).map(Some),
                        Found::Other(_) => Ok(None),
                    };
                    // What is left of it must go by before the next header comes.
                    let rest = if range.is_ok() { drain(entry) } else { Ok(()) };
                    if gate.at_end.get() {
                        return Err(cut_off(source, &format!("it ends inside its entry {name}"), gate.read.get()));
                    }
                    rest.map_err(|error| failed(error, gate.read.get()))?;
                    Ok(range?.map_or_else(|| found.into(), Place::File))
                },
            )
        });
        // Whoever writes must be able to write all of it, also what stands behind the end.
        gate.allowance.set(u64::MAX);
        let rest = if index.is_ok() { drain(tar.into_inner()) } else { Ok(()) };
        match (gate.failure.take(), rest) {
            (Some(error), _) | (None, Err(error)) => Err(failed(error, gate.read.get())),
            (None, Ok(())) => index,
        }
    }

    /// Goes through the entries. `content` says where the bytes of each are, `len` how many there are in all.
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
            gate.allowance.set(MAX_HEADER);
            let mut entry = match entries.next() {
                None => break,
                Some(Ok(entry)) => entry,
                Some(Err(_)) if gate.at_end.get() => {
                    let how = format!("it ends inside the header after {last}");
                    return Err(cut_off(source, &how, len()));
                }
                Some(Err(error)) => {
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
            let name = entry.path_bytes().into_owned();
            last = shown(&String::from_utf8_lossy(&name));
            let start = entry.raw_file_position();
            let found = judge(&mut entry, start).map_err(|error| {
                Error::input(format!("the entry {last} of {source} is malformed")).because(shown(&error.to_string()))
            })?;
            let place = content(&mut entry, &last, found)?;
            // What is asked for comes out of JSON, so a name that is no UTF-8 or leads outside is never asked for.
            let key = str::from_utf8(&name).ok().and_then(normalise);
            if let (Some(key), false) = (key, matches!(place, Place::Nowhere)) {
                names_len += key.len() + if let Place::Link { target, .. } = &place { target.len() } else { 0 };
                if names_len > MAX_NAMES {
                    return Err(Error::input(format!(
                        "the entries of {source} have names of more than {MAX_NAMES} bytes"
                    ))
                    .code(Code::ArchiveUnsupported));
                }
                // The last of several entries with one name counts: so does tar when it unpacks (`tar --append` updates
                // files that way), and so does Docker, which unpacks an archive before it looks at it. Whoever wrote
                // different contents under one name thus gets here what `docker load` would have given.
                places.insert(key, place);
            }
        }
        Ok(Self { places, len: len(), has_end_mark: !gate.at_end.get() })
    }

    /// The bytes of an entry, with links followed, or `None` if the tar has no such entry.
    pub(super) fn find(&self, name: &str) -> Result<Option<FileRange>> {
        let Some(mut key) = normalise(name) else { return Ok(None) };
        for _ in 0..=MAX_HOPS {
            let (target, base) = match self.places.get(&key) {
                Some(Place::Nowhere) | None => return Ok(None),
                Some(Place::File(range)) => return Ok(Some(range.clone())),
                Some(Place::Unreadable(what)) => {
                    return Err(Error::input(format!(
                        "the entry {} is {what}, which cannot be read in place",
                        shown(&key)
                    ))
                    .code(Code::ArchiveUnsupported)
                    .hint("Write the archive again with ordinary files: tar without --sparse."));
                }
                Some(Place::Link { target, base }) => (target, *base),
            };
            let joined = str::from_utf8(target).ok().filter(|target| !target.starts_with('/')).and_then(|target| {
                let folder = key.rsplit_once('/').map_or("", |(folder, _)| folder);
                normalise(&match base {
                    Base::Archive => target.to_owned(),
                    Base::Folder => format!("{folder}/{target}"),
                })
            });
            key = joined.ok_or_else(|| {
                let target = shown(&String::from_utf8_lossy(target));
                Error::input(format!("the entry {} is a link that leaves the archive, to {target}", shown(&key)))
                    .hint("Links are followed inside the archive only. Write it again with tar --dereference.")
            })?;
        }
        Err(Error::input(format!("the entry {} is a link that leads to no file in {MAX_HOPS} steps", shown(name)))
            .hint("It may lead in a circle. Write the archive again with tar --dereference."))
    }

    /// Whether the tar ends as it should, with a block of zeros. Without one the end may be missing, and only the
    /// contents can tell.
    pub(super) fn has_end_mark(&self) -> bool {
        self.has_end_mark
    }

    /// The error that the tar is shorter than it should be.
    pub(super) fn cut_off(&self, source: &Source, how: &str) -> Error {
        cut_off(source, how, self.len)
    }

    /// The names of all entries, in no order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }
}

/// What an entry is.
fn judge(entry: &mut tar::Entry<'_, impl Read>, start: u64) -> io::Result<Found> {
    let kind = entry.header().entry_type();
    if kind.is_pax_global_extensions() || kind.is_dir() {
        return Ok(Found::Other(Place::Nowhere));
    }
    let len = entry.size();
    let mut sparse = kind.is_gnu_sparse();
    for record in entry.pax_extensions()?.into_iter().flatten() {
        // The tar crate stops looking at the first record that it cannot read, and then believes the header.
        let record = record?;
        sparse |= record.key_bytes().starts_with(b"GNU.sparse.");
        if record.key_bytes() == b"size" && record.value().ok().and_then(|size| size.parse().ok()) != Some(len) {
            return Err(io::Error::other("its PAX records contradict each other about its size"));
        }
    }
    let link = |base, entry: &tar::Entry<'_, _>| {
        let target = entry.link_name_bytes().ok_or_else(|| io::Error::other("it is a link to nothing"))?;
        Ok(Found::Other(Place::Link { target: target.into_owned(), base }))
    };
    if sparse {
        Ok(Found::Other(Place::Unreadable("a sparse file")))
    } else if kind.is_symlink() {
        link(Base::Folder, entry)
    } else if kind.is_hard_link() {
        link(Base::Archive, entry)
    } else if kind.is_file() || kind.is_contiguous() {
        Ok(Found::File { start, len })
    } else {
        Ok(Found::Other(Place::Unreadable("no ordinary file")))
    }
}

/// The name as the table has it: no `./`, no empty parts, `..` resolved. `None` if it leads outside.
fn normalise(name: &str) -> Option<String> {
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

/// The archive is shorter than it says.
fn cut_off(source: &Source, how: &str, file_len: u64) -> Error {
    Error::input(format!("{source} is cut off: {how}")).code(Code::ArchiveDamaged).hint(format!(
        "The tar is {file_len} bytes long. Copy, download or save it again, and see that the disk was not full."
    ))
}

/// Reads on to the end, for nothing.
fn drain(mut bytes: impl Read) -> io::Result<()> {
    io::copy(&mut bytes, &mut io::sink()).map(drop)
}

/// What is seen of a tar's bytes as they are read.
#[derive(Default)]
struct Gate {
    /// How many more may be read.
    allowance: Cell<u64>,
    read: Cell<u64>,
    at_end: Cell<bool>,
    /// Why no more can be read.
    failure: Cell<Option<io::Error>>,
}

/// The bytes, as the tar crate sees them: no more than an allowance at a time, so that a header which claims a name of many
/// gigabytes ends in an error and not in memory.
struct Gated<'a, R> {
    bytes: R,
    gate: &'a Gate,
}

impl<R: Read> Read for Gated<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Gate { allowance, read: so_far, at_end, failure } = self.gate;
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
        Ok(read)
    }
}

impl<R: Seek> Seek for Gated<'_, R> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.bytes.seek(position)
    }
}
