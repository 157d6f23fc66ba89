//! Reading a layer once: its bytes are hashed, compressed if requested, and hashed again as the registry will store them.

use std::io::{self, Read, Write as _};
use std::ops::ControlFlow;

use flate2::write::MultiGzDecoder;

use super::Compression;
use super::blocks::{LayerInput, compress_blocks};
use super::gzip::GzipEncoder;
use super::hash::Hasher;
use super::output::{BlockStart, DataBlock, LayerOutput, LayerSummary};
use super::pool::Pool;
use super::zstd::{self, Zstd};
use crate::oci::DiffId;

/// How the bytes of a layer are compressed between the archive and the registry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CompressionSpec {
    /// The layer is pushed unchanged.
    Keep {
        /// The compression of the bytes.
        compression: Compression,
        /// Whether to decompress the bytes as well, to compute the diff_id. Not needed for uncompressed bytes.
        decompress: bool,
    },
    /// An uncompressed layer is compressed with gzip.
    Gzip(GzipEncoder),
    /// An uncompressed layer is compressed with zstd, which Docker 20.10 cannot read; 29 can.
    Zstd {
        /// 1 to 19.
        level: u32,
    },
}

impl CompressionSpec {
    /// Returns the compression of the layer in the registry.
    pub fn compression(self) -> Compression {
        match self {
            Self::Keep { compression, .. } => compression,
            Self::Gzip(_) => Compression::Gzip,
            Self::Zstd { .. } => Compression::Zstd,
        }
    }

    /// Returns the recipe: a name with a version. Equal names give equal bytes for equal input.
    pub fn name(self) -> String {
        match self {
            Self::Keep { .. } => "keep".into(),
            Self::Gzip(encoder) => encoder.name(),
            Self::Zstd { level } => format!("{}-{level}", zstd::VERSION),
        }
    }
}

/// Reads `len` bytes of `source`, once, and passes the bytes to send to `sink`, in order.
///
/// `sink` may block, which pauses reading and compression. If it breaks, this function fails with `Interrupted`.
///
/// # Errors
/// The error of reading the archive, `InvalidData` if the layer cannot be decompressed, and the error of a thread that
/// panicked.
pub fn compress(
    source: impl Read,
    len: u64,
    spec: CompressionSpec,
    pool: &Pool,
    sink: impl FnMut(DataBlock) -> ControlFlow<()> + Send,
) -> io::Result<LayerSummary> {
    compress_indexed(source, len, spec, pool, sink).map(|(summary, _)| summary)
}

/// Does what [`compress`] does, and also returns where each block of a compressed layer starts. A layer that is pushed
/// unchanged has no blocks.
///
/// # Errors
/// Those of [`compress`].
pub fn compress_indexed(
    source: impl Read,
    len: u64,
    spec: CompressionSpec,
    pool: &Pool,
    sink: impl FnMut(DataBlock) -> ControlFlow<()> + Send,
) -> io::Result<(LayerSummary, Vec<BlockStart>)> {
    let input = LayerInput::new(source, len);
    let output = LayerOutput::new(sink, &pool.stock);
    match spec {
        CompressionSpec::Keep { compression, decompress } => keep(input, compression, decompress, pool, output),
        CompressionSpec::Gzip(encoder) => compress_blocks(input, encoder, pool, output),
        CompressionSpec::Zstd { level } => compress_blocks(input, Zstd { level }, pool, output),
    }
}

fn keep<S: FnMut(DataBlock) -> ControlFlow<()>>(
    mut input: LayerInput<impl Read>,
    compression: Compression,
    decompress: bool,
    pool: &Pool,
    mut output: LayerOutput<'_, S>,
) -> io::Result<(LayerSummary, Vec<BlockStart>)> {
    let broken = |error: io::Error| {
        let text = format!("its {} stream is broken or cut off: {error}", compression.name());
        io::Error::new(io::ErrorKind::InvalidData, text)
    };
    let mut decoder = if decompress { DiffIdDecoder::new(compression)? } else { None };
    while !input.is_at_end() {
        let block = input.read(&pool.stock)?;
        if let Some(decoder) = &mut decoder {
            decoder.write(&block).map_err(broken)?;
        }
        output.send(block, input.position)?;
    }
    let hasher = decoder.map(DiffIdDecoder::finish).transpose().map_err(broken)?;
    let (mut summary, blocks) = output.finish(hasher.map(|hasher| DiffId::from_hash(hasher.finish())))?;
    if compression == Compression::Uncompressed {
        summary.diff_id = Some(DiffId::from_hash(summary.digest.hash()));
    }
    Ok((summary, blocks))
}

/// A decoder that hashes the uncompressed bytes of a layer while its compressed bytes arrive.
enum DiffIdDecoder {
    Gzip(Box<MultiGzDecoder<Hasher>>),
    Zstd(zstd::Decoder<Hasher>),
}

impl DiffIdDecoder {
    /// Creates a decoder, or none for uncompressed layers.
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
