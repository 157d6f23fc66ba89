//! A layer's bytes, read once: hashed as they lie, packed on all cores, hashed as they will be stored.
//!
//! One driver thread a layer reads and hashes; the packing itself is done by one [`Pool`] for all layers, block by
//! block, so that a single large layer uses every core and several layers share them. Blocks come out in the order in
//! which they went in. The pool bounds the blocks in flight over all layers, and with them the memory: at most
//! (threads + 2) blocks and one a layer, each of 1 MiB plain and no more than that packed.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use bytes::Bytes;
use flate2::write::MultiGzDecoder;

use super::gzip::{self, BLOCK, DICTIONARY};
use super::hash::Hasher;
use super::{FileRange, Packing};
use crate::reference::{DiffId, Digest};

/// What is done to a layer's bytes between the archive and the registry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Recipe {
    /// They go as they lie. With `unpack`, they are unpacked on the side to learn the diff_id.
    Keep {
        /// How the bytes are packed.
        packing: Packing,
        /// Whether to learn the diff_id, which costs a decompression unless they are plain.
        unpack: bool,
    },
    /// A plain layer is packed with gzip.
    Gzip {
        /// 2 to 9: 1 is left out, since with this compressor it packs a fifth worse than 2.
        level: u32,
    },
}

impl Recipe {
    /// How the layer is packed when it arrives.
    pub fn packing(self) -> Packing {
        match self {
            Self::Keep { packing, .. } => packing,
            Self::Gzip { .. } => Packing::Gzip,
        }
    }

    /// The recipe's name and version: equal names give equal bytes for equal input.
    pub fn name(self) -> String {
        match self {
            Self::Keep { .. } => "keep".into(),
            Self::Gzip { level } => format!("{}-{level}", gzip::RECIPE),
        }
    }
}

/// The next bytes to send.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The bytes, as the registry will store them.
    pub bytes: Bytes,
    /// The offset in the archive's bytes up to which these bytes represent the layer.
    pub position: u64,
}

/// What a layer turned out to be, once all of it went by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Packed {
    /// The digest of what was sent.
    pub digest: Digest,
    /// How many bytes were sent.
    pub size: u64,
    /// The hash of the plain bytes, where the recipe learns it.
    pub diff_id: Option<DiffId>,
}

/// Reads `source` from its start to its end, once, and hands what is to be sent to `sink`, in order.
///
/// `sink` may block, which holds back reading and packing; when it breaks, so does this function, with `Interrupted`.
///
/// # Errors
/// What reading the archive gave, or `InvalidData` if the layer cannot be unpacked.
pub fn pack(
    source: &FileRange,
    recipe: Recipe,
    pool: &Pool,
    sink: impl FnMut(Piece) -> ControlFlow<()>,
) -> io::Result<Packed> {
    let out = Out { sink, hasher: Hasher::new(), size: 0 };
    match recipe {
        Recipe::Keep { packing, unpack } => keep(source, packing, unpack, out),
        Recipe::Gzip { level } => gzip_blocks(source, level, pool, out),
    }
}

/// The way out: everything that is sent goes through here once and is hashed here once.
struct Out<S> {
    sink: S,
    hasher: Hasher,
    size: u64,
}

impl<S: FnMut(Piece) -> ControlFlow<()>> Out<S> {
    fn send(&mut self, bytes: Bytes, position: u64) -> io::Result<()> {
        self.hasher.update(&bytes);
        self.size += bytes.len() as u64;
        match (self.sink)(Piece { bytes, position }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(io::ErrorKind::Interrupted.into()),
        }
    }

    fn finish(self, diff_id: Option<DiffId>) -> Packed {
        Packed { digest: Digest::from_hash(self.hasher.finish()), size: self.size, diff_id }
    }
}

fn keep<S: FnMut(Piece) -> ControlFlow<()>>(
    source: &FileRange,
    packing: Packing,
    unpack: bool,
    mut out: Out<S>,
) -> io::Result<Packed> {
    let mut unpacked = (unpack && packing == Packing::Gzip).then(|| MultiGzDecoder::new(Hasher::new()));
    let mut position = 0;
    while position < source.len() {
        let left = usize::try_from(source.len() - position).unwrap_or(BLOCK);
        let mut block = vec![0; left.min(BLOCK)];
        position += source.read_at(position, &mut block)? as u64;
        if let Some(decoder) = &mut unpacked {
            decoder.write_all(&block).map_err(unpackable)?;
        }
        out.send(block.into(), position)?;
    }
    let plain = unpacked.map(MultiGzDecoder::finish).transpose().map_err(unpackable)?;
    let mut packed = out.finish(plain.map(|hasher| DiffId::from_hash(hasher.finish())));
    if packing == Packing::Plain {
        packed.diff_id = Some(DiffId::from_hash(packed.digest.hash()));
    }
    Ok(packed)
}

fn unpackable(error: io::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("its gzip stream is broken or cut off: {error}"))
}

fn gzip_blocks<S: FnMut(Piece) -> ControlFlow<()>>(
    source: &FileRange,
    level: u32,
    pool: &Pool,
    mut out: Out<S>,
) -> io::Result<Packed> {
    let mut plain = Hasher::new();
    let mut crc = crc32fast::Hasher::new();
    let mut in_flight: VecDeque<InFlight<'_>> = VecDeque::new();
    let mut dictionary = Vec::new();
    let mut position = 0;
    let mut all_read = false;
    out.send(Bytes::from_static(&gzip::HEADER), 0)?;
    loop {
        let permit = match (all_read, in_flight.is_empty()) {
            (true, _) => None,
            // One block a layer needs no right, so a layer never waits for another one, however slowly that is sent.
            (false, true) => Some(Permit { pool: None }),
            // Nor does it wait for the right to a further one: it takes one of its own out first.
            (false, false) => pool.try_permit(),
        };
        let Some(permit) = permit else {
            let Some(oldest) = in_flight.pop_front() else { break };
            let deflated = oldest.result.recv().map_err(|_| io::Error::other("a packing thread died"))??;
            crc.combine(&deflated.crc);
            out.send(deflated.packed, oldest.position)?;
            continue;
        };
        let left = usize::try_from(source.len() - position).unwrap_or(BLOCK);
        let mut block = vec![0; left.min(BLOCK)];
        position += source.read_at(position, &mut block)? as u64;
        all_read = position == source.len();
        plain.update(&block);
        let tail = block[block.len().saturating_sub(DICTIONARY)..].to_vec();
        let before = std::mem::replace(&mut dictionary, tail);
        let result = pool.deflate(block, before, all_read, level);
        in_flight.push_back(InFlight { result, position, _permit: permit });
    }
    out.send(Bytes::copy_from_slice(&gzip::trailer(&crc, position)), position)?;
    Ok(out.finish(Some(DiffId::from_hash(plain.finish()))))
}

/// A block that a pool thread is packing, or has packed.
struct InFlight<'a> {
    result: mpsc::Receiver<io::Result<Deflated>>,
    position: u64,
    _permit: Permit<'a>,
}

struct Deflated {
    packed: Bytes,
    crc: crc32fast::Hasher,
}

/// The packing threads: one set for all layers of a push.
#[derive(Debug)]
pub struct Pool {
    jobs: Option<mpsc::Sender<Job>>,
    threads: Vec<thread::JoinHandle<()>>,
    permits: Mutex<usize>,
}

type Job = Box<dyn FnOnce(&mut Vec<u8>) + Send>;

impl Pool {
    /// Starts `threads` packing threads, at least one.
    ///
    /// # Errors
    /// What the operating system says when it starts no thread.
    pub fn start(threads: usize) -> io::Result<Self> {
        let threads = threads.max(1);
        let (jobs, queue) = mpsc::channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        let work = |queue: Arc<Mutex<mpsc::Receiver<Job>>>| {
            let mut scratch = Vec::new();
            loop {
                let next = lock(&queue).recv();
                let Ok(job) = next else { return };
                job(&mut scratch);
            }
        };
        let handles = (0..threads).map(|n| {
            let queue = Arc::clone(&queue);
            thread::Builder::new().name(format!("pack-{n}")).spawn(move || work(queue))
        });
        let handles = handles.collect::<io::Result<_>>()?;
        Ok(Self { jobs: Some(jobs), threads: handles, permits: Mutex::new(threads + 2) })
    }

    /// Hands a block to the pool; the answer comes through the receiver.
    fn deflate(
        &self,
        block: Vec<u8>,
        dictionary: Vec<u8>,
        last: bool,
        level: u32,
    ) -> mpsc::Receiver<io::Result<Deflated>> {
        let (answer, result) = mpsc::sync_channel(1);
        let job: Job = Box::new(move |scratch| {
            let deflated = gzip::deflate(&block, &dictionary, last, level, scratch).map(|()| {
                let mut crc = crc32fast::Hasher::new();
                crc.update(&block);
                Deflated { packed: Bytes::copy_from_slice(scratch), crc }
            });
            // The way out may be blocked for long: until then only the packed bytes are kept.
            drop((block, dictionary));
            // Nobody waits any more if the layer was given up.
            let _given_up = answer.send(deflated);
        });
        if let Some(jobs) = &self.jobs {
            // It fails only if every thread is gone; then the receiver says so.
            let _nobody = jobs.send(job);
        }
        result
    }

    fn try_permit(&self) -> Option<Permit<'_>> {
        let mut free = lock(&self.permits);
        *free = free.checked_sub(1)?;
        Some(Permit { pool: Some(self) })
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            let _panicked = thread.join();
        }
    }
}

/// The right to have one block in flight; without a pool, to have the one that every layer may have.
struct Permit<'a> {
    pool: Option<&'a Pool>,
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some(pool) = self.pool {
            *lock(&pool.permits) += 1;
        }
    }
}

/// A panic while one of these locks was held leaves plain data behind that is still right.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
