//! zstd in independently compressed frames that form one stream: the same bytes for any number of threads.
//!
//! Each block of 512 KiB becomes a frame that states its length and does not refer to earlier frames. By RFC 8878, 3.1, any
//! number of frames is one stream, and podman's zstd:chunked layers have many frames, too; `zstd -d` and skopeo were tested
//! with it. A decoder needs the memory of one block. Each frame has a new compressor, so the bytes depend only on the input
//! and the version of libzstd. Blocks of 1 MiB give 1 % smaller results and need twice the memory.

use std::io;

use zstd::bulk::Compressor;
use zstd::stream::raw::{self, DParameter, InBuffer, Operation as _, OutBuffer};

use super::block_compressor::BlockCompressor;

/// The name of this format. It changes when the bytes for the same input change.
pub(super) const VERSION: &str = "zstd/2";

/// The default level. 700 MB of files of a Debian system, in blocks of 1 MiB, become 283 MB at level 1, 270 MB at level 2 and
/// 261 MB at level 3, in 1.5, 1.7 and 2.1 s of CPU with all hashing. With gzip they become 297 MB in 4.5 s.
pub(crate) const DEFAULT_LEVEL: u32 = 2;

/// The limit for the window of a frame, as a power of two: 128 MiB, as in `zstd -d`. Otherwise the author of a layer could
/// make the decoder allocate terabytes.
pub(super) const WINDOW_LOG_MAX: u32 = 27;

/// zstd by the reference library.
#[derive(Clone, Copy)]
pub(super) struct Zstd {
    pub(super) level: u32,
}

impl BlockCompressor for Zstd {
    const DICTIONARY: usize = 0;

    fn compress(self, _dictionary: &[u8], block: &[u8], _last: bool, compressed: &mut Vec<u8>) -> io::Result<()> {
        compressed.reserve(zstd::compress_bound(block.len()));
        let level = i32::try_from(self.level).map_err(io::Error::other)?;
        // No checksum: the registry and every client verify the digest, and clients the diff_id.
        Compressor::new(level)?.compress_to_buffer(block, compressed)?;
        Ok(())
    }
}

/// A decoder of any number of frames, including skippable ones, that writes to `to` while the stream arrives.
///
/// The crate's own writer is not used: if the last bytes expand to more than its buffer, it reports that the stream is cut
/// off.
pub(super) struct Decoder<W> {
    decoder: raw::Decoder<'static>,
    buffer: Vec<u8>,
    at_end: bool,
    to: W,
}

impl<W: io::Write> Decoder<W> {
    /// Creates a decoder at the start of a stream.
    ///
    /// # Errors
    /// If there is no memory for a decoder.
    pub(super) fn new(to: W) -> io::Result<Self> {
        let mut decoder = raw::Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
        Ok(Self { decoder, buffer: vec![0; zstd::zstd_safe::DCtx::out_size()], at_end: false, to })
    }

    /// Decompresses the next bytes.
    ///
    /// # Errors
    /// If they are not zstd, or a frame needs more memory than the limit.
    pub(super) fn write(&mut self, compressed: &[u8]) -> io::Result<()> {
        let mut input = InBuffer::around(compressed);
        // After the last byte of input there is more output as long as the buffer was full. At the end of a frame (0) there
        // is none: another call would start the next frame.
        let mut more = false;
        while more || input.pos() < input.src.len() {
            let mut output = OutBuffer::around(&mut self.buffer[..]);
            self.at_end = self.decoder.run(&mut input, &mut output)? == 0;
            more = !self.at_end && output.pos() == output.capacity();
            self.to.write_all(output.as_slice())?;
        }
        Ok(())
    }

    /// Returns the writer.
    ///
    /// # Errors
    /// `UnexpectedEof` if the last frame has not ended.
    pub(super) fn finish(self) -> io::Result<W> {
        if self.at_end { Ok(self.to) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::buffer::BLOCK_SIZE;
    use super::super::gzip::tests::sample;
    use super::*;

    fn decompress(compressed: &[u8], chunk_size: usize) -> io::Result<Vec<u8>> {
        let mut decoder = Decoder::new(Vec::new())?;
        compressed.chunks(chunk_size).try_for_each(|chunk| decoder.write(chunk))?;
        decoder.finish()
    }

    fn compress(bytes: &[u8], level: u32) -> Vec<u8> {
        let mut stream = Vec::new();
        for block in bytes.chunks(BLOCK_SIZE) {
            let mut frame = Vec::new();
            Zstd { level }.compress(&[], block, false, &mut frame).unwrap();
            stream.extend_from_slice(&frame);
        }
        stream
    }

    #[test]
    fn many_frames_are_one_stream_for_any_chunk_size() {
        let bytes = sample();
        let mut compressed = compress(&bytes, 3);
        // A skippable frame, as in zstd:chunked (RFC 8878, 3.1.2).
        compressed.extend([0x5e, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
        compressed.extend(compress(b"the end", 3));
        let expected = [&bytes[..], b"the end"].concat();
        for chunk_size in [1, 7, 4096, compressed.len()] {
            assert!(decompress(&compressed, chunk_size).unwrap() == expected, "in chunks of {chunk_size}");
        }
        assert!(zstd::stream::decode_all(&compressed[..]).unwrap() == expected);
    }

    #[test]
    fn a_stream_that_is_cut_off_or_broken_is_an_error() {
        let mut compressed = compress(&sample(), 1);
        for cut in [0, 3, compressed.len() / 2, compressed.len() - 1] {
            assert_eq!(
                decompress(&compressed[..cut], 4096).unwrap_err().kind(),
                io::ErrorKind::UnexpectedEof,
                "cut at {cut}"
            );
        }
        compressed.extend(b"not a frame");
        decompress(&compressed, 4096).unwrap_err();
    }

    #[test]
    fn a_window_above_the_limit_is_rejected_before_it_is_allocated() {
        // A header without a length, then its window: 2^(10 + exponent) bytes (RFC 8878, 3.1.1.1.2); one empty block.
        let frame = |exponent: u8| [0x28, 0xb5, 0x2f, 0xfd, 0, exponent << 3, 1, 0, 0];
        assert!(decompress(&frame(17), 9).unwrap().is_empty());
        let error = decompress(&frame(18), 9).unwrap_err().to_string();
        assert!(error.contains("too much memory"), "{error}");
    }

    /// If this fails, the compressor's output has changed: give [`VERSION`] a new number, and use the new digests here.
    #[test]
    fn equal_versions_give_equal_bytes() {
        let digests = [1, 2, 3, 9].map(|level| crate::oci::Digest::of(&compress(&sample(), level)).short());
        assert_eq!(
            (VERSION, digests.join(" ").as_str()),
            ("zstd/2", "sha256:dc9653cc26e3 sha256:7e32fddb13b7 sha256:8f7096c98659 sha256:140ba119648d")
        );
    }
}
