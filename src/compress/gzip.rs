//! gzip in independently compressed blocks that form one member: the same bytes for any number of threads.
//!
//! It works like pigz: each block of 512 KiB is deflated separately, with the 32 KiB before it as the dictionary, and ends on
//! a byte boundary (a sync flush). So the compressed blocks form one deflate stream, and a reader can start at each of them.
//! Inside a block, incompressible data is stored. There is a single member, since some readers silently stop after the first.
//! The result depends on the uncompressed bytes alone: they decide where blocks begin, and no block affects the next one.
//!
//! The block size is part of the recipe: another size gives other digests. Blocks of 1 or 4 MiB are not smaller when
//! compressed, since each has its dictionary, and use more memory.

use std::cell::RefCell;
use std::io;

use super::block_compressor::BlockCompressor;
use super::buffer::max_compressed_len;
use super::deflate::{Encoder, WINDOW};
use super::zlib;

/// The name of what [`GzipEncoder::Own`] writes. It changes when the bytes for the same input change.
const OWN_VERSION: &str = "gzip/3";

/// The name of what [`GzipEncoder::Zlib`] writes, to which the level is added. It changes when the bytes for the same input
/// change.
const ZLIB_VERSION: &str = "gzip/2";

/// The member's header: deflate, no name, no time, unknown operating system (RFC 1952, 2.3).
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// The encoder of gzip. Each gives other bytes for the same input.
///
/// ```
/// # use ecr_push::sandbox::{self, Sandbox};
/// use ecr_push::{CancellationToken, CompressionPolicy, GzipEncoder, Options, PushRequest, Pusher, Source};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ecr_push::Result<()> {
/// # let create = vec!["team/app".parse()?];
/// # let sandbox = Sandbox::start(sandbox::Options { create, ..Default::default() }).await?;
/// # let mut options = Options::default();
/// # options.registries.access = sandbox.endpoint_override().into();
/// // The image gets the digest that version 0.1 gives it.
/// options.layers.compression = CompressionPolicy::Usual(GzipEncoder::Zlib { level: 2 });
/// let pusher = Pusher::builder().options(options).start().await?;
/// let archive = Source::Path("testdata/docker-20.10-save.tar".into());
/// let request = PushRequest::new(archive, ["team/app:1".parse()?]);
/// let outcome = pusher.push(request, CancellationToken::new()).await.into_result()?;
/// let reference = &outcome.targets[0].references()[0];
/// assert!(reference.ends_with("@sha256:87b5f530817158683c28a69a5e7701c1f5c951a474609dc58afba93084d2bbd5"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum GzipEncoder {
    /// That of this crate, which has no levels.
    #[default]
    Own,
    /// zlib-rs. Level 2 was the default of version 0.1.
    Zlib {
        /// 1 to 9.
        level: u32,
    },
}

impl GzipEncoder {
    /// Returns the name and version. Equal names give equal bytes for equal input.
    pub(super) fn name(self) -> String {
        match self {
            Self::Own => OWN_VERSION.into(),
            Self::Zlib { level } => format!("{ZLIB_VERSION}-{level}"),
        }
    }
}

thread_local! {
    /// The encoder of this thread: memory that is reused for each block.
    static ENCODER: RefCell<Box<Encoder>> = RefCell::new(Encoder::new());
}

impl BlockCompressor for GzipEncoder {
    const DICTIONARY: usize = WINDOW;
    const HEADER: &[u8] = &HEADER;

    fn compress(self, dictionary: &[u8], block: &[u8], last: bool, compressed: &mut Vec<u8>) -> io::Result<()> {
        compressed.reserve_exact(max_compressed_len(block.len()));
        match self {
            Self::Own => {
                ENCODER.with_borrow_mut(|encoder| encoder.compress(dictionary, block, last, compressed));
                Ok(())
            }
            Self::Zlib { level } => zlib::compress(dictionary, block, last, level, compressed),
        }
    }

    fn checksum(self, block: &[u8]) -> crc32fast::Hasher {
        let mut crc = crc32fast::Hasher::new();
        crc.update(block);
        crc
    }

    /// Returns the CRC-32 and the length of all uncompressed bytes (RFC 1952, 2.3.1).
    fn trailer(self, checksum: &crc32fast::Hasher, len: u64) -> Vec<u8> {
        // The length is modulo 2^32.
        [checksum.clone().finalize().to_le_bytes(), (len as u32).to_le_bytes()].concat()
    }
}

#[cfg(test)]
pub(super) mod tests;
