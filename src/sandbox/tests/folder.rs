//! The state as files.

use super::*;

fn options(dir: &TempDir) -> Options {
    let create = ["team/app", "team/app/blobs", "team/app/index.json/sha256"].map(|name| name.parse().unwrap());
    Options { dir: Some(dir.0.clone()), create: create.into(), ..Options::default() }
}

#[tokio::test]
async fn a_restarted_sandbox_has_everything_still() {
    let dir = TempDir::new();
    let bench = Bench::start(options(&dir)).await;
    let request = json!({"repositoryName": "fixed", "imageTagMutability": "IMMUTABLE"});
    assert_eq!(bench.api("CreateRepository", request).await.status, StatusCode::OK);
    let layer = noise(100_000);
    let child = bench.image(&layer).await;
    let bytes = child.to_string();
    let digest = Digest::of(bytes.as_bytes());
    assert_eq!(bench.put_manifest(&digest.to_string(), OCI_MANIFEST, &child).await.status, StatusCode::CREATED);
    let entry = json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": bytes.len()});
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    assert_eq!(bench.put_manifest("v1", OCI_INDEX, &index).await.status, StatusCode::CREATED);
    let left_open = bench.begin().await;
    assert_eq!(bench.patch(&left_open, None, noise(10)).await.status, StatusCode::CREATED);
    assert_eq!(std::fs::read_dir(dir.0.join(".ecr-push-uploads")).unwrap().count(), 1);
    let before = bench.sandbox.image("team/app", "v1");
    bench.sandbox.stop().await;

    let bench = Bench::start(options(&dir)).await;
    assert_eq!(bench.sandbox.image("team/app", "v1"), before);
    assert_eq!(bench.sandbox.image("team/app", &digest.to_string()).unwrap().1, bytes.as_bytes());
    assert_eq!(bench.sandbox.blob("team/app", &Digest::of(&layer)), Some(layer.clone()));
    let names = ["fixed", "team/app", "team/app/blobs", "team/app/index.json/sha256"];
    assert_eq!(bench.sandbox.repositories(), names);
    let fixed = bench.api("DescribeRepositories", json!({"repositoryNames": ["fixed"]})).await.json();
    assert_eq!(fixed["repositories"][0]["imageTagMutability"], "IMMUTABLE");
    assert_eq!(std::fs::read_dir(dir.0.join(".ecr-push-uploads")).unwrap().count(), 0);
    let redirect = bench.call("GET", &format!("/v2/team/app/blobs/{}", Digest::of(&layer))).await;
    assert_eq!(send(bench.http.get(redirect.header("location"))).await.body, layer);
}

#[tokio::test]
async fn a_repository_is_an_image_layout() {
    let dir = TempDir::new();
    let bench = Bench::start(options(&dir)).await;
    let manifest = bench.image(b"layer").await;
    for tag in ["v1", "v2"] {
        assert_eq!(bench.put_manifest(tag, OCI_MANIFEST, &manifest).await.status, StatusCode::CREATED);
    }
    let layout = dir.0.join("team").join("app");
    let read = |path: &str| std::fs::read(layout.join(path)).unwrap();
    assert_eq!(read("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#);
    let index: Value = serde_json::from_slice(&read("index.json")).unwrap();
    let bytes = manifest.to_string();
    let digest = Digest::of(bytes.as_bytes());
    for (at, tag) in ["v1", "v2"].into_iter().enumerate() {
        let expected = json!({
            "mediaType": OCI_MANIFEST, "digest": digest, "size": bytes.len(),
            "annotations": {"org.opencontainers.image.ref.name": tag},
        });
        assert_eq!(index["manifests"][at], expected);
    }
    assert_eq!(read(&format!("blobs/sha256/{}", digest.hex())), bytes.as_bytes());
    assert_eq!(read(&format!("blobs/sha256/{}", Digest::of(b"layer").hex())), b"layer");
    assert!(layout.join("blobs%").join("oci-layout").is_file());
    assert!(layout.join("index.json%").join("sha256").join("oci-layout").is_file());
}

#[tokio::test]
async fn what_others_put_into_the_folder_stays() {
    let dir = TempDir::new();
    let bench = Bench::start(options(&dir)).await;
    let manifest = bench.image(b"layer").await;
    assert_eq!(bench.put_manifest("v1", OCI_MANIFEST, &manifest).await.status, StatusCode::CREATED);
    bench.sandbox.stop().await;
    // A layout of another program, and files in the folders that the sandbox uses.
    let read = |name: &str| std::fs::read(dir.0.join(name)).unwrap();
    let mut index: Value = serde_json::from_slice(&read("team/app/index.json")).unwrap();
    index["annotations"] = json!({"by": "another program"});
    std::fs::write(dir.0.join("team/app/index.json"), index.to_string()).unwrap();
    let others = [".uploads/notes", ".ecr-push-uploads/notes", ".ecr-push-uploads/folder/file"];
    for other in others {
        std::fs::create_dir_all(dir.0.join(other).parent().unwrap()).unwrap();
        std::fs::write(dir.0.join(other), "mine").unwrap();
    }
    let bench = Bench::start(options(&dir)).await;
    for tag in ["v2", "v3"] {
        assert_eq!(bench.put_manifest(tag, OCI_MANIFEST, &manifest).await.status, StatusCode::CREATED);
    }
    bench.sandbox.stop().await;
    for other in others {
        assert_eq!(read(other), b"mine", "{other}");
    }
    assert_eq!(read("team/app/index.json.original"), index.to_string().into_bytes());
    let bench = Bench::start(options(&dir)).await;
    assert!(["v1", "v2", "v3"].iter().all(|tag| bench.sandbox.image("team/app", tag).is_some()));
}

#[tokio::test]
async fn a_folder_belongs_to_one_sandbox_at_a_time() {
    let dir = TempDir::new();
    let bench = Bench::start(options(&dir)).await;
    let error = Sandbox::start(options(&dir)).await.unwrap_err();
    assert!(error.to_string().starts_with("another sandbox is using "), "{error}");
    bench.sandbox.stop().await;
    assert!(Sandbox::start(options(&dir)).await.is_ok());
}

#[tokio::test]
async fn a_broken_layout_is_an_error_and_not_a_surprise() {
    let dir = TempDir::new();
    let bench = Bench::start(options(&dir)).await;
    let manifest = bench.image(b"layer").await;
    assert_eq!(bench.put_manifest("v1", OCI_MANIFEST, &manifest).await.status, StatusCode::CREATED);
    bench.sandbox.stop().await;
    let layout = dir.0.join("team").join("app");
    let digest = Digest::of(manifest.to_string().as_bytes());
    std::fs::write(layout.join("blobs").join("sha256").join(digest.hex()), "{}").unwrap();
    let error = Sandbox::start(options(&dir)).await.unwrap_err();
    assert_eq!(error.kind(), crate::error::Kind::Input);
    assert!(error.causes()[0].contains("has another digest"), "{:?}", error.causes());
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_out_of_the_folder_is_not_followed() {
    let (dir, outside) = (TempDir::new(), TempDir::new());
    std::fs::create_dir_all(&dir.0).unwrap();
    std::fs::create_dir_all(&outside.0).unwrap();
    std::os::unix::fs::symlink(&outside.0, dir.0.join("team")).unwrap();
    let error = Sandbox::start(options(&dir)).await.unwrap_err();
    assert!(error.causes()[0].ends_with("is in the way"), "{:?}", error.causes());
    assert_eq!(std::fs::read_dir(&outside.0).unwrap().count(), 0);
}

#[tokio::test]
async fn staged_files_of_a_killed_sandbox_are_removed() {
    let dir = TempDir::new();
    let staging = dir.0.join(".ecr-push-uploads");
    std::fs::create_dir_all(&staging).unwrap();
    for name in ["file", "01234567-89ab-4def-a123-456789abcdef", &"0f".repeat(32), "notes"] {
        std::fs::write(staging.join(name), "staged").unwrap();
    }
    let _sandbox = Sandbox::start(options(&dir)).await.unwrap();
    let left: Vec<_> = std::fs::read_dir(&staging).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["notes"]);
}
