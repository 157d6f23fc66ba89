//! What is wrong with an archive is said before anybody is asked, or at the latest before anything is tagged.

use std::io::{Read as _, Write as _};

use super::archive_builder;
use super::archive_contents::sha256;
use super::ecr::Ecr;
use super::harness::{Run, testdata};

/// Pushes something that cannot be pushed, and asserts that nothing is.
#[track_caller]
fn refused(ecr: &Ecr, arguments: &[&str], code: i32) -> Run {
    let run = ecr.run(&[arguments, &["team/app:1"]].concat()).exits_with(code).stdout_is("");
    ecr.has_no_image("1");
    assert_eq!(ecr.count("ecr:PutImage"), 0);
    run
}

/// The same, found out before anybody was asked anything.
#[track_caller]
fn refused_at_once(arguments: &[&str], code: i32) -> Run {
    let ecr = Ecr::new();
    let run = refused(&ecr, arguments, code);
    assert_eq!(ecr.story(), "", "no request is sent for an archive that cannot be read");
    run
}

/// The same, of a file with these bytes.
#[track_caller]
fn refused_bytes(name: &str, bytes: &[u8]) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let path = super::harness::text(&folder.path().join(name));
    std::fs::write(&path, bytes).unwrap();
    refused_at_once(&[&path], 1)
}

/// A copy of an archive of `testdata` with one bit changed in the middle of an entry.
#[track_caller]
fn changed(ecr: &Ecr, archive: &str, entry: &str) -> String {
    archive_builder::changed(&ecr.env, archive, &[entry])
}

#[test]
fn a_file_that_is_not_there() {
    let run = refused_at_once(&["no/such/image.tar"], 1);
    run.stderr_has(&["error: cannot find the file no/such/image.tar\n", "hint: The current folder is "]);
    let run = refused_at_once(&["/no/such/image.tar"], 1);
    assert!(run.stderr.ends_with("error: cannot find the file /no/such/image.tar\n"));
    // What `docker push` takes.
    for name in ["team/app:1.4", "ghcr.io/team/app:1.4"] {
        let run = refused_at_once(&[name], 1).stderr_has(&[&format!("cannot find the file {name}")]);
        run.stderr_has(&[&format!("ecr-push docker-daemon:{name} TARGET")]);
    }
}

#[test]
fn things_that_are_no_archive_are_called_what_they_look_like() {
    let elf = [b"\x7fELF\x02\x01\x01".as_slice(), &[0; 2000]].concat();
    let program = std::fs::read(super::harness::program()).unwrap();
    let long_text = "Dear diary, ".repeat(200);
    for (name, bytes, what) in [
        ("elf", elf.as_slice(), "is a program (ELF), not an image archive"),
        ("json", br#"{"schemaVersion": 2}"#, "is JSON, not an image archive"),
        ("text", b"Dear diary\n", "is text, not an image archive"),
        ("long", long_text.as_bytes(), "is text, not an image archive"),
        ("empty", b"", "is empty, not an image archive"),
        ("page", b"<!DOCTYPE html><html></html>", "is a web page or XML"),
        ("Dockerfile", b"# my image\nFROM scratch\n", "is a Dockerfile"),
        ("zip", b"PK\x03\x04abcdefgh", "is compressed with zip, which is not supported"),
        ("lz4", b"\x04\x22\x4d\x18abcdefgh", "is compressed with lz4, which is not supported"),
        ("7z", b"7z\xbc\xaf\x27\x1cabcdefgh", "is compressed with 7-Zip, which is not supported"),
        ("zst", b"\x28\xb5\x2f\xfdabcdefgh", "is broken: its zstd data can be read up to 0 B of the tar"),
        ("pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "is a Git LFS pointer"),
        ("zeros", &[0; 10240], "is nothing but zeros, like an empty tar"),
        ("noise", &archive_builder::noise(1, 4096), "is not a tar: it starts with"),
    ] {
        refused_bytes(name, bytes).stderr_has(&[&format!("/{name} {what}"), "hint: "]);
    }
    if cfg!(target_os = "linux") {
        refused_bytes("self", &program).stderr_has(&["is a program (ELF)"]);
    }
}

#[test]
fn tars_of_something_else_are_called_what_they_look_like() {
    let root = archive_builder::tar_of("etc/passwd", b"root");
    refused_bytes("root.tar", &root).stderr_has(&["is a tar, but not of an image", "docker export", "docker save"]);
    let context = archive_builder::tar_of("Dockerfile", b"FROM scratch");
    refused_bytes("context.tar", &context).stderr_has(&["is a tar, but not of an image", "Build it first"]);
    let nested = archive_builder::tar_of("image/manifest.json", b"[]");
    refused_bytes("nested.tar", &nested)
        .stderr_has(&["is a tar, but not of an image", "/nested.tar && tar -C image -cf image.tar .\n"]);
    let other = archive_builder::tar_of("hello", b"world");
    refused_bytes("other.tar", &other).stderr_has(&["it has neither manifest.json nor index.json"]);
    let none = archive_builder::tar_of("manifest.json", b"[]");
    refused_bytes("none.tar", &none).stderr_has(&["lists no image"]);
}

#[test]
fn folders_without_a_layout() {
    let folder = tempfile::tempdir().unwrap();
    let path = super::harness::text(folder.path());
    let run = refused_at_once(&[&path], 1);
    run.stderr_has(&["is not an OCI layout: it has no file oci-layout", "hint: Use the folder that holds oci-layout"]);
    std::fs::write(folder.path().join("Dockerfile"), "FROM scratch").unwrap();
    refused_at_once(&[&path], 1).stderr_has(&["Build it first"]);
    std::fs::write(folder.path().join("manifest.json"), "[]").unwrap();
    refused_at_once(&[&path], 1).stderr_has(&["extracted `docker save`", "\n  tar -C "]);
}

#[test]
fn a_tar_that_is_cut_off_anywhere() {
    for (archive, last) in [("docker-20.10-save.tar", "manifest.json"), ("podman-oci-archive.tar", "index.json")] {
        let bytes = std::fs::read(testdata(archive)).unwrap();
        let mut tar = tar::Archive::new(bytes.as_slice());
        let last = tar.entries().unwrap().map(Result::unwrap).find(|entry| entry.path_bytes() == last.as_bytes());
        // Whatever is cut off before the list of contents is all there.
        let end = usize::try_from(last.map(|last| last.raw_file_position() + last.size()).unwrap()).unwrap();
        let step = bytes.len() / 11;
        for cut in [512, 513, 1023, 1024, end - 700, end - 512, end - 10].into_iter().chain((step..end).step_by(step)) {
            refused_bytes("cut.tar", &bytes[..cut])
                .stderr_has(&["cut.tar is cut off: ", &format!("The tar is {cut} bytes long.")]);
        }
        refused_bytes("cut.tar", &bytes[..200]).stderr_has(&["perhaps cut off"]);
    }
}

#[test]
fn a_tar_without_its_end_mark_is_pushed_with_a_note() {
    let ecr = Ecr::new();
    let bytes = std::fs::read(testdata("docker-20.10-save.tar")).unwrap();
    let end = bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count();
    let path = ecr.env.scratch("no-end.tar");
    std::fs::write(&path, &bytes[..end.next_multiple_of(512)]).unwrap();
    ecr.run(&[&path, "team/app:1"])
        .succeeds()
        .stderr_has(&["has no end mark, but it contains everything that it lists"]);
}

#[test]
fn a_blob_that_is_named_and_not_there() {
    let run = refused_at_once(&[&testdata("docker-29-containerd-save-incomplete.tar")], 1);
    let run = run.stderr_has(&["the archive does not contain blobs/sha256/", "hint: ", "docker pull --platform"]);
    let named = ["92c112f97a4b", "11eaad61269d", "ec06faa51900", "f6cf1ea59da3"];
    assert!(named.iter().any(|start| run.stderr.contains(&format!("blobs/sha256/{start}"))), "a missing blob is named");
}

#[test]
fn an_uncompressed_layer_that_does_not_match_its_diff_id() {
    for (archive, entry) in [
        ("docker-20.10-save.tar", "309d5c90529ed3e6d11212b91d55422a52f9e1724831c002f814b834708fb71c/layer.tar"),
        ("docker-20.10-save.tar", "a595d02f7ae349ba804a725b6ed7ae7016285fffe1566ed73d3198c7379f6754/layer.tar"),
        ("docker-29-overlay2-save.tar", "c37a06bee251a276c594acb4f7ea571001c76d7b812dd018d3e8ba8c02e229cb"),
        ("podman-docker-archive.tar", "fab827903802c34f6451aca904f6d63283939c25190fab47c45af91a13e9dfd9.tar"),
    ] {
        let ecr = Ecr::new();
        let run = refused(&ecr, &[&changed(&ecr, archive, entry)], 1);
        let run = run.stderr_has(&["does not match the diff_id sha256:", "its bytes have the diff_id sha256:", entry]);
        run.stderr_has(&["hint: The archive is damaged or was changed: write it again. Nothing was tagged."]);
    }
}

#[test]
fn a_layer_of_a_layout_that_does_not_match_its_digest() {
    let ecr = Ecr::new();
    let entry = "11eaad61269d39800f15258d798e24f6a607d0e7ad20b3fac92f2b8d942b4bb4";
    let run = refused(&ecr, &[&changed(&ecr, "podman-oci-archive.tar", entry)], 1);
    let stated = format!("does not match the digest sha256:{entry}");
    run.stderr_has(&[&stated, "its bytes have the digest sha256:", "hint: The archive is damaged"]);
}

#[test]
fn a_layer_with_a_mismatch_leaves_no_session_of_the_other_layers_open() {
    // The others are anywhere on their way when it is found out, so this is tried a few times.
    for _ in 0..10 {
        let ecr = Ecr::new();
        let layout = ecr.env.scratch("layout");
        let layers: Vec<_> = (0..8).map(|n| archive_builder::noise(n, 20_000)).collect();
        archive_builder::oci_layout(&layout, &layers);
        let name = sha256(&layers[0]).replace("sha256:", "blobs/sha256/");
        std::fs::write(format!("{layout}/{name}"), archive_builder::noise(99, 20_000)).unwrap();
        refused(&ecr, &[&layout], 1).stderr_has(&[&name, "does not match the digest"]);
    }
}

#[test]
fn a_changed_compressed_layer_of_a_tarball() {
    let ecr = Ecr::new();
    let entry = "11eaad61269d39800f15258d798e24f6a607d0e7ad20b3fac92f2b8d942b4bb4.tar.gz";
    let run = refused(&ecr, &[&changed(&ecr, "crane-tarball.tar", entry)], 1);
    run.stderr_has(&["layer ", entry, "hint: The archive is damaged"]);
}

#[test]
fn a_large_layer_with_a_mismatch_is_found_after_parts_were_sent() {
    let ecr = Ecr::new();
    let path = ecr.env.scratch("mismatch.tar");
    let layer = archive_builder::tar_of("noise", &archive_builder::noise(9, 18 << 20));
    let mut tar = tar::Builder::new(std::fs::File::create(&path).unwrap());
    archive_builder::add(&mut tar, "layer.tar", &layer);
    let other = sha256(b"another layer");
    archive_builder::finish_docker_save(&mut tar, &["layer.tar".into()], std::slice::from_ref(&other));
    drop(tar);
    refused(&ecr, &[&path], 1).stderr_has(&[&format!("does not match the diff_id {other}")]);
    assert!(ecr.count("ecr:UploadLayerPart") > 0, "it was on its way");
    assert_eq!(ecr.count("v2:CancelUpload"), 1, "the session is closed");
}

#[test]
fn a_config_or_a_manifest_that_was_changed() {
    for (archive, entry) in [
        ("docker-20.10-save.tar", "92c112f97a4b73b2da373071d2e8be84471bfec08af392cc4b6479dad3d0496d.json"),
        ("docker-29-overlay2-save.tar", "92c112f97a4b73b2da373071d2e8be84471bfec08af392cc4b6479dad3d0496d"),
        ("podman-oci-archive.tar", "92c112f97a4b73b2da373071d2e8be84471bfec08af392cc4b6479dad3d0496d"),
        ("podman-oci-archive.tar", "d206e745a324f6b593f5936964fae9ff8965ec2ae1d6758dbd16c2f4e6bdd797"),
    ] {
        let ecr = Ecr::new();
        let run = refused(&ecr, &[&changed(&ecr, archive, entry)], 1);
        run.stderr_has(&[entry, " has the digest sha256:", "hint: "]);
    }
}

#[test]
fn a_compressed_layer_that_ends_too_early() {
    let ecr = Ecr::new();
    let path = ecr.env.scratch("short.tar");
    let mut tar = tar::Archive::new(std::fs::File::open(testdata("crane-tarball.tar")).unwrap());
    let mut cut = tar::Builder::new(std::fs::File::create(&path).unwrap());
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = super::harness::text(&entry.path().unwrap());
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        if name.starts_with("11eaad") {
            bytes.truncate(bytes.len() - 1000);
        }
        archive_builder::add(&mut cut, &name, &bytes);
    }
    cut.into_inner().unwrap().flush().unwrap();
    refused(&ecr, &[&path], 1)
        .stderr_has(&["11eaad61269d39800f15258d798e24f6a607d0e7ad20b3fac92f2b8d942b4bb4", "hint: "]);
}

#[test]
fn several_images_and_none_chosen() {
    let run = refused_at_once(&[&testdata("docker-20.10-save-many.tar")], 2);
    let run = run.stderr_has(&["contains 2 images, and none is selected", "hint: Select one:"]);
    run.stderr_has(&[
        "--image localhost/fixture/app:v1",
        "localhost/fixture/app:stable",
        "--image localhost/fixture/base:1",
    ]);
}

#[test]
fn an_image_that_is_not_there() {
    let archive = testdata("docker-20.10-save-many.tar");
    for choice in [["--image", "fixture/app:v2"], ["--image", "other"], ["--image-id", "abcdef123456"]] {
        let run = refused_at_once(&[&[archive.as_str()], &choice[..]].concat(), 1);
        let run = run.stderr_has(&["contains no image", choice[1], "hint: It contains:"]);
        run.stderr_has(&["--image localhost/fixture/app:v1", "--image localhost/fixture/base:1"]);
    }
    let run = refused_at_once(&[&testdata("docker-20.10-save.tar"), "--image", "app:v2"], 1);
    run.stderr_has(&["contains no image app:v2"]);
}

#[test]
fn a_layout_with_missing_blobs_has_the_advice_to_copy_it_again() {
    let ecr = Ecr::new();
    let (path, layer) = (ecr.env.scratch("layout"), archive_builder::tar_of("app", &archive_builder::noise(1, 30_000)));
    archive_builder::oci_layout(&path, std::slice::from_ref(&layer));
    let name = format!("blobs/sha256/{}", sha256(&layer).trim_start_matches("sha256:"));
    std::fs::remove_file(format!("{path}/{name}")).unwrap();
    let run = refused(&ecr, &[&path], 1);
    let run = run.stderr_has(&[&format!("the archive does not contain layer {}", &sha256(&layer)[..19])]);
    run.stderr_has(&["because: the repository does not have it either", "hint: Push the image that has it"]);
    let index = format!("{path}/index.json");
    std::fs::write(&index, "{").unwrap();
    let run = refused(&ecr, &[&path], 1).stderr_has(&["index.json of the archive is malformed"]);
    run.stderr_has(&["hint: The archive is damaged: write it again."]);
    std::fs::remove_file(index).unwrap();
    let run = refused(&ecr, &[&path], 1).stderr_has(&["the archive is an OCI layout without index.json"]);
    run.stderr_has(&["hint: The layout is incomplete: write or copy it again, whole."]);
}
