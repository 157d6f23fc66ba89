use std::io::{BufReader, Cursor, Write as _};

use super::*;

const ALL: [FileCompression; 4] =
    [FileCompression::Bzip2, FileCompression::Gzip, FileCompression::Xz, FileCompression::Zstd];

/// Returns text of some lines.
fn text(lines: usize) -> Vec<u8> {
    (0..lines).map(|line| format!("{line}: layer {}\n", line * line)).collect::<String>().into_bytes()
}

/// Returns one member.
fn compress(compression: FileCompression, uncompressed: &[u8]) -> Vec<u8> {
    match compression {
        FileCompression::Bzip2 => {
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            encoder.write_all(uncompressed).unwrap();
            encoder.finish().unwrap()
        }
        FileCompression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(uncompressed).unwrap();
            encoder.finish().unwrap()
        }
        FileCompression::Xz => {
            let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(0)).unwrap();
            encoder.write_all(uncompressed).unwrap();
            encoder.finish().unwrap()
        }
        FileCompression::Zstd => {
            let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
            encoder.include_checksum(true).unwrap();
            encoder.set_pledged_src_size(Some(uncompressed.len() as u64)).unwrap();
            encoder.write_all(uncompressed).unwrap();
            encoder.finish().unwrap()
        }
    }
}

/// Decompresses a file that arrives in chunks, and returns the bytes before an error, too.
fn decompress(compression: FileCompression, compressed: &[u8], chunk_size: usize) -> (Vec<u8>, io::Result<()>) {
    let mut uncompressed = Vec::new();
    let read = compression.decompress(BufReader::with_capacity(chunk_size, compressed)).read_to_end(&mut uncompressed);
    (uncompressed, read.map(drop))
}

#[test]
fn many_members_are_one_file_for_any_chunk_size_and_padding() {
    for compression in ALL {
        let (one, other) = (text(900), text(40));
        let members = [compress(compression, &one), compress(compression, b""), compress(compression, &other)].concat();
        assert_eq!(FileCompression::of(&members), Some(compression));
        for chunk_size in [1, 7, 4096, members.len()] {
            for padding in [0, 1, 4, 5000] {
                let (uncompressed, read) =
                    decompress(compression, &[&members[..], &vec![0; padding]].concat(), chunk_size);
                read.unwrap_or_else(|error| panic!("{compression:?} in chunks of {chunk_size}: {error}"));
                assert!(uncompressed == [&one[..], &other].concat(), "{compression:?} in chunks of {chunk_size}");
            }
        }
    }
}

#[test]
fn a_skippable_frame_is_skipped_at_the_start_and_at_the_end() {
    let skipped = [0x5e, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    let frame = compress(FileCompression::Zstd, b"uncompressed");
    for file in [[&skipped[..], &frame].concat(), [&frame[..], &skipped].concat()] {
        assert_eq!(FileCompression::of(&file), Some(FileCompression::Zstd));
        let (uncompressed, read) = decompress(FileCompression::Zstd, &file, 5);
        read.unwrap();
        assert_eq!(uncompressed, b"uncompressed");
    }
}

#[test]
fn other_data_after_the_last_member_is_an_error_after_all_bytes_are_read() {
    for compression in ALL {
        for padding in [0, 100] {
            let file = [compress(compression, b"uncompressed"), vec![0; padding], b"garbage".to_vec()].concat();
            let (uncompressed, read) = decompress(compression, &file, 4096);
            assert_eq!(uncompressed, b"uncompressed");
            assert_eq!(read.unwrap_err().to_string(), format!("other data than {} follows", compression.name()));
        }
    }
}

#[test]
fn a_file_that_is_cut_off_anywhere_is_reported_as_such() {
    for compression in ALL {
        let (one, other) = (compress(compression, &text(60)), compress(compression, &text(9)));
        let file = [&one[..], &other].concat();
        for cut in 1..file.len() {
            let (uncompressed, read) = decompress(compression, &file[..cut], 4096);
            assert!([text(60), text(9)].concat().starts_with(&uncompressed), "{compression:?} cut at {cut}");
            match read {
                Ok(()) => assert_eq!(cut, one.len(), "{compression:?}"),
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{compression:?} cut at {cut}: {error}");
                }
            }
        }
    }
}

/// All of these formats have checksums, so a changed byte cannot give other bytes without an error.
#[test]
fn a_changed_byte_is_an_error_and_never_a_panic() {
    for compression in ALL {
        let file = compress(compression, &text(200));
        for (at, bit) in (0..file.len()).flat_map(|at| [(at, 1), (at, 0x10), (at, 0x80)]) {
            let mut damaged = file.clone();
            damaged[at] ^= bit;
            let (uncompressed, read) = decompress(compression, &damaged, 4096);
            assert!(read.is_err() || uncompressed == text(200), "{compression:?} with byte {at} changed");
        }
    }
}

#[test]
fn a_window_above_the_limit_is_rejected_before_it_is_allocated() {
    // RFC 8878, 3.1.1.1.2: the window is 2^(10 + exponent) bytes.
    let zstd = |exponent: u8| vec![0x28, 0xb5, 0x2f, 0xfd, 0, exponent << 3, 1, 0, 0];
    // The xz file format, 5.3.1: even numbers are 2^(bits / 2 + 12) bytes, odd ones half as many again. The block's
    // header follows the file's header of 12 bytes, and ends with a checksum.
    let xz = |bits: u8| {
        let mut file = compress(FileCompression::Xz, b"uncompressed");
        let end = 12 + 4 * usize::from(file[12]);
        let at = 12 + file[12..end].windows(2).position(|filter| filter == [0x21, 1]).unwrap() + 2;
        file[at] = bits;
        let check = crc32fast::hash(&file[12..end]).to_le_bytes();
        file[end..end + 4].copy_from_slice(&check);
        file
    };
    for (compression, good, bad) in [(FileCompression::Zstd, zstd(17), zstd(18)), (FileCompression::Xz, xz(30), xz(31))]
    {
        decompress(compression, &good, 4096).1.unwrap_or_else(|error| panic!("{compression:?}: {error}"));
        let error = decompress(compression, &bad, 4096).1.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory, "{compression:?}: {error}");
    }
}

#[test]
fn a_declared_size_is_read_and_the_position_in_the_file_is_unchanged() {
    for (compression, declared) in [
        (FileCompression::Bzip2, None),
        (FileCompression::Gzip, None),
        (FileCompression::Xz, Some(3008)),
        (FileCompression::Zstd, Some(3000)),
    ] {
        let mut file = Cursor::new([compress(compression, &[b'x'; 3000]), compress(compression, b"and more")].concat());
        file.set_position(7);
        assert_eq!(compression.declared_size(&mut file).unwrap(), declared, "{compression:?}");
        assert_eq!(file.position(), 7);
        assert_eq!(compression.declared_size(&mut Cursor::new(b"x")).unwrap(), None, "{compression:?}");
    }
}
