//! What each writer writes arrives as it is: pushed into docker-registry, and read back by skopeo.
//!
//! Archives of `testdata` were written by the tools themselves, and `dir:` by skopeo on the spot. The others are made by
//! `emulated_writers.rs`.

use super::archive_contents::Source;
use super::docker_registry::DockerRegistry;
use super::emulated_writers::*;
use super::harness::{TestEnv, testdata};

/// What happens to the manifest's digest.
#[derive(Clone, Copy, Debug)]
enum Manifest {
    /// It stays that of the archive.
    Unchanged,
    /// The archive has no manifest, or its layers were compressed.
    New,
}

use Manifest::{New, Unchanged};

/// For each writer and format: how to get such an archive, what happens to the digest, and the platforms.
macro_rules! writers {
    ($($name:ident: $write:expr => $manifest:ident, $platforms:expr;)*) => {
        $(mod $name {
            use super::*;

            #[test]
            fn arrives_as_it_is() {
                let env = TestEnv::new();
                let archive = $write(&env);
                arrives(&env, &archive, $manifest, &$platforms);
            }
        })*
    };
}

const AMD: [&str; 1] = ["linux/amd64"];
const AMD_AND_ARM: [&str; 2] = ["linux/amd64", "linux/arm64"];
const AMD_AND_ATTESTATION: [&str; 2] = ["linux/amd64", "unknown/unknown"];

writers! {
    docker_save_20_10: |_: &TestEnv| testdata("docker-20.10-save.tar") => New, AMD;
    docker_save_29_overlay2: |_: &TestEnv| testdata("docker-29-overlay2-save.tar") => New, AMD;
    docker_save_29_containerd_loaded: |_: &TestEnv| testdata("docker-29-containerd-save-loaded.tar") => New, AMD;
    docker_save_29_containerd_built: docker_save_containerd => Unchanged, AMD_AND_ATTESTATION;
    nerdctl_save: nerdctl_save => Unchanged, AMD_AND_ARM;
    podman_docker_archive: |_: &TestEnv| testdata("podman-docker-archive.tar") => New, AMD;
    podman_oci_archive: |_: &TestEnv| testdata("podman-oci-archive.tar") => Unchanged, AMD;
    buildah_oci: |_: &TestEnv| testdata("buildah-oci-layout") => Unchanged, AMD;
    skopeo_oci_all: |_: &TestEnv| testdata("skopeo-oci-layout-multiarch") => Unchanged, AMD_AND_ARM;
    skopeo_dir: |env: &TestEnv| skopeo_dir(env, ["oci", "buildah-oci-layout"], &[]) => Unchanged, AMD;
    skopeo_dir_docker: |env: &TestEnv| skopeo_dir(env, ["docker-archive", "crane-tarball.tar"], &["--dest-compress"])
        => Unchanged, AMD;
    skopeo_dir_zstd: |env: &TestEnv| skopeo_dir(env, ["oci-archive", "podman-oci-archive.tar"],
        &["--dest-compress-format=zstd", "--dest-compress"]) => Unchanged, AMD;
    skopeo_dir_all: |env: &TestEnv| skopeo_dir(env, ["oci", "skopeo-oci-layout-multiarch"], &["--all"])
        => Unchanged, AMD_AND_ARM;
    skopeo_dir_in_a_tar: skopeo_dir_in_a_tar => Unchanged, AMD_AND_ARM;
    crane_tarball: |_: &TestEnv| testdata("crane-tarball.tar") => New, AMD;
    crane_oci: |_: &TestEnv| testdata("crane-oci-layout") => Unchanged, AMD;
    kaniko_tar_path: kaniko_tar_path => New, AMD;
    kaniko_oci_layout_path: kaniko_oci_layout_path => Unchanged, AMD;
    buildkit_docker: buildkit_docker => Unchanged, AMD;
    buildkit_oci: buildkit_oci => Unchanged, AMD_AND_ATTESTATION;
    rules_oci_image: rules_oci_image => Unchanged, AMD;
    rules_oci_load: rules_oci_load => New, AMD;
    nix_build_layered_image: nix_build_layered_image => New, AMD;
    nix_build_image: nix_build_image => New, AMD;
    jib_docker_tar: jib_docker_tar => New, AMD;
    jib_oci_tar: jib_oci_tar => Unchanged, AMD;
    umoci: |_: &TestEnv| testdata("umoci-oci-layout") => Unchanged, AMD;
}

/// Pushes the only image of an archive, and compares what is there afterwards with what was there before.
#[track_caller]
fn arrives(env: &TestEnv, archive: &str, manifest: Manifest, platforms: &[&str]) {
    let Some(registry) = DockerRegistry::start() else { return };
    let target = registry.target("team/app:1");
    let run = env.run(&[archive, &target]).succeeds().output_has_none(&["warning"]);
    let pushed = registry.read_back("team/app", "1");
    let source = Source::read(archive, 0);
    run.stdout_is(&format!("{target}@{}\n", pushed.digest()));
    match manifest {
        Unchanged => assert_eq!(Some(pushed.digest()), source.listed, "the manifest's digest stays"),
        New => assert_ne!(Some(pushed.digest()), source.listed, "the manifest is a new one"),
    }
    pushed.is(&source);
    assert_eq!(pushed.platforms(), platforms);
}
