//! Archives that come through a pipe and are sent as they come: what arrives is what a file would give, known layers are
//! read past, and no copy is written but where the registry may lose a broken upload.

#![cfg(target_os = "linux")]

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use ecr_push::sandbox::{Fault, Parts, Rules, Trouble};

use super::archive_builder;
use super::archive_contents::Source;
use super::docker_registry::DockerRegistry;
use super::ecr::{Ecr, HOST};
use super::faults::interrupt;
use super::harness::{Run, Running, TestEnv, finish, show, testdata, wait_until};
use super::spool::unnamed;
use super::stored_image::StoredImage;

/// Those of which it is known as they come what their layers are.
const KNOWN: [&str; 4] = [
    "docker-29-overlay2-save.tar",
    "docker-29-containerd-save-loaded.tar",
    "podman-docker-archive.tar",
    "podman-oci-archive.tar",
];
const AS_IT_CAME: &str = "note: standard input is a pipe: streamed";

fn pipe(bytes: Vec<u8>) -> Stdio {
    let (reader, mut writer) = std::io::pipe().unwrap();
    // A reader that does not read all of it fails the test.
    std::thread::spawn(move || writer.write_all(&bytes));
    reader.into()
}

fn push(ecr: &Ecr, arguments: &[&str], bytes: Vec<u8>) -> Run {
    let run = Running::fed(ecr.command(&[&["-"], arguments].concat()), pipe(bytes)).end();
    show(&ecr.story());
    run
}

fn bytes_of(name: &str) -> Vec<u8> {
    fs::read(testdata(name)).unwrap()
}

/// A save of Docker 25 or later, of these plain layers.
pub(crate) fn save(layers: &[Vec<u8>]) -> Vec<u8> {
    let env = TestEnv::new();
    let folder = env.scratch("layout");
    archive_builder::oci_layout(&folder, layers);
    let config = super::archive_contents::sha256(&archive_builder::config(
        &layers.iter().map(|it| super::archive_contents::sha256(it)).collect::<Vec<_>>(),
    ));
    let blob = |digest: &str| format!("blobs/sha256/{}", digest.strip_prefix("sha256:").unwrap());
    let names: Vec<String> = layers.iter().map(|layer| blob(&super::archive_contents::sha256(layer))).collect();
    let list = serde_json::json!([{ "Config": blob(&config), "RepoTags": ["app:1"], "Layers": names }]).to_string();
    let mut tar = tar::Builder::new(Vec::new());
    let mut blobs: Vec<_> = fs::read_dir(format!("{folder}/blobs/sha256")).unwrap().map(|it| it.unwrap()).collect();
    blobs.sort_by_key(|entry| entry.file_name());
    for entry in blobs {
        let name = format!("blobs/sha256/{}", entry.file_name().to_str().unwrap());
        archive_builder::add(&mut tar, &name, &fs::read(entry.path()).unwrap());
    }
    archive_builder::add(&mut tar, "index.json", &fs::read(format!("{folder}/index.json")).unwrap());
    archive_builder::add(&mut tar, "manifest.json", list.as_bytes());
    archive_builder::add(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    tar.into_inner().unwrap()
}

fn layer(seed: u64, len: usize) -> Vec<u8> {
    archive_builder::tar_of("file", &archive_builder::noise(seed, len))
}

#[test]
fn a_stream_that_was_turned_into_text_leads_to_powershell() {
    let ecr = Ecr::new();
    for name in KNOWN {
        let bytes = bytes_of(name);
        let one_byte_a_character: String = bytes.iter().map(|byte| char::from(*byte)).collect();
        for text in [one_byte_a_character, String::from_utf8_lossy(&bytes).into_owned()] {
            let run = push(&ecr, &["team/app:1"], text.into_bytes()).fails_with(1);
            run.stderr_has(&["turned into text in UTF-8", "because: PowerShell's > and pipes"]);
        }
    }
}

#[test]
fn what_comes_through_a_pipe_is_what_a_file_gives() {
    for name in KNOWN {
        let file = Ecr::new().run(&[&testdata(name), "team/app:1"]).succeeds();
        let ecr = Ecr::new();
        let run = push(&ecr, &["team/app:1"], bytes_of(name)).succeeds().stderr_has(&[AS_IT_CAME]);
        assert_eq!(run.stdout, file.stdout, "{name}");
        StoredImage::of_sandbox(&ecr, "team/app", "1").is(&Source::read(&testdata(name), 0));
        assert_eq!(ecr.open_uploads(), 0);
    }
}

#[test]
fn a_compressed_pipe_is_decompressed_as_it_arrives() {
    for tool in ["gzip", "zstd", "xz", "bzip2"] {
        let ecr = Ecr::new();
        let bytes = archive_builder::packed(tool, &bytes_of(KNOWN[0]));
        let run = push(&ecr, &["team/app:1"], bytes).succeeds();
        run.stderr_has(&[&format!("standard input is a pipe, compressed with {tool}: streamed")]);
        StoredImage::of_sandbox(&ecr, "team/app", "1").is(&Source::read(&testdata(KNOWN[0]), 0));
    }
}

#[test]
fn docker_registry_gets_it_without_a_file() {
    let Some(registry) = DockerRegistry::start() else { return };
    let layers = [layer(1, 12 << 20), layer(2, 3 << 20), layer(3, 700)];
    let env = TestEnv::new();
    let command = env.command(&["-", &registry.target("team/app:1"), "--temp-dir", "/proc/nonexistent"]);
    let run = Running::fed(command, pipe(save(&layers))).end();

    run.succeeds().stderr_has(&[AS_IT_CAME, "3 of 3 layers uploaded"]);
    let file = env.scratch("image.tar");
    fs::write(&file, save(&layers)).unwrap();
    registry.read_back("team/app", "1").is(&Source::read(&file, 0));
    assert_eq!(registry.open_uploads("team/app"), 0);
}

#[test]
fn known_layers_are_read_past() {
    let ecr = Ecr::new();
    let (before, after) =
        (save(&[layer(1, 300_000), layer(2, 200_000)]), save(&[layer(1, 300_000), layer(3, 200_000)]));
    push(&ecr, &["team/app:1"], before.clone()).succeeds();
    let sessions = |ecr: &Ecr| ecr.count("ecr:InitiateLayerUpload");
    // By the own cache, and by the image under the tag.
    let by_tag = &["team/app:1", "--cache", "/proc/nonexistent/cache"];
    for (arguments, says) in [(&["team/app:2"][..], "0 of 2 layers uploaded"), (by_tag, "already up to date")] {
        let first = sessions(&ecr);
        push(&ecr, arguments, before.clone()).succeeds().stderr_has(&[says, "2 reused"]);
        assert!(sessions(&ecr) <= first + 1, "no more than the config is sent");
    }
    let run = push(&ecr, &["team/app:1", "--cache", "/proc/nonexistent/cache"], after).succeeds();
    run.stderr_has(&["1 of 2 layers uploaded", "1 reused"]);
}

#[test]
fn two_targets_take_from_one_reading() {
    let ecr = Ecr::with(&["team/app", "team/other"], Rules::default());
    push(&ecr, &["team/other:1"], save(&[layer(1, 6 << 20)])).succeeds();
    let run = push(&ecr, &["team/app:1", "team/other:2"], save(&[layer(1, 6 << 20), layer(2, 7 << 20)])).succeeds();
    assert_eq!(run.digests().len(), 2);
    assert_eq!(ecr.image("team/app", "1").unwrap().0, ecr.image("team/other", "2").unwrap().0);
}

#[test]
fn a_broken_upload_that_the_registry_lost_is_sent_again_from_a_file() {
    let cut = Fault::once("ecr:UploadLayerPart", Trouble::CutAfter(100_000)).after(1);
    let ecr = Ecr::faulty(&[cut]);
    let archive = save(&[layer(1, 18 << 20), layer(2, 5000)]);
    let run = push(&ecr, &["team/app:1"], archive).succeeds();
    run.stderr_has(&["each layer is in a temporary file until it is uploaded"]);
    assert_eq!(ecr.open_uploads(), 0);
    assert_eq!(ecr.env.written(), ["home/.cache/ecr-push/layers.jsonl"]);
    // Without a folder for the file nothing is sent.
    let ecr = Ecr::new();
    let run = push(&ecr, &["team/app:1", "--temp-dir", "/proc/nonexistent"], save(&[layer(1, 5000)])).fails_with(2);
    run.stderr_has(&["to a temporary file in /proc/nonexistent", "--temp-dir DIR"]);
    ecr.has_no_image("1");
}

#[test]
fn a_full_disk_ends_the_push_before_the_pipe_ends() {
    let ecr = Ecr::new();
    let inner = ecr.command(&["-", "team/app:1"]);
    let mut command = std::process::Command::new("sh");
    // A limit on the size of files stands for a disk that fills up.
    command.args(["-c", "trap '' XFSZ; ulimit -f 4096; exec \"$0\" \"$@\""]);
    command.arg(inner.get_program()).args(inner.get_args()).current_dir(inner.get_current_dir().unwrap());
    command.env_clear().envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let (reader, mut writer) = std::io::pipe().unwrap();
    let running = Running::fed(command, reader);
    let archive = save(&[layer(1, 30 << 20)]);
    // It need not take all of this, and for all that it knows more may come.
    let writing = std::thread::spawn(move || (writer.write_all(&archive[..10 << 20]).is_ok(), writer));
    let run = running.end().fails_with(1).stdout_is("");
    run.stderr_has(&[
        "cannot write more than 2.0 MiB of layer sha256:",
        "into a temporary file in /",
        "--temp-dir DIR",
    ]);
    ecr.has_no_image("1");
    assert_eq!(ecr.open_uploads(), 0);
    drop(writing.join().unwrap());
}

/// A registry of which nothing is known, and its target.
fn unknown(parts: Parts) -> (Ecr, String) {
    let registry = Ecr::with(&["team/app"], Rules { parts, anonymous: true, ..Rules::default() });
    let target = format!("{}/team/app:1", registry.address());
    (registry, target)
}

#[test]
fn whatever_a_registry_makes_of_chunks_a_pipe_arrives() {
    let refused = [404, 405, 416, 400].map(|status| Parts::Refused { status, code: "UNSUPPORTED".into() });
    let others = [Parts::LastKept, Parts::Any, Parts::AtLeast(6 << 20), Parts::AtLeast(100 << 20)];
    let archive = save(&[layer(1, 12 << 20), layer(2, 13 << 20), layer(3, 700), layer(4, 6 << 20)]);
    for parts in refused.into_iter().chain(others) {
        for lanes in ["6", "1"] {
            let (registry, target) = unknown(parts.clone());
            let file = registry.env.scratch("image.tar");
            fs::write(&file, &archive).unwrap();
            let command = registry.env.command(&["-", &target, "--concurrency", lanes]);
            let run = Running::fed(command, pipe(archive.clone())).end();
            show(&registry.story());
            run.succeeds().stderr_has(&[AS_IT_CAME, "4 of 4 layers uploaded"]);
            StoredImage::of_sandbox(&registry, "team/app", "1").is(&Source::read(&file, 0));
            assert_eq!(registry.open_uploads(), 0, "{parts:?}");
        }
    }
}

#[test]
fn what_goes_to_two_registries_arrives_whatever_one_makes_of_chunks() {
    let ((one, target), (other, second)) = (unknown(Parts::LastKept), unknown(Parts::Any));
    let archive = save(&[layer(1, 12 << 20), layer(2, 13 << 20)]);
    let file = one.env.scratch("image.tar");
    fs::write(&file, &archive).unwrap();
    let run = Running::fed(one.env.command(&["-", &target, &second]), pipe(archive)).end();
    show(&one.story());
    run.succeeds();
    for registry in [&one, &other] {
        StoredImage::of_sandbox(registry, "team/app", "1").is(&Source::read(&file, 0));
        assert_eq!(registry.open_uploads(), 0);
    }
}

#[test]
fn once_chunks_work_nothing_is_retained() {
    let (registry, target) = unknown(Parts::Any);
    let archive = save(&[layer(1, 12 << 20), layer(2, 12 << 20)]);
    let mut tar = tar::Archive::new(&archive[..]);
    let large = tar.entries().unwrap().map(Result::unwrap).filter(|entry| entry.size() > 1 << 20);
    let starts: Vec<usize> = large.map(|entry| usize::try_from(entry.raw_file_position()).unwrap()).collect();
    let [first, second] = starts[..] else { panic!("{starts:?}") };
    let (reader, mut writer) = std::io::pipe().unwrap();
    let command = registry.env.command(&["-", &target, "--concurrency", "1", "--chunk-size", "5M"]);
    let running = Running::fed(command, reader);
    let parts = || registry.count("ecr:UploadLayerPart");
    writer.write_all(&archive[..first + (8 << 20)]).unwrap();
    wait_until("a part of the first layer has been sent", || parts() == 1);
    assert_eq!(unnamed(running.id()).len(), 1);
    writer.write_all(&archive[first + (8 << 20)..second + (8 << 20)]).unwrap();
    wait_until("a part of the second layer has been sent", || parts() == 3);
    assert_eq!(unnamed(running.id()), []);
    writer.write_all(&archive[second + (8 << 20)..]).unwrap();
    drop(writer);
    running.end().succeeds().stderr_has(&["note: large layers are in a temporary file until one is uploaded"]);
    assert_eq!(registry.env.written(), ["home/.cache/ecr-push/layers.jsonl"]);
}

#[test]
fn a_cut_or_changed_pipe_tags_nothing_and_leaves_nothing_open() {
    let whole = bytes_of(KNOWN[0]);
    for cut in [1000, 40_000, 131_072, 300_000, 460_000, 465_000] {
        let ecr = Ecr::new();
        let run = push(&ecr, &["team/app:1"], whole[..cut].to_vec()).fails_with(1).stdout_is("");
        run.stderr_has(&["standard input is cut off: "]);
        ecr.has_no_image("1");
        assert_eq!(ecr.open_uploads(), 0, "cut at {cut}");
    }
    // In the midst of a layer.
    let mut changed = whole;
    changed[200_000] ^= 1;
    let ecr = Ecr::new();
    let run = push(&ecr, &["team/app:1"], changed).fails_with(1).stdout_is("");
    run.stderr_has(&["does not match the diff_id", "Nothing was tagged"]);
    ecr.has_no_image("1");
    assert_eq!(ecr.open_uploads(), 0);
    // Compressed, and the compressed bytes end.
    let gzip = archive_builder::packed("gzip", &bytes_of(KNOWN[0]));
    let ecr = Ecr::new();
    let run = push(&ecr, &["team/app:1"], gzip[..gzip.len() / 2].to_vec()).fails_with(1).stdout_is("");
    run.stderr_has(&["standard input is cut off: its gzip data ends after"]);
    assert_eq!(ecr.open_uploads(), 0);
}

#[test]
fn compression_of_a_layout_has_to_be_requested() {
    let env = TestEnv::new();
    let folder = env.scratch("layout");
    archive_builder::oci_layout(&folder, &[layer(1, 5000)]);
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_dir_all("blobs", format!("{folder}/blobs")).unwrap();
    for name in ["index.json", "oci-layout"] {
        archive_builder::add(&mut tar, name, &fs::read(format!("{folder}/{name}")).unwrap());
    }
    let bytes = tar.into_inner().unwrap();
    let ecr = Ecr::new();
    let run = push(&ecr, &["team/app:1"], bytes.clone()).fails_with(1).stdout_is("");
    run.stderr_has(&[
        "cannot push layer",
        "Push the archive from a file",
        ": --compression keep or --compression gzip",
    ]);
    ecr.has_no_image("1");
    for how in ["gzip", "keep"] {
        push(&ecr, &["team/app:1", "--compression", how], bytes.clone()).succeeds();
    }
}

#[test]
fn a_blob_that_vanishes_before_the_manifest_ends_in_the_words_to_run_it_again() {
    let ecr = Ecr::new();
    let archive = save(&[layer(1, 5000), layer(2, 6000)]);
    push(&ecr, &["team/app:1"], archive.clone()).succeeds();
    ecr.set_rules(|rules| rules.faults = vec![Fault::once("ecr:PutImage", Trouble::LoseLayer)]);
    let run = push(&ecr, &["team/app:2"], archive.clone()).fails_with(4).stdout_is("");
    run.stderr_has(&["was streamed and cannot be read again", "Run the same command again"]);
    ecr.has_no_image("2");
    push(&ecr, &["team/app:2"], archive).succeeds();
}

#[test]
fn ctrl_c_while_the_pipe_stands_still_closes_what_is_open() {
    let ecr = Ecr::new();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let running = Running::fed(ecr.command(&["-", "team/app:1"]), reader);
    let archive = save(&[layer(1, 30 << 20)]);
    writer.write_all(&archive[..20 << 20]).unwrap();
    wait_until("a part has been sent", || ecr.count("ecr:UploadLayerPart") >= 1);
    interrupt(running.id());
    running.end().fails_with(130).stdout_is("");
    wait_until("no session is open", || ecr.open_uploads() == 0);
    drop(writer);
}

#[test]
fn a_writer_into_the_pipe_can_write_all_of_it() {
    let ecr = Ecr::new();
    let script = format!("set -o pipefail; (cat {} && head -c 3000000 /dev/zero) | \"$0\" \"$@\"", testdata(KNOWN[0]));
    let mut command = std::process::Command::new("bash");
    let program = ecr.command(&["-", "team/app:1"]);
    command.args(["-c", &script]).arg(program.get_program()).args(program.get_args()).env_clear();
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("PATH", "/usr/bin:/bin");
    let run = finish(command, || ecr.story()).succeeds();
    assert!(run.stdout.starts_with(HOST));
}

#[test]
fn what_has_to_be_decided_first_is_copied_first() {
    let ecr = Ecr::new();
    let run = push(&ecr, &["team/app:1", "--image", "localhost/fixture/app:v1"], bytes_of(KNOWN[0])).succeeds();
    run.stderr_has(&["standard input is a pipe: copied into a temporary file"]);
    let run = push(&ecr, &["team/app:2", "--dry-run"], bytes_of(KNOWN[0])).succeeds();
    run.stderr_has(&["standard input is a pipe: copied into a temporary file"]);
}

#[test]
fn a_sparse_file_that_claims_to_be_endless_is_refused() {
    let mut sparse = tar::Header::new_gnu();
    sparse.set_path(format!("blobs/sha256/{}", "0".repeat(64))).unwrap();
    sparse.set_entry_type(tar::EntryType::GNUSparse);
    sparse.set_size(0);
    let gnu = sparse.as_gnu_mut().unwrap();
    gnu.set_real_size(1 << 62);
    gnu.sparse[0].set_offset(1 << 62);
    gnu.sparse[0].set_length(0);
    sparse.set_cksum();
    let mut tar = tar::Builder::new(Vec::new());
    tar.append(&sparse, &b""[..]).unwrap();
    let ecr = Ecr::new();
    let run = push(&ecr, &["team/app:1"], tar.into_inner().unwrap()).fails_with(1).stdout_is("");
    // It is never read, and nothing else is there.
    run.stderr_has(&["is a tar, but not of an image"]);
    assert!(ecr.log().is_empty());
}

#[test]
fn a_pipe_keeps_to_its_lanes() {
    let layers: Vec<_> = (1..8).map(|seed| layer(seed, 300_000)).collect();
    let archive = save(&layers);
    for lanes in [1, 2] {
        // Slow responses, so that every layer that may start does.
        let rules = Rules { delay: std::time::Duration::from_millis(60), ..Rules::default() };
        let ecr = Ecr::with(&["team/app"], rules);
        push(&ecr, &["team/app:1", "--concurrency", &lanes.to_string()], archive.clone()).succeeds();
        let (mut open, mut most) = (0, 0);
        for entry in ecr.log() {
            match entry.operation.as_str() {
                "ecr:InitiateLayerUpload" => open += 1,
                "ecr:CompleteLayerUpload" => open -= 1,
                _ => {}
            }
            most = most.max(open);
        }
        assert_eq!((open, most), (0, lanes), "uploads open at the end, and at once");
    }
}

#[test]
fn ctrl_c_during_a_pipe_waits_for_no_api() {
    // Before anything is known of the repository, and when a layer is looked up.
    for operation in ["ecr:DescribeRepositories", "ecr:BatchCheckLayerAvailability"] {
        let ecr = Ecr::faulty(&[Fault::once(operation, Trouble::Stall).times(u32::MAX)]);
        let (reader, mut writer) = std::io::pipe().unwrap();
        let running = Running::fed(ecr.command(&["-", "team/app:1", "--reuse", "off"]), reader);
        // So little that the pipe holds it, whether anybody reads or not.
        writer.write_all(&save(&[archive_builder::packed("gzip", &layer(1, 5000))])).unwrap();
        wait_until("the API is asked", || ecr.count(operation) >= 1);
        interrupt(running.id());
        // A push that waits fails after a minute without a response, with another exit code.
        running.end().fails_with(130).stdout_is("");
        drop(writer);
    }
}
