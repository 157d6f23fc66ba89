//! A sandbox that does not keep large blobs.

use super::*;

async fn bench(dir: Option<&TempDir>) -> Bench {
    let dir = dir.map(|dir| dir.0.clone());
    Bench::start(Options { dir, discard: true, create: vec!["team/app".parse().unwrap()], ..Options::default() }).await
}

#[tokio::test]
async fn a_large_blob_is_checked_and_there_but_cannot_be_read() {
    let dir = TempDir::new();
    for bench in [bench(None).await, bench(Some(&dir)).await] {
        let (small, large) = (noise(MIB), noise(6 * MIB));
        let url = bench.begin().await;
        let other = "None of the provided layer digests match the calculated layer digest";
        assert_eq!(bench.put(&url, &Digest::of(&small), &large).await.refusal().2, other);
        let manifest = bench.image(&large).await;
        assert_eq!(bench.put_manifest("v1", OCI_MANIFEST, &manifest).await.status, StatusCode::CREATED);
        let (digest, size) = (Digest::of(&large), large.len().to_string());
        let path = format!("/v2/team/app/blobs/{digest}");
        let reply = bench.call("HEAD", &path).await;
        assert_eq!((reply.status, reply.header("content-length")), (StatusCode::OK, size.as_str()));
        let request = json!({"repositoryName": "team/app", "layerDigests": [digest]});
        let layer = bench.api("BatchCheckLayerAvailability", request).await.json()["layers"][0].clone();
        assert_eq!((&layer["layerAvailability"], &layer["layerSize"]), (&json!("AVAILABLE"), &json!(large.len())));
        let discarded = format!("The sandbox discarded the {size} bytes of this blob, as configured");
        assert_eq!(bench.call("GET", &path).await.refusal(), (404, "BLOB_UNKNOWN".into(), discarded));
        assert_eq!(bench.sandbox.blob("team/app", &digest), None);

        // Small blobs are stored, and so are manifests.
        assert_eq!(bench.push(&small).await, Digest::of(&small));
        assert_eq!(bench.sandbox.blob("team/app", &Digest::of(&small)), Some(small));
        assert!(bench.sandbox.image("team/app", "v1").is_some());
    }
    let stored = std::fs::read_dir(dir.0.join("team/app/blobs/sha256")).unwrap();
    let longest = stored.map(|entry| entry.unwrap().metadata().unwrap().len()).max();
    assert_eq!(longest, Some(MIB as u64));
}

#[tokio::test]
async fn bytes_are_discarded_while_they_come() {
    let dir = TempDir::new();
    let bench = bench(Some(&dir)).await;
    let url = bench.begin().await;
    let staged = || std::fs::read_dir(dir.0.join(".ecr-push-uploads")).unwrap().count();
    assert_eq!(bench.patch(&url, None, noise(MIB)).await.status, StatusCode::CREATED);
    assert_eq!(staged(), 1);
    assert_eq!(bench.patch(&url, None, vec![0]).await.status, StatusCode::CREATED);
    assert_eq!(staged(), 0);
    assert_eq!(bench.sandbox.open_uploads(), 1);
}

#[tokio::test]
async fn a_discarded_blob_can_be_mounted() {
    let bench = bench(None).await;
    bench.sandbox.set_rules(|rules| rules.blob_mounting = BlobMounting::Enabled);
    assert_eq!(bench.api("CreateRepository", json!({"repositoryName": "other"})).await.status, StatusCode::OK);
    let (layer, digest) = (noise(2 * MIB), Digest::of(&noise(2 * MIB)));
    let manifest = bench.image(&layer).await;
    assert_eq!(bench.put_manifest("1", OCI_MANIFEST, &manifest).await.status, StatusCode::CREATED);
    let mount = format!("/v2/other/blobs/uploads/?mount={digest}&from=team%2Fapp");
    assert_eq!(bench.call("POST", &mount).await.status, StatusCode::CREATED);
    let reply = bench.call("HEAD", &format!("/v2/other/blobs/{digest}")).await;
    assert_eq!((reply.status, reply.header("content-length")), (StatusCode::OK, "2097152"));
}
