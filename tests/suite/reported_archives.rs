//! Archives of public bug reports (`testdata/reported`): each is pushed, or rejected with the true cause and the cure, and a
//! pipe gives the same verdict as a file.

use std::process::Stdio;

use super::archive_contents::{plain, sha256};
use super::docker_registry::DockerRegistry;
use super::ecr::Ecr;
use super::harness::{Run, Running, show, testdata};
use super::layout_builder::Layout;
use super::stored_image::StoredImage;

/// Pushes an archive from its file or folder, and through a pipe, each into a repository of its own.
#[track_caller]
fn both_ways(name: &str, options: &[&str], check: impl Fn(&Ecr, Run)) {
    let path = testdata(&format!("reported/{name}"));
    let arguments = [&["-", "team/app:1"], options].concat();
    let from_file = Ecr::new();
    let run = from_file.run(&[&[path.as_str()], &arguments[1..]].concat());
    check(&from_file, run);
    let through_pipe = Ecr::new();
    let bytes = tar_of(&path);
    let command = through_pipe.command(&arguments);
    let run = Running::fed(command, piped(bytes)).end();
    show(&through_pipe.story());
    check(&through_pipe, run);

    // A look inside gives one verdict, too.
    let inspect = |archive: &str| {
        let env = &from_file.env;
        Running::fed(env.command(&["inspect", archive, "--output", "json"]), piped(tar_of(&path))).end()
    };
    let (of_file, of_pipe) = (inspect(&path), inspect("-"));
    assert_eq!(of_file.code, of_pipe.code, "{}{}", of_file.stderr, of_pipe.stderr);
    let images = |run: &Run| {
        let seen: serde_json::Value = serde_json::from_str(&run.stdout).unwrap_or_default();
        (seen["images"].clone(), seen["unusable"].clone())
    };
    assert_eq!(images(&of_file), images(&of_pipe));
}

/// The bytes of a tar, or a tar of a folder.
fn tar_of(path: &str) -> Vec<u8> {
    if !std::path::Path::new(path).is_dir() {
        return std::fs::read(path).unwrap();
    }
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_dir_all(".", path).unwrap();
    tar.into_inner().unwrap()
}

fn piped(bytes: Vec<u8>) -> Stdio {
    let (reader, mut writer) = std::io::pipe().unwrap();
    // Who reads may stop early.
    std::thread::spawn(move || std::io::Write::write_all(&mut writer, &bytes).ok());
    Stdio::from(reader)
}

/// Asserts that the tag points at these very bytes.
#[track_caller]
fn has(ecr: &Ecr, expected: &[u8]) {
    let (digest, bytes, _) = ecr.image("team/app", "1").expect("the tag is there");
    assert_eq!((digest.to_string(), &bytes[..]), (sha256(expected), expected));
}

/// The root manifest of a layout: what its index.json names first.
fn root_of(name: &str) -> Vec<u8> {
    let path = testdata(&format!("reported/{name}"));
    let file = |inside: &str| -> Vec<u8> {
        if std::path::Path::new(&path).is_dir() {
            return std::fs::read(format!("{path}/{inside}")).unwrap();
        }
        let mut tar = tar::Archive::new(std::fs::File::open(&path).unwrap());
        let mut entries = tar.entries().unwrap().map(Result::unwrap);
        let mut entry = entries.find(|entry| entry.path().unwrap().ends_with(inside)).unwrap();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        bytes
    };
    let index: serde_json::Value = serde_json::from_slice(&file("index.json")).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    file(&format!("blobs/sha256/{}", digest.strip_prefix("sha256:").unwrap()))
}

/// StoredImage byte for byte.
#[track_caller]
fn arrives_unchanged(name: &str, options: &[&str]) {
    let expected = root_of(name);
    both_ways(name, options, |ecr, run| {
        run.succeeds();
        has(ecr, &expected);
    });
}

/// Rejected before anything is tagged, with exit code 1 and these words.
#[track_caller]
fn is_rejected(name: &str, options: &[&str], words: &[&str]) {
    both_ways(name, options, |ecr, run| {
        run.fails_with(1).stdout_is("").stderr_has(words);
        ecr.has_no_image("1");
    });
}

/// StoredImage with its layers compressed: so many.
#[track_caller]
fn is_pushed(name: &str, layers: usize) {
    both_ways(name, &[], |ecr, run| {
        run.succeeds();
        let (_, manifest, _) = ecr.image("team/app", "1").expect("the tag is there");
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(manifest["layers"].as_array().unwrap().len(), layers);
    });
}

#[test]
fn an_artifact_whose_config_has_the_media_type_of_an_image_config() {
    arrives_unchanged("artifact-opa", &[]);
}

#[test]
fn an_encrypted_layer_is_pushed_unchanged() {
    arrives_unchanged("encrypted-layer", &[]);
}

#[test]
fn a_null_annotation_is_an_absent_one() {
    arrives_unchanged("null-annotation.tar", &[]);
}

#[test]
fn a_layer_that_is_compressed_with_xz_is_named_before_it_is_sent() {
    let words = ["layer l/layer.tar of the archive is compressed with xz", "hint: Write the archive with uncompressed"];
    is_rejected("layer-xz.tar", &[], &words);
}

#[test]
fn several_names_in_one_annotation_are_several_names() {
    for name in ["made/app:1", "docker.io/made/app:2", "app:2"] {
        arrives_unchanged("comma-ref-name", &["--image", name]);
    }
}

#[test]
fn layers_that_a_layout_leaves_out_are_taken_from_the_repository() {
    let expected = root_of("base-left-out");
    both_ways("base-left-out", &[], |ecr, run| {
        let run = run
            .fails_with(1)
            .stdout_is("")
            .stderr_has(&["the archive does not contain layer sha256:", "hint: Push the image"]);
        run.stderr_has(&["because: the repository does not have it either"]);
        ecr.has_no_image("1");
        ecr.run(&[&testdata("reported/base-whole"), "team/app:base"]).succeeds();
        ecr.run(&[&testdata("reported/base-left-out"), "team/app:1"]).succeeds();
        has(ecr, &expected);
    });
}

#[test]
fn manifest_json_decides_where_the_order_of_layers_is_contradicted() {
    let layers = |name: &str| -> serde_json::Value {
        let mut tar = tar::Archive::new(std::fs::File::open(testdata(&format!("reported/{name}"))).unwrap());
        let entry = tar.entries().unwrap().map(Result::unwrap).find(|it| it.path().unwrap().ends_with("manifest.json"));
        let list: serde_json::Value = serde_json::from_reader(entry.unwrap()).unwrap();
        list[0]["Layers"].clone()
    };
    let expected = layers("docker-25.0.0-order.tar");
    both_ways("docker-25.0.0-order.tar", &[], |ecr, run| {
        run.succeeds();
        let pushed = StoredImage::of_sandbox(ecr, "team/app", "1");
        let layers = pushed.manifests()[0]["layers"].as_array().unwrap().clone();
        let hashes: Vec<_> = layers.iter().map(|it| sha256(&plain(&pushed.blob(it)))).collect();
        let hex = |path: &serde_json::Value| path.as_str().unwrap().rsplit('/').next().unwrap().to_owned();
        let expected = expected.as_array().unwrap().iter().map(|path| format!("sha256:{}", hex(path)));
        assert_eq!(hashes, expected.collect::<Vec<_>>());
    });
}

#[test]
fn uncompressed_layers_of_a_layout_arrive_from_a_file_and_a_pipe_names_the_option() {
    let expected = root_of("uncompressed-oci.tar");
    let path = testdata("reported/uncompressed-oci.tar");
    let ecr = Ecr::new();
    ecr.run(&[&path, "team/app:1"]).succeeds();
    has(&ecr, &expected);
    let ecr = Ecr::new();
    let push = |options: &[&str]| {
        let command = ecr.command(&[&["-", "team/app:1"], options].concat());
        Running::fed(command, piped(tar_of(&path))).end()
    };
    push(&[]).fails_with(1).stderr_has(&["Push the archive from a file", ": --compression keep or --compression gzip"]);
    push(&["--compression", "keep"]).succeeds();
    has(&ecr, &expected);
}

#[test]
fn index_json_is_pushed_as_the_index_of_its_images() {
    let path = testdata("reported/index-json-is-the-index");
    let index = std::fs::read(format!("{path}/index.json")).unwrap();
    is_ambiguous("index-json-is-the-index", "\n  --index  (all of them, as one multi-platform image)");
    both_ways("index-json-is-the-index", &["--index"], |ecr, run| {
        run.succeeds();
        has(ecr, &index);
        let pushed = StoredImage::of_sandbox(ecr, "team/app", "1");
        assert_eq!(pushed.platforms(), ["linux/amd64", "linux/arm64"]);
    });
}

/// A folder that skopeo filled one platform after the other: index.json has no platforms, the configs have.
#[test]
fn an_index_gets_the_platforms_of_the_configs() {
    let ecr = Ecr::new();
    let folder = ecr.env.scratch("layout");
    let source = testdata("reported/index-json-is-the-index");
    let run = std::process::Command::new("cp").args(["-r", &source, &folder]).status().unwrap();
    assert!(run.success());
    let path = format!("{folder}/index.json");
    let mut index: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let listed = index["manifests"].as_array_mut().unwrap();
    listed.iter_mut().for_each(|descriptor| drop(descriptor.as_object_mut().unwrap().remove("platform")));
    std::fs::write(&path, index.to_string()).unwrap();
    ecr.run(&[&folder, "team/app:1", "--index"]).succeeds();
    let (_, bytes, media_type) = ecr.image("team/app", "1").unwrap();
    assert_eq!(media_type, "application/vnd.oci.image.index.v1+json");
    let pushed: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let architectures = pushed["manifests"].as_array().unwrap().iter().map(|it| it["platform"]["architecture"].clone());
    assert_eq!(architectures.collect::<Vec<_>>(), ["amd64", "arm64"]);

    // Two images for one platform make no index.
    let listed = index["manifests"].as_array_mut().unwrap();
    listed[1]["platform"] = serde_json::json!({"os": "linux", "architecture": "amd64"});
    std::fs::write(&path, index.to_string()).unwrap();
    let run = ecr.run(&[&folder, "team/app:2", "--index"]).fails_with(1).stdout_is("");
    run.stderr_has(&["several images of", "are for linux/amd64, so they cannot be one index"]);
}

/// Rejected with exit code 2 and a hint that has this line.
#[track_caller]
fn is_ambiguous(name: &str, line: &str) {
    both_ways(name, &[], |ecr, run| {
        let run = run.fails_with(2).stdout_is("");
        assert!(run.stderr.contains(line), "{}", run.stderr);
        ecr.has_no_image("1");
    });
}

#[test]
fn a_digest_of_another_algorithm_spoils_only_the_image_that_has_it() {
    let path = testdata("reported/sha512-beside-good.tar");
    let expected = root_of("sha512-beside-good.tar");
    both_ways("sha512-beside-good.tar", &["--image", "good"], |ecr, run| {
        run.succeeds();
        has(ecr, &expected);
    });
    let ecr = Ecr::new();
    let run = ecr.env.run(&["inspect", &path]).succeeds();
    assert!(run.stdout.contains("sha512 is not supported"), "{}", run.stdout);
}

/// Amazon's SOCI puts an index of the layers beside the image, under the image's platform.
#[test]
fn a_platform_chooses_the_image_and_not_the_artifact_beside_it() {
    let ecr = Ecr::new();
    let layout = Layout::new(&ecr.env, "layout");
    let image = layout.image("linux/amd64");
    let empty = layout.blob("application/vnd.oci.empty.v1+json", b"{}");
    let soci = layout.manifest(serde_json::json!({
        "artifactType": "application/vnd.amazon.soci.index.v2+json",
        "config": empty,
        "layers": [empty],
    }));
    let platform = serde_json::json!({"os": "linux", "architecture": "amd64"});
    let list = |mut descriptor: serde_json::Value| {
        descriptor["platform"] = platform.clone();
        descriptor
    };
    let index = layout.index(&[list(image.clone()), list(soci)]);
    layout.finish(&[index]);
    let run = ecr.run(&[&layout.path, "team/app:1", "--platform", "linux/amd64"]).succeeds();
    assert_eq!(run.digest(), image["digest"].as_str().unwrap());
}

#[test]
fn a_repair_takes_out_every_field_that_ecr_rejects_and_loses_nothing_by_it() {
    let name = "config-descriptor-annotations.tar";
    let words = ["warning: the manifest sha256:", "which ECR rejects: --repair removes it"];
    is_rejected(name, &[], &words);
    let mut expected: serde_json::Value = serde_json::from_slice(&root_of(name)).unwrap();
    expected["config"].as_object_mut().unwrap().remove("annotations").expect("the input has them");
    both_ways(name, &["--repair"], |ecr, run| {
        run.succeeds();
        let (_, bytes, _) = ecr.image("team/app", "1").unwrap();
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&bytes).unwrap(), expected);
    });
}

/// `platform.features` in an entry of an index.
#[test]
fn a_repair_reaches_indexes() {
    let ecr = Ecr::new();
    let layout = Layout::new(&ecr.env, "layout");
    let mut image = layout.image("linux/amd64");
    image["platform"]["features"] = serde_json::json!(["sse4"]);
    let index = layout.index(&[image, layout.image("linux/arm64")]);
    layout.finish(&[index]);
    ecr.run(&[&layout.path, "team/app:1"])
        .fails_with(1)
        .stdout_is("")
        .stderr_has(&["which ECR rejects: --repair removes it"]);
    ecr.run(&[&layout.path, "team/app:1", "--repair"]).succeeds();
    let (_, bytes, _) = ecr.image("team/app", "1").unwrap();
    let pushed: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert!(pushed["manifests"][0]["platform"].get("features").is_none(), "{pushed}");
}

#[test]
fn an_image_without_layers_is_warned_about_and_rejected() {
    for name in ["no-layers-oci.tar", "layers-null.tar"] {
        let words = ["has no layers, and ECR rejects such an image", "Image has to have at least 1 layer"];
        is_rejected(name, &[], &words);
    }
}

#[test]
fn a_non_distributable_layer_stays_at_its_url() {
    arrives_unchanged("foreign-layer.tar", &[]);
    let path = testdata("reported/foreign-layer.tar");
    let env = super::harness::TestEnv::new();
    env.run(&["--sandbox", &path, "team/app:1"]).succeeds();
}

#[test]
fn a_registry_that_rejects_the_url_of_a_layer_fails_at_once_with_advice() {
    let Some(registry) = DockerRegistry::start() else { return };
    let env = super::harness::TestEnv::new();
    let folder = env.scratch("layout");
    let file = std::fs::File::open(testdata("reported/foreign-layer.tar")).unwrap();
    tar::Archive::new(file).unpack(&folder).unwrap();
    // This one allows https only.
    super::archive_builder::edit_manifest(&folder, |manifest| {
        manifest["layers"][0]["urls"][0] = "http://mcr.example/layer".into();
    });
    let run =
        env.run(&[&folder, &registry.target("team/app:1")]).fails_with(1).stdout_is("").output_has_none(&["retry "]);
    run.stderr_has(&["validation.manifests.urls.allow", ": --foreign-layers"]);
}

#[test]
fn a_volume_label_of_gnu_tar_is_skipped() {
    is_pushed("label.tar", 1);
}

#[test]
fn a_layout_without_its_marker_is_pushed() {
    arrives_unchanged("no-oci-layout.tar", &[]);
}

#[test]
fn a_layer_that_is_a_link_to_nothing_is_named_with_its_target() {
    let link = "the entry eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee/layer.tar is a link to \
                .fa40232223ea7114c7735e3e17c5430092101a4a60d39a7bc2b5dafcd3c13673.tar, which does not exist";
    is_rejected("dangling.tar", &[], &[link, "hint: "]);
}

#[test]
fn a_layer_with_an_empty_name_is_named_as_such() {
    let words =
        ["names a layer or a config by an empty name", "because: some tools leave out layers", "docker load -i"];
    is_rejected("noname.tar", &[], &words);
}

#[test]
fn a_save_from_before_manifest_json_is_loaded_and_saved_again() {
    let words = ["Docker 1.9 or older wrote it", "&& docker save -o image.tar IMAGE\n"];
    is_rejected("docker-1.9.tar", &[], &words);
}

#[test]
fn an_image_folders_deep_in_a_tar_is_found() {
    let words = ["The image is in the folder build/out/", " && tar -C build/out -cf image.tar .\n"];
    is_rejected("deep.tar", &[], &words);
}

#[test]
fn holes_that_a_tar_does_not_store_are_read() {
    is_pushed("sparse-bsdtar.tar", 1);
    is_pushed("sparse-gnu.tar", 1);
}

#[test]
fn what_powershell_redirected_is_called_so() {
    let words = ["is text in UTF-16, not an image archive", "because: PowerShell's > and pipes", "\n  docker save -o "];
    is_rejected("powershell-5.tar", &[], &words);
}
