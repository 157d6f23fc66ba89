//! Which part of an image for several platforms is pushed.

use serde_json::{Value, json};

use super::layouts::Layout;
use super::*;
use crate::oci::Platform;

/// An index under construction: each manifest has a config and a layer of its own, named by `word`.
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
    fn attestation(&mut self, about: &Value) -> Value {
        let statement = format!("{{\"about\":{about}}}");
        let config = json!({ "os": "unknown", "architecture": "unknown",
            "rootfs": { "diff_ids": [Digest::of(statement.as_bytes())] } });
        let config = self.layout.blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let layer = self.layout.blob("application/vnd.in-toto+json", statement.as_bytes());
        let mut descriptor = self.layout.listing("manifest", json!({ "config": config, "layers": [layer] }));
        descriptor["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
        descriptor["annotations"] = json!({ "vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": about["digest"] });
        self.entries.push(descriptor.clone());
        descriptor
    }

    /// The archive, with the index as `app:1`, and the index's digest.
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

fn chosen(archive: &Archive, platforms: Platforms, attestations: Attestations) -> Result<Image> {
    archive.select(&ImageSelector::Only, &Selection { platforms, attestations })
}

fn for_platform(archive: &Archive, platform: &str) -> Result<Image> {
    chosen(archive, Platforms::One(platform.parse().unwrap()), Attestations::Kept)
}

fn pushed(image: &Image) -> String {
    image.content.original().unwrap().digest.to_string()
}

/// The entries of a new index, which is the old one without some of them.
#[track_caller]
fn entries(image: &Image) -> Vec<Value> {
    let stated = image.content.original().unwrap();
    let view: Value = serde_json::from_slice(&stated.bytes).unwrap();
    assert_eq!((Digest::of(&stated.bytes), &view["annotations"]["x"]), (stated.digest, &json!("kept")));
    view["manifests"].as_array().unwrap().clone()
}

/// The sentence, what is behind it and what to do.
#[track_caller]
fn refused(result: Result<Image>, kind: Kind) -> String {
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
fn a_platform_is_chosen_with_its_manifest_as_it_is() {
    let mut made = Made::new();
    let (amd64, arm64) = (made.image("linux/amd64"), made.image("linux/arm64/v8"));
    made.attestation(&arm64);
    let (archive, index) = made.open();
    for (platform, manifest) in [("linux/amd64", &amd64), ("linux/arm64", &arm64), ("linux/arm64/v8", &arm64)] {
        let image = for_platform(&archive, platform).unwrap();
        assert_eq!((pushed(&image), image.names.as_slice()), (digest(manifest), &["app:1".to_owned()][..]));
        assert_eq!(image.part_of.unwrap().to_string(), index);
        assert!(image.notes.concat().contains(&format!("{index}, becomes {}", digest(manifest))), "{:?}", image.notes);
    }
    let text = refused(for_platform(&archive, "linux/s390x"), Kind::Usage);
    assert_eq!(text, "app:1 is not for linux/s390x\n\nSelect one:\n  --platform linux/amd64\n  --platform linux/arm64");

    // By name, by ID of the index and of the image itself.
    let arm = Selection { platforms: Platforms::One("linux/arm64".parse().unwrap()), ..Selection::default() };
    for choice in
        [ImageSelector::Name("app:1".into()), ImageSelector::Id(index[7..20].into()), ImageSelector::Id(digest(&arm64))]
    {
        assert_eq!(pushed(&archive.select(&choice, &arm).unwrap()), digest(&arm64), "{choice:?}");
    }
    assert!(
        refused(archive.select(&ImageSelector::Id(digest(&amd64)), &arm), Kind::Usage)
            .contains("--platform linux/amd64")
    );
}

#[test]
fn a_platform_chooses_among_several_images() {
    let mut made = Made::new();
    let (mut amd64, mut arm64) = (made.image("linux/amd64"), made.image("linux/arm64"));
    let name = json!({ "org.opencontainers.image.ref.name": "app:1" });
    (amd64["annotations"], arm64["annotations"]) = (name.clone(), name);
    let archive = made.layout.open(&[amd64, arm64.clone()]).unwrap();
    assert_eq!(pushed(&for_platform(&archive, "linux/arm64").unwrap()), digest(&arm64));
    let arm = Selection { platforms: Platforms::One("linux/arm64".parse().unwrap()), ..Selection::default() };
    assert_eq!(pushed(&archive.select(&ImageSelector::Name("app:1".into()), &arm).unwrap()), digest(&arm64));
    let text = refused(for_platform(&archive, "linux/s390x"), Kind::Usage);
    let expected = "contains 2 images, and none is for linux/s390x\n\nSelect one:\n  --platform linux/amd64\n  --platform linux/arm64";
    assert!(text.ends_with(expected), "{text}");
    assert!(
        refused(archive.select(&ImageSelector::Only, &Selection::default()), Kind::Usage).contains("none is selected")
    );
}

#[test]
fn several_images_for_one_platform_are_told_by_their_ids() {
    let mut made = Made::new();
    let first = made.image("windows/amd64");
    // The same platform, another version of Windows.
    let second = made
        .layout
        .manifest(&json!({ "os": "windows", "architecture": "amd64", "rootfs": { "diff_ids": [] } }).to_string(), &[]);
    made.entries.push(second.clone());
    let text = refused(for_platform(&made.open().0, "windows/amd64"), Kind::Usage);
    for manifest in [first, second] {
        assert!(text.contains(&format!("\n  --image-id {}", &digest(&manifest)[7..])), "{text}");
    }
}

#[test]
fn an_index_with_platforms_that_are_not_there_is_refused_and_may_be_pushed_in_part() {
    let mut made = Made::new();
    let (amd64, arm64) = (made.image("linux/amd64"), made.image("linux/arm64"));
    let (about_amd64, about_arm64) = (made.attestation(&amd64), made.attestation(&arm64));
    let s390x = made.image("linux/s390x");
    made.layout.remove(&arm64);
    made.layout.remove(&s390x);
    let (archive, index) = made.open();
    let text = refused(chosen(&archive, Platforms::All, Attestations::Kept), Kind::Input);
    assert!(
        text.starts_with("the index of app:1 lists linux/arm64, linux/s390x, which the archive does not contain\n"),
        "{text}"
    );
    assert!(text.contains(&format!("the archive does not contain blobs/sha256/{}", &digest(&arm64)[7..])), "{text}");
    assert!(text.contains("--platform linux/amd64") && text.contains("--present-platforms"), "{text}");

    assert_eq!(pushed(&for_platform(&archive, "linux/amd64").unwrap()), digest(&amd64));
    let text = refused(for_platform(&archive, "linux/arm64"), Kind::Usage);
    assert!(
        text.starts_with(
            "app:1 lists linux/arm64, which the archive does not contain\nthe archive does not contain blobs"
        ),
        "{text}"
    );
    assert!(text.ends_with("Select one:\n  --platform linux/amd64"), "{text}");

    // The attestation of what is not there has nothing to be about.
    let image = chosen(&archive, Platforms::Present, Attestations::Kept).unwrap();
    assert_eq!(entries(&image), [amd64.clone(), about_amd64]);
    assert!(image.notes[0].ends_with("with what the archive contains: linux/amd64"), "{:?}", image.notes);
    assert_eq!(image.notes[1], format!("the digest of the archive's index, {index}, becomes {}", pushed(&image)));
    let image = chosen(&archive, Platforms::Present, Attestations::Dropped).unwrap();
    assert_eq!(pushed(&image), digest(&amd64));
    assert!(chosen(&archive, Platforms::All, Attestations::Dropped).is_err());
    drop(about_arm64);
}

#[test]
fn what_is_whole_stays_as_it_is_whatever_may_be_left_out() {
    let mut made = Made::new();
    let amd64 = made.image("linux/amd64");
    made.image("linux/arm64");
    let (archive, index) = made.open();
    for attestations in [Attestations::Kept, Attestations::Dropped] {
        for platforms in [Platforms::All, Platforms::Present] {
            let image = chosen(&archive, platforms, attestations).unwrap();
            assert_eq!((pushed(&image), image.part_of, image.notes.len()), (index.clone(), None, 0));
        }
    }
    made.attestation(&amd64);
    let (archive, index) = made.open();
    assert_eq!(pushed(&chosen(&archive, Platforms::All, Attestations::Kept).unwrap()), index);
}

#[test]
fn attestations_are_left_out_and_a_single_image_loses_its_index() {
    let mut made = Made::new();
    let amd64 = made.image("linux/amd64");
    made.attestation(&amd64);
    let (archive, index) = made.open();
    assert_eq!(pushed(&chosen(&archive, Platforms::All, Attestations::Kept).unwrap()), index);
    let image = chosen(&archive, Platforms::All, Attestations::Dropped).unwrap();
    assert_eq!((pushed(&image), image.part_of.unwrap().to_string()), (digest(&amd64), index));

    let arm64 = made.image("linux/arm64");
    let (archive, _) = made.open();
    let image = chosen(&archive, Platforms::All, Attestations::Dropped).unwrap();
    assert_eq!(entries(&image), [amd64, arm64]);
    assert!(image.notes[0].contains("without attestations: linux/amd64, linux/arm64"), "{:?}", image.notes);
}

#[test]
fn attestations_that_docker_pull_left_behind() {
    let mut made = Made::new();
    let amd64 = made.image("linux/amd64");
    let about = made.attestation(&amd64);
    made.layout.remove(&about);
    let (archive, index) = made.open();
    let image = chosen(&archive, Platforms::All, Attestations::Kept).unwrap();
    assert_eq!((pushed(&image), image.part_of.unwrap().to_string()), (digest(&amd64), index));
    assert_eq!(image.notes[0], "the archive does not contain all attestations of app:1, so its image is pushed alone");
    let image = chosen(&archive, Platforms::Present, Attestations::Kept).unwrap();
    assert_eq!(entries(&image), std::slice::from_ref(&amd64));

    // With two images there is no manifest that would do.
    let arm64 = made.image("linux/arm64");
    let (archive, _) = made.open();
    let text = refused(chosen(&archive, Platforms::All, Attestations::Kept), Kind::Input);
    assert!(text.starts_with("the archive does not contain attestations that the index of app:1 lists\n"), "{text}");
    assert!(text.contains("--no-attestations") && text.contains("--platform"), "{text}");
    let image = chosen(&archive, Platforms::All, Attestations::Dropped).unwrap();
    assert_eq!(entries(&image), [amd64, arm64]);
}

#[test]
fn an_index_in_an_index_is_reduced_with_it() {
    let mut made = Made::new();
    let (amd64, arm64) = (made.image("linux/amd64"), made.image("linux/arm64"));
    let inner = made.layout.listing("index", json!({ "manifests": [amd64, arm64] }));
    let alone = made.layout.listing("index", json!({ "manifests": [arm64] }));
    made.entries = vec![inner.clone(), alone];
    made.layout.remove(&arm64);
    let (archive, _) = made.open();
    let text = refused(chosen(&archive, Platforms::All, Attestations::Kept), Kind::Input);
    assert!(text.contains("linux/arm64, which the archive does not contain"), "{text}");
    let image = chosen(&archive, Platforms::Present, Attestations::Kept).unwrap();
    let Content::Index(index) = &image.content else { panic!("no index") };
    let [Child { content: Content::Index(reduced), .. }] = index.children.as_slice() else { panic!("{index:?}") };
    assert_eq!(entries(&image)[0]["digest"], json!(reduced.original.digest));
    assert_eq!(entries(&image)[0]["size"], json!(reduced.original.bytes.len()));
    assert_ne!(reduced.original.digest.to_string(), digest(&inner));
    assert_eq!(pushed(&for_platform(&archive, "linux/amd64").unwrap()), digest(&amd64));
}

/// A child whose layers were packed: the index above it follows, and so does what its attestation is about.
#[test]
fn an_index_follows_a_child_that_changed() {
    let mut made = Made::new();
    let (amd64, arm64) = (made.image("linux/amd64"), made.image("linux/arm64"));
    let about = made.attestation(&amd64);
    let (archive, _) = made.open();
    let image = chosen(&archive, Platforms::All, Attestations::Kept).unwrap();
    let Content::Index(before) = &image.content else { panic!("no index") };
    let children = before.children.iter().map(|child| child.content.original().unwrap().clone());
    let mut became: Replacements = children.map(|stated| (stated.digest, stated)).collect();
    assert_eq!(compose_index(before, &became).unwrap().bytes, before.original.bytes);
    let packed = became.get_mut(&digest(&amd64).parse().unwrap()).unwrap();
    packed.bytes = "packed".into();
    packed.digest = Digest::of(b"packed");
    let after = compose_index(before, &became).unwrap();
    let view: Value = serde_json::from_slice(&after.bytes).unwrap();
    let mut expected = [amd64, arm64, about];
    expected[0]["digest"] = json!(Digest::of(b"packed"));
    expected[0]["size"] = json!(6);
    expected[2]["annotations"]["vnd.docker.reference.digest"] = json!(Digest::of(b"packed"));
    assert_eq!(view["manifests"], json!(expected));
    assert_eq!(view["annotations"]["x"], "kept");
}

#[test]
fn an_index_that_is_all_there_is_pushed_as_it_is_whatever_stands_in_it() {
    let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    let kind = "application/vnd.oci.image.index.v1+json";
    let head = format!(r#""schemaVersion":2,"mediaType":"{kind}""#);
    // Go writes empty lists as `null`, and what nobody looks at need not be JSON that we could write again.
    let indexes = [r#""x":1"#, r#""manifests":null"#, r#""manifests":[]"#, &format!(r#""x":{deep}"#)]
        .map(|rest| format!("{{{head},{rest}}}"));
    for index in &indexes {
        let layout = Layout::new();
        let root = layout.blob(kind, index.as_bytes());
        let archive = layout.open(std::slice::from_ref(&root)).unwrap();
        for platforms in [Platforms::All, Platforms::Present] {
            let image = chosen(&archive, platforms, Attestations::Kept).unwrap();
            assert_eq!((pushed(&image), image.part_of, image.notes), (digest(&root), None, Vec::new()), "{index}");
        }

        // Nor does one below it get lost.
        let mut made = Made::new();
        made.image("linux/amd64");
        let empty = made.layout.blob(kind, index.as_bytes());
        made.entries.push(empty);
        let (archive, whole) = made.open();
        let image = chosen(&archive, Platforms::All, Attestations::Kept).unwrap();
        assert_eq!((pushed(&image), image.part_of), (whole, None), "{index}");
    }
}

#[test]
fn an_attestation_of_something_that_its_index_does_not_list_stays_in_an_index_that_is_all_there() {
    let mut made = Made::new();
    made.image("linux/amd64");
    made.attestation(&json!({ "digest": Digest::of(b"elsewhere") }));
    let (archive, index) = made.open();
    for platforms in [Platforms::All, Platforms::Present] {
        let image = chosen(&archive, platforms, Attestations::Kept).unwrap();
        assert_eq!((pushed(&image), image.part_of, image.notes), (index.clone(), None, Vec::new()));
    }
}
