//! Tests with OCI layouts made by hand: unusual valid ones, and invalid ones.

use serde_json::{Value, json};

use super::hostile::{config, error_text, file, open_bytes, open_entries, tar_of};
use super::*;

/// A builder of an OCI layout in a folder.
pub(super) struct Layout(pub(super) Scratch);

impl Layout {
    pub(super) fn new() -> Self {
        let layout = Self(Scratch::new());
        layout.0.write("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        layout
    }

    pub(super) fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        self.0.write(&format!("blobs/sha256/{}", digest.hex()), bytes);
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    }

    pub(super) fn manifest(&self, config: &str, layers: &[&[u8]]) -> Value {
        let config = self.blob("application/vnd.oci.image.config.v1+json", config.as_bytes());
        let layers = layers.iter().map(|layer| self.blob("application/vnd.oci.image.layer.v1.tar", layer));
        self.listing("manifest", json!({ "config": config, "layers": layers.collect::<Vec<_>>() }))
    }

    pub(super) fn listing(&self, kind: &str, mut listing: Value) -> Value {
        listing["schemaVersion"] = json!(2);
        self.blob(&format!("application/vnd.oci.image.{kind}.v1+json"), listing.to_string().as_bytes())
    }

    pub(super) fn open(&self, roots: &[Value]) -> Result<Archive> {
        self.0.write("index.json", json!({ "schemaVersion": 2, "manifests": roots }).to_string().as_bytes());
        open(&self.0.0)
    }

    pub(super) fn remove(&self, descriptor: &Value) {
        let hex = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        fs::remove_file(self.0.0.join("blobs/sha256").join(hex)).unwrap();
    }
}

#[test]
fn an_image_without_layers_is_accepted() {
    let layout = Layout::new();
    let manifest = layout.listing(
        "manifest",
        json!({
            "config": layout.blob("application/vnd.oci.image.config.v1+json", b"{}"),
            "layers": null,
        }),
    );
    assert!(layout.open(&[manifest]).unwrap().images[0].manifests()[0].layers.is_empty());
}

#[test]
fn an_artifact_has_layers_without_diff_ids() {
    let layout = Layout::new();
    let manifest = layout.listing(
        "manifest",
        json!({
            "config": layout.blob("application/vnd.cncf.helm.config.v1+json", b"not JSON"),
            "layers": [layout.blob("application/vnd.cncf.helm.chart.content.v1.tar+gzip", b"\x1f\x8b")],
        }),
    );
    let archive = layout.open(&[manifest]).unwrap();
    let layer = &archive.images[0].manifests()[0].layers[0];
    assert!(layer.diff_id.is_none() && layer.compression == Compression::Gzip);
}

#[test]
fn an_inconsistent_layout_is_rejected() {
    let layout = Layout::new();
    let good = layout.manifest(&config(&[b"layer"]), &[b"layer"]);
    assert!(layout.open(std::slice::from_ref(&good)).is_ok());
    let with = |key: &str, value: Value| {
        let mut changed = good.clone();
        changed[key] = value;
        changed
    };
    let both = json!({ "config": good, "layers": [], "manifests": [] });
    let version_1 = layout.blob("application/vnd.oci.image.manifest.v1+json", br#"{"schemaVersion":1}"#);
    for (root, expected) in [
        (with("size", json!(-1)), "index.json of the archive is malformed: invalid value: integer `-1`, expected u64"),
        (with("size", json!(1e30)), "index.json of the archive is malformed"),
        (with("size", json!(u64::MAX)), "states 18446744073709551615"),
        (with("size", json!(1)), "but index.json states 1"),
        (with("digest", json!("sha256:../../../../etc/passwd")), "is not a digest"),
        (with("digest", json!("sha512:00")), "index.json of the archive refers to sha512:00: sha512 is not supported"),
        (with("digest", json!(Digest::of(b"gone"))), "which index.json names as a manifest"),
        (with("mediaType", json!("text/plain")), "has the media type text/plain, which is not an image's"),
        (with("mediaType", json!("")), "has no media type, which is not an image's"),
        (with("mediaType", json!("application/vnd.oci.image.index.v1+json")), "is a manifest and an index at once"),
        (layout.listing("manifest", both), "is a manifest and an index at once"),
        (layout.manifest(&config(&[b"layer"]), &[]), "lists 0 layers, but its config"),
        (layout.listing("manifest", json!({ "layers": [] })), "has no config"),
        (version_1, "does not have schemaVersion 2"),
    ] {
        let text = error_text(layout.open(&[root]));
        assert!(text.contains(expected), "{text}");
    }
    layout.0.write(&format!("blobs/sha256/{}", good["digest"].as_str().unwrap().split_once(':').unwrap().1), &{
        vec![b' '; usize::try_from(good["size"].as_u64().unwrap()).unwrap()]
    });
    assert!(error_text(layout.open(&[good])).contains("has the digest sha256:"));
    layout.0.write("oci-layout", br#"{"imageLayoutVersion":"2.0"}"#);
    assert!(error_text(layout.open(&[])).contains("is an OCI layout of version 2.0"));
}

#[test]
fn nested_indexes_are_limited() {
    let layout = Layout::new();
    let mut index = layout.manifest("{}", &[]);
    for _ in 0..9 {
        index = layout.listing("index", json!({ "manifests": [index] }));
    }
    assert!(error_text(layout.open(&[index])).contains("nested too deep"));

    // Eight indexes, each of which lists the one below twenty times: 20^8 images.
    let mut index = layout.manifest("{}", &[]);
    for _ in 0..8 {
        index = layout.listing("index", json!({ "manifests": vec![index; 20] }));
    }
    assert!(error_text(layout.open(&[index])).contains("names more than 40000 manifests"));

    // An index that lists itself cannot have that digest.
    let own = Digest::of(b"own");
    let descriptor = json!({ "mediaType": "application/vnd.oci.image.index.v1+json", "digest": own, "size": 223 });
    let index = json!({ "schemaVersion": 2, "manifests": [descriptor] }).to_string();
    let descriptor =
        json!({ "mediaType": "application/vnd.oci.image.index.v1+json", "digest": own, "size": index.len() });
    layout.0.write(&format!("blobs/sha256/{}", own.hex()), index.as_bytes());
    assert!(error_text(layout.open(&[descriptor])).contains("has the digest sha256:"));
}

#[test]
fn an_incomplete_index_is_listed_with_its_absent_entries() {
    let layout = Layout::new();
    let present = layout.manifest(&config(&[b"one"]), &[b"one"]);
    let missing = layout.manifest(&config(&[b"two"]), &[b"two"]);
    let mut index = layout.listing("index", json!({ "manifests": [present, missing] }));
    index["annotations"] =
        json!({ "io.containerd.image.name": "docker.io/library/app:1", "org.opencontainers.image.ref.name": "1" });
    let lacks = |archive: &Archive| {
        let Content::Index(index) = &archive.images[0].content else { panic!("no index") };
        index.absent().iter().map(|absent| absent.digest.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(lacks(&layout.open(std::slice::from_ref(&index)).unwrap()), [""; 0]);

    layout.remove(&missing);
    let archive = layout.open(std::slice::from_ref(&index)).unwrap();
    assert_eq!(archive.images[0].names, ["docker.io/library/app:1"]);
    assert_eq!(lacks(&archive), [missing["digest"].as_str().unwrap()]);

    // The same, saved by Docker.
    let blob = |descriptor: &Value| {
        format!("blobs/sha256/{}", descriptor["digest"].as_str().unwrap().split_once(':').unwrap().1)
    };
    let hex = Digest::of(config(&[b"one"]).as_bytes()).hex();
    let list = json!([{ "Config": format!("blobs/sha256/{hex}"), "RepoTags": ["app:1"],
        "Layers": [format!("blobs/sha256/{}", Digest::of(b"one").hex())] }]);
    layout.0.write("manifest.json", list.to_string().as_bytes());
    let archive = layout.open(std::slice::from_ref(&index)).unwrap();
    let [image] = archive.images.as_slice() else { panic!("{:?}", archive.images) };
    assert_eq!((archive.format, &image.names), ("docker save archive", &vec!["app:1".into()]));
    assert_eq!(lacks(&archive), [missing["digest"].as_str().unwrap()]);

    layout.0.write(&blob(&present), b"{}");
    assert!(error_text(layout.open(&[index])).contains("bytes long, but"));
}

/// Tars with documents before the blobs, cut off between two entries: the tar format does not show that.
#[test]
fn missing_content_of_a_tar_without_an_end_mark_is_an_error() {
    let layout = Layout::new();
    let children = [&b"one"[..], b"two"].map(|layer| layout.manifest(&config(&[layer]), &[layer]));
    let index = layout.listing("index", json!({ "manifests": children }));
    layout.open(&[index]).unwrap();
    let list = json!([{ "Config": format!("blobs/sha256/{}", Digest::of(config(&[b"one"]).as_bytes()).hex()),
        "RepoTags": ["app:1"], "Layers": [format!("blobs/sha256/{}", Digest::of(b"one").hex())] }]);
    layout.0.write("manifest.json", list.to_string().as_bytes());

    let blobs = layout.0.0.join("blobs/sha256");
    let mut names: Vec<_> =
        fs::read_dir(&blobs).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    let blobs: Vec<_> = names.iter().map(|name| format!("blobs/sha256/{name}")).collect();
    for lists in [&["oci-layout", "index.json"][..], &["oci-layout", "index.json", "manifest.json"], &["manifest.json"]]
    {
        let mut entries: Vec<_> = lists.iter().copied().chain(blobs.iter().map(String::as_str)).collect();
        entries.extend((lists.len() == 1).then_some("index.json"));
        let entries: Vec<_> = entries.iter().map(|name| file(name, fs::read(layout.0.0.join(name)).unwrap())).collect();
        let whole = summary(&open_entries(&entries).unwrap());
        for count in 0..=entries.len() {
            let bytes = tar_of(&entries[..count]);
            match open_bytes(&bytes[..bytes.len() - 1024]) {
                Ok(archive) => assert_eq!(summary(&archive), whole, "{count} entries after {lists:?}"),
                Err(error) => assert_eq!(error.kind(), Kind::Input),
            }
        }
    }
}

#[test]
fn the_names_of_one_manifest_are_merged() {
    let layout = Layout::new();
    let named = |name: &str| {
        let mut descriptor = layout.manifest(&config(&[b"layer"]), &[b"layer"]);
        descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        descriptor
    };
    let archive = layout.open(&[named("v1"), named("latest"), named("v1")]).unwrap();
    assert_eq!(archive.images.len(), 1);
    assert_eq!(archive.images[0].names, ["v1", "latest"]);
}

#[cfg(unix)]
#[test]
fn a_pipe_in_a_folder_does_not_block_and_links_to_blobs_are_followed() {
    let layout = Layout::new();
    let manifest = layout.manifest(&config(&[b"layer"]), &[b"layer"]);
    let layer = layout.0.0.join("blobs/sha256").join(Digest::of(b"layer").hex());
    let store = layout.0.write("store/layer", b"layer");
    fs::remove_file(&layer).unwrap();
    std::os::unix::fs::symlink(store, &layer).unwrap();
    assert!(layout.open(std::slice::from_ref(&manifest)).is_ok());

    fs::remove_file(&layer).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&layer).status().unwrap().success());
    assert!(error_text(layout.open(&[manifest])).contains("is a pipe, not a file"));
}

#[test]
fn the_origins_of_a_layer_are_in_its_annotations_or_those_of_its_parent() {
    let layout = Layout::new();
    let of = |host: &str| format!("containerd.io/distribution.source.{host}");
    let layer = |bytes: &[u8], annotations: Value| {
        let mut layer = layout.blob("application/vnd.oci.image.layer.v1.tar", bytes);
        layer["annotations"] = annotations;
        layer
    };
    let many: Vec<_> = (0..100).map(|n| format!("team/app{n}")).collect();
    let layers = [
        layer(b"none", json!({"org.example.other": "team/app"})),
        layer(b"own", json!({ of("x.y"): "team/own, Not/One,team/other", of(""): "lost", of("a b"): "lost" })),
        layer(b"many", json!({ of("x.y"): many.join(",") })),
        layer(b"odd", json!({ of("x.y"): "../../etc,,UPPER" })),
    ];
    let config =
        layout.blob("application/vnd.oci.image.config.v1+json", config(&[b"none", b"own", b"many", b"odd"]).as_bytes());
    let manifest = layout.listing("manifest", json!({"config": config, "layers": layers}));
    let mut index = layout.listing("index", json!({"manifests": [manifest]}));
    index["annotations"] = json!({ of("X.Y"): "team/base" });
    let archive = layout.open(&[index]).unwrap();
    let origins: Vec<Vec<String>> = archive.images[0].manifests()[0]
        .layers
        .iter()
        .map(|layer| layer.origins.iter().map(|it| format!("{} {}", it.host, it.repository)).collect())
        .collect();
    let eight: Vec<_> = (0..8).map(|n| format!("x.y team/app{n}")).collect();
    assert_eq!(origins[0], ["x.y team/base"]);
    assert_eq!(origins[1], ["x.y team/own", "x.y team/other"]);
    assert_eq!(origins[2], eight);
    assert_eq!(origins[3], ["x.y team/base"]);
}

/// Writes the same blobs in the format of skopeo's `dir:`.
fn skopeo_dir(layout: &Layout, root: &Value) -> Scratch {
    let (scratch, blobs) = (Scratch::new(), layout.0.0.join("blobs/sha256"));
    for blob in fs::read_dir(blobs).unwrap() {
        let (path, hex) = blob.map(|blob| (blob.path(), blob.file_name().into_string().unwrap())).unwrap();
        let bytes = fs::read(path).unwrap();
        let is_manifest = bytes.starts_with(b"{") && bytes.windows(15).any(|word| word == b"\"schemaVersion\"");
        let is_root = root["digest"].as_str().unwrap().ends_with(&hex);
        let name = match (is_root, is_manifest) {
            (true, _) => "manifest.json".to_owned(),
            (false, true) => format!("{hex}.manifest.json"),
            (false, false) => hex,
        };
        scratch.write(&name, &bytes);
    }
    scratch.write("version", b"Directory Transport Version: 1.1\n");
    scratch
}

#[test]
fn a_skopeo_dir_has_the_same_image_as_the_layout() {
    let layout = Layout::new();
    let children = [&b"one"[..], b"two"].map(|layer| layout.manifest(&config(&[layer]), &[layer]));
    let index = layout.listing("index", json!({ "manifests": children }));
    let known = layout.open(std::slice::from_ref(&index)).unwrap();
    let folder = skopeo_dir(&layout, &index);
    let archive = open(&folder.0).unwrap();
    assert_eq!((archive.format, archive.images.len()), ("skopeo dir", 1));
    let (there, here) = (archive.images[0].content.clone(), known.images[0].content.clone());
    // Neither the index nor the manifests have a media type.
    assert_eq!(there.original().unwrap().media_type, "application/vnd.oci.image.index.v1+json");
    assert_eq!(there.original().unwrap().digest, here.original().unwrap().digest);
    for (there, here) in there.manifests().iter().zip(here.manifests()) {
        assert_eq!(there.original.as_ref().unwrap().bytes, here.original.as_ref().unwrap().bytes);
        assert_eq!(there.config.bytes, here.config.bytes);
        assert_eq!(all(&there.layers[0].bytes), all(&here.layers[0].bytes));
        assert!(there.provenance == Provenance::Layout);
    }

    let one = format!("{}.manifest.json", children[0]["digest"].as_str().unwrap().split_once(':').unwrap().1);
    folder.write(&one, b"{}");
    assert!(
        error_text(open(&folder.0))
            .contains(&format!("{one} of the archive is 2 bytes long, but manifest.json states"))
    );
    folder.write(
        "manifest.json",
        br#"{"schemaVersion": 1, "mediaType": "application/vnd.docker.distribution.manifest.v1+json"}"#,
    );
    assert!(error_text(open(&folder.0)).contains("which is not an image's"));
}

#[test]
fn a_layer_that_a_skopeo_dir_omits_is_missing() {
    let layout = Layout::new();
    let root = layout.manifest(&config(&[b"layer"]), &[b"layer"]);
    let folder = skopeo_dir(&layout, &root);
    let layer = Digest::of(b"layer").hex();
    fs::remove_file(folder.0.join(&layer)).unwrap();
    let archive = open(&folder.0).unwrap();
    let manifest = archive.images[0].manifests()[0];
    assert!(manifest.is_incomplete() && manifest.layers[0].bytes.len() == 5);
    let mut first = [0];
    let error = manifest.layers[0].bytes.read_at(0, &mut first).unwrap_err();
    assert_eq!(error.to_string(), format!("the archive does not contain {layer}"));
}

#[test]
fn a_non_distributable_layer_need_not_be_in_the_archive() {
    let layout = Layout::new();
    let foreign = |bytes: &[u8], urls: &[&str]| {
        let mut layer = layout.blob("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", bytes);
        layer["urls"] = json!(urls);
        layer
    };
    let (one, two) = (foreign(b"one", &["https://example.com/one"]), foreign(b"two", &["https://example.com/two"]));
    let (own, nowhere) = (layout.blob("application/vnd.docker.image.rootfs.diff.tar", b"own"), foreign(b"three", &[]));
    let manifest = layout.listing(
        "manifest",
        json!({
            "config": layout.blob(
                "application/vnd.oci.image.config.v1+json",
                config(&[b"one", b"two", b"own", b"three"]).as_bytes(),
            ),
            "layers": [one, two, own, nowhere],
        }),
    );
    layout.remove(&one);
    let archive = layout.open(std::slice::from_ref(&manifest)).unwrap();
    let mut image = archive.select(&ImageSelector::Only, &Selection::default()).unwrap();
    let seen = |image: &Image| {
        let manifest = image.manifests()[0];
        let layers: Vec<_> = manifest.layers.iter().map(|layer| all(&layer.bytes)).collect();
        let foreign: Vec<_> = manifest
            .non_distributable
            .iter()
            .map(|it| (it.at, it.descriptor.digest.clone(), it.layer.is_some()))
            .collect();
        (layers, foreign)
    };
    let digest = |bytes: &[u8]| Digest::of(bytes).to_string();
    // Without an address it is an ordinary layer.
    let layers = vec![b"own".to_vec(), b"three".to_vec()];
    assert_eq!(seen(&image), (layers, vec![(0, digest(b"one"), false), (1, digest(b"two"), true)]));
    let notes: Vec<_> = image.manifests()[0].non_distributable.iter().map(NonDistributableLayer::note).collect();
    let short = |bytes: &[u8]| Digest::of(bytes).short();
    assert_eq!(
        notes,
        [
            format!(
                "layer {} is non-distributable and not uploaded: it stays at https://example.com/one; the archive does not contain it",
                short(b"one")
            ),
            format!(
                "layer {} is non-distributable and not uploaded: it stays at https://example.com/two; --foreign-layers uploads it",
                short(b"two")
            ),
        ]
    );
    image.include_non_distributable_layers();
    let layers = vec![b"two".to_vec(), b"own".to_vec(), b"three".to_vec()];
    assert_eq!(seen(&image), (layers, vec![(0, digest(b"one"), false)]));

    layout.remove(&nowhere);
    let archive = layout.open(&[manifest]).unwrap();
    assert!(archive.images[0].manifests()[0].is_incomplete(), "without a URL it is an ordinary layer");
}

#[test]
fn the_documents_of_many_images_are_read_again_when_one_is_selected() {
    let layout = Layout::new();
    let image = |n: usize| layout.manifest(&(config(&[b"layer"]) + &" ".repeat(n)), &[b"layer"]);
    let roots: Vec<_> = (0..257).map(image).collect();
    let archive = layout.open(&roots).unwrap();
    let documents = |image: &Image| {
        let manifest = image.manifests()[0].clone();
        [manifest.config.bytes, manifest.original.unwrap().bytes]
    };
    assert!(archive.images.iter().flat_map(documents).all(|bytes| bytes.is_empty()));
    let layers = archive.images.iter().map(|image| &raw const *image.manifests()[0].layers[0]);
    assert_eq!(layers.collect::<std::collections::HashSet<_>>().len(), 1, "all images share the layer");
    let id = archive.images[7].content.id().hex();
    let image = archive.select(&ImageSelector::Id(id), &Selection::default()).unwrap();
    let digests = documents(&image).map(|bytes| Digest::of(&bytes));
    let manifest = image.manifests()[0];
    assert_eq!(digests, [manifest.config.digest, manifest.original.as_ref().unwrap().digest]);
    // What is not what it was is noticed.
    let name = format!("blobs/sha256/{}", archive.images[8].content.id().hex());
    layout.0.write(&name, &vec![b' '; config(&[b"layer"]).len() + 8]);
    let id = archive.images[8].content.id().hex();
    let error = archive.select(&ImageSelector::Id(id), &Selection::default()).unwrap_err();
    assert!(error.to_string().contains("was changed"), "{error}");

    let few = layout.open(&roots[..6]).unwrap();
    assert!(few.images.iter().flat_map(documents).all(|bytes| !bytes.is_empty()));
}

#[test]
fn the_documents_of_an_archive_are_limited_together() {
    let layout = Layout::new();
    let image_config = layout.blob("application/vnd.oci.image.config.v1+json", config(&[]).as_bytes());
    let annotations = json!({ "padding": "x".repeat((4 << 20) - 1000) });
    let manifest =
        layout.listing("manifest", json!({ "config": image_config, "layers": [], "annotations": annotations }));
    let index = |count| layout.listing("index", json!({ "manifests": vec![manifest.clone(); count] }));
    layout.open(&[index(15)]).unwrap();
    assert!(error_text(layout.open(&[index(17)])).contains("take more than 67108864 bytes"));
}
