//! The compression pool, its buffers and the list of a spooled layer under the orders of threads that a random scheduler
//! finds.
//!
//! The files of `src/compress` and `src/push` are compiled here again, over the locks, channels and threads of the model
//! checker.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]
#![allow(dead_code, unreachable_pub, reason = "parts of these files are for the program alone")]

use shuttle::scheduler::RandomScheduler;
use shuttle::{Config, Runner};

mod oci {
    pub(crate) use ecr_push::{DiffId, Digest};
}

/// Runs `test` under many orders of threads. A deadlock is a panic.
fn check(test: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    config.stack_size = 1 << 20;
    Runner::new(RandomScheduler::new(300), config).run(test);
}

#[path = "../src/compress"]
mod compress {
    mod block_compressor;
    mod blocks;
    mod buffer;
    mod hash;
    mod output;
    mod pool;

    /// Replaces `src/compress/sync.rs`.
    mod sync {
        use std::io;
        use std::sync::PoisonError;

        pub(super) use shuttle::sync::{Arc, Mutex, MutexGuard, mpsc};
        pub(super) use shuttle::thread;
        use shuttle::thread::{Scope, ScopedJoinHandle};

        pub(super) fn spawn_scoped<'scope, T: Send + 'scope>(
            scope: &'scope Scope<'scope, '_>,
            work: impl FnOnce() -> T + Send + 'scope,
        ) -> io::Result<ScopedJoinHandle<'scope, T>> {
            Ok(scope.spawn(work))
        }

        pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
            mutex.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    mod tests {
        use std::io;
        use std::ops::ControlFlow;

        use super::block_compressor::BlockCompressor;
        use super::blocks::{LayerInput, compress_blocks};
        use super::buffer::BLOCK_SIZE;
        use super::output::{DataBlock, LayerOutput, LayerSummary};
        use super::pool::Pool;
        use super::sync::thread;
        use crate::check;
        use crate::oci::{DiffId, Digest};

        /// A compressor whose output is its input.
        #[derive(Clone, Copy)]
        struct Copy;

        impl BlockCompressor for Copy {
            const DICTIONARY: usize = 0;
            const HEADER: &[u8] = b"header";

            fn compress(self, _: &[u8], block: &[u8], _: bool, compressed: &mut Vec<u8>) -> io::Result<()> {
                compressed.extend_from_slice(block);
                Ok(())
            }

            fn trailer(self, _: &crc32fast::Hasher, _: u64) -> Vec<u8> {
                b"trailer".to_vec()
            }
        }

        /// A layer, and what is sent of it.
        struct Layer {
            bytes: Vec<u8>,
            expected: Vec<u8>,
            digest: Digest,
            diff_id: DiffId,
        }

        impl Layer {
            fn new(blocks: usize) -> Self {
                let mut bytes = vec![0; blocks * BLOCK_SIZE];
                bytes.chunks_mut(BLOCK_SIZE).zip(1..).for_each(|(block, n)| block.fill(n));
                bytes.push(9);
                let expected = [b"header", &bytes[..], b"trailer"].concat();
                let (digest, diff_id) = (Digest::of(&expected), DiffId::of(&bytes));
                Self { bytes, expected, digest, diff_id }
            }

            /// Compresses the layer, and stops after so many blocks are sent.
            fn run(&self, pool: &Pool, most: usize) -> (io::Result<LayerSummary>, Vec<u8>) {
                let (mut sent, mut count) = (Vec::new(), 0);
                let sink = |block: DataBlock| {
                    count += 1;
                    sent.extend_from_slice(&block.bytes);
                    if count == most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                };
                let output = LayerOutput::new(sink, &pool.stock);
                let input = LayerInput::new(&self.bytes[..], self.bytes.len() as u64);
                (compress_blocks(input, Copy, pool, output).map(|(summary, _)| summary), sent)
            }

            fn check(&self, pool: &Pool) {
                let (summary, sent) = self.run(pool, usize::MAX);
                assert!(sent == self.expected, "the blocks are not in order");
                let summary = summary.unwrap();
                assert_eq!((summary.digest, summary.diff_id), (self.digest, Some(self.diff_id)));
            }
        }

        #[test]
        fn a_layer_is_sent_in_order() {
            let layer = Layer::new(8);
            check(move || {
                let pool = Pool::start(2);
                layer.check(&pool);
                assert_eq!(pool.permits(), 6, "not every permit came back");
                assert!(pool.stock.capacities().len() <= 11, "more buffers than blocks in flight");
            });
        }

        #[test]
        fn layers_share_one_thread_without_deadlock() {
            let layers = [1, 2, 3].map(Layer::new);
            check(move || {
                let pool = Pool::start(1);
                thread::scope(|scope| {
                    for layer in &layers {
                        let pool = &pool;
                        scope.spawn(move || layer.check(pool));
                    }
                });
                assert_eq!(pool.permits(), 4, "not every permit came back");
            });
        }

        #[test]
        fn a_layer_that_is_given_up_ends_and_leaves_the_pool_usable() {
            let [long, short] = [6, 1].map(Layer::new);
            check(move || {
                let pool = Pool::start(2);
                let (summary, _) = long.run(&pool, 2);
                assert_eq!(summary.unwrap_err().kind(), io::ErrorKind::Interrupted);
                short.check(&pool);
            });
        }
    }
}

#[path = "../src/push"]
mod push {
    mod growing_list;

    /// Replaces `src/push/sync.rs`.
    mod sync {
        pub(super) use std::sync::PoisonError;

        pub(super) use shuttle::sync::{Condvar, Mutex, MutexGuard};
    }

    mod tests {
        use shuttle::sync::{Arc, mpsc};
        use shuttle::thread;

        use super::growing_list::{GrowingList, Next};
        use crate::check;

        /// Reads from the start until an end or an error, and returns the items in front of it.
        fn read(list: &GrowingList<u8, &'static str, &'static str>) -> (Vec<u8>, Result<&'static str, &'static str>) {
            let mut items = Vec::new();
            for index in 0.. {
                match list.wait_for(index) {
                    Ok(Next::Item(item)) => items.push(item),
                    Ok(Next::End(summary)) => return (items, Ok(summary)),
                    Err(error) => return (items, Err(error)),
                }
            }
            unreachable!("a list is finite")
        }

        /// Has two threads read a list while another writes three items and an end.
        fn check_readers(end: Result<&'static str, &'static str>) {
            check(move || {
                let list = Arc::new(GrowingList::new());
                let readers = [(); 2].map(|()| {
                    let list = Arc::clone(&list);
                    thread::spawn(move || read(&list))
                });
                (1..=3).for_each(|item| list.push(item));
                list.finish(end);
                for reader in readers {
                    let (items, found) = reader.join().unwrap();
                    assert_eq!(found, end);
                    assert!([1, 2, 3].starts_with(&items), "the items are out of order");
                    assert!(end.is_err() || items.len() == 3, "a reader got less than all items");
                }
                let late = if end.is_ok() { vec![1, 2, 3] } else { Vec::new() };
                assert_eq!(read(&list), (late, end), "a reader that starts late gets something else");
            });
        }

        #[test]
        fn every_reader_of_a_spooled_layer_gets_all_of_it_in_order() {
            check_readers(Ok("complete"));
        }

        #[test]
        fn every_reader_of_a_spooled_layer_gets_an_item_before_the_next_is_written() {
            check(|| {
                let list = Arc::new(GrowingList::<u8, (), ()>::new());
                let (arrived, arrivals) = mpsc::channel();
                for _ in 0..2 {
                    let (list, arrived) = (Arc::clone(&list), arrived.clone());
                    thread::spawn(move || {
                        for index in 0..3 {
                            arrived.send(list.wait_for(index)).unwrap();
                        }
                    });
                }
                for item in 1..=3 {
                    list.push(item);
                    // A reader that is not woken is a deadlock here.
                    assert_eq!([(); 2].map(|()| arrivals.recv().unwrap()), [Ok(Next::Item(item)); 2]);
                }
            });
        }

        #[test]
        fn every_reader_of_a_spooled_layer_is_woken_by_its_failure() {
            check_readers(Err("the archive is cut off"));
        }
    }
}
