//! A large archive: in little memory, without a temporary file. `spool.rs` has those that need one.

#![cfg(target_os = "linux")]

use std::fs::File;
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use ecr_push::sandbox::{Fault, Trouble};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::archive_builder;
use super::docker_registry::DockerRegistry;
use super::ecr::Ecr;
use super::harness::{Running, TestEnv, report, wait_until};

const LAYERS: u64 = 3;
const LAYER: u64 = 236_000_000;
const MEMORY: u64 = 100 << 20;

/// Writes through, hashes and counts.
struct Hashing<'a> {
    to: &'a mut BufWriter<File>,
    hash: Sha256,
    len: u64,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write_all(bytes)?;
        self.hash.update(bytes);
        self.len += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The ordinary files of this machine, in the order of their folders.
struct Files {
    folders: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

impl Iterator for Files {
    type Item = PathBuf;

    fn next(&mut self) -> Option<PathBuf> {
        loop {
            if let Some(file) = self.files.pop() {
                return Some(file);
            }
            let folder = self.folders.pop()?;
            let Ok(entries) = std::fs::read_dir(folder) else { continue };
            let mut entries: Vec<_> = entries.flatten().collect();
            entries.sort_by_key(std::fs::DirEntry::file_name);
            for entry in entries {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => self.folders.push(entry.path()),
                    Ok(kind) if kind.is_file() => self.files.push(entry.path()),
                    _ => {}
                }
            }
        }
    }
}

/// Fills a layer with files of this machine, and with made-up text where they are too few.
fn fill(layer: &mut Hashing<'_>, files: &mut Files) {
    let mut tar = tar::Builder::new(layer);
    let mut number = 0;
    while tar.get_ref().len < LAYER {
        number += 1;
        let bytes = match files.next().map(std::fs::read) {
            Some(Ok(bytes)) if bytes.len() < 100_000_000 => bytes,
            Some(_) => continue,
            None => archive_builder::prose(number, 8 << 20),
        };
        archive_builder::add(&mut tar, &format!("file-{number}"), &bytes);
    }
    tar.finish().unwrap();
}

/// Writes an archive as `docker save` does, of more than 700 MB.
fn large_archive(path: &str) {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
    let mut files =
        Files { folders: ["/usr/share", "/usr/bin", "/usr/lib"].map(PathBuf::from).to_vec(), files: Vec::new() };
    let (mut names, mut diff_ids) = (Vec::new(), Vec::new());
    for number in 0..LAYERS {
        let start = out.stream_position().unwrap();
        out.write_all(&[0; 512]).unwrap();
        let mut layer = Hashing { to: &mut out, hash: Sha256::new(), len: 0 };
        fill(&mut layer, &mut files);
        let (len, hash) = (layer.len, layer.hash.finalize());
        // A tar is full blocks, so the next entry follows at once. Now its size is known.
        let name = format!("{number:064x}/layer.tar");
        let mut header = tar::Header::new_ustar();
        header.set_path(&name).unwrap();
        header.set_size(len);
        header.set_mode(0o644);
        header.set_cksum();
        out.seek(SeekFrom::Start(start)).unwrap();
        out.write_all(header.as_bytes()).unwrap();
        out.seek(SeekFrom::End(0)).unwrap();
        names.push(name);
        diff_ids.push(format!("sha256:{}", hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>()));
    }
    let mut tar = tar::Builder::new(out);
    archive_builder::finish_docker_save(&mut tar, &names, &diff_ids);
    tar.into_inner().unwrap().flush().unwrap();
}

/// The most memory that a process had, as long as it lives.
pub(crate) fn peak(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().unwrap() << 10)
}

/// The files that a process has open to write to, apart from pipes and sockets.
fn written_to(process: u32) -> Vec<String> {
    let Ok(open) = std::fs::read_dir(format!("/proc/{process}/fdinfo")) else { return Vec::new() };
    let numbers = open.flatten().map(|entry| entry.file_name().into_string().unwrap());
    let writes = |number: &String| {
        let info = std::fs::read_to_string(format!("/proc/{process}/fdinfo/{number}")).unwrap_or_default();
        // The last octal digit of the flags: 0 is reading.
        info.lines().find_map(|line| line.strip_prefix("flags:")).is_some_and(|flags| !flags.trim().ends_with('0'))
    };
    let name = |number: String| std::fs::read_link(format!("/proc/{process}/fd/{number}")).ok();
    let names = numbers.filter(writes).filter_map(name).map(|name| name.display().to_string());
    names.filter(|name| name.starts_with('/') && !name.starts_with("/dev/")).collect()
}

#[test]
fn seven_hundred_megabytes_take_little_memory_and_no_file() {
    let Some(registry) = DockerRegistry::start() else { return };
    let env = TestEnv::new();
    let (archive, written) = (env.scratch("large.tar"), env.scratch("report.json"));
    large_archive(&archive);
    let size = std::fs::metadata(&archive).unwrap().len();
    assert!(size >= 700_000_000, "{size} bytes");

    let target = registry.target("team/app:1");
    let mut running = Running::start(env.command(&[&archive, &target, "--report", &written]));
    let (mut most, mut files) = (0, Vec::new());
    while running.ended().is_none() {
        most = peak(running.id()).map_or(most, |now| most.max(now));
        files.extend(written_to(running.id()));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let run = running.end().succeeds();
    assert!((1 << 20..MEMORY).contains(&most), "{most} bytes of memory at most");
    let expected = ["layers.jsonl", "report.json"];
    let unexpected =
        |name: &&String| !expected.iter().any(|end| name.ends_with(end)) && !name.contains("/layers.uploads/");
    assert_eq!(files.iter().find(unexpected), None, "a file is written");
    assert_eq!(env.written(), ["home/.cache/ecr-push/layers.jsonl"]);

    let manifest: Value = serde_json::from_slice(&registry.manifest("team/app:1").unwrap()).unwrap();
    let seen = report(&written)["targets"][0]["layers"].as_array().unwrap().clone();
    for layer in manifest["layers"].as_array().unwrap() {
        let found = seen.iter().find(|found| found["digest"] == layer["digest"]).expect("the report knows the layer");
        assert_eq!((&found["size"], &found["bytes_sent"]), (&layer["size"], &layer["size"]));
    }
    let again =
        env.run(&[&archive, &target]).succeeds().stderr_has(&["already up to date; nothing was sent", "3 reused"]);
    assert_eq!(again.stdout, run.stdout);
    assert!(Path::new(&archive).is_file());
}

/// The bytes that a process has read so far.
fn read_by(process: u32) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{process}/io")).unwrap();
    io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

/// The most memory that a process had, without its program, whose pages are many in a debug build.
fn peak_of_data(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let program = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
    peak(process).unwrap() - (program.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() << 10)
}

/// With more large layers than go at once, of which a quarter is noise, and nothing that is ever acknowledged.
fn a_registry_that_takes_nothing_holds_back_the_reading(compression: &str) {
    let ecr = Ecr::faulty(&[Fault::once("ecr:UploadLayerPart", Trouble::Stall).times(u32::MAX)]);
    let archive = ecr.env.scratch("large.tar");
    let layers: Vec<_> =
        (0..5).map(|seed| archive_builder::tar_of("noise", &archive_builder::noise(seed, 40 << 20))).collect();
    archive_builder::docker_save(&archive, &layers);
    drop(layers);
    let arguments = [&archive, "team/app:1", "--pack-threads", "4", "-v", "--compression", compression];
    let running = Running::start(ecr.command(&arguments));
    wait_until("every lane is held", || ecr.count("ecr:UploadLayerPart") == 4);
    let (mut read, mut same) = (0, 0);
    wait_until("nothing more is read for a second", || {
        let now = read_by(running.id());
        same = if now == read { same + 1 } else { 0 };
        read = now;
        std::thread::sleep(std::time::Duration::from_millis(45));
        same >= 20
    });
    let most = peak_of_data(running.id());
    assert!(read < 60 << 20, "{read} bytes of 200 MiB were read though nothing was taken");
    assert!(most < 64 << 20, "{most} bytes of memory at most");
    let stderr = running.kill();
    assert!(
        stderr.contains(
            "memory: 64 MiB at most: 24 for the program, 8 for each of 4 layers in progress, 2 for each of 4 compression"
        ),
        "{stderr}"
    );
}

#[test]
fn a_registry_that_accepts_nothing_pauses_compression_with_gzip() {
    a_registry_that_takes_nothing_holds_back_the_reading("gzip");
}

#[test]
fn a_registry_that_accepts_nothing_pauses_compression_with_zstd() {
    a_registry_that_takes_nothing_holds_back_the_reading("zstd");
}

#[test]
fn a_registry_that_accepts_nothing_pauses_layers_that_are_sent_unchanged() {
    a_registry_that_takes_nothing_holds_back_the_reading("keep");
}
