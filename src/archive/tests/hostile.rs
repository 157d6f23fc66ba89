//! Tests with damaged, inconsistent and malicious archives: each is an error with a clear text, and none is a panic.

use std::io;

use serde_json::json;

use super::*;

/// An entry of a tar: name, type, link target or empty, bytes.
pub(super) type Entry<'a> = (&'a str, tar::EntryType, &'a str, Vec<u8>);

pub(super) fn file(name: &str, bytes: impl Into<Vec<u8>>) -> Entry<'_> {
    (name, tar::EntryType::Regular, "", bytes.into())
}

fn link<'a>(name: &'a str, target: &'a str) -> Entry<'a> {
    (name, tar::EntryType::Symlink, target, Vec::new())
}

/// Returns a header with a name that the tar crate would reject.
fn header(name: &str, kind: tar::EntryType, target: &str, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    header
}

pub(super) fn tar_of(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, target, bytes) in entries {
        builder.append(&header(name, *kind, target, bytes.len() as u64), bytes.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

pub(super) fn open_bytes(bytes: &[u8]) -> Result<Archive> {
    let scratch = Scratch::new();
    open(&scratch.write("image.tar", bytes))
}

pub(super) fn open_entries(entries: &[Entry<'_>]) -> Result<Archive> {
    open_bytes(&tar_of(entries))
}

/// Returns the text and the causes of an error, which must be of kind `Input`.
pub(super) fn error_text(result: Result<Archive>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), Kind::Input, "{error:?}");
    std::iter::once(error.to_string()).chain(error.causes()).collect::<Vec<_>>().join(": ")
}

pub(super) fn config(layers: &[&[u8]]) -> String {
    let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
    json!({ "os": "linux", "architecture": "arm64", "variant": "v8", "rootfs": { "diff_ids": diff_ids } }).to_string()
}

fn manifest_json(config: &str, layers: &[&str]) -> String {
    json!([{ "Config": config, "RepoTags": ["app:1"], "Layers": layers }]).to_string()
}

/// Returns a `docker save` of one layer, `layer.tar`, with additional or replaced entries.
fn saved<'a>(others: &[Entry<'a>]) -> Vec<Entry<'a>> {
    let mut entries = vec![
        file("config.json", config(&[b"layer"])),
        file("layer.tar", "layer"),
        file("manifest.json", manifest_json("config.json", &["layer.tar"])),
    ];
    entries.retain(|entry| others.iter().all(|other| other.0 != entry.0));
    entries.extend_from_slice(others);
    entries
}

#[test]
fn the_kind_of_a_file_that_is_not_an_archive_is_named() {
    for (bytes, what) in [
        (&b""[..], "is empty, not"),
        (b"\x1f\x8b\x08\0", "is cut off: its gzip data ends after 0 B of the tar"),
        (b"\x28\xb5\x2f\xfd", "is cut off: its zstd data"),
        (b"\xfd7zXZ\0", "is cut off: its xz data"),
        (b"BZh9", "is cut off: its bzip2 data"),
        (b"BZh9 is no bzip2", "is broken: its bzip2 data"),
        (b"\x04\x22\x4d\x18", "is compressed with lz4, which is not supported"),
        (b"PK\x03\x04", "is compressed with zip, which is not supported"),
        (b"7z\xbc\xaf\x27\x1c", "is compressed with 7-Zip, which is not supported"),
        (b"\x7fELF\x02", "is a program (ELF), not"),
        (b"{\"a\": 1}", "is JSON, not"),
        (b"# syntax=docker/dockerfile:1\nFROM alpine\n", "is a Dockerfile, not"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer, not"),
        (b"<!DOCTYPE html>", "is a web page or XML, not"),
        (b"hello\n", "is text, not"),
        (&[0; 1024], "nothing but zeros"),
        (b"app\0\0\0", "(shorter than the smallest tar; perhaps cut off)"),
        (&[0xff; 1024], "is not a tar: it starts with ff ff"),
    ] {
        let text = error_text(open_bytes(bytes));
        assert!(text.contains(what), "{text}");
    }
    assert!(error_text(open(Path::new("no/such/file"))).contains("cannot find the file no/such/file"));
    let scratch = Scratch::new();
    assert!(error_text(open(&scratch.0)).contains("is not an OCI layout: it has no file oci-layout"));
}

#[test]
fn a_tar_without_an_image_is_diagnosed() {
    for (entry, hint) in
        [("a $(b)/oci-layout", "tar -C 'a $(b)' -cf"), ("Dockerfile", "built from"), ("usr/x", "docker export")]
    {
        let error = open_entries(&[file(entry, "x")]).unwrap_err();
        assert!(error.to_string().contains("neither manifest.json nor index.json"), "{error}");
        assert!(error.advice().unwrap().to_string().contains(hint), "{error:?}");
    }
}

#[test]
fn a_folder_without_an_image_is_diagnosed() {
    for (files, hint) in [
        (&["manifest.json"][..], "Archive it again:\n  tar -C /"),
        (&["Containerfile"], "built from"),
        (&[], "Use the folder that holds oci-layout"),
    ] {
        let scratch = Scratch::new();
        files.iter().for_each(|name| drop(scratch.write(name, b"")));
        let error = open(&scratch.0).unwrap_err();
        assert!(error.advice().unwrap().to_string().contains(hint), "{error:?}");
    }
}

/// Changes each byte of two archives, one at a time: an error or an archive, and never a panic.
#[test]
fn a_damaged_byte_never_causes_a_panic() {
    let scratch = Scratch::new();
    let (linked, base) =
        ([link("layer.tar", "y/layer"), file("y/layer", "layer")], fixture("docker-29-containerd-save-incomplete.tar"));
    for bytes in [tar_of(&saved(&linked)), fs::read(base).unwrap()] {
        for at in 0..bytes.len() {
            // In a run of zeros, one change is enough.
            if at >= 2 && bytes[at - 2..=at] == [0; 3] {
                continue;
            }
            let mut damaged = bytes.clone();
            damaged[at] ^= [0x01, 0x10, 0x80, bytes[at]][at % 4];
            if let Err(error) = open(&scratch.write("image.tar", &damaged)) {
                assert_eq!(error.kind(), Kind::Input, "byte {at}");
            }
        }
    }
}

#[test]
fn the_archive_of_these_tests_is_valid() {
    let archive = open_entries(&saved(&[])).unwrap();
    assert_eq!(platforms(&archive.images[0]), ["linux/arm64"]);
    assert_eq!(all(&archive.images[0].manifests()[0].layers[0].bytes), b"layer");
}

#[test]
fn the_error_about_a_truncated_entry_has_its_name_and_the_missing_bytes() {
    let bytes = tar_of(&saved(&[file("z", vec![1; 1000])]));
    let start = bytes.windows(4).position(|bytes| bytes == [1; 4]).unwrap();
    assert!(
        error_text(open_bytes(&bytes[..start + 990]))
            .contains("is cut off: the last 10 bytes of its entry z are missing")
    );
    assert!(error_text(open_bytes(&bytes[..start - 1])).contains("is cut off: it ends inside the header after"));
    let unmarked = &bytes[..start + 1000];
    assert_eq!(open_bytes(unmarked).unwrap().notes.len(), 1);
}

#[test]
fn the_error_about_a_file_that_became_shorter_is_not_about_a_buffer() {
    let archive = open_bytes(&tar_of(&saved(&[file("z", vec![1; 1000])]))).unwrap();
    let layer = &archive.images[0].manifests()[0].layers[0];
    let cause = |error| std::error::Error::source(&layer.unreadable(error)).unwrap().to_string();
    let standard = io::Read::read_exact(&mut io::empty(), &mut [0]).unwrap_err();
    assert_eq!(cause(standard), "its data ends too early");
    assert_eq!(cause(io::Error::new(io::ErrorKind::UnexpectedEof, "the frame is cut off")), "the frame is cut off");
}

#[test]
fn impossible_sizes_are_rejected() {
    for size in [u64::MAX, u64::MAX - 511, i64::MAX as u64, 1 << 40] {
        let mut bytes = tar_of(&saved(&[]));
        bytes.truncate(bytes.len() - 1024);
        bytes.extend_from_slice(header("huge", tar::EntryType::Regular, "", size).as_bytes());
        error_text(open_bytes(&bytes));
    }
    // A name of a terabyte, a PAX header with 2 MiB of names, and one with inconsistent records.
    let base = tar_of(&saved(&[]));
    let base = &base[..base.len() - 1024];
    let next = header("a", tar::EntryType::Regular, "", 0);
    for kind in [tar::EntryType::GNULongName, tar::EntryType::GNULongLink, tar::EntryType::XHeader] {
        let mut gnu = tar::Header::new_gnu();
        gnu.as_old_mut().name[..1].copy_from_slice(b"x");
        gnu.set_entry_type(kind);
        gnu.set_size(2 << 20);
        gnu.set_cksum();
        let bytes = [base, gnu.as_bytes(), &vec![b'n'; 2 << 20], next.as_bytes(), &[0; 1024]];
        assert!(error_text(open_bytes(&bytes.concat())).contains("names of an entry take more than"), "{kind:?}");
    }
}

#[test]
fn ambiguous_pax_records_are_rejected() {
    let base = saved(&[]);
    for record in ["9 size=5\n11 size=6\n", "8 size=5\n", "garbage\n", "10 size=05x\n", "9 size=5\n9 size=7\n"] {
        let mut entries = base.clone();
        entries.insert(1, ("pax", tar::EntryType::XHeader, "", record.into()));
        error_text(open_entries(&entries));
    }
    let mut entries = base.clone();
    entries.insert(1, ("pax", tar::EntryType::XHeader, "", "22 GNU.sparse.major=1\n".into()));
    assert!(error_text(open_entries(&entries)).contains("the entry layer.tar is a sparse file"));
    let mut entries = base;
    entries.insert(1, ("pax", tar::EntryType::XGlobalHeader, "", "16 comment=hello".into()));
    assert!(open_entries(&entries).is_ok());
}

#[test]
fn a_chain_of_links_is_limited() {
    let open_chain = |links: usize| {
        let names: Vec<String> = (0..=links).map(|at| format!("link-{at}")).collect();
        let mut entries = saved(&[]);
        entries.retain(|(name, ..)| *name != "layer.tar");
        entries.extend(names.windows(2).map(|pair| link(&pair[0], &pair[1])));
        entries.push(link("layer.tar", &names[0]));
        entries.push(file(&names[links], "layer"));
        open_entries(&entries)
    };
    assert_eq!(all(&open_chain(15).unwrap().images[0].manifests()[0].layers[0].bytes), b"layer");
    assert!(error_text(open_chain(16)).contains("leads to no file in 16 steps"));
}

#[test]
fn the_names_of_all_entries_are_limited() {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    for at in 0..65 {
        let name = format!("{at:02}{}", "x".repeat((1 << 20) - 1600));
        tar.append_data(&mut header, name, io::empty()).unwrap();
    }
    let text = error_text(open_bytes(&tar.into_inner().unwrap()));
    assert!(text.contains("have names of more than 67108864 bytes"), "{text}");
}

#[test]
fn links_are_followed_inside_the_archive_only() {
    let chain: Vec<_> = (0..20).map(|at| (format!("l{at}"), format!("l{}", at + 1))).collect();
    let chain: Vec<_> = chain.iter().map(|(name, target)| link(name, target)).collect();
    let to_chain = [vec![link("layer.tar", "l0")], chain].concat();
    for (others, expected) in [
        (vec![link("layer.tar", "layer.tar")], "is a link that leads to no file in 16 steps"),
        (vec![link("layer.tar", "a"), link("a", "layer.tar")], "is a link that leads to no file in 16 steps"),
        (to_chain, "is a link that leads to no file in 16 steps"),
        (
            vec![link("layer.tar", "../../etc/passwd")],
            "the entry layer.tar is a link that leaves the archive, to ../../etc/passwd",
        ),
        (
            vec![link("layer.tar", "/etc/passwd")],
            "the entry layer.tar is a link that leaves the archive, to /etc/passwd",
        ),
        (vec![link("layer.tar", "gone")], "the entry layer.tar is a link to gone, which does not exist"),
        (vec![("layer.tar", tar::EntryType::Fifo, "", vec![])], "the entry layer.tar is not a regular file"),
    ] {
        let text = error_text(open_entries(&saved(&others)));
        assert!(text.contains(expected), "{text}");
    }
    let far = "../x/../y/./layer";
    let good = [
        link("a/b", far),
        file("y/layer", "layer"),
        link("unused", "/etc/passwd"),
        ("layer.tar", tar::EntryType::Link, "./a/b", vec![]),
    ];
    assert!(open_entries(&saved(&good)).is_ok());
}

#[test]
fn names_that_lead_outside_are_not_found() {
    let list = file("manifest.json", manifest_json("config.json", &["../../layer.tar"]));
    let text = error_text(open_entries(&saved(&[list.clone(), file("../../layer.tar", "layer")])));
    assert!(text.contains("the archive does not contain ../../layer.tar"), "{text}");
    let dotted: Vec<_> =
        saved(&[]).into_iter().map(|(name, kind, target, bytes)| (format!("./{name}"), kind, target, bytes)).collect();
    let dotted: Vec<_> =
        dotted.iter().map(|(name, kind, target, bytes)| (name.as_str(), *kind, *target, bytes.clone())).collect();
    assert!(open_entries(&dotted).is_ok());
}

#[test]
fn names_that_are_too_long_for_a_header_are_read() {
    // GNU's format (`././@LongLink`), for an entry and for the target of a link, and that of PAX.
    let long = ["x", "y", "z"].map(|part| part.repeat(90)).join("/") + "/layer.tar";
    let open_with = |add: &dyn Fn(&mut tar::Builder<Vec<u8>>)| {
        let list = [file("manifest.json", manifest_json("config.json", &[&long])), file("layer.tar", "other")];
        let mut tar = tar::Builder::new(Vec::new());
        for (name, kind, target, bytes) in saved(&list) {
            tar.append(&header(name, kind, target, bytes.len() as u64), bytes.as_slice()).unwrap();
        }
        add(&mut tar);
        open_bytes(&tar.into_inner().unwrap()).map(|archive| all(&archive.images[0].manifests()[0].layers[0].bytes))
    };
    let gnu = |tar: &mut tar::Builder<Vec<u8>>, name: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_size(5);
        tar.append_data(&mut header, name, &b"layer"[..]).unwrap();
    };
    assert_eq!(open_with(&|tar| gnu(tar, &long)).unwrap(), b"layer");
    for kind in [tar::EntryType::Symlink, tar::EntryType::Link] {
        let there = ["a", "b", "c"].map(|part| part.repeat(90)).join("/");
        let up = if kind.is_symlink() { format!("../../../{there}") } else { there.clone() };
        let linked = open_with(&|tar| {
            gnu(tar, &there);
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(0);
            tar.append_link(&mut header, &long, &up).unwrap();
        });
        assert_eq!(linked.unwrap(), b"layer", "{kind:?}");
    }
    let pax = open_with(&|tar| {
        tar.append_pax_extensions([("path", long.as_bytes()), ("size", b"5")]).unwrap();
        tar.append(&header("short", tar::EntryType::Regular, "", 5), &b"layer"[..]).unwrap();
    });
    assert_eq!(pax.unwrap(), b"layer");
    assert!(open_with(&|_| {}).unwrap_err().to_string().starts_with("the archive does not contain xxx"));
}

#[test]
fn a_sparse_entry_of_gnu_tar_is_read_with_its_holes() {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, kind, target, bytes) in saved(&[]).into_iter().filter(|entry| entry.0 != "layer.tar") {
        tar.append(&header(name, kind, target, bytes.len() as u64), bytes.as_slice()).unwrap();
    }
    let mut sparse = tar::Header::new_gnu();
    sparse.set_path("layer.tar").unwrap();
    sparse.set_entry_type(tar::EntryType::GNUSparse);
    sparse.set_size(5);
    let gnu = sparse.as_gnu_mut().unwrap();
    gnu.set_real_size(512 + 5);
    gnu.sparse[0].set_offset(512);
    gnu.sparse[0].set_length(5);
    sparse.set_cksum();
    tar.append(&sparse, &b"layer"[..]).unwrap();
    let archive = open_bytes(&tar.into_inner().unwrap()).unwrap();
    let layer = &archive.images[0].manifests()[0].layers[0].bytes;
    assert_eq!(all(layer), [&[0; 512][..], b"layer"].concat());
}

#[test]
fn the_last_of_several_entries_with_one_name_is_used() {
    let entries = [vec![file("layer.tar", "older")], saved(&[])].concat();
    let archive = open_entries(&entries).unwrap();
    assert_eq!(all(&archive.images[0].manifests()[0].layers[0].bytes), b"layer");
}

#[test]
fn a_wrong_manifest_json_is_rejected() {
    let hex = Digest::of(b"something else").hex();
    let (named, blob) = (format!("{hex}.json"), format!("blobs/sha256/{hex}"));
    let config = config(&[b"layer"]);
    let nested = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let ignored = format!(r#"[{{"Config":"config.json","Layers":["layer.tar"],"New":{nested}}}]"#);
    assert!(open_entries(&saved(&[file("manifest.json", ignored)])).is_ok());
    for (list, others, expected) in [
        (r#"{"schemaVersion":2}"#.to_owned(), vec![], "the manifest manifest.json of the archive has no config"),
        ("[".into(), vec![], "is malformed: EOF"),
        (nested, vec![], "is malformed: invalid type: sequence"),
        ("[]".into(), vec![], "lists no image"),
        (r#"[{"Config":"config.json","Layers":[1]}]"#.into(), vec![], "is malformed: invalid type"),
        (
            manifest_json("gone.json", &["layer.tar"]),
            vec![],
            "does not contain gone.json, which its manifest.json names as the config of app:1",
        ),
        (
            manifest_json("config.json", &[]),
            vec![],
            "manifest.json for app:1 lists 0 layers, but its config config.json lists 1 diff_ids",
        ),
        (manifest_json(&named, &["layer.tar"]), vec![file(&named, config.clone())], "has the digest sha256:"),
        (manifest_json(&blob, &["layer.tar"]), vec![file(&blob, config)], "has the digest sha256:"),
        (manifest_json("layer.tar", &["layer.tar"]), vec![], "layer.tar of the archive is malformed"),
    ] {
        let text = error_text(open_entries(&saved(&[vec![file("manifest.json", list)], others].concat())));
        assert!(text.contains(expected), "{text}");
    }
    let huge = file("manifest.json", vec![b' '; (8 << 20) + 1]);
    assert!(error_text(open_entries(&saved(&[huge]))).contains("the limit is 8388608"));
}

#[test]
fn text_from_the_archive_cannot_control_the_terminal() {
    let list = manifest_json("\u{1b}[2J\nconfig", &[]);
    let text = error_text(open_entries(&saved(&[file("manifest.json", list)])));
    assert!(text.contains(r"\u{1b}[2J\nconfig") && !text.contains('\u{1b}'), "{text}");

    // The same applies to a number in a header, which the tar crate quotes.
    let mut bytes = tar_of(&saved(&[]));
    let mut damaged = header("next", tar::EntryType::Regular, "", 0);
    damaged.as_old_mut().size = *b"\x1b[2J\xff\n000000";
    damaged.set_cksum();
    bytes[512 * 2..512 * 3].copy_from_slice(damaged.as_bytes());
    let text = error_text(open_bytes(&bytes));
    assert!(text.contains("is a broken tar") && !text.contains(char::is_control), "{text:?}");

    let list = r#"[{"Config":"config.json","RepoTags":["a\u001b","app:1"],"Layers":["layer.tar"]}]"#;
    let archive = open_entries(&saved(&[file("manifest.json", list)])).unwrap();
    assert_eq!(archive.images[0].names, ["app:1"]);
    assert_eq!(archive.notes, [r"a name with control characters is ignored, a\u{1b}"]);
}

#[test]
fn an_image_that_cannot_be_pushed_is_listed_with_the_others() {
    let list = json!([
        { "Config": "config.json", "RepoTags": ["app:1"], "Layers": ["layer.tar"] },
        { "Config": "config.json", "RepoTags": ["app:2"], "Layers": ["gone.tar"] },
        { "Config": "config.json", "RepoTags": null, "Layers": ["layer.tar"] },
    ]);
    let archive = open_entries(&saved(&[file("manifest.json", list.to_string())])).unwrap();
    assert_eq!(archive.images.len(), 1);
    let unusable = archive.unusable[0].to_string();
    assert!(unusable.starts_with("app:2 cannot be pushed: the archive does not contain gone.tar"), "{unusable}");
    assert!(archive.select(&ImageSelector::Name("app:1".into()), &Selection::default()).is_ok());
    assert!(
        archive
            .select(&ImageSelector::Name("app:2".into()), &Selection::default())
            .unwrap_err()
            .to_string()
            .contains("does not contain gone.tar")
    );
}
