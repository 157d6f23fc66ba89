//! Signed images: what belongs to them goes along, and their digest stays. The layouts are made here, as the tools have
//! them that are not at hand.

use serde_json::{Value, json};

use ecr_push::sandbox::{Fault, ManifestRules, Rules};

use super::archive_builder;
use super::archive_contents::sha256;
use super::docker_registry::DockerRegistry;
use super::ecr::{Ecr, HOST, put_manifest, status};
use super::harness::{Run, testdata};
use super::layout_builder::{Layout, annotated, digest, hex};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const SPDX: &str = "application/spdx+json";

/// A layout as `cosign save` writes it: an index for two platforms, and beside it its signatures and attestations, which
/// only `kind` distinguishes from images.
pub(crate) struct Saved {
    pub(crate) layout: Layout,
    pub(crate) index: Value,
    signatures: Value,
    attestations: Value,
}

pub(crate) fn saved(ecr: &Ecr) -> Saved {
    let layout = Layout::new(&ecr.env, "saved");
    let index = layout.index(&[layout.image("linux/amd64"), layout.image("linux/arm64")]);
    let (signatures, attestations) = (layout.signature(&index), layout.dsse(&index));
    let kind = |it: &Value, kind: &str| annotated(it, &json!({"kind": format!("dev.cosignproject.cosign/{kind}")}));
    layout.finish(&[kind(&index, "imageIndex"), kind(&signatures, "sigs"), kind(&attestations, "atts")]);
    Saved { layout, index, signatures, attestations }
}

/// A layout with an image that has an SBOM, whose signature is the SBOM's; and another SBOM that only its `subject` leads
/// to.
struct Described {
    layout: Layout,
    image: Value,
    sbom: Value,
    about_sbom: Value,
    unlisted: Value,
}

fn described(ecr: &Ecr) -> Described {
    let layout = Layout::new(&ecr.env, "described");
    let image = layout.image("linux/amd64");
    let sbom = layout.artifact(&image, SPDX, "an SBOM");
    let about_sbom = layout.artifact(&sbom, "application/vnd.dev.sigstore.bundle.v0.3+json", "a signature of it");
    let unlisted = layout.artifact(&image, SPDX, "another SBOM");
    layout.finish(&[image.clone(), about_sbom.clone(), sbom.clone()]);
    Described { layout, image, sbom, about_sbom, unlisted }
}

/// Asserts that a repository has these bytes under a tag or digest.
#[track_caller]
fn has(ecr: &Ecr, reference: &str, layout: &Layout, descriptor: &Value) {
    let found = ecr.image("team/app", reference).unwrap_or_else(|| panic!("there is no {reference}"));
    assert!(found.1 == layout.bytes(descriptor), "{reference} is what it was, byte for byte");
}

/// Refused before anybody was asked anything.
#[track_caller]
fn refused_at_once(arguments: &[&str]) -> Run {
    let ecr = Ecr::new();
    let run = ecr.run(&[arguments, &["team/app:1"]].concat()).fails_with(1).stdout_is("");
    assert!(ecr.log().is_empty(), "no request was sent");
    run
}

#[test]
fn what_cosign_saved_arrives_with_its_signatures() {
    let ecr = Ecr::new();
    let Saved { layout, index, signatures, attestations } = saved(&ecr);
    let expected = digest(&index);
    let run = ecr.run(&[&layout.path, "team/app:1", "--referrers", "--expect-digest", &expected]).succeeds();
    run.stdout_is(&format!("{HOST}/team/app:1@{expected}\n"));
    let (sig, att) = (format!("sha256-{}.sig", hex(&index)), format!("sha256-{}.att", hex(&index)));
    has(&ecr, "1", &layout, &index);
    has(&ecr, &sig, &layout, &signatures);
    has(&ecr, &att, &layout, &attestations);
    let put = ecr.manifests_put();
    assert_eq!(put[2..], [expected, sig, att, "1".into()], "what belongs to it is there before a tag leads to it");

    // Once more: nothing is sent, and nothing is missed.
    let sent = ecr.count("ecr:CompleteLayerUpload");
    ecr.run(&[&layout.path, "team/app:1", "--referrers"]).succeeds();
    assert_eq!(ecr.count("ecr:CompleteLayerUpload"), sent);
}

/// The way through an air gap of docs/archives.md, except for what only cosign can do.
#[cfg(unix)]
#[test]
fn the_way_through_an_air_gap_is_as_the_documentation_has_it() {
    let page = super::markdown::page("docs/archives.md");
    let recipe = page.text.split("```sh\n").find(|block| block.starts_with("cosign save")).unwrap();
    let lines: Vec<_> = recipe.split("```").next().unwrap().lines().filter(|it| !it.starts_with("cosign ")).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    let ecr = Ecr::in_region("eu-west-1", &["team/app"], Rules::default());
    let Saved { layout, index, signatures, .. } = saved(&ecr);
    let mut command = std::process::Command::new("sh");
    let program = super::harness::program();
    let program = program.parent().unwrap();
    command.args(["-e", "-c", &lines.join("\n").replace("-C signed ", "-C \"$SIGNED\" ")]).env_clear();
    let environment = ecr.command(&[]);
    command.envs(environment.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    command.env("PATH", path).env("DIGEST", digest(&index)).env("SIGNED", &layout.path);
    command.current_dir(environment.get_current_dir().unwrap());
    let run = ecr.finish(command).succeeds();
    assert_eq!(run.digest(), digest(&index));
    has(&ecr, "1.4", &layout, &index);
    has(&ecr, &format!("sha256-{}.sig", hex(&index)), &layout, &signatures);
}

#[test]
fn what_cosign_saved_arrives_in_a_docker_registry() {
    let Some(registry) = DockerRegistry::start() else { return };
    let ecr = Ecr::empty();
    let Saved { layout, index, signatures, attestations } = saved(&ecr);
    let target = registry.target("team/app:1");
    let run = ecr.env.run(&[&layout.path, &target, "--referrers"]).succeeds();
    run.stdout_is(&format!("{target}@{}\n", digest(&index)));
    assert_eq!(registry.read_back("team/app", "1").digest(), digest(&index));
    for (end, descriptor) in [("sig", &signatures), ("att", &attestations)] {
        let tag = format!("sha256-{}.{end}", hex(&index));
        assert_eq!(registry.manifest(&format!("team/app:{tag}")).unwrap(), layout.bytes(descriptor), "{tag}");
        // With its blobs, whose digests skopeo compares.
        assert_eq!(registry.read_back("team/app", &tag).digest(), digest(descriptor));
    }
}

#[test]
fn referrers_of_the_image_are_pushed_with_their_own_referrers() {
    let ecr = Ecr::new();
    let Described { layout, image, sbom, about_sbom, unlisted } = described(&ecr);
    let run = ecr.run(&[&layout.path, "team/app:1", "--referrers"]).succeeds();
    run.stderr_has(&["note: 3 referrers (signatures, SBOMs) of this image are pushed with it\n"]);
    for descriptor in [&image, &sbom, &about_sbom, &unlisted] {
        has(&ecr, &digest(descriptor), &layout, descriptor);
    }
    let tags = ecr.manifests_put();
    assert!(tags.iter().all(|reference| !reference.starts_with("sha256-")), "ECR keeps the list itself: {tags:?}");
    let at = |descriptor: &Value| tags.iter().position(|put| *put == digest(descriptor)).unwrap();
    assert!(at(&image) < at(&sbom) && at(&sbom) < at(&about_sbom), "{tags:?}");
    assert_eq!(tags.last().unwrap(), "1");
}

#[test]
fn referrers_are_missed_where_the_image_is_there_already() {
    let ecr = Ecr::new();
    let Described { layout, image, sbom, .. } = described(&ecr);
    ecr.run(&[&layout.path, "team/app:1"]).succeeds();
    assert!(ecr.image("team/app", &digest(&sbom)).is_none());
    let plan = ecr.run(&[&layout.path, "team/app:1", "--referrers", "--dry-run"]).succeeds();
    plan.stderr_has(&[&format!("layer blobs/{}", sha256(b"an SBOM").replace(':', "/"))]);
    assert!(ecr.image("team/app", &digest(&sbom)).is_none());
    ecr.run(&[&layout.path, "team/app:1", "--referrers"]).succeeds();
    has(&ecr, &digest(&sbom), &layout, &sbom);
    has(&ecr, "1", &layout, &image);
}

#[test]
fn a_referrer_is_pushed_unchanged_with_any_option() {
    let manifest = ManifestRules { no_image_without_layers: false, ..ManifestRules::default() };
    let ecr = Ecr::with(&["team/app"], Rules { manifest, ..Rules::default() });
    let layout = Layout::new(&ecr.env, "layout");
    let config = layout.blob("application/vnd.oci.image.config.v1+json", &archive_builder::config(&[]));
    let image = layout.manifest(json!({"config": config, "layers": []}));
    let sources = archive_builder::tar_of("sources", &archive_builder::prose(1, 30_000));
    let sources = layout.manifest(json!({
        "artifactType": "application/vnd.example.sources",
        "config": layout.blob("application/vnd.oci.image.config.v1+json", &archive_builder::config(&[sha256(&sources)])),
        "layers": [layout.blob("application/vnd.oci.image.layer.v1.tar", &sources)],
        "subject": image,
    }));
    layout.finish(std::slice::from_ref(&image));
    for (tag, how) in [("1", "gzip"), ("2", "zstd")] {
        ecr.run(&[&layout.path, &format!("team/app:{tag}"), "--referrers", "--compression", how]).succeeds();
        has(&ecr, tag, &layout, &image);
        has(&ecr, &digest(&sources), &layout, &sources);
    }
}

#[test]
fn a_registry_without_the_referrers_api_gets_lists_under_tags() {
    let manifest = ManifestRules { no_image_without_layers: false, ..ManifestRules::default() };
    let rules = Rules { no_referrers: true, anonymous: true, manifest, ..Rules::default() };
    let ecr = Ecr::with(&["team/app"], rules);
    let Described { layout, image, sbom, about_sbom, unlisted } = described(&ecr);
    let other =
        layout.manifest(json!({"config": layout.blob("application/vnd.oci.empty.v1+json", b"{}"), "layers": []}));
    // Another client's referrer is on the list already.
    layout.finish(std::slice::from_ref(&other));
    ecr.run(&[&layout.path, "team/app:other"]).succeeds();
    let list = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [other], "annotations": {"x": "unchanged"}});
    let tag = format!("sha256-{}", hex(&image));
    assert_eq!(put_manifest(&ecr, "team/app", &tag, INDEX, &list.to_string()), 201);

    layout.finish(&[image, about_sbom.clone(), sbom.clone()]);
    for _ in 0..2 {
        ecr.run(&[&layout.path, "team/app:1", "--referrers"]).succeeds();
    }
    let listed = |tag: &str| -> Value { serde_json::from_slice(&ecr.image("team/app", tag).unwrap().1).unwrap() };
    let described = |it: &Value, artifact_type: &str, text: &str| {
        let mut descriptor = annotated(it, &json!({"org.example.about": text}));
        descriptor["artifactType"] = json!(artifact_type);
        descriptor
    };
    let mut expected = list;
    let of_image = [other, described(&sbom, SPDX, "an SBOM"), described(&unlisted, SPDX, "another SBOM")];
    expected["manifests"] = json!(of_image);
    assert_eq!(listed(&tag), expected, "each once, beside what was there");
    let of_sbom = described(&about_sbom, "application/vnd.dev.sigstore.bundle.v0.3+json", "a signature of it");
    assert_eq!(listed(&format!("sha256-{}", hex(&sbom)))["manifests"], json!([of_sbom]));
}

#[test]
fn a_docker_registry_gets_lists_under_tags() {
    let Some(registry) = DockerRegistry::start() else { return };
    let ecr = Ecr::empty();
    let Described { layout, image, sbom, unlisted, .. } = described(&ecr);
    ecr.env.run(&[&layout.path, &registry.target("team/app:1"), "--referrers"]).succeeds();
    let list = registry.manifest(&format!("team/app:sha256-{}", hex(&image))).unwrap();
    let list: Value = serde_json::from_slice(&list).unwrap();
    let digests: Vec<_> = list["manifests"].as_array().unwrap().iter().map(digest).collect();
    assert_eq!(digests, [digest(&sbom), digest(&unlisted)]);
    for descriptor in [&sbom, &unlisted] {
        let name = format!("team/app@{}", digest(descriptor));
        assert_eq!(registry.manifest(&name).unwrap(), layout.bytes(descriptor));
    }
}

#[test]
fn a_referrers_tag_that_is_not_an_index_is_unchanged() {
    let manifest = ManifestRules { no_image_without_layers: false, ..ManifestRules::default() };
    let rules = Rules { no_referrers: true, anonymous: true, manifest, ..Rules::default() };
    let ecr = Ecr::with(&["team/app"], rules);
    let Described { layout, image, .. } = described(&ecr);
    let tag = format!("sha256-{}", hex(&image));
    ecr.run(&[&layout.path, &format!("team/app:{tag}")]).succeeds();
    let run = ecr.run(&[&layout.path, "team/app:1", "--referrers"]).fails_with(1).stdout_is("");
    run.stderr_has(&["cannot add a referrer to ", &format!(":{tag}: it is not an index"), "hint: Remove that tag"]);
    ecr.has_no_image("1");
}

#[test]
fn referrers_that_stay_behind_are_counted() {
    let ecr = Ecr::new();
    let Described { layout, .. } = described(&ecr);
    let run = ecr.run(&[&layout.path, "team/app:1"]).succeeds();
    let note = "note: 3 referrers (signatures, SBOMs) of this image are in the archive; --referrers pushes them\n";
    run.stderr_has(&[note]);
    assert_eq!(ecr.manifests_put(), ["1"]);

    // The index's signature says nothing of one of its images.
    let Saved { layout, index, .. } = saved(&ecr);
    let run = ecr.run(&[&layout.path, "team/app:2", "--platform", "linux/amd64", "--referrers"]).succeeds();
    let left = format!("not pushed: 2 referrers of the index {}", &digest(&index)[..19]);
    run.stderr_has(&[&format!("warning: {left}"), "warning: the archive has no referrers of this image"]);
    let run = ecr.run(&[&layout.path, "team/app:3", "--platform", "linux/amd64"]).succeeds();
    run.stderr_has(&[&format!("note: {left}")]).output_has_none(&["warning: "]);
}

#[test]
fn a_tag_does_not_move_before_the_signatures_are_there() {
    // Two images, the index by digest, and then the signature.
    let refusal = status(400, "MANIFEST_INVALID", "not today");
    let ecr = Ecr::faulty(&[Fault::once("ecr:PutImage", refusal).after(3)]);
    let Saved { layout, .. } = saved(&ecr);
    ecr.run(&[&layout.path, "team/app:1", "--referrers"]).fails_with(1).stderr_has(&["not today"]);
    ecr.has_no_image("1");
}

#[test]
fn a_referrer_that_is_not_whole_is_only_missed_if_it_is_wanted() {
    let ecr = Ecr::new();
    let Saved { layout, .. } = saved(&ecr);
    let payloads = std::fs::read_dir(format!("{}/blobs/sha256", layout.path)).unwrap().map(|it| it.unwrap().path());
    for payload in payloads.filter(|path| std::fs::read(path).unwrap().starts_with(b"{\"critical\"")) {
        std::fs::remove_file(payload).unwrap();
    }
    let run = refused_at_once(&[&layout.path, "--referrers"]);
    run.stderr_has(&[
        "a referrer of the image cannot be pushed",
        "because: the archive does not contain blobs/sha256/",
        "hint: ",
    ]);
    ecr.run(&[&layout.path, "team/app:1"]).succeeds();
}

#[test]
fn another_digest_than_the_expected_one_is_refused_before_anybody_is_asked() {
    let ecr = Ecr::new();
    let Saved { layout, index, .. } = saved(&ecr);
    let view: Value = serde_json::from_slice(&layout.bytes(&index)).unwrap();
    let amd64 = &view["manifests"][0];
    let manifest: Value = serde_json::from_slice(&layout.bytes(amd64)).unwrap();
    let other = sha256(b"other");
    let expect = |digest: &str, more: &[&str]| -> Run {
        refused_at_once(&[&[layout.path.as_str(), "--expect-digest", digest], more].concat())
    };
    expect(&other, &[]).stderr_has(&[&format!("the image has the digest {}, not {other}", digest(&index))]);
    expect(&digest(&manifest["config"]), &[]).stderr_has(&["hint: That is an image ID, the digest of a config."]);
    let hint = format!("hint: The archive has that one, too: --image-id {}", hex(amd64));
    expect(&digest(amd64), &[]).stderr_has(&[&hint]);
    expect(&digest(&index), &["--platform", "linux/amd64"])
        .stderr_has(&["whole index, of which only a part is selected"]);
    let platform = ["--platform", "linux/amd64", "--expect-digest", &digest(amd64)];
    ecr.run(&[&[layout.path.as_str(), "team/app:1"], &platform[..]].concat()).succeeds();

    // Where layers get packed it is not known yet.
    let packed = expect(&digest(&index), &["--compression", "gzip"]);
    packed.stderr_has(&[
        "compressing the layers changes it",
        "hint: Push the image unchanged, with the digest in the archive: --compression keep",
    ]);
    let stated_by_none = refused_at_once(&[&testdata("docker-20.10-save.tar"), "--expect-digest", &digest(&index)]);
    stated_by_none
        .stderr_has(&["cannot check the digest of localhost/fixture/app:v1", "hint: Such an archive states no"]);
    ecr.run(&[&layout.path, "team/app:1", "--expect-digest", "sha256:12"])
        .fails_with(2)
        .stderr_has(&["--expect-digest \"sha256:12\" is not a digest", "hint: Use sha256:"]);
    // A new index is known beforehand: it is the old one without some of its entries.
    let with = layout.index(&[amd64.clone(), layout.image("linux/arm64"), layout.attestation(amd64)]);
    layout.finish(&[with]);
    let new = layout.index(&[amd64.clone(), layout.image("linux/arm64")]);
    let options = ["--no-attestations", "--expect-digest", &digest(&new)];
    ecr.run(&[&[layout.path.as_str(), "team/app:2"], &options[..]].concat()).succeeds();
}

#[test]
fn compressing_an_image_with_a_signature_is_warned_of() {
    let ecr = Ecr::new();
    let layout = Layout::new(&ecr.env, "layout");
    let base = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": sha256(b"base"), "size": 4});
    let image = layout.image_with("linux/amd64", &json!({"subject": base}));
    let sbom = layout.artifact(&image, SPDX, "an SBOM");
    layout.finish(&[image.clone(), sbom]);
    let run = ecr.run(&[&layout.path, "team/app:1", "--compression", "gzip", "--referrers"]).succeeds();
    let (image, base) = (&digest(&image)[..19], &sha256(b"base")[..19]);
    let warning = format!(
        "warning: compressing layers changes {image}, which invalidates what refers to it: 1 referrer, its link to \
         {base}; --compression keep leaves it unchanged\n"
    );
    run.stderr_has(&[&warning, "warning: the archive has no referrers of this image that fit what is pushed"]);
    let run = ecr.run(&[&layout.path, "team/app:2"]).succeeds();
    run.output_has_none(&["warning: "])
        .stderr_has(&["note: 1 referrer (signatures, SBOMs) of this image is in the archive"]);
}

#[test]
fn a_referrer_is_neither_doubted_nor_repaired() {
    let ecr = Ecr::new();
    let layout = Layout::new(&ecr.env, "layout");
    let image = layout.image("linux/amd64");
    let mut wrong: Value = serde_json::from_slice(&layout.bytes(&layout.image("linux/arm64"))).unwrap();
    wrong["layers"][0]["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar+gzip");
    wrong["subject"] = json!({"mediaType": image["mediaType"], "digest": image["digest"], "size": image["size"]});
    let referrer = layout.manifest(wrong);
    layout.finish(&[image.clone(), referrer.clone()]);
    let run =
        ecr.run(&[&layout.path, "team/app:1", "--referrers", "--repair"]).succeeds().output_has_none(&["warning"]);
    run.stdout_is(&format!("{HOST}/team/app:1@{}\n", digest(&image)));
    has(&ecr, &digest(&referrer), &layout, &referrer);
}
