//! gzip by Intel's ISA-L, on x86-64 and with the feature `isal` only: four times as fast as the portable way, for 2 %
//! more bytes.
//!
//! The form is that of [`super::gzip`], from another compressor and so under another name. ISA-L picks its code by the
//! CPU; on levels 1 and 2 all of it gives the same bytes (`.ci/isal` tries a Nehalem and a Haswell), on level 3 it does
//! not. Level 0 has one table for all bytes, with which noise grows by a quarter.
//!
//! This is the one file with unsafe code: isal-sys binds the C functions as they are, and the safe crate above it
//! closes the deflate stream with every call. What has to hold is said where it is unsafe.

#![allow(unsafe_code, reason = "calls a C library; the program denies it everywhere else")]

use std::io;

use isal_sys::igzip_lib as c;

use super::buffer::{PIECE, worst};
use super::gzip;
use super::pack::Engine;

/// The name of the recipe that these bytes follow. It changes when the bytes for the same input change.
pub(super) const RECIPE: &str = "gzip-isal/1";

/// The level that is taken where none is asked for: 1 is hardly faster and makes 1 % more bytes.
pub const LEVEL: u32 = 2;

/// Plain bytes to a block. Part of the recipe: another size gives other digests.
const BLOCK: usize = PIECE;

/// gzip by ISA-L.
#[derive(Clone, Copy)]
pub(super) struct Isal {
    pub(super) level: u32,
}

impl Engine for Isal {
    const DICTIONARY: usize = gzip::DICTIONARY;
    const MEMBER: bool = true;

    fn pack(self, block: &[u8], before: &[u8], last: bool, packed: &mut Vec<u8>) -> io::Result<()> {
        packed.clear();
        deflate(block, before, last, self.level, packed)
    }
}

/// Deflates `block` to the end of `packed`, up to a byte boundary or, if it is the last, to the stream's end.
fn deflate(block: &[u8], before: &[u8], last: bool, level: u32, packed: &mut Vec<u8>) -> io::Result<()> {
    let room = match level {
        1 => c::ISAL_DEF_LVL1_DEFAULT,
        2 => c::ISAL_DEF_LVL2_DEFAULT,
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "ISA-L packs with level 1 or 2")),
    };
    // Both are fresh for every block, so that nothing of another block can show in the bytes.
    let mut room = vec![0_u8; room as usize];
    // SAFETY: a C struct of numbers, arrays of numbers and pointers that may be null; all zeros is a value of it.
    let mut stream: Box<c::isal_zstream> = Box::new(unsafe { std::mem::zeroed() });
    // SAFETY: it writes to the struct it is given, and keeps nothing.
    unsafe { c::isal_deflate_init(&raw mut *stream) };
    stream.level = level;
    stream.level_buf = room.as_mut_ptr();
    stream.level_buf_size = len(&room)?;
    stream.end_of_stream = u16::from(last);
    stream.flush = if last { c::NO_FLUSH } else { c::SYNC_FLUSH } as u16;
    if !before.is_empty() {
        // SAFETY: it reads `before`, in spite of the type, and copies what it needs into the struct.
        let code = unsafe { c::isal_deflate_set_dict(&raw mut *stream, before.as_ptr().cast_mut(), len(before)?) };
        check(code)?;
    }
    stream.next_in = block.as_ptr().cast_mut();
    stream.avail_in = len(block)?;
    packed.reserve_exact(worst(block.len()));
    loop {
        let spare = packed.spare_capacity_mut();
        let given = u32::try_from(spare.len()).map_err(io::Error::other)?;
        stream.next_out = spare.as_mut_ptr().cast();
        stream.avail_out = given;
        // SAFETY: `next_in`, `next_out` and `level_buf` each point to as many bytes as the struct says beside them;
        // `block`, `packed` and `room` outlive the call, and only the latter two are written to.
        check(unsafe { c::isal_deflate(&raw mut *stream) })?;
        let written = given - stream.avail_out;
        // SAFETY: that many of the spare bytes have just been written.
        unsafe { packed.set_len(packed.len() + written as usize) };
        // All is taken and flushed only if the output was not filled to the brim.
        if stream.avail_in == 0 && stream.avail_out > 0 {
            return Ok(());
        }
        packed.reserve(BLOCK / 8);
    }
}

fn len(bytes: &[u8]) -> io::Result<u32> {
    u32::try_from(bytes.len()).map_err(io::Error::other)
}

fn check(code: std::ffi::c_int) -> io::Result<()> {
    if code == c::COMP_OK as std::ffi::c_int { Ok(()) } else { Err(io::Error::other(format!("ISA-L gives {code}"))) }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::super::gzip::tests::{noise, sample};
    use super::*;

    fn deflated(plain: &[u8], level: u32) -> io::Result<Vec<u8>> {
        let (mut stream, mut packed, mut before) = (Vec::new(), Vec::new(), &[][..]);
        let blocks: Vec<&[u8]> = if plain.is_empty() { vec![&[]] } else { plain.chunks(BLOCK).collect() };
        for (n, block) in blocks.iter().enumerate() {
            Isal { level }.pack(block, before, n + 1 == blocks.len(), &mut packed)?;
            stream.extend_from_slice(&packed);
            before = &block[block.len().saturating_sub(gzip::DICTIONARY)..];
        }
        Ok(stream)
    }

    #[test]
    fn the_blocks_are_one_stream_that_reads_back() {
        let sample = sample();
        for plain in [&b""[..], b"x", &sample, &noise(2 * BLOCK + 17), &vec![0; 3 * BLOCK], &sample[..2 * BLOCK]] {
            for level in [1, 2] {
                let mut back = Vec::new();
                let stream = deflated(plain, level).unwrap();
                flate2::read::DeflateDecoder::new(&stream[..]).read_to_end(&mut back).unwrap();
                assert!(back == plain, "{} bytes, level {level}", plain.len());
            }
        }
    }

    #[test]
    fn noise_grows_by_less_than_a_thousandth() {
        let plain = noise(4 * BLOCK);
        for level in [1, 2] {
            let packed = deflated(&plain, level).unwrap();
            assert!(packed.len() < plain.len() + plain.len() / 1000, "level {level}: {}", packed.len());
        }
    }

    #[test]
    fn a_level_that_depends_on_the_cpu_is_refused() {
        for level in [0, 3] {
            assert_eq!(deflated(b"x", level).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }

    /// If this fails, the compressor's output has changed: give [`RECIPE`] a new number and take over the new digests.
    /// If it fails on one CPU alone, the level is not fit for use. `.ci/isal` runs it on several.
    #[test]
    fn the_recipe_gives_the_bytes_it_always_gave() {
        let digests = [1, 2].map(|level| crate::oci::Digest::of(&deflated(&sample(), level).unwrap()).short());
        assert_eq!((RECIPE, digests.join(" ").as_str()), ("gzip-isal/1", "sha256:bf761a208a7d sha256:e7321f6caed0"));
    }
}
