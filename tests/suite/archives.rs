//! Every archive of `testdata` arrives as it is: in docker-registry, read back by skopeo, and in the sandbox.

use std::collections::HashSet;

use super::archive_builder;
use super::archive_contents::{Source, sha256};
use super::docker_registry::DockerRegistry;
use super::ecr::{Ecr, HOST};
use super::harness::{TestEnv, report, testdata};
use super::stored_image::StoredImage;

/// For each archive: its name, the place of the image in it, the arguments that choose the image.
macro_rules! archives {
    ($($name:ident: $file:literal, $index:literal, $choice:expr;)*) => {
        $(mod $name {
            #[test]
            fn arrives_in_a_docker_registry_as_it_is() {
                super::arrives_in_a_docker_registry($file, $index, &$choice);
            }

            #[test]
            fn arrives_in_ecr_as_it_is_and_asks_no_more_than_it_must() {
                super::arrives_in_ecr($file, $index, &$choice);
            }
        })*
    };
}

archives! {
    docker_20_10_save: "docker-20.10-save.tar", 0, [];
    docker_20_10_save_many_first: "docker-20.10-save-many.tar", 0, ["--image", "localhost/fixture/app:stable"];
    docker_20_10_save_many_second: "docker-20.10-save-many.tar", 1, ["--image", "fixture/base:1"];
    docker_20_10_save_many_by_id: "docker-20.10-save-many.tar", 1, ["--image-id", "d62b83c4"];
    docker_20_10_save_by_id_untagged: "docker-20.10-save-by-id-untagged.tar", 0, [];
    docker_29_overlay2_save: "docker-29-overlay2-save.tar", 0, [];
    docker_29_containerd_save_loaded: "docker-29-containerd-save-loaded.tar", 0, [];
    podman_docker_archive: "podman-docker-archive.tar", 0, [];
    podman_oci_archive: "podman-oci-archive.tar", 0, [];
    crane_tarball: "crane-tarball.tar", 0, [];
    buildah_oci_layout: "buildah-oci-layout", 0, [];
    crane_oci_layout: "crane-oci-layout", 0, [];
    skopeo_oci_layout_multiarch: "skopeo-oci-layout-multiarch", 0, [];
}

fn arrives_in_a_docker_registry(file: &str, index: usize, choice: &[&str]) {
    let Some(registry) = DockerRegistry::start() else { return };
    let (env, archive) = (TestEnv::new(), testdata(file));
    let target = registry.target("team/app:1");
    let run = env.run(&[&[archive.as_str(), &target], choice].concat()).succeeds();
    let digest = sha256(&registry.manifest("team/app:1").unwrap());
    run.stdout_is(&format!("{target}@{digest}\n"));
    let pushed = registry.read_back("team/app", "1");
    assert_eq!(pushed.digest(), digest);
    pushed.is(&Source::read(&archive, index));
    assert_eq!(registry.open_uploads("team/app"), 0);
}

fn arrives_in_ecr(file: &str, index: usize, choice: &[&str]) {
    let (ecr, archive) = (Ecr::empty(), testdata(file));
    let run = ecr.run(&[&[archive.as_str(), "team/app:1", "--create-repository"], choice].concat()).succeeds();
    let pushed = StoredImage::of_sandbox(&ecr, "team/app", "1");
    run.stdout_is(&format!("{HOST}/team/app:1@{}\n", pushed.digest()));
    let source = Source::read(&archive, index);
    pushed.is(&source);
    assert_eq!(ecr.repositories(), ["team/app"]);

    let log = ecr.log();
    let availability = ecr.asked("ecr:BatchCheckLayerAvailability");
    let is_any_known = source.parts.iter().flat_map(|part| &part.layers).any(|layer| layer.packed.is_some());
    assert_eq!(availability.len(), usize::from(is_any_known), "one question about all blobs, or none");
    assert!(availability.iter().all(|entry| entry.path == "/"), "asked on AWS's face");
    assert!(log.iter().all(|entry| entry.method != "HEAD"), "nothing is asked for one by one");
    assert_eq!(ecr.count("ecr:CreateRepository"), 1);

    let contents = source.parts.iter().flat_map(|part| &part.layers).map(|layer| layer.plain.clone());
    let configs = source.parts.iter().map(|part| sha256(&part.config));
    let blobs: HashSet<_> = contents.chain(configs).collect();
    assert_eq!(ecr.count("ecr:InitiateLayerUpload"), blobs.len(), "one session a blob that is missing");
    assert_eq!(ecr.count("ecr:CompleteLayerUpload"), blobs.len());
    assert_eq!(ecr.count("ecr:UploadLayerPart"), 0, "a blob of one chunk takes no PATCH");

    let first = log.iter().position(|entry| entry.operation == "ecr:PutImage").unwrap();
    assert!(log[first..].iter().all(|entry| entry.operation == "ecr:PutImage"), "manifests come last");
    let put = ecr.manifests_put();
    let children = if source.parts.len() > 1 { source.parts.len() } else { 0 };
    assert_eq!(put.len(), children + 1);
    assert!(put[..children].iter().all(|reference| reference.starts_with("sha256:")), "children come by digest");
    assert_eq!(put[children], "1", "the tag comes last");
}

#[test]
fn a_part_of_an_index_can_be_pushed_alone() {
    let (ecr, archive) = (Ecr::new(), testdata("skopeo-oci-layout-multiarch"));
    let run = ecr.run(&[&archive, "team/app:arm", "--image-id", "sha256:16e5179798"]).succeeds();
    let digest = "sha256:16e51797989a3f1ffddc3a3f3e9d857771a411e8893a14dd0cc258c09781f80d";
    run.stdout_is(&format!("{HOST}/team/app:arm@{digest}\n"));
    assert_eq!(StoredImage::of_sandbox(&ecr, "team/app", "arm").manifests().len(), 1);
}

#[test]
fn compression_gives_the_same_bytes_for_any_number_of_threads() {
    let env = TestEnv::new();
    let (made, large) =
        (env.scratch("made.tar"), archive_builder::tar_of("words", &archive_builder::prose(1, 6 << 20)));
    archive_builder::docker_save(&made, &[large, archive_builder::tar_of("more", &archive_builder::noise(2, 300_000))]);
    for archive in [testdata("docker-29-overlay2-save.tar"), made] {
        let ecr = Ecr::new();
        let digests = ["1", "2", "4", "7"].map(|threads| {
            let (cache, written) = (env.scratch(&format!("cache-{threads}")), env.scratch("report.json"));
            drop(std::fs::remove_file(&cache));
            let options = ["--pack-threads", threads, "--cache", &cache, "--reuse", "cache", "--report", &written];
            let run = ecr.run(&[&[archive.as_str(), "team/app:1"], &options[..]].concat()).succeeds();
            let layers = report(&written)["targets"][0]["layers"].as_array().unwrap().clone();
            assert!(layers.iter().all(|layer| layer["action"] == "upload"), "it was compressed again: {layers:?}");
            run.digest()
        });
        assert!(digests.iter().all(|digest| digest == &digests[0]), "{digests:?}");
        StoredImage::of_sandbox(&ecr, "team/app", "1").is(&Source::read(&archive, 0));
    }
}

#[test]
fn an_image_of_many_layers_is_asked_for_a_hundred_at_a_time() {
    let ecr = Ecr::new();
    let layout = ecr.env.scratch("layout");
    let layers: Vec<_> =
        (0..120).map(|n| archive_builder::tar_of(&format!("file-{n}"), &archive_builder::noise(n, 600))).collect();
    let digest = archive_builder::oci_layout(&layout, &layers);
    ecr.run(&[&layout, "team/app:1"]).succeeds().stdout_is(&format!("{HOST}/team/app:1@{digest}\n"));
    assert_eq!(ecr.count("ecr:BatchCheckLayerAvailability"), 2, "120 layers and a config");
    assert_eq!(ecr.count("ecr:InitiateLayerUpload"), 121);
    StoredImage::of_sandbox(&ecr, "team/app", "1").is(&Source::read(&layout, 0));
}

#[test]
fn a_layer_that_an_image_has_twice_is_sent_once() {
    let ecr = Ecr::new();
    let archive = ecr.env.scratch("twice.tar");
    let (once, other) = (
        archive_builder::tar_of("once", &archive_builder::prose(3, 90_000)),
        archive_builder::tar_of("other", b"other"),
    );
    archive_builder::docker_save(&archive, &[once.clone(), other, once]);
    ecr.run(&[&archive, "team/app:1"]).succeeds();
    assert_eq!(ecr.count("ecr:InitiateLayerUpload"), 3, "two layers and a config");
    StoredImage::of_sandbox(&ecr, "team/app", "1").is(&Source::read(&archive, 0));
}
