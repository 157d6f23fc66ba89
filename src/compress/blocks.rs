//! A layer that is compressed block by block on the pool's threads, and sent in order.
//!
//! Two threads a layer read, hash and send; the compression itself is done by one [`Pool`] for all layers, so that a single
//! large layer uses every core and several layers share them. The pool bounds the blocks in flight over all layers, and with
//! them the memory: at most (threads + 2) blocks and one a layer, each of 512 KiB, compressed or not; one more for each
//! thread, into which it compresses, and one for each layer, in which compressed blocks are gathered. With the compressors
//! that is 11 MiB for 4 threads and 4 layers.

use std::io::{self, Read};
use std::ops::ControlFlow;

use super::block_compressor::BlockCompressor;
use super::buffer::{BLOCK_SIZE, Buffer, BufferStock};
use super::hash::Hasher;
use super::output::{DataBlock, LayerOutput, LayerSummary};
use super::pool::{Permit, Pool, ThreadPanicked};
use super::sync::{mpsc, spawn_scoped, thread};
use crate::oci::DiffId;

/// A layer's bytes in the archive, read from start to end.
pub(super) struct LayerInput<R> {
    bytes: R,
    len: u64,
    pub(super) position: u64,
}

impl<R: Read> LayerInput<R> {
    pub(super) fn new(bytes: R, len: u64) -> Self {
        Self { bytes, len, position: 0 }
    }

    /// Reads the next block.
    pub(super) fn read(&mut self, stock: &BufferStock) -> io::Result<Buffer> {
        let left = usize::try_from(self.len - self.position).unwrap_or(BLOCK_SIZE);
        let mut block = stock.take();
        block.resize(left.min(BLOCK_SIZE), 0);
        self.bytes.read_exact(&mut block)?;
        self.position += block.len() as u64;
        Ok(block)
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.position == self.len
    }
}

/// Compresses a layer block by block on the pool's threads, and sends the blocks in their order.
///
/// This thread reads and hashes the uncompressed bytes, another hashes and sends the compressed ones: one thread for both
/// took a tenth longer for a layer of 4 GB with zstd, on two cores.
pub(super) fn compress_blocks<C: BlockCompressor, S: FnMut(DataBlock) -> ControlFlow<()> + Send>(
    mut input: LayerInput<impl Read>,
    compressor: C,
    pool: &Pool,
    mut output: LayerOutput<'_, S>,
) -> io::Result<LayerSummary> {
    output.gather(C::HEADER, 0)?;
    let mut uncompressed = Hasher::new();
    let (mut output, checksum) = thread::scope(|scope| {
        let (queue, blocks) = mpsc::channel::<InFlight<'_>>();
        let (sent, has_sent) = mpsc::channel();
        let sender = BlockSender { blocks, output, checksum: crc32fast::Hasher::new(), sent };
        let (hand, handed) = mpsc::channel();
        let sending = spawn_scoped(scope, move || {
            let sender: BlockSender<'_, '_, S> = handed.recv().map_err(io::Error::other)?;
            sender.send_all()
        });
        // Without a thread for it, this one sends, too: whenever it may not read on, and in the end.
        let (sending, mut sender) = match sending {
            Ok(thread) => (Some(thread), hand.send(sender).err().map(|unsent| unsent.0)),
            Err(_) => (None, Some(sender)),
        };
        let (mut in_flight, mut dictionary, mut all_read) = (0, Vec::new(), false);
        while !all_read {
            in_flight -= has_sent.try_iter().count();
            let permit = match in_flight {
                // One block a layer needs no permit, so a layer never waits for another one, however slowly that is sent.
                0 => Some(Permit::own()),
                // Nor does it wait for the permit for an additional one: one of its own comes out first.
                _ => pool.try_permit(),
            };
            let Some(permit) = permit else {
                if let Some(sender) = &mut sender {
                    sender.send_next()?;
                }
                // If nothing comes out any more, the other thread reports why.
                let Ok(()) = has_sent.recv() else { break };
                in_flight -= 1;
                continue;
            };
            let block = input.read(&pool.stock)?;
            let position = input.position;
            all_read = input.is_at_end();
            uncompressed.update(&block);
            let tail = block[block.len().saturating_sub(C::DICTIONARY)..].to_vec();
            let before = std::mem::replace(&mut dictionary, tail);
            let stock = pool.stock.clone();
            let result = pool.run(move || compress_block(compressor, &block, &before, all_read, stock.take()));
            if queue.send(InFlight { result, position, _permit: permit }).is_err() {
                break;
            }
            in_flight += 1;
        }
        drop(queue);
        let panicked = || Err(ThreadPanicked::error("the thread that sends"));
        match (sender, sending) {
            (Some(sender), _) => sender.send_all(),
            (None, Some(sending)) => sending.join().unwrap_or_else(|_| panicked()),
            (None, None) => panicked(),
        }
    })?;
    output.gather(&compressor.trailer(&checksum, input.position), input.position)?;
    output.finish(Some(DiffId::from_hash(uncompressed.finish())))
}

/// Sends compressed blocks, in their order.
struct BlockSender<'p, 'o, S> {
    blocks: mpsc::Receiver<InFlight<'p>>,
    output: LayerOutput<'o, S>,
    checksum: crc32fast::Hasher,
    /// Gets a message for each block that is sent.
    sent: mpsc::Sender<()>,
}

impl<'o, S: FnMut(DataBlock) -> ControlFlow<()>> BlockSender<'_, 'o, S> {
    /// Sends all blocks, until no more come.
    fn send_all(mut self) -> io::Result<(LayerOutput<'o, S>, crc32fast::Hasher)> {
        while self.send_next()? {}
        Ok((self.output, self.checksum))
    }

    /// Sends the next block, unless no more come.
    fn send_next(&mut self) -> io::Result<bool> {
        let Ok(InFlight { result, position, _permit }) = self.blocks.recv() else { return Ok(false) };
        let (compressed, checksum) = result.recv().map_err(|_| ThreadPanicked::error("a compression thread"))??;
        self.checksum.combine(&checksum);
        self.output.gather(&compressed, position)?;
        // The reading thread may be done by now.
        let _receiver_gone = self.sent.send(());
        Ok(true)
    }
}

/// Compresses one block into `compressed`.
fn compress_block(
    compressor: impl BlockCompressor,
    block: &[u8],
    before: &[u8],
    last: bool,
    mut compressed: Buffer,
) -> io::Result<CompressedBlock> {
    compressor.compress(block, before, last, &mut compressed)?;
    Ok((compressed, compressor.checksum(block)))
}

/// A block's compressed bytes, and the checksum of the uncompressed ones.
type CompressedBlock = (Buffer, crc32fast::Hasher);

/// A block that a pool thread is compressing, or has compressed.
struct InFlight<'a> {
    result: mpsc::Receiver<io::Result<CompressedBlock>>,
    position: u64,
    _permit: Permit<'a>,
}
