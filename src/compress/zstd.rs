//! zstd in frames that are compressed independently: together they are one stream, the same bytes whatever the number of
//! threads.
//!
//! Each block of 512 KiB becomes a frame of its own that states its length and refers to nothing before it. RFC 8878, 3.1
//! makes any number of frames one stream, and podman's zstd:chunked layers are many frames too; `zstd -d` and skopeo were
//! tried on it. A decoder needs no more memory than one block, and every frame gets a fresh compressor, so the bytes depend
//! on nothing but the input and the version of libzstd. Blocks of 1 MiB come out 1 % smaller and take twice the memory.

use std::io;

use zstd::bulk::Compressor;
use zstd::stream::raw::{self, DParameter, InBuffer, Operation as _, OutBuffer};

use super::block_compressor::BlockCompressor;

/// The name of what these bytes follow. It changes when the bytes for the same input change.
pub(super) const VERSION: &str = "zstd/2";

/// The default level. Of 700 MB of files of a Debian system, in blocks of 1 MiB, level 1 makes
/// 283 MB, 2 makes 270 MB, 3 makes 261 MB, in 1.5, 1.7 and 2.1 s of CPU with all hashing. gzip makes 297 MB of it in 4.5 s.
pub(crate) const DEFAULT_LEVEL: u32 = 2;

/// The largest window that is decompressed: 128 MiB, the most that `zstd -d` accepts by default. A frame may ask for
/// terabytes, and whoever wrote the layer decides.
pub(super) const WINDOW_LOG_MAX: u32 = 27;

/// zstd by the reference library.
#[derive(Clone, Copy)]
pub(super) struct Zstd {
    pub(super) level: u32,
}

impl BlockCompressor for Zstd {
    const DICTIONARY: usize = 0;

    fn compress(self, block: &[u8], _before: &[u8], _last: bool, compressed: &mut Vec<u8>) -> io::Result<()> {
        compressed.clear();
        compressed.reserve(zstd::compress_bound(block.len()));
        let level = i32::try_from(self.level).map_err(io::Error::other)?;
        // No checksum: the registry and every puller check the digest, and the diff_id behind it.
        Compressor::new(level)?.compress_to_buffer(block, compressed)?;
        Ok(())
    }
}

/// Decompresses a stream of any number of frames, also skippable ones, into `to` as it arrives.
///
/// The crate's own writer takes a stream for cut off whose last bytes yield more than its buffer holds.
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
        // After the last byte of input there is more output as long as the buffer was filled. Where a frame ends (0),
        // there is none: asking again would begin the next frame.
        let mut more = false;
        while more || input.pos() < input.src.len() {
            let mut output = OutBuffer::around(&mut self.buffer[..]);
            self.at_end = self.decoder.run(&mut input, &mut output)? == 0;
            more = !self.at_end && output.pos() == output.capacity();
            self.to.write_all(output.as_slice())?;
        }
        Ok(())
    }

    /// Returns what everything was written to.
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

    fn decompress(packed: &[u8], piece: usize) -> io::Result<Vec<u8>> {
        let mut decoder = Decoder::new(Vec::new())?;
        packed.chunks(piece).try_for_each(|piece| decoder.write(piece))?;
        decoder.finish()
    }

    fn pack(plain: &[u8], level: u32) -> Vec<u8> {
        let (mut stream, mut packed) = (Vec::new(), Vec::new());
        for block in plain.chunks(BLOCK_SIZE) {
            Zstd { level }.compress(block, &[], false, &mut packed).unwrap();
            stream.extend_from_slice(&packed);
        }
        stream
    }

    #[test]
    fn many_frames_are_one_stream_however_it_is_cut() {
        let plain = sample();
        let mut packed = pack(&plain, 3);
        // A skippable frame, as zstd:chunked puts in (RFC 8878, 3.1.2).
        packed.extend([0x5e, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
        packed.extend(pack(b"the end", 3));
        let expected = [&plain[..], b"the end"].concat();
        for piece in [1, 7, 4096, packed.len()] {
            assert!(decompress(&packed, piece).unwrap() == expected, "in pieces of {piece}");
        }
        assert!(zstd::stream::decode_all(&packed[..]).unwrap() == expected);
    }

    #[test]
    fn a_stream_that_is_cut_off_or_broken_is_an_error() {
        let mut packed = pack(&sample(), 1);
        for cut in [0, 3, packed.len() / 2, packed.len() - 1] {
            assert_eq!(
                decompress(&packed[..cut], 4096).unwrap_err().kind(),
                io::ErrorKind::UnexpectedEof,
                "cut at {cut}"
            );
        }
        packed.extend(b"what is no frame");
        decompress(&packed, 4096).unwrap_err();
    }

    #[test]
    fn a_window_above_the_limit_is_rejected_before_it_is_allocated() {
        // A header without a length, then its window: 2^(10 + exponent) bytes (RFC 8878, 3.1.1.1.2); one empty block.
        let frame = |exponent: u8| [0x28, 0xb5, 0x2f, 0xfd, 0, exponent << 3, 1, 0, 0];
        assert!(decompress(&frame(17), 9).unwrap().is_empty());
        let refused = decompress(&frame(18), 9).unwrap_err().to_string();
        assert!(refused.contains("too much memory"), "{refused}");
    }

    /// If this fails, the compressor's output has changed: give [`VERSION`] a new number and take over the new digests.
    #[test]
    fn equal_versions_give_equal_bytes() {
        let digests = [1, 2, 3, 9].map(|level| crate::oci::Digest::of(&pack(&sample(), level)).short());
        assert_eq!(
            (VERSION, digests.join(" ").as_str()),
            ("zstd/2", "sha256:dc9653cc26e3 sha256:7e32fddb13b7 sha256:8f7096c98659 sha256:140ba119648d")
        );
    }
}
