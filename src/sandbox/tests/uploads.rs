//! Upload sessions, parts, and what is left of them when the line breaks.

use std::io::Write as _;

use super::*;

fn wrong_offset(stated: u64, expected: u64) -> (u16, String, String) {
    let message = format!("First byte of the layer part is {stated} instead of {expected}");
    (416, "BLOB_UPLOAD_INVALID".into(), message)
}

fn invalid(message: &str) -> (u16, String, String) {
    (400, "BLOB_UPLOAD_INVALID".into(), message.into())
}

#[tokio::test]
async fn a_session_begins_with_an_absolute_location_and_no_uuid() {
    let bench = Bench::new().await;
    for query in ["", "?digest=sha256:12", "?mount=sha256:12&from=team/app"] {
        let reply = bench.call("POST", &format!("/v2/team/app/blobs/uploads/{query}")).await;
        assert_eq!(reply.status, StatusCode::ACCEPTED);
        let prefix = format!("{}/v2/team/app/blobs/uploads/", bench.sandbox.url());
        assert!(reply.header("location").starts_with(&prefix), "{reply:?}");
        assert_eq!(reply.header("docker-upload-uuid"), "");
        assert_eq!(reply.header("docker-distribution-api-version"), "registry/2.0");
    }
    assert_eq!(bench.sandbox.open_uploads(), 3);
}

#[tokio::test]
async fn parts_are_answered_with_201_and_a_range_that_sticks() {
    let bench = Bench::new().await;
    let blob = noise(16 * MIB);
    let url = bench.begin().await;
    for (start, end) in [(0, 6 * MIB), (6 * MIB, 11 * MIB)] {
        let reply = bench.patch(&url, Some((start, end - 1)), blob[start..end].to_vec()).await;
        assert_eq!(reply.status, StatusCode::CREATED);
        assert_eq!(reply.header("range"), format!("0-{}", 6 * MIB - 1));
    }
    let digest = Digest::of(&blob);
    let request = bench.request("PUT", &format!("{url}?digest={digest}"));
    let request = request.header("content-range", format!("{}-{}", 11 * MIB, 16 * MIB - 1));
    let reply = send(request.body(blob[11 * MIB..].to_vec())).await;
    assert_eq!(reply.status, StatusCode::CREATED);
    assert_eq!(reply.header("location"), format!("{}/v2/team/app/blobs/{digest}", bench.sandbox.url()));
    assert_eq!(bench.sandbox.blob("team/app", &digest), Some(blob));
    assert_eq!(bench.sandbox.open_uploads(), 0);
    let log = bench.last();
    assert_eq!((log.operation.as_str(), log.status, log.body_bytes), ("ecr:CompleteLayerUpload", 201, 5 * MIB as u64));
    assert_eq!(log.content_range.as_deref(), Some("11534336-16777215"));
    assert_eq!(bench.call("GET", &url).await.status, StatusCode::NOT_FOUND);
    assert_eq!(bench.patch(&url, None, vec![1]).await.refusal().1, "BLOB_UPLOAD_UNKNOWN");
}

#[tokio::test]
async fn a_stream_without_content_range_may_be_of_any_length() {
    let bench = Bench::new().await;
    let blob = noise(12 * MIB);
    let digest = Digest::of(&blob);
    let url = bench.begin().await;
    let reply = bench.patch(&url, None, blob.clone()).await;
    assert_eq!((reply.status, reply.header("range")), (StatusCode::CREATED, "0-10485759"));
    assert_eq!(bench.put(&url, &digest, b"").await.status, StatusCode::CREATED);
    // The same again, in one PUT: a blob that is there already is no reason to fail.
    assert_eq!(bench.push(&blob).await, digest);
    let escaped = format!("{}?digest=sha256%3A{}", bench.begin().await, digest.hex());
    assert_eq!(send(bench.request("PUT", &escaped).body(blob)).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn parts_have_a_largest_and_a_smallest_size() {
    let bench = Bench::new().await;
    let url = bench.begin().await;
    let reply = bench.patch(&url, Some((0, 10 * MIB)), vec![7; 10 * MIB + 1]).await;
    assert_eq!((reply.status.as_u16(), reply.refusal().1.as_str()), (400, "BLOB_UPLOAD_INVALID"));
    assert_eq!(bench.last().body_bytes, 10 * MIB as u64 + 1, "refused bytes count as received");

    // Small is fine for the last part, and for no other.
    let blob = noise(5 * MIB);
    assert_eq!(bench.patch(&url, Some((0, 5 * MIB - 2)), blob[..5 * MIB - 1].to_vec()).await.status.as_u16(), 201);
    assert_eq!(bench.patch(&url, Some((5 * MIB - 1, 5 * MIB - 1)), blob[5 * MIB - 1..].to_vec()).await.status, 201);
    let too_small = invalid("All layer parts except the last part should be at least 5MB");
    assert_eq!(bench.put(&url, &Digest::of(&blob), b"").await.refusal(), too_small);
    let url = bench.begin().await;
    assert_eq!(bench.patch(&url, None, blob[..MIB].to_vec()).await.status, StatusCode::CREATED);
    assert_eq!(bench.put(&url, &Digest::of(&blob), &blob[MIB..]).await.refusal(), too_small);
    let url = bench.begin().await;
    assert_eq!(bench.patch(&url, Some((0, MIB - 1)), blob[..MIB].to_vec()).await.status, StatusCode::CREATED);
    assert_eq!(bench.put(&url, &Digest::of(&blob[..MIB]), b"").await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_part_must_be_where_and_as_long_as_it_says() {
    let bench = Bench::new().await;
    let url = bench.begin().await;
    assert_eq!(bench.patch(&url, Some((0, 5 * MIB - 1)), vec![1; 5 * MIB]).await.status, StatusCode::CREATED);
    let expected = 5 * MIB as u64;
    for stated in [0, 5 * MIB + 1] {
        let reply = bench.patch(&url, Some((stated, stated + 9)), vec![1; 10]).await;
        assert_eq!(reply.refusal(), wrong_offset(stated as u64, expected));
    }
    // Refused parts change nothing.
    for range in ["bytes 5242880-5242889", "5242880-5242888", "5242889-5242880", "+1-2", "1", "0-18446744073709551615"]
    {
        let reply = send(bench.request("PATCH", &url).header("content-range", range).body(vec![1; 10])).await;
        assert_eq!((reply.status.as_u16(), reply.refusal().1.as_str()), (400, "BLOB_UPLOAD_INVALID"), "{range}");
    }
    assert_eq!(bench.put(&url, &Digest::of(&vec![1; 5 * MIB]), b"").await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn empty_and_other_blobs_are_refused_at_the_end() {
    let bench = Bench::new().await;
    let url = bench.begin().await;
    let id = url.rsplit('/').next().unwrap();
    let empty = invalid(&format!(
        "The upload with id '{id}' in the repository with name 'team/app' in registry with id '000000000000' cannot be \
         completed because it does not have any parts."
    ));
    assert_eq!(bench.put(&url, &Digest::of(b""), b"").await.refusal(), empty);
    let other = invalid("None of the provided layer digests match the calculated layer digest");
    assert_eq!(bench.put(&url, &Digest::of(b"x"), b"y").await.refusal(), other);
    let reply = bench.call("PUT", &format!("{url}?digest=sha512:12")).await;
    assert_eq!(reply.refusal().1, "DIGEST_INVALID");
}

#[tokio::test]
async fn a_session_can_be_dropped_and_belongs_to_its_repository() {
    let bench = Bench::new().await;
    assert_eq!(bench.api("CreateRepository", json!({"repositoryName": "other"})).await.status, StatusCode::OK);
    let url = bench.begin().await;
    let elsewhere = url.replace("team/app", "other");
    assert_eq!(bench.patch(&elsewhere, None, vec![1]).await.refusal().1, "BLOB_UPLOAD_UNKNOWN");
    assert_eq!(bench.call("DELETE", &url).await.status, StatusCode::NO_CONTENT);
    assert_eq!(bench.call("DELETE", &url).await.status, StatusCode::NOT_FOUND);
    assert_eq!(bench.sandbox.open_uploads(), 0);
}

#[tokio::test]
async fn a_cut_body_spoils_the_session_for_good() {
    let bench = Bench::new().await;
    let url = bench.begin().await;
    bench.sandbox.set_rules(|rules| rules.faults = vec![Fault::once("ecr:UploadLayerPart", Trouble::CutAfter(1000))]);
    assert!(try_send(bench.request("PATCH", &url).body(vec![1; 6 * MIB])).await.is_err());
    let log = bench.last();
    assert_eq!((log.status, log.body_bytes), (0, 1000));
    assert_eq!(bench.call("GET", &url).await.status, StatusCode::NOT_FOUND);
    assert_eq!(bench.patch(&url, None, vec![1; 10]).await.refusal(), wrong_offset(0, 1000));
    // Who believes that gets nowhere.
    assert_eq!(bench.patch(&url, Some((1000, 1009)), vec![1; 10]).await.refusal(), wrong_offset(1000, 0));
    assert_eq!(bench.put(&url, &Digest::of(&[1; 1000]), b"").await.refusal(), wrong_offset(0, 1000));
    assert_eq!(bench.put(&url, &Digest::of(&[1; 1001]), b"1").await.refusal(), wrong_offset(0, 1000));
}

#[tokio::test]
async fn a_cut_session_goes_on_where_a_416_says_if_the_rules_allow_it() {
    let bench = Bench::with(Rules { interrupted: Interrupted::Resumable, ..Rules::default() }).await;
    let blob = noise(8 * MIB);
    let url = bench.begin().await;
    let cut = Trouble::CutAfter(6 * MIB as u64 + 123);
    bench.sandbox.set_rules(|rules| rules.faults = vec![Fault::once("ecr:UploadLayerPart", cut)]);
    assert!(try_send(bench.request("PATCH", &url).body(blob.clone())).await.is_err());
    assert_eq!(bench.call("GET", &url).await.status, StatusCode::NOT_FOUND);
    let arrived = 6 * MIB + 123;
    assert_eq!(bench.patch(&url, None, blob.clone()).await.refusal(), wrong_offset(0, arrived as u64));
    assert_eq!(bench.patch(&url, Some((0, 9)), vec![0; 10]).await.refusal(), wrong_offset(0, arrived as u64));
    let reply = bench.patch(&url, Some((arrived, 8 * MIB - 1)), blob[arrived..].to_vec()).await;
    assert_eq!(reply.status, StatusCode::CREATED);
    assert_eq!(bench.put(&url, &Digest::of(&blob), b"").await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn an_answer_can_get_lost_after_the_work_was_done() {
    let bench = Bench::new().await;
    let blob = noise(100);
    let url = bench.begin().await;
    bench
        .sandbox
        .set_rules(|rules| rules.faults = vec![Fault::once("ecr:CompleteLayerUpload", Trouble::CutAfter(100))]);
    let request = bench.request("PUT", &format!("{url}?digest={}", Digest::of(&blob)));
    assert!(try_send(request.body(blob.clone())).await.is_err());
    let log = bench.last();
    assert_eq!((log.status, log.body_bytes), (0, 100));
    assert_eq!(bench.sandbox.blob("team/app", &Digest::of(&blob)), Some(blob));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_away_cuts_its_session_too() {
    let bench = Bench::new().await;
    let url = bench.begin().await;
    let path = url.strip_prefix(&bench.sandbox.url()).unwrap();
    let mut stream = std::net::TcpStream::connect(bench.sandbox.address()).unwrap();
    let head = format!(
        "PATCH {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {}\r\nContent-Length: 5000\r\n\r\n",
        bench.token
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&[1; 2000]).unwrap();
    drop(stream);
    let pause = || tokio::time::sleep(std::time::Duration::from_millis(10));
    while !bench.sandbox.log().iter().any(|entry| entry.method == "PATCH" && entry.body_bytes == 2000) {
        pause().await;
    }
    // Until the sandbox has noticed, the other request still has the session for itself.
    while bench.patch(&url, None, vec![1; 10]).await.refusal() != wrong_offset(0, 2000) {
        pause().await;
    }
    assert_eq!(bench.patch(&url, Some((2000, 2009)), vec![1; 10]).await.refusal(), wrong_offset(2000, 0));
}

#[tokio::test]
async fn blobs_are_asked_for_by_digest_and_fetched_from_the_bucket() {
    let bench = Bench::new().await;
    let blob = noise(70_000);
    let digest = bench.push(&blob).await;
    let path = format!("/v2/team/app/blobs/{digest}");
    let reply = bench.call("HEAD", &path).await;
    assert_eq!((reply.status, reply.header("content-length")), (StatusCode::OK, "70000"));
    let absent = format!("/v2/team/app/blobs/{}", Digest::of(b"absent"));
    assert_eq!(bench.call("HEAD", &absent).await.status, StatusCode::NOT_FOUND);
    assert_eq!(bench.call("GET", &absent).await.refusal().1, "BLOB_UNKNOWN");

    let reply = bench.call("GET", &path).await;
    assert_eq!(reply.status, StatusCode::TEMPORARY_REDIRECT);
    let url = reply.header("location");
    assert!(!url.starts_with(&bench.sandbox.url()));
    assert_eq!(send(bench.http.get(url)).await.body, blob);
    assert_eq!(bench.last().operation, "s3:GetObject");
    assert_eq!(bench.sandbox.leaked_credentials(), 0);
    assert_eq!(bench.call("GET", url).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(bench.sandbox.leaked_credentials(), 1);
    let unsigned = url.split('?').next().unwrap();
    assert_eq!(send(bench.http.get(unsigned)).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn blobs_are_mounted_only_where_ecr_would() {
    let bench = Bench::new().await;
    let create = |name: &str, kind: &str| {
        bench.api(
            "CreateRepository",
            json!({"repositoryName": name, "encryptionConfiguration": {"encryptionType": kind}}),
        )
    };
    assert_eq!(create("other", "AES256").await.status, StatusCode::OK);
    assert_eq!(create("secret", "KMS").await.status, StatusCode::OK);
    let layer = noise(100);
    let manifest = bench.image(&layer).await;
    let digest = Digest::of(&layer);
    let mount =
        async |to: &str| bench.call("POST", &format!("/v2/{to}/blobs/uploads/?mount={digest}&from=team%2Fapp")).await;
    assert_eq!(mount("other").await.status, StatusCode::ACCEPTED, "off by default");
    bench.sandbox.set_rules(|rules| rules.blob_mounting = BlobMounting::Enabled);
    assert_eq!(mount("other").await.status, StatusCode::ACCEPTED, "no image refers to it");
    assert_eq!(bench.put_manifest("1", OCI_MANIFEST, &manifest).await.status, StatusCode::CREATED);
    assert_eq!(mount("secret").await.status, StatusCode::ACCEPTED, "other encryption");
    bench.sandbox.set_rules(|rules| rules.deny = vec!["ecr:GetDownloadUrlForLayer".into()]);
    assert_eq!(mount("other").await.status, StatusCode::ACCEPTED, "no right");
    bench.sandbox.set_rules(|rules| rules.deny.clear());
    for query in ["", "&from=team%2Fabsent", "&from=other", "&from=No+Name"] {
        let reply = bench.call("POST", &format!("/v2/other/blobs/uploads/?mount={digest}{query}")).await;
        assert_eq!(reply.status, StatusCode::ACCEPTED, "{query}");
        assert!(reply.header("location").contains("/v2/other/blobs/uploads/"), "{query}");
    }
    let open = bench.sandbox.open_uploads();
    let reply = mount("other").await;
    assert_eq!(reply.status, StatusCode::CREATED);
    assert!(reply.header("location").ends_with(&format!("/v2/other/blobs/{digest}")));
    assert_eq!(reply.header("docker-content-digest"), digest.to_string());
    assert_eq!(bench.sandbox.open_uploads(), open, "a mount opens no session");
    let refused = BlobMounting::Refused { status: 405, code: "UNSUPPORTED".into() };
    bench.sandbox.set_rules(|rules| rules.blob_mounting = refused);
    let (status, code, _) = mount("other").await.refusal();
    assert_eq!((status, code.as_str()), (405, "UNSUPPORTED"));
    assert_eq!(bench.sandbox.blob("other", &digest), Some(layer));
}
