//! Sparse entries of a tar are read in every format, from a file and through a pipe. What they claim is checked first.

#![cfg(unix)]

use std::io::Write as _;
use std::process::Stdio;

use super::archive_builder;
use super::archive_contents::sha256;
use super::ecr::Ecr;
use super::harness::{Run, Running, show};

/// How a tar stores an entry with holes.
#[derive(Clone, Copy, Debug)]
enum Format {
    /// GNU tar's own.
    Gnu,
    /// PAX records, version 0.0: one record for each number.
    Pax00,
    /// Version 0.1: one record for all numbers.
    Pax01,
    /// Version 1.0: numbers in front of the contents.
    Pax10,
}

const FORMATS: [Format; 4] = [Format::Gnu, Format::Pax00, Format::Pax01, Format::Pax10];

/// A sparse entry, as its tar states it.
struct Sparse {
    /// Offset and length of each part that is stored.
    parts: Vec<(u64, u64)>,
    stored: Vec<u8>,
    len: u64,
}

impl Sparse {
    /// Leaves out the blocks of zeros.
    fn of(bytes: &[u8]) -> Self {
        let mut sparse = Self { parts: Vec::new(), stored: Vec::new(), len: bytes.len() as u64 };
        for (at, block) in bytes.chunks(512).enumerate().filter(|(_, block)| block.iter().any(|byte| *byte != 0)) {
            let (offset, len) = (at as u64 * 512, block.len() as u64);
            match sparse.parts.last_mut().filter(|last| last.0 + last.1 == offset) {
                Some(last) => last.1 += len,
                None => sparse.parts.push((offset, len)),
            }
            sparse.stored.extend_from_slice(block);
        }
        // GNU tar ends a map with an empty part.
        sparse.parts.push((sparse.len, 0));
        sparse
    }

    fn entry(&self, name: &str, format: Format) -> Vec<u8> {
        let Self { parts, stored, len } = self;
        let numbers: Vec<String> =
            parts.iter().flat_map(|(offset, len)| [offset, len]).map(ToString::to_string).collect();
        let (len, count) = (len.to_string(), parts.len().to_string());
        let mut records = vec![("GNU.sparse.size", len.as_str()), ("GNU.sparse.numblocks", &count)];
        let joined = numbers.join(",");
        match format {
            Format::Gnu => return self.gnu_entry(name),
            Format::Pax00 => {
                let keys = ["GNU.sparse.offset", "GNU.sparse.numbytes"].into_iter().cycle();
                records.extend(keys.zip(numbers.iter().map(String::as_str)));
                return [pax(&records), entry(name, b'0', stored)].concat();
            }
            Format::Pax01 => records.extend([("GNU.sparse.name", name), ("GNU.sparse.map", &joined)]),
            Format::Pax10 => {
                records = vec![("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0")];
                records.extend([("GNU.sparse.name", name), ("GNU.sparse.realsize", &len)]);
                let mut contents = format!("{count}\n{}\n", numbers.join("\n")).into_bytes();
                contents.resize(contents.len().next_multiple_of(512), 0);
                contents.extend_from_slice(stored);
                return [pax(&records), entry("GNUSparseFile.0/other", b'0', &contents)].concat();
            }
        }
        [pax(&records), entry("GNUSparseFile.0/other", b'0', stored)].concat()
    }

    fn gnu_entry(&self, name: &str) -> Vec<u8> {
        let mut first = tar::Header::new_gnu();
        first.set_path(name).unwrap();
        first.set_entry_type(tar::EntryType::GNUSparse);
        first.set_size(self.stored.len() as u64);
        first.set_mode(0o644);
        let (here, more) = self.parts.split_at(self.parts.len().min(4));
        let gnu = first.as_gnu_mut().unwrap();
        gnu.set_real_size(self.len);
        gnu.set_is_extended(!more.is_empty());
        set(&mut gnu.sparse, here);
        first.set_cksum();
        let mut bytes = first.as_bytes().to_vec();
        let blocks: Vec<_> = more.chunks(21).collect();
        for (at, parts) in blocks.iter().enumerate() {
            let mut block = tar::GnuExtSparseHeader::new();
            set(&mut block.sparse, parts);
            block.set_is_extended(at + 1 < blocks.len());
            bytes.extend_from_slice(block.as_bytes());
        }
        bytes.extend_from_slice(&self.stored);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }
}

fn set(fields: &mut [tar::GnuSparseHeader], parts: &[(u64, u64)]) {
    for (field, (offset, len)) in fields.iter_mut().zip(parts) {
        field.set_offset(*offset);
        field.set_length(*len);
    }
}

fn entry(name: &str, kind: u8, bytes: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, bytes).unwrap();
    let mut bytes = tar.into_inner().unwrap();
    // Without the end mark.
    bytes.truncate(bytes.len() - 1024);
    bytes
}

fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, value) in records {
        let rest = format!(" {key}={value}\n");
        let len = (0..).find(|len: &usize| len.to_string().len() + rest.len() == *len).unwrap();
        bytes.extend_from_slice(format!("{len}{rest}").as_bytes());
    }
    entry("PaxHeaders/x", b'x', &bytes)
}

/// A layer with 30 holes.
fn holey_layer() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for n in 0..30 {
        archive_builder::add(&mut tar, &format!("zeros{n}"), &vec![0; 3000 * n]);
    }
    archive_builder::add(&mut tar, "last", b"last");
    tar.into_inner().unwrap()
}

/// A `docker save` of a layer whose name says nothing, with this entry for it.
fn save(entry: &[u8], layer: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    tar.get_mut().extend_from_slice(entry);
    archive_builder::finish_docker_save(&mut tar, &["l/layer.tar".into()], &[sha256(layer)]);
    tar.into_inner().unwrap()
}

/// A save of podman's, of two layers: their names are known as they come through a pipe. The second one is sparse.
fn save_of_podman(layer: &[u8], sparse: &Sparse, format: Format) -> Vec<u8> {
    let first = archive_builder::tar_of("first", b"first");
    let name = |layer: &[u8]| sha256(layer).replace("sha256:", "") + ".tar";
    let names = [name(&first), name(layer)];
    let mut tar = tar::Builder::new(Vec::new());
    archive_builder::add(&mut tar, &names[0], &first);
    tar.get_mut().extend_from_slice(&sparse.entry(&names[1], format));
    archive_builder::finish_docker_save(&mut tar, &names, &[sha256(&first), sha256(layer)]);
    tar.into_inner().unwrap()
}

/// Pushes it from a file and through a pipe.
#[track_caller]
fn both_ways(bytes: &[u8], check: impl Fn(&Ecr, Run)) {
    let ecr = Ecr::new();
    let path = ecr.env.scratch("sparse.tar");
    std::fs::write(&path, bytes).unwrap();
    let run = ecr.run(&[&path, "team/app:1"]);
    check(&ecr, run);
    let ecr = Ecr::new();
    check(&ecr, through_pipe(&ecr, bytes.to_vec()));
}

fn through_pipe(ecr: &Ecr, bytes: Vec<u8>) -> Run {
    let (reader, mut writer) = std::io::pipe().unwrap();
    // The program may stop reading early.
    std::thread::spawn(move || writer.write_all(&bytes).ok());
    let run = Running::fed(ecr.command(&["-", "team/app:1"]), Stdio::from(reader)).end();
    show(&ecr.story());
    run
}

#[test]
fn every_format_is_read_with_its_holes() {
    let layer = holey_layer();
    for format in FORMATS {
        let bytes = save(&Sparse::of(&layer).entry("l/layer.tar", format), &layer);
        assert!(bytes.len() < layer.len() / 4, "{format:?}: holes are not stored");
        both_ways(&bytes, |ecr, run| {
            run.succeeds();
            assert!(ecr.image("team/app", "1").is_some(), "{format:?}");
        });
    }
}

#[test]
fn every_format_is_read_as_it_comes_through_a_pipe() {
    let layer = holey_layer();
    for format in FORMATS {
        let ecr = Ecr::new();
        let run = through_pipe(&ecr, save_of_podman(&layer, &Sparse::of(&layer), format));
        run.succeeds().stderr_has(&["note: standard input is a pipe: streamed"]);
        assert!(ecr.image("team/app", "1").is_some(), "{format:?}");
    }
}

#[test]
fn documents_may_be_sparse_too() {
    let layer = archive_builder::tar_of("a", b"a");
    for format in FORMATS {
        let mut tar = tar::Builder::new(Vec::new());
        archive_builder::add(&mut tar, "l/layer.tar", &layer);
        let config = archive_builder::config(&[sha256(&layer)]);
        // JSON has no zeros, so nothing of it is a hole, except as it is stored.
        tar.get_mut().extend_from_slice(&Sparse::of(&config).entry("config.json", format));
        let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": null, "Layers": ["l/layer.tar"]}]);
        archive_builder::add(&mut tar, "manifest.json", manifest.to_string().as_bytes());
        both_ways(&tar.into_inner().unwrap(), |_, run| {
            run.succeeds();
        });
    }
}

#[test]
fn a_map_that_contradicts_itself_is_named() {
    let layer = holey_layer();
    for format in [Format::Pax00, Format::Pax01, Format::Pax10] {
        type Spoil = fn(&mut Sparse);
        let wrong: [(Spoil, &str); 4] = [
            (|sparse| sparse.parts.swap(0, 1), "overlap or are not in order"),
            (|sparse| sparse.parts[1].1 += 512, "are not as long as what is stored"),
            (|sparse| sparse.len = 512, "reaches behind the end of the sparse file"),
            (|sparse| sparse.parts[0] = (u64::MAX, 512), "reaches behind the end of the sparse file"),
        ];
        for (spoil, why) in wrong {
            let mut sparse = Sparse::of(&layer);
            spoil(&mut sparse);
            both_ways(&save(&sparse.entry("l/layer.tar", format), &layer), |ecr, run| {
                run.fails_with(1).stdout_is("").stderr_has(&["the entry l/layer.tar of ", " is malformed", why]);
                ecr.has_no_image("1");
            });
            let ecr = Ecr::new();
            let run = through_pipe(&ecr, save_of_podman(&layer, &sparse, format));
            run.fails_with(1).stdout_is("").stderr_has(&[" is malformed", why]);
            ecr.has_no_image("1");
        }
    }
}

#[test]
fn a_claim_of_more_than_a_layer_may_have_is_refused_at_once() {
    for format in FORMATS {
        let len = (52_000 << 20) + 512;
        let sparse = Sparse { parts: vec![(0, 512), (len, 0)], stored: vec![1; 512], len };
        both_ways(&save(&sparse.entry("l/layer.tar", format), b"another"), |ecr, run| {
            let words = "the entry l/layer.tar is a sparse file that is larger than 52000 MiB";
            run.fails_with(1).stdout_is("").stderr_has(&[words]);
            ecr.has_no_image("1");
        });
        let ecr = Ecr::new();
        let run = through_pipe(&ecr, save_of_podman(b"another", &sparse, format));
        run.fails_with(1).stdout_is("").stderr_has(&["is a sparse file that is larger than 52000 MiB"]);
        ecr.has_no_image("1");
    }
}

#[test]
fn an_unused_file_costs_nothing_however_large_it_claims_to_be() {
    let layer = archive_builder::tar_of("first", b"first");
    for format in FORMATS {
        let sparse = Sparse { parts: vec![(0, 512), (52_000 << 20, 0)], stored: vec![1; 512], len: 52_000 << 20 };
        let name = sha256(&layer).replace("sha256:", "") + ".tar";
        let mut tar = tar::Builder::new(Vec::new());
        archive_builder::add(&mut tar, &name, &layer);
        for n in 0..100 {
            tar.get_mut().extend_from_slice(&sparse.entry(&format!("unused{n}"), format));
        }
        archive_builder::finish_docker_save(&mut tar, &[name], &[sha256(&layer)]);
        both_ways(&tar.into_inner().unwrap(), |_, run| {
            run.succeeds();
        });
    }
}

#[test]
fn a_sparse_entry_that_is_cut_off_is_named() {
    let layer = holey_layer();
    for format in FORMATS {
        let entry = Sparse::of(&layer).entry("l/layer.tar", format);
        both_ways(&entry[..entry.len() - 700], |_, run| {
            run.fails_with(1).stderr_has(&[" is cut off: "]);
        });
    }
}
