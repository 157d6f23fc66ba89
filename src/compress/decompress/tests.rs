use std::io::{BufReader, Cursor, Write as _};

use super::*;

const CODECS: [FileCompression; 4] =
    [FileCompression::Bzip2, FileCompression::Gzip, FileCompression::Xz, FileCompression::Zstd];

/// Some text, which is the same for the same number.
fn text(lines: usize) -> Vec<u8> {
    (0..lines).map(|line| format!("{line}: layer {}\n", line * line)).collect::<String>().into_bytes()
}

/// One member.
fn packed(codec: FileCompression, plain: &[u8]) -> Vec<u8> {
    match codec {
        FileCompression::Bzip2 => {
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        FileCompression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        FileCompression::Xz => {
            let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(0)).unwrap();
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        FileCompression::Zstd => {
            let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
            encoder.include_checksum(true).unwrap();
            encoder.set_pledged_src_size(Some(plain.len() as u64)).unwrap();
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
    }
}

/// Unpacks what comes in pieces, and tells what came out before an error.
fn unpacked(codec: FileCompression, packed: &[u8], piece: usize) -> (Vec<u8>, io::Result<()>) {
    let mut plain = Vec::new();
    let read = codec.decompress(BufReader::with_capacity(piece, packed)).read_to_end(&mut plain);
    (plain, read.map(drop))
}

#[test]
fn many_members_are_one_file_however_it_is_cut_and_padded() {
    for codec in CODECS {
        let (one, other) = (text(900), text(40));
        let members = [packed(codec, &one), packed(codec, b""), packed(codec, &other)].concat();
        assert_eq!(FileCompression::of(&members), Some(codec));
        for piece in [1, 7, 4096, members.len()] {
            for padding in [0, 1, 4, 5000] {
                let (plain, read) = unpacked(codec, &[&members[..], &vec![0; padding]].concat(), piece);
                read.unwrap_or_else(|error| panic!("{codec:?} in pieces of {piece}: {error}"));
                assert!(plain == [&one[..], &other].concat(), "{codec:?} in pieces of {piece}");
            }
        }
    }
}

#[test]
fn a_skippable_frame_is_skipped_wherever_it_is() {
    let skipped = [0x5e, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    let frame = packed(FileCompression::Zstd, b"plain");
    for file in [[&skipped[..], &frame].concat(), [&frame[..], &skipped].concat()] {
        assert_eq!(FileCompression::of(&file), Some(FileCompression::Zstd));
        let (plain, read) = unpacked(FileCompression::Zstd, &file, 5);
        read.unwrap();
        assert_eq!(plain, b"plain");
    }
}

#[test]
fn what_follows_and_is_something_else_is_an_error_after_all_is_read() {
    for codec in CODECS {
        for padding in [0, 100] {
            let file = [packed(codec, b"plain"), vec![0; padding], b"garbage".to_vec()].concat();
            let (plain, read) = unpacked(codec, &file, 4096);
            assert_eq!(plain, b"plain");
            assert_eq!(read.unwrap_err().to_string(), format!("other data than {} follows", codec.name()));
        }
    }
}

#[test]
fn a_cut_is_told_wherever_it_is() {
    for codec in CODECS {
        let (one, other) = (packed(codec, &text(60)), packed(codec, &text(9)));
        let file = [&one[..], &other].concat();
        for cut in 1..file.len() {
            let (plain, read) = unpacked(codec, &file[..cut], 4096);
            assert!([text(60), text(9)].concat().starts_with(&plain), "{codec:?} cut at {cut}");
            match read {
                Ok(()) => assert_eq!(cut, one.len(), "{codec:?}"),
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{codec:?} cut at {cut}: {error}");
                }
            }
        }
    }
}

/// All of these have checksums, so nothing wrong comes out with an `Ok`.
#[test]
fn a_byte_that_was_changed_is_an_error_and_never_a_panic() {
    for codec in CODECS {
        let file = packed(codec, &text(200));
        for (at, bit) in (0..file.len()).flat_map(|at| [(at, 1), (at, 0x10), (at, 0x80)]) {
            let mut damaged = file.clone();
            damaged[at] ^= bit;
            let (plain, read) = unpacked(codec, &damaged, 4096);
            assert!(read.is_err() || plain == text(200), "{codec:?} with byte {at} changed");
        }
    }
}

#[test]
fn a_window_above_the_bound_is_refused_before_it_is_allocated() {
    // RFC 8878, 3.1.1.1.2: the window is 2^(10 + exponent) bytes.
    let zstd = |exponent: u8| vec![0x28, 0xb5, 0x2f, 0xfd, 0, exponent << 3, 1, 0, 0];
    // The xz file format, 5.3.1: even numbers are 2^(bits / 2 + 12) bytes, odd ones half as many again. The block's
    // header is behind the file's, 12 bytes in, and ends with a checksum.
    let xz = |bits: u8| {
        let mut file = packed(FileCompression::Xz, b"plain");
        let end = 12 + 4 * usize::from(file[12]);
        let at = 12 + file[12..end].windows(2).position(|filter| filter == [0x21, 1]).unwrap() + 2;
        file[at] = bits;
        let check = crc32fast::hash(&file[12..end]).to_le_bytes();
        file[end..end + 4].copy_from_slice(&check);
        file
    };
    for (codec, good, bad) in [(FileCompression::Zstd, zstd(17), zstd(18)), (FileCompression::Xz, xz(30), xz(31))] {
        unpacked(codec, &good, 4096).1.unwrap_or_else(|error| panic!("{codec:?}: {error}"));
        let refused = unpacked(codec, &bad, 4096).1.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::OutOfMemory, "{codec:?}: {refused}");
    }
}

#[test]
fn a_size_that_is_stated_is_known_before_and_leaves_the_file_where_it_was() {
    for (codec, stated) in [
        (FileCompression::Bzip2, None),
        (FileCompression::Gzip, None),
        (FileCompression::Xz, Some(3008)),
        (FileCompression::Zstd, Some(3000)),
    ] {
        let mut file = Cursor::new([packed(codec, &[b'x'; 3000]), packed(codec, b"and more")].concat());
        file.set_position(7);
        assert_eq!(codec.declared_size(&mut file).unwrap(), stated, "{codec:?}");
        assert_eq!(file.position(), 7);
        assert_eq!(codec.declared_size(&mut Cursor::new(b"x")).unwrap(), None, "{codec:?}");
    }
}
