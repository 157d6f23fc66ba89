//! Tests of referrers: signatures and SBOMs in layouts. The layouts are written here, with the fields of cosign and of the
//! specification.

use serde_json::{Value, json};

use super::hostile::config;
use super::layouts::Layout;
use super::*;

const EMPTY: &str = "application/vnd.oci.empty.v1+json";

fn digest(of: &Value) -> Digest {
    of["digest"].as_str().unwrap().parse().unwrap()
}

/// An image of one layer.
fn image(layout: &Layout) -> Value {
    layout.manifest(&config(&[b"layer"]), &[b"layer"])
}

/// Adds a referrer by `subject`, with the empty config of artifacts.
fn artifact(layout: &Layout, subject: &Value, text: &str) -> Value {
    let layer = layout.blob("application/spdx+json", text.as_bytes());
    layout.listing(
        "manifest",
        json!({ "artifactType": "application/spdx+json", "config": layout.blob(EMPTY, b"{}"), "layers": [layer],
            "subject": subject }),
    )
}

/// Adds a signature as cosign stores it: an image config, and the signed text as a layer.
fn signature(layout: &Layout, text: &str) -> Value {
    let config = json!({ "architecture": "", "os": "", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [Digest::of(text.as_bytes())] } });
    let mut layer = layout.blob("application/vnd.dev.cosign.simplesigning.v1+json", text.as_bytes());
    layer["annotations"] = json!({ "dev.cosignproject.cosign/signature": "MEUCIQ" });
    let config = layout.blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    layout.listing("manifest", json!({ "config": config, "layers": [layer] }))
}

fn with(mut descriptor: Value, annotations: Value) -> Value {
    descriptor["annotations"] = annotations;
    descriptor
}

/// Returns the referrers of a digest, each with its tag.
fn of(archive: &Archive, subject: &Value) -> Vec<(Digest, Option<String>)> {
    let found = archive.referrers(&[digest(subject)]).into_iter().map(|referrer| referrer.unwrap());
    found.map(|it| (it.content.original().unwrap().digest, it.tag.as_ref().map(ToString::to_string))).collect()
}

#[test]
fn a_manifest_with_a_subject_is_a_referrer_and_not_an_image() {
    let layout = Layout::new();
    let image = image(&layout);
    let sbom = artifact(&layout, &image, "sbom");
    let about_sbom = artifact(&layout, &sbom, "signature of the SBOM");
    let archive = layout.open(&[about_sbom.clone(), sbom.clone(), image.clone()]).unwrap();
    let chosen = archive.select(&ImageSelector::Only, &Selection::default()).unwrap();
    assert_eq!(chosen.content.original().unwrap().digest, digest(&image));
    assert_eq!(of(&archive, &image), [(digest(&sbom), None), (digest(&about_sbom), None)], "the subject comes first");
    assert_eq!(of(&archive, &sbom), [(digest(&about_sbom), None)]);
    let referrers = archive.referrers(&[digest(&image)]);
    let manifests = referrers.iter().flat_map(|referrer| referrer.as_ref().unwrap().content.manifests());
    assert!(manifests.into_iter().all(|manifest| manifest.provenance == Provenance::Referrer));
}

#[test]
fn an_unlisted_manifest_is_found_by_its_subject() {
    let layout = Layout::new();
    let image = image(&layout);
    let bundle = artifact(&layout, &image, "{\"a\":\"bundle\"}");
    // Not found: JSON of another kind, a text that starts like JSON, a referrer of another subject.
    layout.blob("", b"{\"subject\":null}");
    layout.blob("", b"{\"subject\"");
    artifact(&layout, &json!({ "digest": Digest::of(b"elsewhere"), "size": 1 }), "of something else");
    let archive = layout.open(std::slice::from_ref(&image)).unwrap();
    assert_eq!(of(&archive, &image), [(digest(&bundle), None)]);
    assert_eq!(archive.notes, [""; 0]);
}

#[test]
fn a_manifest_with_a_digest_in_its_tag_is_a_referrer() {
    let layout = Layout::new();
    let image = image(&layout);
    let hex = digest(&image).hex();
    let (full, short) = (format!("ghcr.io/team/app:sha256-{hex}.sig"), format!("sha256-{hex}.att"));
    let signature_of = signature(&layout, "signature");
    let roots = [
        image.clone(),
        with(signature_of.clone(), json!({ "io.containerd.image.name": full })),
        with(signature(&layout, "attestation"), json!({ "org.opencontainers.image.ref.name": short })),
        with(
            signature(&layout, "another"),
            json!({ "org.opencontainers.image.ref.name": format!("sha256-{hex}.zip") }),
        ),
    ];
    let archive = layout.open(&roots).unwrap();
    assert_eq!(archive.images.len(), 2, "a tag with another suffix is an image");
    let tags: Vec<_> = of(&archive, &image).into_iter().filter_map(|(_, tag)| tag).collect();
    assert_eq!(tags, [format!("sha256-{hex}.sig"), short]);

    // Without its subject it is an image.
    let archive = layout.open(&roots[1..2]).unwrap();
    let alone = archive.select(&ImageSelector::Only, &Selection::default()).unwrap();
    assert_eq!(alone.content.original().unwrap().digest, digest(&signature_of));
}

#[test]
fn referrers_of_cosign_save_refer_to_the_only_image() {
    let layout = Layout::new();
    let kind = |descriptor: &Value, kind: &str| {
        with(descriptor.clone(), json!({ "kind": format!("dev.cosignproject.cosign/{kind}") }))
    };
    let image = image(&layout);
    let (sigs, atts) = (signature(&layout, "signature"), signature(&layout, "attestation"));
    let index = layout.listing("index", json!({ "manifests": [image] }));
    for (signed, sort) in [(&image, "image"), (&index, "imageIndex")] {
        let archive = layout.open(&[kind(signed, sort), kind(&sigs, "sigs"), kind(&atts, "atts")]).unwrap();
        let chosen = archive.select(&ImageSelector::Only, &Selection::default()).unwrap();
        assert_eq!(chosen.content.original().unwrap().digest, digest(signed));
        let hex = digest(signed).hex();
        let tagged = |it: &Value, end: &str| (digest(it), Some(format!("sha256-{hex}.{end}")));
        assert_eq!(of(&archive, signed), [tagged(&sigs, "sig"), tagged(&atts, "att")]);
    }
    // With two images it is not known which one is signed.
    let other = layout.manifest(&config(&[b"other"]), &[b"other"]);
    let archive = layout.open(&[kind(&image, "image"), kind(&other, "image"), kind(&sigs, "sigs")]).unwrap();
    assert_eq!((archive.images.len(), of(&archive, &image).len()), (3, 0));
}

#[test]
fn a_list_of_referrers_is_read_and_is_not_a_referrer() {
    let layout = Layout::new();
    let image = image(&layout);
    let sbom = artifact(&layout, &image, "sbom");
    let list = layout.listing("index", json!({ "manifests": [sbom] }));
    let tag = format!("sha256-{}", digest(&image).hex());
    let list = with(list, json!({ "org.opencontainers.image.ref.name": tag }));
    // It may be listed twice.
    let archive = layout.open(&[image.clone(), list, sbom.clone()]).unwrap();
    assert_eq!(archive.images.len(), 1);
    assert_eq!(of(&archive, &image), [(digest(&sbom), None)]);
}

#[test]
fn an_incomplete_referrer_is_an_error_when_it_is_requested() {
    let layout = Layout::new();
    let image = image(&layout);
    let hex = digest(&image).hex();
    let sbom = artifact(&layout, &image, "sbom");
    let sig =
        with(signature(&layout, "sig"), json!({ "org.opencontainers.image.ref.name": format!("sha256-{hex}.sig") }));
    layout.remove(&json!({ "digest": Digest::of(b"sbom") }));
    layout.remove(&json!({ "digest": Digest::of(b"sig") }));
    // With and without a descriptor of the SBOM.
    for roots in [&[image.clone(), sig.clone()][..], &[image.clone(), sig, sbom]] {
        let archive = layout.open(roots).unwrap();
        assert!(archive.select(&ImageSelector::Only, &Selection::default()).is_ok());
        let lost = archive.referrers(&[digest(&image)]);
        assert_eq!(lost.len(), 2);
        for lost in lost {
            assert!(lost.unwrap_err().to_string().contains("the archive does not contain blobs/sha256/"));
        }
    }
}

#[test]
fn circular_tags_are_limited() {
    let layout = Layout::new();
    let (one, other) = (signature(&layout, "one"), signature(&layout, "other"));
    let of_other = json!({ "org.opencontainers.image.ref.name": format!("sha256-{}.sig", digest(&other).hex()) });
    let of_one = json!({ "org.opencontainers.image.ref.name": format!("sha256-{}.sig", digest(&one).hex()) });
    let both = [with(one.clone(), of_other), with(other.clone(), of_one)];
    let archive = layout.open(&[&[image(&layout)], both.as_slice()].concat()).unwrap();
    assert_eq!(of(&archive, &one), [(digest(&other), Some(format!("sha256-{}.sig", digest(&one).hex())))]);
    // If there is nothing else, they are images.
    assert_eq!(layout.open(&both).unwrap().images.len(), 2);
}

#[test]
fn the_bytes_of_unlisted_manifests_are_limited() {
    let layout = Layout::new();
    let image = image(&layout);
    for number in 0..5 {
        let annotations = json!({ "padding": "x".repeat((4 << 20) - 1000), "number": number.to_string() });
        let config = layout.blob(EMPTY, b"{}");
        layout.listing(
            "manifest",
            json!({ "config": config, "layers": [], "subject": image, "annotations": annotations }),
        );
    }
    assert_eq!(of(&layout.open(std::slice::from_ref(&image)).unwrap(), &image).len(), 4);
}

#[test]
fn a_referrer_of_several_images_is_listed_once() {
    let layout = Layout::new();
    let image = image(&layout);
    let index = layout.listing("index", json!({ "manifests": [image] }));
    let sbom = artifact(&layout, &image, "sbom");
    let archive = layout.open(&[index, image, sbom.clone()]).unwrap();
    assert_eq!(archive.images.len(), 2);
    let all = archive.referrers_of_all();
    assert_eq!(
        all.iter().map(|(at, it)| (*at, it.unwrap().content.digest())).collect::<Vec<_>>(),
        [(0, Some(digest(&sbom)))]
    );
}

#[test]
fn a_name_of_several_referrers_selects_none_of_them() {
    let layout = Layout::new();
    let image = image(&layout);
    let tag = format!("sha256-{}.sig", digest(&image).hex());
    let tagged = |text| with(signature(&layout, text), json!({ "org.opencontainers.image.ref.name": tag }));
    let select =
        |roots: &[Value]| layout.open(roots).unwrap().select(&ImageSelector::Name(tag.clone()), &Selection::default());
    select(&[image.clone(), tagged("one")]).unwrap();
    assert_eq!(select(&[image, tagged("one"), tagged("other")]).unwrap_err().kind(), Kind::Input);
}

#[test]
fn a_tag_with_the_digest_of_the_same_manifest_does_not_make_a_referrer() {
    let layout = Layout::new();
    let image = image(&layout);
    let tag = format!("sha256-{}.sig", digest(&image).hex());
    let tagged = with(image, json!({ "org.opencontainers.image.ref.name": tag }));
    assert_eq!(layout.open(&[signature(&layout, "other"), tagged]).unwrap().images.len(), 2);
}
