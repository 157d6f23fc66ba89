//! Compression of a layer, block by block on the threads of the pool.
//!
//! Two threads per layer read, hash and send. One [`Pool`] for all layers compresses, so that a single large layer uses every
//! core and several layers share them. The pool limits the blocks in flight of all layers, and so the memory: at most
//! (2 x threads + 2) blocks and one per layer, each of 512 KiB, compressed or not; one more per thread for its output, and one
//! per layer that collects compressed blocks. With the state of the compressors, that is 13 MiB for 4 threads and 4 layers.
//! With (threads + 2) blocks, compression threads run dry while the thread that sends waits for its turn: 700 MB took 5 %
//! longer on two cores. With two more blocks than now they take as long.

use std::io::{self, Read};
use std::ops::ControlFlow;

use super::block_compressor::BlockCompressor;
use super::buffer::{BLOCK_SIZE, Buffer, BufferStock, resize};
use super::hash::Hasher;
use super::output::{BlockStart, DataBlock, LayerOutput, LayerSummary};
use super::pool::{Permit, Pool, ThreadPanicked};
use super::sync::{mpsc, spawn_scoped, thread};
use crate::oci::DiffId;

/// The bytes of a layer in the archive, read from start to end.
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
        resize(&mut block, left.min(BLOCK_SIZE));
        self.bytes.read_exact(&mut block)?;
        self.position += block.len() as u64;
        Ok(block)
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.position == self.len
    }
}

/// Compresses a layer block by block on the threads of the pool, and sends the blocks in order. Returns where each starts, too.
///
/// This thread reads and hashes the uncompressed bytes, another one hashes and sends the compressed bytes. With one thread
/// for both, a layer of 4 GB took 10 % longer with zstd on two cores.
pub(super) fn compress_blocks<C: BlockCompressor, S: FnMut(DataBlock) -> ControlFlow<()> + Send>(
    mut input: LayerInput<impl Read>,
    compressor: C,
    pool: &Pool,
    mut output: LayerOutput<'_, S>,
) -> io::Result<(LayerSummary, Vec<BlockStart>)> {
    output.buffer(C::HEADER, 0)?;
    let mut uncompressed = Hasher::new();
    let (mut output, checksum) = thread::scope(|scope| {
        let (queue, blocks) = mpsc::channel::<InFlight<'_>>();
        let (sent, has_sent) = mpsc::channel();
        let sender = BlockSender { blocks, output, checksum: crc32fast::Hasher::new(), sent };
        let (sender_in, sender_out) = mpsc::channel();
        // With a single block there is nothing to do at the same time, and a run of many images has very many such layers.
        let sending = (input.len > BLOCK_SIZE as u64).then(|| {
            spawn_scoped(scope, move || {
                let sender: BlockSender<'_, '_, S> = sender_out.recv().map_err(io::Error::other)?;
                sender.send_all()
            })
        });
        // If no thread can be started either, this one sends, too: whenever it may not read the next block, and at the end.
        let (sending, mut sender) = match sending {
            Some(Ok(thread)) => (Some(thread), sender_in.send(sender).err().map(|unsent| unsent.0)),
            Some(Err(_)) | None => (None, Some(sender)),
        };
        let (mut in_flight, mut dictionary, mut all_read) = (0, Vec::new(), false);
        while !all_read {
            in_flight -= has_sent.try_iter().count();
            let permit = match in_flight {
                // One block per layer needs no permit, so a layer never waits for another, even if that one is sent slowly.
                0 => Some(Permit::own()),
                // It does not wait for a permit for another block either: its own block in flight completes first.
                _ => pool.try_permit(),
            };
            let Some(permit) = permit else {
                if let Some(sender) = &mut sender {
                    sender.send_next()?;
                }
                // If the other thread has ended, it reports the error.
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
            let result = pool.run(move || {
                let mut compressed = stock.take();
                compressed.clear();
                compressor.compress(&before, &block, all_read, &mut compressed)?;
                Ok((compressed, compressor.checksum(&block)))
            });
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
    output.buffer(&compressor.trailer(&checksum, input.position), input.position)?;
    output.finish(Some(DiffId::from_hash(uncompressed.finish())))
}

/// Sends compressed blocks, in order.
struct BlockSender<'p, 'o, S> {
    blocks: mpsc::Receiver<InFlight<'p>>,
    output: LayerOutput<'o, S>,
    checksum: crc32fast::Hasher,
    /// Receives a message for each block that was sent.
    sent: mpsc::Sender<()>,
}

impl<'o, S: FnMut(DataBlock) -> ControlFlow<()>> BlockSender<'_, 'o, S> {
    /// Sends all blocks.
    fn send_all(mut self) -> io::Result<(LayerOutput<'o, S>, crc32fast::Hasher)> {
        while self.send_next()? {}
        Ok((self.output, self.checksum))
    }

    /// Sends the next block, and returns whether there was one.
    fn send_next(&mut self) -> io::Result<bool> {
        let Ok(InFlight { result, position, _permit }) = self.blocks.recv() else { return Ok(false) };
        let (compressed, checksum) = result.recv().map_err(|_| ThreadPanicked::error("a compression thread"))??;
        self.checksum.combine(&checksum);
        self.output.start_block();
        self.output.buffer(&compressed, position)?;
        // The reading thread may have ended.
        let _receiver_gone = self.sent.send(());
        Ok(true)
    }
}

/// A block's compressed bytes, and the checksum of the uncompressed ones.
type CompressedBlock = (Buffer, crc32fast::Hasher);

/// A block that a pool thread is compressing, or has compressed.
struct InFlight<'a> {
    result: mpsc::Receiver<io::Result<CompressedBlock>>,
    position: u64,
    _permit: Permit<'a>,
}
