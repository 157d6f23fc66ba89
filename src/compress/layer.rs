//! A layer's bytes, read once: hashed as they lie, packed on all cores, hashed as they will be stored.
//!
//! Two threads a layer read, hash and send; the compression itself is done by one [`Pool`] for all layers, block by block, so
//! that a single large layer uses every core and several layers share them. Blocks come out in the order in which they went
//! in. The pool bounds the blocks in flight over all layers, and with them the memory: at most (threads + 2) blocks and one
//! a layer, each of 512 KiB, plain or packed; one more for each thread, into which it packs, and one for each layer, in which
//! packed blocks are gathered. With the compressors that is 11 MiB for 4 threads and 4 layers.

use std::fmt;
use std::io::{self, Read, Write as _};
use std::ops::ControlFlow;
use std::sync::mpsc;
use std::thread;

use bytes::Bytes;
use flate2::write::MultiGzDecoder;

use super::Compression;
use super::buffer::{Buffer, PIECE, Stock};
use super::gzip::{self, Gzip};
use super::hash::Hasher;
use super::pool::{Permit, Pool};
use super::zstd::{self, Zstd};
use crate::oci::{DiffId, Digest};

/// What is done to a layer's bytes between the archive and the registry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CompressionSpec {
    /// They go as they lie. With `unpack`, they are unpacked on the side to learn the diff_id.
    Keep {
        /// How the bytes are packed.
        compression: Compression,
        /// Whether to learn the diff_id, which costs a decompression unless they are plain.
        decompress: bool,
    },
    /// A plain layer is packed with gzip.
    Gzip {
        /// 2 to 9: 1 is left out, since with this compressor it packs a fifth worse than 2.
        level: u32,
    },
    /// A plain layer is packed with zstd, which Docker 20.10 cannot read; 29 can.
    Zstd {
        /// 1 to 19; [`ZSTD_LEVEL`](super::ZSTD_LEVEL) is a good one.
        level: u32,
    },
}

impl CompressionSpec {
    /// How the layer is packed when it arrives.
    pub fn compression(self) -> Compression {
        match self {
            Self::Keep { compression, .. } => compression,
            Self::Gzip { .. } => Compression::Gzip,
            Self::Zstd { .. } => Compression::Zstd,
        }
    }

    /// The recipe's name and version: equal names give equal bytes for equal input.
    pub fn name(self) -> String {
        match self {
            Self::Keep { .. } => "keep".into(),
            Self::Gzip { level } => format!("{}-{level}", gzip::RECIPE),
            Self::Zstd { level } => format!("{}-{level}", zstd::RECIPE),
        }
    }
}

/// The next bytes to send.
#[derive(Clone, Debug)]
pub struct DataBlock {
    /// The bytes, as the registry will store them.
    pub bytes: Bytes,
    /// The offset in the archive's bytes up to which these bytes represent the layer.
    pub position: u64,
}

/// What a layer turned out to be, once all of it went by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LayerSummary {
    /// The digest of what was sent.
    pub digest: Digest,
    /// How many bytes were sent.
    pub size: u64,
    /// The hash of the plain bytes, where the recipe learns it.
    pub diff_id: Option<DiffId>,
}

/// A thread of ours died of a panic, and a layer with it: no fault of the layer's.
#[derive(Debug)]
pub struct ThreadPanicked(&'static str);

impl ThreadPanicked {
    /// Whether that is what an error tells.
    pub fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }
}

impl fmt::Display for ThreadPanicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} died", self.0)
    }
}

impl std::error::Error for ThreadPanicked {}

/// Reads `len` bytes of `source`, once, and hands what is to be sent to `sink`, in order.
///
/// `sink` may block, which holds back reading and compression; when it breaks, so does this function, with `Interrupted`.
///
/// # Errors
/// What reading the archive gave, `InvalidData` if the layer cannot be unpacked, or [`ThreadPanicked`].
pub fn compress(
    source: impl Read,
    len: u64,
    recipe: CompressionSpec,
    pool: &Pool,
    sink: impl FnMut(DataBlock) -> ControlFlow<()> + Send,
) -> io::Result<LayerSummary> {
    let stock = &pool.stock;
    let source = Source { bytes: source, len, position: 0 };
    let out = Out { sink, hasher: Hasher::new(), size: 0, stock, gathered: None, position: 0 };
    match recipe {
        CompressionSpec::Keep { compression, decompress } => keep(source, compression, decompress, out),
        CompressionSpec::Gzip { level } => in_blocks(source, Gzip { level }, pool, out),
        CompressionSpec::Zstd { level } => in_blocks(source, Zstd { level }, pool, out),
    }
}

/// The way out: everything that is sent goes through here once and is hashed here once.
struct Out<'a, S> {
    sink: S,
    hasher: Hasher,
    size: u64,
    stock: &'a Stock,
    /// What was packed and does not fill a piece yet.
    gathered: Option<Buffer>,
    /// What all that was handed in stands for.
    position: u64,
}

impl<S: FnMut(DataBlock) -> ControlFlow<()>> Out<'_, S> {
    /// Sends a piece.
    fn send(&mut self, bytes: Buffer, position: u64) -> io::Result<()> {
        self.hasher.update(&bytes);
        self.size += bytes.len() as u64;
        self.position = position;
        match (self.sink)(DataBlock { bytes: bytes.into(), position }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(io::ErrorKind::Interrupted.into()),
        }
    }

    /// Sends as many whole pieces as there are, and keeps the rest.
    fn gather(&mut self, mut bytes: &[u8], position: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut gathered = self.gathered.take().unwrap_or_else(|| {
                let mut buffer = self.stock.take();
                buffer.clear();
                buffer
            });
            let (now, later) = bytes.split_at(bytes.len().min(PIECE - gathered.len()));
            gathered.extend_from_slice(now);
            if gathered.len() == PIECE {
                // As far as these bytes go, were all of the block alike.
                let so_far = (position - self.position) * now.len() as u64 / bytes.len() as u64;
                self.send(gathered, self.position + so_far)?;
            } else {
                self.gathered = Some(gathered);
            }
            bytes = later;
        }
        self.position = position;
        Ok(())
    }

    fn finish(mut self, diff_id: Option<DiffId>) -> io::Result<LayerSummary> {
        if let Some(rest) = self.gathered.take() {
            self.send(rest, self.position)?;
        }
        Ok(LayerSummary { digest: Digest::from_hash(self.hasher.finish()), size: self.size, diff_id })
    }
}

/// A layer's bytes, as far as they are read.
struct Source<R> {
    bytes: R,
    len: u64,
    position: u64,
}

impl<R: Read> Source<R> {
    /// The next piece.
    fn read(&mut self, stock: &Stock) -> io::Result<Buffer> {
        let left = usize::try_from(self.len - self.position).unwrap_or(PIECE);
        let mut piece = stock.take();
        piece.resize(left.min(PIECE), 0);
        self.bytes.read_exact(&mut piece)?;
        self.position += piece.len() as u64;
        Ok(piece)
    }

    fn is_at_end(&self) -> bool {
        self.position == self.len
    }
}

fn keep<S: FnMut(DataBlock) -> ControlFlow<()>>(
    mut source: Source<impl Read>,
    compression: Compression,
    decompress: bool,
    mut out: Out<'_, S>,
) -> io::Result<LayerSummary> {
    let mut unpacker = if decompress { Unpacker::new(compression)? } else { None };
    while !source.is_at_end() {
        let piece = source.read(out.stock)?;
        if let Some(unpacker) = &mut unpacker {
            unpacker.write(&piece).map_err(|error| unpackable(compression, &error))?;
        }
        out.send(piece, source.position)?;
    }
    let plain = unpacker.map(Unpacker::finish).transpose().map_err(|error| unpackable(compression, &error))?;
    let mut packed = out.finish(plain.map(|hasher| DiffId::from_hash(hasher.finish())))?;
    if compression == Compression::Uncompressed {
        packed.diff_id = Some(DiffId::from_hash(packed.digest.hash()));
    }
    Ok(packed)
}

/// Hashes what a packed layer unpacks to, as its bytes go by.
enum Unpacker {
    Gzip(Box<MultiGzDecoder<Hasher>>),
    Zstd(zstd::Decoder<Hasher>),
}

impl Unpacker {
    /// None for what is not packed.
    fn new(compression: Compression) -> io::Result<Option<Self>> {
        Ok(match compression {
            Compression::Uncompressed => None,
            Compression::Gzip => Some(Self::Gzip(Box::new(MultiGzDecoder::new(Hasher::new())))),
            Compression::Zstd => Some(Self::Zstd(zstd::Decoder::new(Hasher::new())?)),
        })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Gzip(decoder) => decoder.write_all(bytes),
            Self::Zstd(decoder) => decoder.write(bytes),
        }
    }

    fn finish(self) -> io::Result<Hasher> {
        match self {
            Self::Gzip(decoder) => decoder.finish(),
            Self::Zstd(decoder) => decoder.finish(),
        }
    }
}

fn unpackable(compression: Compression, error: &io::Error) -> io::Error {
    let text = format!("its {} stream is broken or cut off: {error}", compression.name());
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Packs a layer in blocks, each on its own on the pool's threads, and sends them in the order in which they lie.
///
/// This thread reads and hashes the plain bytes, another hashes and sends the packed ones: one for both took a tenth longer
/// for a layer of 4 GB with zstd, on two cores.
fn in_blocks<E: Engine, S: FnMut(DataBlock) -> ControlFlow<()> + Send>(
    mut source: Source<impl Read>,
    engine: E,
    pool: &Pool,
    mut out: Out<'_, S>,
) -> io::Result<LayerSummary> {
    if E::MEMBER {
        out.gather(&gzip::HEADER, 0)?;
    }
    let mut plain = Hasher::new();
    let (mut out, crc) = thread::scope(|scope| {
        let (queue, blocks) = mpsc::channel::<InFlight<'_>>();
        let (sent, has_sent) = mpsc::channel();
        let outlet = Outlet { blocks, out, crc: crc32fast::Hasher::new(), sent };
        let (hand, handed) = mpsc::channel();
        let sending = thread::Builder::new().spawn_scoped(scope, move || {
            let outlet: Outlet<'_, '_, S> = handed.recv().map_err(io::Error::other)?;
            outlet.send_all()
        });
        // Without a thread for it, this one sends, too: whenever it may not read on, and in the end.
        let (sending, mut outlet) = match sending {
            Ok(thread) => (Some(thread), hand.send(outlet).err().map(|unsent| unsent.0)),
            Err(_) => (None, Some(outlet)),
        };
        let (mut in_flight, mut dictionary, mut all_read) = (0, Vec::new(), false);
        while !all_read {
            in_flight -= has_sent.try_iter().count();
            let permit = match in_flight {
                // One block a layer needs no right, so a layer never waits for another one, however slowly that is sent.
                0 => Some(Permit::own()),
                // Nor does it wait for the right to a further one: one of its own comes out first.
                _ => pool.try_permit(),
            };
            let Some(permit) = permit else {
                if let Some(outlet) = &mut outlet {
                    outlet.send_next()?;
                }
                // If nothing comes out any more, the other thread says why.
                let Ok(()) = has_sent.recv() else { break };
                in_flight -= 1;
                continue;
            };
            let block = source.read(&pool.stock)?;
            let position = source.position;
            all_read = source.is_at_end();
            plain.update(&block);
            let tail = block[block.len().saturating_sub(E::DICTIONARY)..].to_vec();
            let before = std::mem::replace(&mut dictionary, tail);
            let packed = pool.stock.clone();
            let result = pool.run(move || one_block(engine, &block, &before, all_read, packed.take()));
            if queue.send(InFlight { result, position, _permit: permit }).is_err() {
                break;
            }
            in_flight += 1;
        }
        drop(queue);
        match (outlet, sending) {
            (Some(outlet), _) => outlet.send_all(),
            (None, Some(sending)) => {
                sending.join().unwrap_or_else(|_| Err(io::Error::other(ThreadPanicked("the thread that sends"))))
            }
            (None, None) => Err(io::Error::other(ThreadPanicked("the thread that sends"))),
        }
    })?;
    if E::MEMBER {
        out.gather(&gzip::trailer(&crc, source.position), source.position)?;
    }
    out.finish(Some(DiffId::from_hash(plain.finish())))
}

/// Sends packed blocks, in their order.
struct Outlet<'p, 'o, S> {
    blocks: mpsc::Receiver<InFlight<'p>>,
    out: Out<'o, S>,
    crc: crc32fast::Hasher,
    /// Gets a word for each block that is sent.
    sent: mpsc::Sender<()>,
}

impl<'o, S: FnMut(DataBlock) -> ControlFlow<()>> Outlet<'_, 'o, S> {
    /// Sends all blocks, until no more come.
    fn send_all(mut self) -> io::Result<(Out<'o, S>, crc32fast::Hasher)> {
        while self.send_next()? {}
        Ok((self.out, self.crc))
    }

    /// Sends the next block, unless no more come.
    fn send_next(&mut self) -> io::Result<bool> {
        let Ok(InFlight { result, position, _permit }) = self.blocks.recv() else { return Ok(false) };
        let block = result.recv().map_err(|_| io::Error::other(ThreadPanicked("a compression thread")))??;
        self.crc.combine(&block.crc);
        self.out.gather(&block.packed, position)?;
        // All may be read by now.
        let _nobody = self.sent.send(());
        Ok(true)
    }
}

/// Packs one block into `packed`.
fn one_block<E: Engine>(engine: E, block: &[u8], before: &[u8], last: bool, mut packed: Buffer) -> io::Result<Block> {
    engine.pack(block, before, last, &mut packed)?;
    let mut crc = crc32fast::Hasher::new();
    if E::MEMBER {
        crc.update(block);
    }
    Ok(Block { packed, crc })
}

/// A way of compression a layer in blocks of [`PIECE`] plain bytes.
pub(super) trait Engine: Copy + Send + 'static {
    /// How many of the bytes before it a block is given to refer to.
    const DICTIONARY: usize;
    /// Whether the packed blocks stand in one gzip member, or are whole without one.
    const MEMBER: bool;

    /// Packs `block` into `packed`, which is emptied first and keeps its capacity from block to block. The bytes are
    /// a function of the arguments alone, or the same layer would get another digest on another day.
    ///
    /// # Errors
    /// Only if the compressor breaks its own contract.
    fn pack(self, block: &[u8], before: &[u8], last: bool, packed: &mut Vec<u8>) -> io::Result<()>;
}

/// A block that a pool thread is compression, or has packed.
struct InFlight<'a> {
    result: mpsc::Receiver<io::Result<Block>>,
    position: u64,
    _permit: Permit<'a>,
}

struct Block {
    packed: Buffer,
    crc: crc32fast::Hasher,
}

#[cfg(test)]
mod tests;
