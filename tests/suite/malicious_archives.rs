//! Malicious archives: each ends with exit code 1 and a sentence that names the entry, and leaves no tag.

use std::path::Path;

use serde_json::{Value, json};

use super::archive_builder::{self, add};
use super::archive_contents::sha256;
use super::ecr::Ecr;

/// Pushes it, and sees it refused in these words.
#[track_caller]
fn refused(ecr: &Ecr, archive: &str, says: &[&str]) {
    ecr.run(&[archive, "team/app:1"]).fails_with(1).stdout_is("").stderr_has(says);
    assert_eq!(ecr.count("ecr:PutImage"), 0, "not even a manifest");
    ecr.has_no_image("1");
}

/// The file of a layout with this blob.
fn blob(layout: &str, bytes: &[u8]) -> String {
    format!("{layout}/{}", name(bytes))
}

fn name(bytes: &[u8]) -> String {
    sha256(bytes).replace("sha256:", "blobs/sha256/")
}

/// A layout of one layer, in a folder.
fn layout(ecr: &Ecr) -> (String, Vec<u8>) {
    let (path, layer) = (ecr.env.scratch("layout"), archive_builder::tar_of("app", &archive_builder::noise(1, 30_000)));
    archive_builder::oci_layout(&path, std::slice::from_ref(&layer));
    (path, layer)
}

/// Makes a layout's index name a manifest or an index of these bytes.
fn name_in_index(layout: &str, kind: &str, bytes: &str) {
    std::fs::write(blob(layout, bytes.as_bytes()), bytes).unwrap();
    let root = json!({"mediaType": kind, "digest": sha256(bytes.as_bytes()), "size": bytes.len()});
    std::fs::write(format!("{layout}/index.json"), json!({"schemaVersion": 2, "manifests": [root]}).to_string())
        .unwrap();
}

#[test]
fn a_blob_that_is_shorter_or_longer_than_its_descriptor() {
    for len in [29_999, 50_000] {
        let ecr = Ecr::new();
        let (path, layer) = layout(&ecr);
        std::fs::File::options().write(true).open(blob(&path, &layer)).unwrap().set_len(len).unwrap();
        let text = format!("{} of the archive is {len} bytes long, but blobs/sha256/", name(&layer));
        refused(&ecr, &path, &[&text, &format!(" states {}", layer.len()), "hint: "]);
    }
}

#[test]
fn a_config_with_fewer_or_more_diff_ids_than_there_are_layers() {
    for count in [0, 2] {
        let ecr = Ecr::new();
        let (path, layer) = layout(&ecr);
        let config = archive_builder::config(&vec![sha256(&layer); count]);
        std::fs::write(blob(&path, &config), &config).unwrap();
        archive_builder::edit_manifest(&path, |manifest| {
            manifest["config"]["digest"] = sha256(&config).into();
            manifest["config"]["size"] = config.len().into();
        });
        let text = format!("lists 1 layers, but its config {} lists {count} diff_ids", name(&config));
        refused(&ecr, &path, &[&text, "hint: "]);

        let saved = ecr.env.scratch("image.tar");
        let mut tar = tar::Builder::new(std::fs::File::create(&saved).unwrap());
        add(&mut tar, "layer.tar", &layer);
        archive_builder::finish_docker_save(&mut tar, &["layer.tar".into()], &vec![sha256(&layer); count]);
        refused(&ecr, &saved, &["manifest.json for made/up:1 lists 1 layers, but its config", "hint: "]);
    }
}

#[cfg(unix)]
#[test]
fn what_a_folder_contains_and_is_not_a_file() {
    use std::os::unix::fs::symlink;
    type Put = fn(&Path);
    let put: [(Put, &str); 5] = [
        (|path| symlink("/dev/zero", path).unwrap(), "is a device, not a file"),
        (|path| std::fs::create_dir(path).unwrap(), "is a folder, not a file"),
        // The content of another user's file is not pushed: its length or its digest does not match.
        (|path| symlink("/etc/passwd", path).unwrap(), "bytes long, but blobs/sha256/"),
        (|path| symlink("../../../nowhere", path).unwrap(), "is a link to ../../../nowhere, which does not exist"),
        (|path| symlink(path.file_name().unwrap(), path).unwrap(), "cannot read "),
    ];
    for (put, says) in put {
        let ecr = Ecr::new();
        let (path, layer) = layout(&ecr);
        let file = blob(&path, &layer);
        std::fs::remove_file(&file).unwrap();
        put(Path::new(&file));
        refused(&ecr, &path, &[says, &sha256(&layer)[7..19]]);
    }
    let ecr = Ecr::new();
    let (path, layer) = layout(&ecr);
    let (file, other) = (blob(&path, &layer), ecr.env.scratch("other"));
    std::fs::write(&other, archive_builder::noise(2, layer.len())).unwrap();
    std::fs::remove_file(&file).unwrap();
    symlink(other, file).unwrap();
    refused(&ecr, &path, &[&format!("layer {} does not match the digest", name(&layer))]);
}

#[test]
fn an_index_that_names_itself_or_others_without_end() {
    let kind = "application/vnd.oci.image.index.v1+json";
    let ecr = Ecr::new();
    let (path, _) = layout(&ecr);
    // No bytes contain their own digest; this is the closest that is possible.
    let digest = sha256(b"itself");
    let index =
        |len: usize| json!({"schemaVersion": 2, "manifests": [{"mediaType": kind, "digest": digest, "size": len}]});
    let own = index(index(100).to_string().len());
    std::fs::write(blob(&path, b"itself"), own.to_string()).unwrap();
    std::fs::write(format!("{path}/index.json"), own.to_string()).unwrap();
    refused(&ecr, &path, &[&format!("{} of the archive has the digest sha256:", name(b"itself")), "hint: "]);

    let manifest: Value = serde_json::from_slice(&std::fs::read(format!("{path}/index.json")).unwrap()).unwrap();
    let mut inner = manifest.to_string();
    for _ in 0..10 {
        name_in_index(&path, kind, &inner);
        inner = std::fs::read_to_string(format!("{path}/index.json")).unwrap();
    }
    refused(&ecr, &path, &["indexes of the archive are nested too deep, down to blobs/sha256/"]);
}

#[test]
fn json_that_would_fill_the_memory_or_the_stack() {
    let ecr = Ecr::new();
    let (path, _) = layout(&ecr);
    let index = format!("{path}/index.json");
    // Nothing of it takes room on the disk.
    std::fs::File::create(&index).unwrap().set_len(1 << 30).unwrap();
    refused(&ecr, &path, &["index.json of the archive is 1073741824 bytes long, and the limit is 8388608", "hint: "]);
    let nested = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    std::fs::write(&index, &nested).unwrap();
    refused(&ecr, &path, &["index.json of the archive is malformed"]);
    std::fs::write(&index, format!(r#"{{"schemaVersion":2,"manifests":{nested}}}"#)).unwrap();
    refused(&ecr, &path, &["index.json of the archive is malformed"]);

    // Where it is not read it does no harm, until the manifest has to be written again: then it is reported before the push.
    let (path, layer) = layout(&ecr);
    let manifest = archive_builder::edit_manifest(&path, |_| {});
    let file = format!("{path}/{}", manifest.replace("sha256:", "blobs/sha256/"));
    let text = std::fs::read_to_string(file).unwrap();
    let text = format!(r#"{{"x":{nested},{}"#, text.strip_prefix('{').unwrap());
    name_in_index(&path, "application/vnd.oci.image.manifest.v1+json", &text);
    let run = ecr.run(&[&path, "team/app:1", "--compression", "gzip"]).fails_with(1);
    run.stderr_has(&[&format!("cannot edit the archive's manifest {}", &sha256(text.as_bytes())[..19])]);
    assert!(ecr.blob("team/app", &sha256(&layer).parse().unwrap()).is_none());
    assert_eq!(ecr.log().len(), 0, "no request is sent");
    ecr.run(&[&path, "team/app:1"]).succeeds();
}

#[test]
fn links_and_names_that_lead_out_of_a_tar_or_in_circles() {
    let layer = archive_builder::tar_of("app", b"app");
    type Entry<'a> = (&'a str, &'a str);
    let cases: [(&[Entry<'_>], &str); 4] = [
        (
            &[("layer.tar", "other.tar"), ("other.tar", "layer.tar")],
            "the entry layer.tar is a link that leads to no file",
        ),
        (&[("layer.tar", "/etc/passwd")], "the entry layer.tar is a link that leaves the archive, to /etc/passwd"),
        (&[("layer.tar", "../../etc/passwd")], "the entry layer.tar is a link that leaves the archive"),
        (&[("layer.tar", "gone.tar")], "the entry layer.tar is a link to gone.tar, which does not exist"),
    ];
    for (links, says) in cases {
        let ecr = Ecr::new();
        let path = ecr.env.scratch("image.tar");
        let mut tar = tar::Builder::new(std::fs::File::create(&path).unwrap());
        for (name, target) in links {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            tar.append_link(&mut header, name, target).unwrap();
        }
        archive_builder::finish_docker_save(&mut tar, &["layer.tar".into()], &[sha256(&layer)]);
        refused(&ecr, &path, &[says, "hint: "]);
    }
    // A name that leads out names nothing, here or there.
    let ecr = Ecr::new();
    let path = ecr.env.scratch("image.tar");
    let mut tar = tar::Builder::new(std::fs::File::create(&path).unwrap());
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..7].copy_from_slice(b"../../x");
    header.set_size(layer.len() as u64);
    header.set_cksum();
    tar.append(&header, layer.as_slice()).unwrap();
    archive_builder::finish_docker_save(&mut tar, &["../../x".into()], &[sha256(&layer)]);
    refused(
        &ecr,
        &path,
        &["the archive does not contain ../../x, which its manifest.json names as a layer of made/up:1"],
    );
    assert!(!Path::new(&ecr.env.scratch("../x")).exists());
}
