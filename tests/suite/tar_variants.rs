//! Tars and folders that other tools write, copy or spoil: read where that can be, else named for what happened to them.

#![cfg(unix)]

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use super::archive_builder;
use super::archive_contents::sha256;
use super::ecr::Ecr;
use super::harness::{Run, Running, show, testdata};

/// Pushes it from a file and through a pipe.
#[track_caller]
fn both_ways(bytes: &[u8], check: impl Fn(&Ecr, Run)) {
    let ecr = Ecr::new();
    let path = ecr.env.scratch("some.tar");
    std::fs::write(&path, bytes).unwrap();
    let run = ecr.run(&[&path, "team/app:1"]);
    check(&ecr, run);
    let ecr = Ecr::new();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let bytes = bytes.to_vec();
    // The program may stop reading early.
    std::thread::spawn(move || writer.write_all(&bytes).ok());
    let run = Running::fed(ecr.command(&["-", "team/app:1"]), Stdio::from(reader)).end();
    show(&ecr.story());
    check(&ecr, run);
}

/// Rejected with exit code 1 and these words.
#[track_caller]
fn is_rejected(bytes: &[u8], words: &[&str]) {
    both_ways(bytes, |ecr, run| {
        run.fails_with(1).stdout_is("").stderr_has(words);
        ecr.has_no_image("1");
    });
}

#[track_caller]
fn is_pushed(bytes: &[u8]) {
    both_ways(bytes, |ecr, run| {
        run.succeeds();
        assert!(ecr.image("team/app", "1").is_some());
    });
}

#[track_caller]
fn folder_is_rejected(path: &str, words: &[&str]) {
    let ecr = Ecr::new();
    ecr.run(&[path, "team/app:1"]).fails_with(1).stdout_is("").stderr_has(words);
    ecr.has_no_image("1");
}

fn bytes_of(name: &str) -> Vec<u8> {
    std::fs::read(testdata(name)).unwrap()
}

/// A header as GNU tar writes it for a label, or for a file that continues: without a size, an owner or a magic number.
fn bare_header(name: &str, kind: u8) -> Vec<u8> {
    let mut header = tar::Header::new_old();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_cksum();
    header.as_bytes().to_vec()
}

/// A layout in a tar, all of it below `folder`, without the files of these names.
fn layout_tar(folder: &str, without: &[&str]) -> Vec<u8> {
    let ecr = Ecr::new();
    let path = ecr.env.scratch("layout");
    archive_builder::oci_layout(&path, &[archive_builder::noise(3, 5000)]);
    without.iter().for_each(|name| std::fs::remove_file(format!("{path}/{name}")).unwrap());
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_dir_all(if folder.is_empty() { "." } else { folder }, path).unwrap();
    tar.into_inner().unwrap()
}

#[test]
fn a_volume_label_may_precede_any_tar() {
    let label = bare_header("backup Volume 1", b'V');
    for archive in ["docker-20.10-save.tar", "docker-29-overlay2-save.tar", "podman-oci-archive.tar"] {
        let labeled = [&label[..], &bytes_of(archive)].concat();
        is_pushed(&labeled);
        is_pushed(&archive_builder::packed("gzip", &labeled));
    }
}

#[test]
fn the_rest_of_a_file_of_an_earlier_volume_is_skipped() {
    let rest = archive_builder::tar_of("manifest.json", b"the rest of another");
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes().copy_from_slice(&rest[..512]);
    header.set_entry_type(tar::EntryType::new(b'M'));
    header.set_cksum();
    let volume = [&bare_header("backup Volume 2", b'V')[..], header.as_bytes(), &rest[512..1024]].concat();
    is_pushed(&[&volume[..], &bytes_of("docker-20.10-save.tar")].concat());
    // It comes last, too: it is not the manifest.json.
    let save = bytes_of("docker-20.10-save.tar");
    let end = save.len() - save.iter().rev().take_while(|byte| **byte == 0).count();
    let end = end.next_multiple_of(512);
    is_pushed(&[&save[..end], header.as_bytes(), &rest[512..1024], &save[end..]].concat());
}

#[test]
fn a_folder_without_the_marker_of_a_layout_is_pushed() {
    let ecr = Ecr::new();
    let path = ecr.env.scratch("layout");
    let digest = archive_builder::oci_layout(&path, &[archive_builder::noise(3, 5000)]);
    std::fs::remove_file(format!("{path}/oci-layout")).unwrap();
    ecr.run(&[&path, "team/app:1"]).succeeds();
    assert_eq!(ecr.image("team/app", "1").unwrap().0.to_string(), digest);
}

#[test]
fn an_index_json_of_something_else_is_not_a_layout() {
    is_rejected(&archive_builder::tar_of("index.json", b"{}"), &["is an incomplete OCI layout"]);
}

#[test]
fn links_of_a_folder_that_lead_to_nothing_are_named() {
    let ecr = Ecr::new();
    let path = ecr.env.scratch("layout");
    let layer = archive_builder::noise(3, 5000);
    archive_builder::oci_layout(&path, std::slice::from_ref(&layer));
    let blob = format!("{path}/{}", sha256(&layer).replace("sha256:", "blobs/sha256/"));
    std::fs::remove_file(&blob).unwrap();
    std::os::unix::fs::symlink("/no/such/store/layer", &blob).unwrap();
    folder_is_rejected(&path, &[&format!("{blob} is a link to /no/such/store/layer, which does not exist")]);
}

#[test]
fn an_extracted_save_of_docker_1_9_is_recognized() {
    let ecr = Ecr::new();
    let path = ecr.env.scratch("unpacked");
    tar::Archive::new(&bytes_of("reported/docker-1.9.tar")[..]).unpack(&path).unwrap();
    folder_is_rejected(&path, &["Docker 1.9 or older wrote it", "docker save -o image.tar IMAGE"]);
}

#[test]
fn a_config_without_a_name_is_named_as_such() {
    let layer = archive_builder::tar_of("a", b"a");
    let mut tar = tar::Builder::new(Vec::new());
    archive_builder::add(&mut tar, "layer.tar", &layer);
    archive_builder::add(&mut tar, "manifest.json", br#"[{"Config": "", "RepoTags": null, "Layers": ["layer.tar"]}]"#);
    is_rejected(&tar.into_inner().unwrap(), &["names a layer or a config by an empty name"]);
}

#[test]
fn an_image_is_found_at_any_depth() {
    let command = |folder: &str| format!(" && tar -C {folder} -cf image.tar .\n");
    is_rejected(&layout_tar("a/b/c/d", &[]), &["in the folder a/b/c/d/", &command("a/b/c/d")]);
    is_rejected(&layout_tar("a/b", &["oci-layout"]), &["in the folder a/b/", &command("a/b")]);
    // Of a file system only that counts which is an image.
    let mut tar = tar::Builder::new(Vec::new());
    archive_builder::add(&mut tar, "usr/lib/extension/manifest.json", br#"{"manifest_version": 3}"#);
    archive_builder::add(&mut tar, "usr/share/index.json", b"{}");
    is_rejected(&tar.into_inner().unwrap(), &["This looks like a file system"]);
    let mut tar = tar::Builder::new(Vec::new());
    archive_builder::add(&mut tar, "a/manifest.json", br#"{"manifest_version": 3}"#);
    archive_builder::add(&mut tar, "b/c d/manifest.json", br#"[{"Config": "c.json", "RepoTags": null, "Layers": []}]"#);
    is_rejected(&tar.into_inner().unwrap(), &["in the folder b/c d/", &command("'b/c d'")]);
}

#[test]
fn the_command_gets_an_image_out_of_its_folder() {
    let ecr = Ecr::new();
    let path = ecr.env.scratch("deep.tar");
    std::fs::write(&path, layout_tar("build/out", &[])).unwrap();
    let run = ecr.run(&[&path, "team/app:1"]).fails_with(1);
    let command = run.stderr.lines().find_map(|line| line.trim().strip_prefix("tar -xf")).expect("a command");
    let mut shell = std::process::Command::new("sh");
    shell.args(["-ec", &format!("tar -xf{command}")]).current_dir(Path::new(&path).parent().unwrap());
    assert!(shell.status().unwrap().success(), "{command}");
    ecr.run(&[&ecr.env.scratch("image.tar"), "team/app:1"]).succeeds();
}

/// What a program makes of bytes that takes them for text of one byte a character, and writes UTF-8.
fn reencoded(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| char::from(*byte)).collect::<String>().into_bytes()
}

#[test]
fn binary_data_that_became_text_leads_to_powershell() {
    let words = ["PowerShell's > and pipes", "\n  docker save -o image.tar IMAGE\n"];
    let bytes = bytes_of("docker-20.10-save.tar");
    is_rejected(&reencoded(&bytes), &[&words[..], &["turned into text in UTF-8"]].concat());
    // A reader that takes it for UTF-8 replaces every other byte.
    is_rejected(String::from_utf8_lossy(&bytes).as_bytes(), &words);
    for tool in ["gzip", "zstd", "bzip2", "xz"] {
        let compressed = archive_builder::packed(tool, &bytes);
        is_rejected(&reencoded(&compressed), &words);
        is_rejected(String::from_utf8_lossy(&compressed).as_bytes(), &words);
    }
}

#[test]
fn utf_16_of_either_order_leads_to_powershell() {
    let words = ["is text in UTF-16", "PowerShell's > and pipes", "\n  docker save -o image.tar IMAGE\n"];
    for bytes in [bytes_of("docker-20.10-save.tar"), archive_builder::packed("gzip", b"tar")] {
        let units = std::iter::once(0xfeff).chain(bytes.iter().map(|byte| u16::from(*byte)));
        let (little, big): (Vec<_>, Vec<_>) = units.map(|unit| (unit.to_le_bytes(), unit.to_be_bytes())).unzip();
        is_rejected(&little.concat(), &words);
        is_rejected(&big.concat(), &words);
    }
}

#[test]
fn what_became_ascii_leads_to_powershell() {
    for tool in ["gzip", "zstd"] {
        let compressed = archive_builder::packed(tool, &bytes_of("docker-20.10-save.tar"));
        let ascii: Vec<u8> = compressed.iter().map(|byte| if byte.is_ascii() { *byte } else { b'?' }).collect();
        is_rejected(&ascii, &["PowerShell's > and pipes"]);
    }
}
