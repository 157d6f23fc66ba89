//! Tests of the selection of an image.

use serde_json::{Value, json};

use super::super::image_name::NAMES_READ;
use super::*;
use crate::archive::IndexOrigin;
use crate::oci::OriginalManifest;

fn many() -> Archive {
    open(&fixture("docker-20.10-save-many.tar")).unwrap()
}

fn by_name(archive: &Archive, name: &str) -> Result<String> {
    archive.select(&ImageSelector::Name(name.into()), &Selection::default()).map(|image| image.content.id().to_string())
}

fn by_id(archive: &Archive, id: &str) -> Result<Image> {
    archive.select(&ImageSelector::Id(id.into()), &Selection::default())
}

#[test]
fn several_images_are_listed_each_with_the_option_that_selects_it() {
    let archive = many();
    let error = archive.select(&ImageSelector::Only, &Selection::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    assert!(
        error.to_string().ends_with("docker-20.10-save-many.tar contains 2 images, and none is selected"),
        "{error}"
    );
    let expected = "Select one:\
        \n  --image localhost/fixture/app:v1  (sha256:92c112f97a4b, linux/amd64, also localhost/fixture/app:stable)\
        \n  --image localhost/fixture/base:1  (sha256:d62b83c4fc48, linux/amd64)";
    assert_eq!(error.advice().unwrap().to_string(), expected);
}

#[test]
fn a_name_that_a_shell_cannot_pass_is_not_listed() {
    let mut archive = many();
    archive.images[0].names = vec![String::new(), "n".repeat(201), "app:1".into()];
    archive.images[1].names = vec![String::new()];
    let advice = archive.select(&ImageSelector::Only, &Selection::default()).unwrap_err().advice().unwrap().to_string();
    let options: Vec<_> = advice.lines().skip(1).map(|line| line.split("  (").next().unwrap()).collect();
    assert_eq!(options, ["  --image app:1", "  --image-id d62b83c4fc48"], "{advice}");
}

#[test]
fn advice_lists_fifty_images_and_counts_the_others() {
    let mut archive = many();
    let image = archive.images[0].clone();
    archive.images = (0..60).map(|n| Image { names: vec![format!("app:{n}")], ..image.clone() }).collect();
    archive.images[0].names = (0..100).map(|n| format!("app:0.{n}")).collect();
    let advice = archive.select(&ImageSelector::Only, &Selection::default()).unwrap_err().advice().unwrap().to_string();
    assert_eq!(advice.lines().count(), 52);
    assert!(advice.ends_with("\n  and 10 more"), "{advice}");
    assert_eq!(advice.matches("also app:0.").count(), 8, "{advice}");
}

#[test]
fn advice_lists_ten_images_that_cannot_be_pushed() {
    let mut archive = many();
    let lost = |n| Unusable { names: vec![format!("lost:{n}")], id: None, error: Error::input("its layer is gone") };
    archive.unusable = (0..60).map(lost).collect();
    let advice = archive.select(&ImageSelector::Only, &Selection::default()).unwrap_err().advice().unwrap().to_string();
    assert!(advice.starts_with("Select one (cannot be pushed: lost:0, ") && advice.contains(", lost:9):"), "{advice}");

    // The same applies to the digests with a common prefix.
    let mut archive = many();
    let image = archive.images[0].clone();
    let stated = |n: u32| Image {
        content: Content::Index(Box::new(Index {
            original: OriginalManifest::serialize(&n, "").unwrap(),
            origin: IndexOrigin::Stated,
            repaired: None,
            children: Vec::new(),
            absent: Vec::new(),
        })),
        ..image.clone()
    };
    archive.images = (0..20_000).map(stated).collect();
    let advice = by_id(&archive, "00").unwrap_err().advice().unwrap().to_string();
    assert_eq!(advice.matches("--image-id").count(), 50, "{advice}");
    assert!(advice.lines().last().unwrap().starts_with("  and "), "{advice}");
}

#[test]
fn names_match_by_docker_s_rules() {
    let archive = many();
    for name in ["localhost/fixture/app:v1", "localhost/fixture/app:stable", "fixture/app:v1", "app:v1"] {
        assert_eq!(by_name(&archive, name).unwrap(), APP, "{name}");
    }
    for name in
        ["fixture/app", "other.example/fixture/app:v1", "Fixture/app:v1", "xture/app:v1", "v1", "", "fixture/base:2"]
    {
        let error = by_name(&archive, name).unwrap_err();
        assert_eq!(error.kind(), Kind::Input, "{name}");
        assert!(error.advice().unwrap().to_string().contains("--image localhost/fixture/base:1"), "{error:?}");
    }

    let mut archive = archive;
    archive.images[0].names = vec!["app".into()];
    archive.images[1].names = vec!["v1".into(), "quay.io/team/app:latest".into()];
    for (name, id) in [
        ("app", APP),
        ("app:latest", APP),
        ("docker.io/library/app", APP),
        ("index.docker.io/library/app:latest", APP),
        ("v1", BASE),
        ("team/app", BASE),
    ] {
        assert_eq!(by_name(&archive, name).ok().as_deref(), Some(id), "{name}");
    }
}

#[test]
fn a_name_that_matches_several_images_is_rejected_with_their_ids() {
    let mut archive = many();
    archive.images[0].names = vec!["one.example/app:v1".into()];
    archive.images[1].names = vec!["two.example/app:v1".into()];
    let error = by_name(&archive, "app:v1").unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    assert!(error.advice().unwrap().to_string().contains("\n  --image two.example/app:v1  ("), "{error:?}");

    archive.images[1].names = archive.images[0].names.clone();
    let error = by_name(&archive, "app:v1").unwrap_err();
    assert!(
        error.advice().unwrap().to_string().contains("\n  --image-id d62b83c4fc48  (linux/amd64, also one"),
        "{error:?}"
    );
}

#[test]
fn an_id_is_a_digest_of_a_config_manifest_or_index_or_its_first_digits() {
    let archive = many();
    for id in [BASE, "d62b83c4fc48", "sha256:d6", "D6"] {
        assert_eq!(by_id(&archive, id).unwrap().names, ["localhost/fixture/base:1"], "{id}");
    }
    for id in ["d", "sha256:", "", "xyz", "sha512:d62b", &"a".repeat(65)] {
        assert_eq!(by_id(&archive, id).unwrap_err().kind(), Kind::Usage, "{id}");
    }
    let error = by_id(&archive, "00").unwrap_err();
    assert_eq!(error.kind(), Kind::Input);
    assert!(
        error.advice().unwrap().to_string().starts_with("It contains:\n  --image localhost/fixture/app:v1"),
        "{error:?}"
    );

    let archive = open(&fixture("buildah-oci-layout")).unwrap();
    for id in [APP, BUILDAH_MANIFEST] {
        assert_eq!(by_id(&archive, id).unwrap().names, ["v1"], "{id}");
    }
}

#[test]
fn a_manifest_in_an_index_is_selected_without_the_index() {
    let archive = open(&fixture("skopeo-oci-layout-multiarch")).unwrap();
    let index = by_id(&archive, "cf32e48a").unwrap();
    assert!(matches!(index.content, Content::Index(_)) && index.names == ["multi"]);
    for id in ["16e51797989a", "4a7df50e196c"] {
        let child = by_id(&archive, id).unwrap();
        assert!(matches!(child.content, Content::Manifest(_)) && child.names.is_empty(), "{id}");
        assert_eq!(platforms(&child), ["linux/arm64"]);
    }
}

#[test]
fn an_id_that_matches_several_images_is_rejected_with_their_digests() {
    let mut archive = open(&fixture("buildah-oci-layout")).unwrap();
    let mut twin = archive.images[0].clone();
    let Content::Manifest(manifest) = &mut twin.content else { panic!("an index") };
    manifest.original = None;
    archive.images.push(twin);
    let error = by_id(&archive, "92c1").unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    let advice = error.advice().unwrap().to_string();
    assert!(advice.contains(&BUILDAH_MANIFEST["sha256:".len()..]), "{error:?}");
    // Each ID of the advice selects one of them.
    let ids = advice.split_whitespace().filter(|word| word.len() == 64);
    let selected: Vec<_> = ids.map(|id| by_id(&archive, id).unwrap().content.digest().is_some()).collect();
    assert_eq!(selected, [true, false], "{advice}");
}

#[test]
fn an_image_that_cannot_be_pushed_does_not_affect_others() {
    let mut archive = many();
    archive.images.truncate(1);
    let error = Error::input("its layer is gone");
    archive.unusable.push(Unusable { names: vec!["lost:1".into()], id: Some(Digest::of(b"lost")), error });
    assert!(by_name(&archive, "fixture/app:v1").is_ok());
    assert_eq!(archive.select(&ImageSelector::Only, &Selection::default()).unwrap_err().kind(), Kind::Usage);
    assert_eq!(by_name(&archive, "lost:1").unwrap_err().to_string(), "its layer is gone");
    let id = Digest::of(b"lost").hex();
    assert_eq!(by_id(&archive, &id).unwrap_err().to_string(), "its layer is gone");
}

/// Each name in manifest.json and index.json is normalized once or twice, for any number of names.
#[test]
fn the_names_of_a_save_are_compared_in_linear_time() {
    const COUNT: usize = 300;
    let layout = layouts::Layout::new();
    let config = hostile::config(&[b"layer"]);
    let manifest = layout.manifest(&config, &[b"layer"]);
    // A complete image and an incomplete one with the same config: both need comparisons.
    let gone = layout.manifest(&config, &[b"gone"]);
    layout.remove(&json!({ "digest": Digest::of(b"gone") }));
    let root = |of: &Value, n: usize| {
        let mut descriptor = of.clone();
        descriptor["annotations"] = json!({ "io.containerd.image.name": format!("index.example/app:{n}") });
        descriptor
    };
    let roots: Vec<_> = (0..COUNT).map(|n| root(if n % 2 == 0 { &manifest } else { &gone }, n)).collect();
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", Digest::of(bytes).hex());
    let tags: Vec<_> = (0..COUNT).map(|n| format!("saved.example/app:{n}")).collect();
    let saved = json!({ "Config": blob(config.as_bytes()), "RepoTags": tags, "Layers": [blob(b"layer")] });
    layout.0.write("manifest.json", json!([saved, saved]).to_string().as_bytes());
    NAMES_READ.set(0);
    let archive = layout.open(&roots).unwrap();
    let read = NAMES_READ.get();
    assert!(read <= 5 * COUNT, "{read} names were read");
    assert_eq!(archive.images[0].names, tags, "each once, in their order");
}

#[test]
fn a_save_of_too_many_images_is_rejected() {
    let layout = layouts::Layout::new();
    layout.0.write("manifest.json", json!(vec![json!({ "Config": "config.json" }); 10_001]).to_string().as_bytes());
    let error = open(&layout.0.0).unwrap_err();
    assert!(error.to_string().contains("lists more than 10000 images"), "{error}");
}
