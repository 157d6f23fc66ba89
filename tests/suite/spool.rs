//! Archives that cannot be read in place, compressed ones and pipes: pushed as if they were uncompressed files, by way of
//! a temporary file that has no name.

#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, PipeWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::archive_builder::{self, packed};
use super::archive_contents::Source;
use super::ecr::Ecr;
use super::faults::interrupt;
use super::harness::{Run, Running, SOON, TestEnv, finish, show, testdata, text, wait_until};
use super::memory_limits::peak;
use super::stored_image::StoredImage;

const TOOLS: [&str; 4] = ["gzip", "zstd", "xz", "bzip2"];
/// One of which it is not known as it comes what its layers are.
const ARCHIVE: &str = "docker-20.10-save.tar";

/// A pipe that bytes come out of. The reader may leave some.
fn pipe(bytes: Vec<u8>) -> Stdio {
    let (reader, mut writer) = std::io::pipe().unwrap();
    std::thread::spawn(move || writer.write_all(&bytes));
    reader.into()
}

/// A named pipe that bytes come out of.
fn named_pipe(ecr: &Ecr, bytes: Vec<u8>) -> String {
    let path = ecr.env.scratch("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let to = path.clone();
    std::thread::spawn(move || fs::OpenOptions::new().write(true).open(to).unwrap().write_all(&bytes));
    path
}

fn file(ecr: &Ecr, bytes: &[u8]) -> String {
    let path = ecr.env.scratch("image");
    fs::write(&path, bytes).unwrap();
    path
}

/// Pushes what is fed.
#[track_caller]
fn push(ecr: &Ecr, arguments: &[&str], stdin: impl Into<Stdio>) -> Run {
    let run = Running::fed(ecr.command(&[arguments, &["team/app:1"]].concat()), stdin).end();
    show(&ecr.story());
    run
}

/// The digest of the archive when it is read in place.
fn in_place() -> String {
    let run = Ecr::new().run(&[&testdata(ARCHIVE), "team/app:1"]).succeeds().output_has_none(&["temporary file"]);
    run.digest()
}

/// Asserts that the archive was pushed, and that nothing is left behind.
#[track_caller]
fn is_pushed(ecr: &Ecr, run: Run, digest: &str, note: &str) {
    let run = run.succeeds().stderr_has(&[note]);
    assert_eq!(run.digest(), digest);
    StoredImage::of_sandbox(ecr, "team/app", "1").is(&Source::read(&testdata(ARCHIVE), 0));
    assert_eq!(ecr.env.written(), ["home/.cache/ecr-push/layers.jsonl"]);
}

/// Asserts that nothing is pushed, and that no request is sent.
#[track_caller]
fn is_refused(ecr: &Ecr, run: Run, code: i32, says: &[&str]) {
    run.exits_with(code).stdout_is("").stderr_has(says);
    assert!(ecr.log().is_empty(), "no request is sent for an archive that cannot be read");
    assert_eq!(ecr.env.written(), [""; 0]);
}

/// The files without a name that a process has, each with its length.
pub(crate) fn unnamed(process: u32) -> Vec<(String, u64)> {
    let Ok(open) = fs::read_dir(format!("/proc/{process}/fd")) else { return Vec::new() };
    let file = |path: &Path| Some((text(&fs::read_link(path).ok()?), fs::metadata(path).ok()?.len()));
    open.flatten().filter_map(|entry| file(&entry.path())).filter(|(name, _)| name.ends_with(" (deleted)")).collect()
}

/// Starts a push that is fed some MiB through a pipe which stays open, and waits until a part is in a temporary file.
fn half_way(command: Command) -> (Running, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let running = Running::fed(command, reader);
    writer.write_all(&fs::read(testdata(ARCHIVE)).unwrap().repeat(6)).unwrap();
    wait_until("a part is in the file", || unnamed(running.id()).iter().any(|(_, len)| *len >= 1 << 20));
    (running, writer)
}

#[test]
fn every_compression_is_read_from_every_source() {
    let (digest, plain) = (in_place(), fs::read(testdata(ARCHIVE)).unwrap());
    for tool in TOOLS {
        let bytes = packed(tool, &plain);
        let note = |what: &str| {
            format!("note: {what} is compressed with {tool}: decompressed into a temporary file, 457.0 KiB\n")
        };

        let ecr = Ecr::new();
        let path = file(&ecr, &bytes);
        is_pushed(&ecr, ecr.run(&[&path, "team/app:1"]), &digest, &note(&path));
        let ecr = Ecr::new();
        is_pushed(&ecr, push(&ecr, &["-"], File::open(file(&ecr, &bytes)).unwrap()), &digest, &note("standard input"));
        let ecr = Ecr::new();
        is_pushed(&ecr, push(&ecr, &["-"], pipe(bytes.clone())), &digest, &note("standard input"));
        let ecr = Ecr::new();
        let path = named_pipe(&ecr, bytes.clone());
        is_pushed(&ecr, ecr.run(&[&path, "team/app:1"]), &digest, &note(&path));
        // As `<(zstd -dc image.tar.zst)` is named, and what programs are given that know no `-`.
        let ecr = Ecr::new();
        is_pushed(&ecr, push(&ecr, &["/dev/stdin"], pipe(bytes.clone())), &digest, &note("/dev/stdin"));
    }
}

#[test]
fn an_uncompressed_tar_is_read_from_every_pipe() {
    let (digest, plain) = (in_place(), fs::read(testdata(ARCHIVE)).unwrap());
    let note = |what: &str| format!("note: {what} is a pipe: copied into a temporary file, 457.0 KiB\n");
    let ecr = Ecr::new();
    is_pushed(&ecr, push(&ecr, &["-"], pipe(plain.clone())), &digest, &note("standard input"));
    let ecr = Ecr::new();
    let path = named_pipe(&ecr, plain.clone());
    is_pushed(&ecr, ecr.run(&[&path, "team/app:1"]), &digest, &note(&path));
    let ecr = Ecr::new();
    is_pushed(&ecr, push(&ecr, &["/dev/fd/0"], pipe(plain)), &digest, &note("/dev/fd/0"));
}

#[test]
fn a_file_at_standard_input_is_read_in_place_if_it_is_at_its_start() {
    let digest = in_place();
    for name in ["-", "/dev/stdin"] {
        let ecr = Ecr::new();
        let run = push(&ecr, &[name], File::open(testdata(ARCHIVE)).unwrap()).output_has_none(&["temporary file"]);
        is_pushed(&ecr, run, &digest, "(docker save archive, linux/amd64): 3 layers");
    }
    let ecr = Ecr::new();
    let path = file(&ecr, &[b"a word in front\n".to_vec(), fs::read(testdata(ARCHIVE)).unwrap()].concat());
    let mut rest = File::open(path).unwrap();
    rest.seek(SeekFrom::Start(16)).unwrap();
    let note = "note: standard input is a file that was read in part before: copied into a temporary file, 457.0 KiB\n";
    is_pushed(&ecr, push(&ecr, &["-"], rest), &digest, note);
}

#[test]
fn a_file_of_that_name_is_reached_by_its_folder() {
    let ecr = Ecr::new();
    let folder = ecr.env.scratch("folder");
    fs::create_dir(&folder).unwrap();
    fs::copy(testdata(ARCHIVE), format!("{folder}/-")).unwrap();
    let mut command = ecr.command(&["./-", "team/app:1"]);
    command.current_dir(&folder);
    is_pushed(&ecr, ecr.finish(command), &in_place(), "3 layers");
}

#[test]
fn members_that_follow_one_another_and_zeros_behind_them() {
    let (digest, plain) = (in_place(), fs::read(testdata(ARCHIVE)).unwrap());
    let (one, other) = plain.split_at(200_000);
    for tool in TOOLS {
        let bytes = [packed(tool, one), packed(tool, &[]), packed(tool, other), vec![0; 10_240]].concat();
        let ecr = Ecr::new();
        is_pushed(&ecr, push(&ecr, &["-"], pipe(bytes)), &digest, "decompressed into a temporary file, 457.0 KiB");
    }
    for tool in TOOLS {
        let ecr = Ecr::new();
        let path = file(&ecr, &[packed(tool, &plain), b"garbage".to_vec()].concat());
        let broken = format!("{path} is broken: its {tool} data can be read up to 457.0 KiB of the tar");
        let because = format!("because: other data than {tool} follows");
        is_refused(&ecr, ecr.run(&[&path, "team/app:1"]), 1, &[&broken, &because, "hint: Save the image again"]);
    }
}

#[test]
fn a_compressed_archive_that_is_cut_off_or_changed() {
    let plain = fs::read(testdata(ARCHIVE)).unwrap();
    for tool in TOOLS {
        let bytes = packed(tool, &plain);
        for cut in [10, 100, bytes.len() / 3, bytes.len() / 2, bytes.len() - 5, bytes.len() - 1] {
            let ecr = Ecr::new();
            let path = file(&ecr, &bytes[..cut]);
            let words = format!("is cut off: its {tool} data ends after ");
            let run = ecr.run(&[&path, "team/app:1"]);
            is_refused(&ecr, run, 1, &[&format!("error: {path} {words}"), "B of the tar", "hint: "]);
            let run = push(&ecr, &["-"], pipe(bytes[..cut].to_vec()));
            is_refused(&ecr, run, 1, &[&format!("error: standard input {words}"), "B of the tar", "hint: "]);
        }
        let mut changed = bytes.clone();
        changed[bytes.len() / 2] ^= 0xff;
        let ecr = Ecr::new();
        // What was changed may also be found out by the tar, the layer or its diff_id: zstd's checksum comes last.
        push(&ecr, &["-"], pipe(changed))
            .fails_with(1)
            .stdout_is("")
            .stderr_has(&["error: standard input is ", "hint: "]);
    }
}

#[test]
fn a_complete_stream_of_half_a_tar() {
    let plain = fs::read(testdata(ARCHIVE)).unwrap();
    let half = &plain[..plain.len() / 2];
    for bytes in [half.to_vec(), packed("gzip", half)] {
        let ecr = Ecr::new();
        let says = ["standard input is cut off: ", &format!("hint: The tar is {} bytes long.", half.len())];
        is_refused(&ecr, push(&ecr, &["-"], pipe(bytes)), 1, &says);
    }
}

#[test]
fn what_comes_is_judged_before_it_is_written() {
    let plain = fs::read(testdata(ARCHIVE)).unwrap();
    let twice = packed("gzip", &packed("xz", &plain));
    let text = packed("bzip2", b"Dear diary");
    let lz4 = b"\x04\x22\x4d\x18abc".to_vec();
    for (bytes, says) in [
        (Vec::new(), ["standard input is empty", "hint: Pipe an archive into it:\n  docker save app:1 | ecr-push - "]),
        (b"Dear diary".to_vec(), ["standard input is text, not an image archive", "hint: "]),
        (
            twice,
            ["standard input is compressed twice, with xz and then with gzip", "hint: Only one level of compression"],
        ),
        (text, ["the content of standard input, compressed with bzip2, is text, not an image archive", "hint: "]),
        (
            packed("zstd", &lz4),
            ["is compressed with lz4, which is not supported", "hint: Only one level of compression"],
        ),
        (
            lz4,
            ["standard input is compressed with lz4, which is not supported", "hint: Decompress it first:\n  lz4 -d\n"],
        ),
    ] {
        let ecr = Ecr::new();
        // A folder that is not there shows that nothing is written.
        is_refused(&ecr, push(&ecr, &["-", "--temp-dir", "no/such/folder"], pipe(bytes)), 1, &says);
    }
    let ecr = Ecr::new();
    is_refused(&ecr, push(&ecr, &["-"], File::open("/").unwrap()), 1, &["standard input is a folder"]);
    is_refused(&ecr, push(&ecr, &["-"], Stdio::null()), 1, &["standard input is empty"]);
    is_refused(&ecr, push(&ecr, &["/dev/zero"], Stdio::null()), 1, &["/dev/zero is nothing but zeros"]);
}

#[test]
fn a_terminal_is_no_archive() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    for name in ["-", "/dev/stdin"] {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let path = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
        let theirs = File::options().read(true).write(true).open(path).unwrap();
        let ecr = Ecr::new();
        is_refused(
            &ecr,
            push(&ecr, &[name], theirs),
            2,
            &["is a terminal", "hint: Use a file, or pipe one in:\n  docker save app:1 | "],
        );
    }
}

#[test]
fn a_folder_for_temporary_files_that_is_not_there() {
    let path = testdata(ARCHIVE);
    let ecr = Ecr::new();
    let says = [
        "cannot create a temporary file in no/such/folder",
        "No such file",
        "hint: Use a folder on another file system: --temp-dir",
    ];
    is_refused(&ecr, push(&ecr, &["-", "--temp-dir", "no/such/folder"], pipe(fs::read(&path).unwrap())), 2, &says);
    let mut command = ecr.command(&["-", "team/app:1"]);
    command.env("TMPDIR", "no/such/folder");
    is_refused(&ecr, Running::fed(command, pipe(fs::read(&path).unwrap())).end(), 2, &says);
    // It is asked for only where it is needed.
    ecr.run(&[&path, "team/app:1", "--temp-dir", "no/such/folder"]).succeeds();
}

#[test]
fn a_disk_that_is_full() {
    // What a file says of itself is compared with what is free before anything is written: here an EiB.
    let ecr = Ecr::new();
    let header = [&[0x28, 0xb5, 0x2f, 0xfd, 0b1100_0000, 0x38][..], &(1_u64 << 60).to_le_bytes()].concat();
    let plain = fs::read(testdata(ARCHIVE)).unwrap();
    // The window, then a block of the first bytes as they are (RFC 8878, 3.1.1.2): enough to see a tar.
    let block = [&[0, 0x40, 0][..], &plain[..2048]].concat();
    let path = file(&ecr, &[header, block].concat());
    let says = [
        &format!("{path} takes a temporary file of 1048576.0 TiB or more, but ")[..],
        " free, and ",
        "hint: Use a folder with more space: --temp-dir DIR",
    ];
    is_refused(&ecr, ecr.run(&[&path, "team/app:1"]), 1, &says);

    // A limit on the size of files stands for a disk that fills up meanwhile.
    let inner = ecr.command(&["-", "team/app:1"]);
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' XFSZ; ulimit -f 200; exec \"$0\" \"$@\""])
        .arg(inner.get_program())
        .args(inner.get_args());
    command.env_clear().envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(inner.get_current_dir().unwrap());
    let run = Running::fed(command, pipe(packed("zstd", &plain))).end();
    let says = [
        "cannot write more than 0 B of standard input into a temporary file in /",
        "too large",
        "hint: Use a folder on another file system",
    ];
    is_refused(&ecr, run, 1, &says);
}

#[test]
fn nothing_is_left_behind_after_a_kill() {
    let ecr = Ecr::new();
    let folder = ecr.env.scratch("spool");
    fs::create_dir(&folder).unwrap();
    let (running, _writer) = half_way(ecr.command(&["-", "team/app:1", "--temp-dir", &folder]));
    assert!(unnamed(running.id()).iter().all(|(name, _)| name.starts_with(&folder)));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "it has no name while it is there");
    running.kill();
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    assert_eq!(ecr.env.written(), [""; 0]);
}

/// Whether a process listens for Ctrl-C by now.
fn listens(process: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    caught.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).unwrap() & 0b10 != 0)
}

/// Presses Ctrl-C, and asserts that the end comes soon.
#[track_caller]
fn ends_at_once(ecr: &Ecr, running: Running) {
    wait_until("it listens for Ctrl-C", || listens(running.id()));
    let asked = Instant::now();
    interrupt(running.id());
    running.end().fails_with(130).stdout_is("").stderr_has(&["error: interrupted"]);
    assert!(asked.elapsed() < SOON, "it took {:?}", asked.elapsed());
    assert_eq!(ecr.env.written(), [""; 0]);
}

#[test]
fn ctrl_c_waits_for_no_pipe() {
    let ecr = Ecr::new();
    let (reader, _writer) = std::io::pipe().unwrap();
    ends_at_once(&ecr, Running::fed(ecr.command(&["-", "team/app:1"]), reader));
    let (running, _writer) = half_way(ecr.command(&["-", "team/app:1"]));
    ends_at_once(&ecr, running);
    // The other end is never opened.
    let path = ecr.env.scratch("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    ends_at_once(&ecr, Running::start(ecr.command(&[&path, "team/app:1"])));
}

#[test]
fn a_deadline_waits_for_no_pipe() {
    let ecr = Ecr::new();
    let (reader, _writer) = std::io::pipe().unwrap();
    push(&ecr, &["-", "--deadline", "1"], reader).fails_with(4).stderr_has(&["the push exceeded its deadline of 1 s"]);
}

#[test]
fn a_log_hears_of_a_file_that_takes_long() {
    let ecr = Ecr::new();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut command = ecr.command(&["-", "team/app:1"]);
    command.stdin(reader).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(command);
    // After the end of the first archive, the others are not read.
    writer.write_all(&fs::read(testdata(ARCHIVE)).unwrap().repeat(6)).unwrap();
    let (said, lines) = mpsc::channel();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let listener = std::thread::spawn(move || stderr.lines().try_for_each(|line| said.send(line.unwrap())));
    let is_reported = |line: &String| line.starts_with("copying the archive to a temporary file: 2.0 MiB (");
    let deadline = Instant::now() + Duration::from_secs(60);
    let next = || lines.recv_timeout(deadline.saturating_duration_since(Instant::now())).unwrap();
    while !is_reported(&next()) {}
    drop(writer);
    let rest: Vec<_> = lines.iter().collect();
    assert!(child.wait().unwrap().success(), "{rest:?}");
    assert!(rest.iter().any(|line| line.starts_with("localhost/fixture/app:v1 (docker save archive")), "{rest:?}");
    listener.join().unwrap().unwrap();
}

#[test]
fn a_large_pipe_takes_little_memory() {
    const LAYER: usize = 200 << 20;
    let env = TestEnv::new();
    let archive = env.scratch("large.tar");
    archive_builder::docker_save(
        &archive,
        &[
            archive_builder::tar_of("prose", &archive_builder::prose(1, 1 << 20)),
            archive_builder::tar_of("zeros", &vec![0; LAYER]),
        ],
    );
    let mut plain = Vec::new();
    File::open(&archive).unwrap().read_to_end(&mut plain).unwrap();
    for tool in ["", "gzip", "zstd"] {
        let ecr = Ecr::new();
        let bytes = if tool.is_empty() { plain.clone() } else { packed(tool, &plain) };
        let mut running = Running::fed(ecr.command(&["-", "team/app:1", "--dry-run"]), pipe(bytes));
        let (mut most, mut longest) = (0, 0);
        while running.ended().is_none() {
            most = peak(running.id()).map_or(most, |now| most.max(now));
            longest = unnamed(running.id()).iter().map(|(_, len)| *len).fold(longest, u64::max);
            std::thread::sleep(Duration::from_millis(2));
        }
        running.end().succeeds().stderr_has(&["into a temporary file, 201.0 MiB"]);
        assert!((1 << 20..48 << 20).contains(&most), "{tool}: {most} bytes of memory at most");
        assert!(longest > LAYER as u64 / 2, "{tool}: the file was seen with {longest} bytes");
    }
}

#[test]
fn a_window_that_is_too_large() {
    let ecr = Ecr::new();
    let path = file(&ecr, &[0x28, 0xb5, 0x2f, 0xfd, 0, 18 << 3, 1, 0, 0]);
    let says = ["needs more memory than the limit", "a window of more than 128 MiB", "hint: Decompress it first"];
    is_refused(&ecr, finish(ecr.command(&[&path, "team/app:1"]), String::new), 1, &says);
}
