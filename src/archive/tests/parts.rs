//! Tests of the selection of platforms and attestations.

use serde_json::{Value, json};

use super::hostile::config;
use super::layouts::Layout;
use super::*;
use crate::oci::Platform;

/// A builder of an index. Each manifest has its own config and layer.
struct Made {
    layout: Layout,
    entries: Vec<Value>,
}

impl Made {
    fn new() -> Self {
        Self { layout: Layout::new(), entries: Vec::new() }
    }

    /// Adds an image for a platform, and returns its descriptor.
    fn image(&mut self, platform: &str) -> Value {
        let words: Vec<_> = platform.split('/').collect();
        let mut stated = json!({ "os": words[0], "architecture": words[1] });
        if let Some(variant) = words.get(2) {
            stated["variant"] = json!(variant);
        }
        let mut config = stated.clone();
        config["rootfs"] = json!({ "diff_ids": [Digest::of(platform.as_bytes())] });
        let mut descriptor = self.layout.manifest(&config.to_string(), &[platform.as_bytes()]);
        descriptor["platform"] = stated;
        self.entries.push(descriptor.clone());
        descriptor
    }

    /// Adds an attestation of a manifest, as BuildKit writes them, and returns its descriptor.
    fn attestation(&mut self, attested: &Value) -> Value {
        let statement = format!("{{\"attested\":{attested}}}");
        let config = json!({ "os": "unknown", "architecture": "unknown",
            "rootfs": { "diff_ids": [Digest::of(statement.as_bytes())] } });
        let config = self.layout.blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let layer = self.layout.blob("application/vnd.in-toto+json", statement.as_bytes());
        let mut descriptor = self.layout.listing("manifest", json!({ "config": config, "layers": [layer] }));
        descriptor["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
        descriptor["annotations"] = json!({ "vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": attested["digest"] });
        self.entries.push(descriptor.clone());
        descriptor
    }

    /// Returns the archive with the index as `app:1`, and the digest of the index.
    fn open(&self) -> (Archive, String) {
        let mut index =
            self.layout.listing("index", json!({ "manifests": self.entries, "annotations": { "x": "kept" } }));
        index["annotations"] = json!({ "org.opencontainers.image.ref.name": "app:1" });
        let digest = index["digest"].as_str().unwrap().to_owned();
        (self.layout.open(&[index]).unwrap(), digest)
    }
}

fn digest(of: &Value) -> String {
    of["digest"].as_str().unwrap().to_owned()
}

fn selected(archive: &Archive, platforms: Platforms, attestations: Attestations) -> Result<Image> {
    archive.select(&ImageSelector::Only, &Selection { platforms, attestations })
}

fn for_platform(archive: &Archive, platform: &str) -> Result<Image> {
    selected(archive, Platforms::One(platform.parse().unwrap()), Attestations::Kept)
}

fn pushed(image: &Image) -> String {
    image.content.original().unwrap().digest.to_string()
}

/// Returns the entries of a new index, whose other fields must equal those of the old one.
#[track_caller]
fn entries(image: &Image) -> Vec<Value> {
    let stated = image.content.original().unwrap();
    let view: Value = serde_json::from_slice(&stated.bytes).unwrap();
    assert_eq!((Digest::of(&stated.bytes), &view["annotations"]["x"]), (stated.digest, &json!("kept")));
    view["manifests"].as_array().unwrap().clone()
}

/// Returns the text of an error, its causes and its advice.
#[track_caller]
fn rejected(result: Result<Image>, kind: Kind) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{error:?}");
    format!("{error}\n{}\n{}", error.causes().join("\n"), error.advice().cloned().unwrap_or_default())
}

#[test]
fn platforms_are_compared_in_their_normal_form() {
    let platform = |text: &str| text.parse::<Platform>().map(|platform| platform.to_string());
    for (texts, normal) in [
        (&["linux/amd64", "Linux/x86_64", "linux/amd64/v1", " linux/x86-64 "][..], "linux/amd64"),
        (&["linux/arm64", "linux/arm64/v8", "linux/arm64/8", "linux/aarch64"], "linux/arm64"),
        (&["linux/arm", "linux/arm/7", "linux/arm/v7", "linux/armhf"], "linux/arm/v7"),
        (&["linux/arm/6", "linux/armel", "linux/arm/v6"], "linux/arm/v6"),
        (&["linux/i386", "linux/386"], "linux/386"),
        (&["macos/arm64"], "darwin/arm64"),
        (&["linux/amd64/v3"], "linux/amd64/v3"),
        (&["linux/riscv64"], "linux/riscv64"),
    ] {
        for text in texts {
            assert_eq!(platform(text).as_deref().ok(), Some(normal), "{text}");
        }
    }
    for bad in ["", "linux", "linux/", "/amd64", "linux/arm/", "linux/arm/v7/x", "unknown/unknown"] {
        assert_eq!(platform(bad).unwrap_err().kind(), Kind::Usage, "{bad:?}");
    }
}

#[test]
fn a_selected_platform_is_its_unchanged_manifest() {
    let mut made = Made::new();
    let (amd64, arm64) = (made.image("linux/amd64"), made.image("linux/arm64/v8"));
    made.attestation(&arm64);
    let (archive, index) = made.open();
    for (platform, manifest) in [("linux/amd64", &amd64), ("linux/arm64", &arm64), ("linux/arm64/v8", &arm64)] {
        let image = for_platform(&archive, platform).unwrap();
        assert_eq!((pushed(&image), image.names.as_slice()), (digest(manifest), &["app:1".to_owned()][..]));
        assert_eq!(image.part_of[0].to_string(), index);
        assert!(image.notes.concat().contains(&format!("{index}, becomes {}", digest(manifest))), "{:?}", image.notes);
    }
    let text = rejected(for_platform(&archive, "linux/s390x"), Kind::Usage);
    assert_eq!(text, "app:1 is not for linux/s390x\n\nSelect one:\n  --platform linux/amd64\n  --platform linux/arm64");

    // By name, by the ID of the index, and by that of the image.
    let arm = Selection { platforms: Platforms::One("linux/arm64".parse().unwrap()), ..Selection::default() };
    for choice in
        [ImageSelector::Name("app:1".into()), ImageSelector::Id(index[7..20].into()), ImageSelector::Id(digest(&arm64))]
    {
        assert_eq!(pushed(&archive.select(&choice, &arm).unwrap()), digest(&arm64), "{choice:?}");
    }
    assert!(
        rejected(archive.select(&ImageSelector::Id(digest(&amd64)), &arm), Kind::Usage)
            .contains("--platform linux/amd64")
    );
}

#[test]
fn a_platform_selects_among_several_images() {
    let mut made = Made::new();
    let (mut amd64, mut arm64) = (made.image("linux/amd64"), made.image("linux/arm64"));
    let name = json!({ "org.opencontainers.image.ref.name": "app:1" });
    (amd64["annotations"], arm64["annotations"]) = (name.clone(), name);
    let archive = made.layout.open(&[amd64, arm64.clone()]).unwrap();
    assert_eq!(pushed(&for_platform(&archive, "linux/arm64").unwrap()), digest(&arm64));
    let arm = Selection { platforms: Platforms::One("linux/arm64".parse().unwrap()), ..Selection::default() };
    assert_eq!(pushed(&archive.select(&ImageSelector::Name("app:1".into()), &arm).unwrap()), digest(&arm64));
    let text = rejected(for_platform(&archive, "linux/s390x"), Kind::Usage);
    let expected = "contains 2 images, and none is for linux/s390x\n\nSelect one:\n  --platform linux/amd64\n  --platform linux/arm64";
    assert!(text.ends_with(expected), "{text}");
    assert!(
        rejected(archive.select(&ImageSelector::Only, &Selection::default()), Kind::Usage).contains("none is selected")
    );
}

#[test]
fn several_images_for_one_platform_are_listed_by_their_ids() {
    let mut made = Made::new();
    let first = made.image("windows/amd64");
    // The same platform with another version of Windows.
    let second = made
        .layout
        .manifest(&json!({ "os": "windows", "architecture": "amd64", "rootfs": { "diff_ids": [] } }).to_string(), &[]);
    made.entries.push(second.clone());
    let text = rejected(for_platform(&made.open().0, "windows/amd64"), Kind::Usage);
    for manifest in [first, second] {
        assert!(text.contains(&format!("\n  --image-id {}", &digest(&manifest)[7..])), "{text}");
    }
}

#[test]
fn an_index_with_absent_platforms_is_rejected_and_can_be_pushed_in_part() {
    let mut made = Made::new();
    let (amd64, arm64) = (made.image("linux/amd64"), made.image("linux/arm64"));
    let (about_amd64, about_arm64) = (made.attestation(&amd64), made.attestation(&arm64));
    let s390x = made.image("linux/s390x");
    made.layout.remove(&arm64);
    made.layout.remove(&s390x);
    let (archive, index) = made.open();
    let text = rejected(selected(&archive, Platforms::All, Attestations::Kept), Kind::Input);
    assert!(
        text.starts_with("the index of app:1 lists linux/arm64, linux/s390x, which the archive does not contain\n"),
        "{text}"
    );
    assert!(text.contains(&format!("the archive does not contain blobs/sha256/{}", &digest(&arm64)[7..])), "{text}");
    assert!(text.contains("--platform linux/amd64") && text.contains("--present-platforms"), "{text}");

    assert_eq!(pushed(&for_platform(&archive, "linux/amd64").unwrap()), digest(&amd64));
    let text = rejected(for_platform(&archive, "linux/arm64"), Kind::Usage);
    assert!(
        text.starts_with(
            "app:1 lists linux/arm64, which the archive does not contain\nthe archive does not contain blobs"
        ),
        "{text}"
    );
    assert!(text.ends_with("Select one:\n  --platform linux/amd64"), "{text}");

    // The attestation of an absent image is omitted, too.
    let image = selected(&archive, Platforms::Present, Attestations::Kept).unwrap();
    assert_eq!(entries(&image), [amd64.clone(), about_amd64]);
    assert!(image.notes[0].ends_with("with what the archive contains: linux/amd64"), "{:?}", image.notes);
    assert_eq!(image.notes[1], format!("the digest of the archive's index, {index}, becomes {}", pushed(&image)));
    let image = selected(&archive, Platforms::Present, Attestations::Dropped).unwrap();
    assert_eq!(pushed(&image), digest(&amd64));
    assert!(selected(&archive, Platforms::All, Attestations::Dropped).is_err());
    drop(about_arm64);
}

#[test]
fn a_complete_image_is_unchanged_for_every_selection_of_platforms() {
    let mut made = Made::new();
    let amd64 = made.image("linux/amd64");
    made.image("linux/arm64");
    let (archive, index) = made.open();
    for attestations in [Attestations::Kept, Attestations::Dropped] {
        for platforms in [Platforms::All, Platforms::Present] {
            let image = selected(&archive, platforms, attestations).unwrap();
            assert_eq!((pushed(&image), image.part_of, image.notes.len()), (index.clone(), Vec::new(), 0));
        }
    }
    made.attestation(&amd64);
    let (archive, index) = made.open();
    assert_eq!(pushed(&selected(&archive, Platforms::All, Attestations::Kept).unwrap()), index);
}

#[test]
fn without_attestations_a_single_image_is_pushed_without_its_index() {
    let mut made = Made::new();
    let amd64 = made.image("linux/amd64");
    made.attestation(&amd64);
    let (archive, index) = made.open();
    assert_eq!(pushed(&selected(&archive, Platforms::All, Attestations::Kept).unwrap()), index);
    let image = selected(&archive, Platforms::All, Attestations::Dropped).unwrap();
    assert_eq!((pushed(&image), image.part_of[0].to_string()), (digest(&amd64), index));

    let arm64 = made.image("linux/arm64");
    let (archive, _) = made.open();
    let image = selected(&archive, Platforms::All, Attestations::Dropped).unwrap();
    assert_eq!(entries(&image), [amd64, arm64]);
    assert!(image.notes[0].contains("without attestations: linux/amd64, linux/arm64"), "{:?}", image.notes);
}

#[test]
fn attestations_that_docker_pull_does_not_fetch() {
    let mut made = Made::new();
    let amd64 = made.image("linux/amd64");
    let about = made.attestation(&amd64);
    made.layout.remove(&about);
    let (archive, index) = made.open();
    let image = selected(&archive, Platforms::All, Attestations::Kept).unwrap();
    assert_eq!((pushed(&image), image.part_of[0].to_string()), (digest(&amd64), index));
    assert_eq!(image.notes[0], "the archive does not contain all attestations of app:1, so its image is pushed alone");
    let image = selected(&archive, Platforms::Present, Attestations::Kept).unwrap();
    assert_eq!(entries(&image), std::slice::from_ref(&amd64));

    // With two images, there is no single manifest to push.
    let arm64 = made.image("linux/arm64");
    let (archive, _) = made.open();
    let text = rejected(selected(&archive, Platforms::All, Attestations::Kept), Kind::Input);
    assert!(text.starts_with("the archive does not contain attestations that the index of app:1 lists\n"), "{text}");
    assert!(text.contains("--no-attestations") && text.contains("--platform"), "{text}");
    let image = selected(&archive, Platforms::All, Attestations::Dropped).unwrap();
    assert_eq!(entries(&image), [amd64, arm64]);
}

#[test]
fn a_nested_index_is_reduced_with_the_outer_one() {
    let mut made = Made::new();
    let (amd64, arm64) = (made.image("linux/amd64"), made.image("linux/arm64"));
    let inner = made.layout.listing("index", json!({ "manifests": [amd64, arm64] }));
    let alone = made.layout.listing("index", json!({ "manifests": [arm64] }));
    made.entries = vec![inner.clone(), alone];
    made.layout.remove(&arm64);
    let (archive, _) = made.open();
    let text = rejected(selected(&archive, Platforms::All, Attestations::Kept), Kind::Input);
    assert!(text.contains("linux/arm64, which the archive does not contain"), "{text}");
    let image = selected(&archive, Platforms::Present, Attestations::Kept).unwrap();
    let Content::Index(index) = &image.content else { panic!("no index") };
    let [Child { content: Content::Index(reduced), .. }] = index.children.as_slice() else { panic!("{index:?}") };
    assert_eq!(entries(&image)[0]["digest"], json!(reduced.original.digest));
    assert_eq!(entries(&image)[0]["size"], json!(reduced.original.bytes.len()));
    assert_ne!(reduced.original.digest.to_string(), digest(&inner));
    assert_eq!(pushed(&for_platform(&archive, "linux/amd64").unwrap()), digest(&amd64));
}

/// If a layer of a child was compressed, the index above it changes, and so does the subject of its attestation.
#[test]
fn an_index_changes_with_its_children() {
    let mut made = Made::new();
    let (amd64, arm64) = (made.image("linux/amd64"), made.image("linux/arm64"));
    let about = made.attestation(&amd64);
    let (archive, _) = made.open();
    let image = selected(&archive, Platforms::All, Attestations::Kept).unwrap();
    let Content::Index(before) = &image.content else { panic!("no index") };
    let children = before.children.iter().map(|child| child.content.original().unwrap().clone());
    let mut replacements: Replacements = children.map(|stated| (stated.digest, stated)).collect();
    assert_eq!(compose_index(before, &replacements).unwrap().bytes, before.original.bytes);
    let compressed = replacements.get_mut(&digest(&amd64).parse().unwrap()).unwrap();
    compressed.bytes = "compressed".into();
    compressed.digest = Digest::of(b"compressed");
    let after = compose_index(before, &replacements).unwrap();
    let view: Value = serde_json::from_slice(&after.bytes).unwrap();
    let mut expected = [amd64, arm64, about];
    expected[0]["digest"] = json!(Digest::of(b"compressed"));
    expected[0]["size"] = json!(10);
    expected[2]["annotations"]["vnd.docker.reference.digest"] = json!(Digest::of(b"compressed"));
    assert_eq!(view["manifests"], json!(expected));
    assert_eq!(view["annotations"]["x"], "kept");
}

#[test]
fn a_complete_index_is_pushed_unchanged() {
    let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    let kind = "application/vnd.oci.image.index.v1+json";
    let head = format!(r#""schemaVersion":2,"mediaType":"{kind}""#);
    // Go writes empty lists as `null`, and JSON that is not parsed need not be one that serde_json can write again.
    let indexes = [r#""x":1"#, r#""manifests":null"#, r#""manifests":[]"#, &format!(r#""x":{deep}"#)]
        .map(|rest| format!("{{{head},{rest}}}"));
    for index in &indexes {
        let layout = Layout::new();
        let root = layout.blob(kind, index.as_bytes());
        let archive = layout.open(std::slice::from_ref(&root)).unwrap();
        for platforms in [Platforms::All, Platforms::Present] {
            let image = selected(&archive, platforms, Attestations::Kept).unwrap();
            assert_eq!(
                (pushed(&image), image.part_of, image.notes),
                (digest(&root), Vec::new(), Vec::new()),
                "{index}"
            );
        }

        // The same applies to a nested one.
        let mut made = Made::new();
        made.image("linux/amd64");
        let empty = made.layout.blob(kind, index.as_bytes());
        made.entries.push(empty);
        let (archive, whole) = made.open();
        let image = selected(&archive, Platforms::All, Attestations::Kept).unwrap();
        assert_eq!((pushed(&image), image.part_of), (whole, Vec::new()), "{index}");
    }
}

#[test]
fn an_attestation_of_an_unlisted_image_stays_in_a_complete_index() {
    let mut made = Made::new();
    made.image("linux/amd64");
    made.attestation(&json!({ "digest": Digest::of(b"elsewhere") }));
    let (archive, index) = made.open();
    for platforms in [Platforms::All, Platforms::Present] {
        let image = selected(&archive, platforms, Attestations::Kept).unwrap();
        assert_eq!((pushed(&image), image.part_of, image.notes), (index.clone(), Vec::new(), Vec::new()));
    }
}

/// Such as the indexes of Amazon's SOCI.
#[test]
fn an_artifact_with_the_platform_of_an_image_is_not_selected() {
    let mut made = Made::new();
    let image = made.image("linux/amd64");
    let config = made.layout.blob("application/vnd.amazon.soci.index.v2+json", b"{}");
    let mut artifact = made.layout.listing("manifest", json!({ "config": config, "layers": [] }));
    artifact["platform"] = image["platform"].clone();
    made.entries.push(artifact);
    assert_eq!(pushed(&for_platform(&made.open().0, "linux/amd64").unwrap()), digest(&image));
}

#[test]
fn index_json_is_an_index_if_each_image_has_its_own_platform() {
    let mut made = Made::new();
    let (amd64, arm64) = (made.image("linux/amd64"), made.image("linux/arm64"));
    let layout = &made.layout;
    let select = |archive: Archive| archive.select(&ImageSelector::Index, &Selection::default());
    let index = |roots: &[&Value]| select(layout.open(&roots.iter().copied().cloned().collect::<Vec<_>>()).unwrap());

    let image = index(&[&amd64, &arm64]).unwrap();
    let index_json = fs::read(layout.0.0.join("index.json")).unwrap();
    assert_eq!(image.content.digest(), Some(Digest::of(&index_json)));

    let mut without = amd64.clone();
    without.as_object_mut().unwrap().remove("platform");
    let image = index(&[&without, &arm64]).unwrap();
    let view: Value = serde_json::from_slice(&image.content.original().unwrap().bytes).unwrap();
    assert_eq!(view["manifests"], json!([amd64, arm64]));

    let same = layout.manifest(&config(&[b"same"]), &[b"same"]);
    assert!(rejected(index(&[&arm64, &same]), Kind::Input).contains("are for linux/arm64"));
    let none = layout.manifest(r#"{"rootfs":{"diff_ids":[]}}"#, &[]);
    assert!(rejected(index(&[&arm64, &none]), Kind::Input).contains("states no platform"));

    let padding = " ".repeat(4 << 20);
    layout.0.write("index.json", [&index_json[..], padding.as_bytes()].concat().as_slice());
    assert!(rejected(select(open(&layout.0.0).unwrap()), Kind::Input).contains("is too large for an index"));
}
