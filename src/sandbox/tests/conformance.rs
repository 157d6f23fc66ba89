//! Conformance with the OCI distribution specification 1.1, by the categories of its own suite
//! (<https://github.com/opencontainers/distribution-spec/tree/v1.1.1/conformance>). What does not hold is in the table of
//! docs/sandbox.md, and nothing else is.

use std::collections::BTreeSet;

use super::*;

/// The requirements that were checked, and those that do not hold.
#[derive(Default)]
struct Checks {
    all: usize,
    departures: BTreeSet<String>,
}

impl Checks {
    /// Notes whether a requirement holds.
    fn that(&mut self, requirement: &str, holds: bool) {
        self.all += 1;
        if !holds {
            self.departures.insert(requirement.to_owned());
        }
    }

    /// Compares what does not hold with the table of the documentation.
    #[track_caller]
    fn fit(self, category: &str) {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/sandbox.md")).unwrap();
        let rows = page.lines().filter_map(|line| line.strip_prefix(&format!("| {category} | ")));
        let rows: Vec<Vec<&str>> = rows.map(|row| row.split(" | ").collect()).collect();
        for row in &rows {
            assert!(row.len() == 3 && row[2].contains("https://"), "a departure has a source: {row:?}");
        }
        let documented: BTreeSet<String> = rows.iter().map(|row| row[0].to_owned()).collect();
        assert_eq!(self.departures, documented, "{category}: what does not hold, and what the page has");
        assert!(self.all > documented.len());
    }
}

fn digest_of(manifest: &Value) -> Digest {
    Digest::of(manifest.to_string().as_bytes())
}

#[tokio::test]
async fn pull() {
    let bench = Bench::new().await;
    let mut checks = Checks::default();
    let layer = noise(20_000);
    let manifest = bench.image(&layer).await;
    assert_eq!(bench.put_manifest("v1", OCI_MANIFEST, &manifest).await.status, StatusCode::CREATED);
    let (absent, blob) = (Digest::of(b"absent"), Digest::of(&layer));
    let bytes = manifest.to_string().into_bytes();
    let at = |kind: &str, reference: &dyn std::fmt::Display| format!("/v2/team/app/{kind}/{reference}");
    let status = async |method: &str, path: String| bench.call(method, &path).await.status.as_u16();
    checks.that("`HEAD` and `GET` of an absent blob is 404", {
        status("HEAD", at("blobs", &absent)).await == 404 && status("GET", at("blobs", &absent)).await == 404
    });
    let head = bench.call("HEAD", &at("blobs", &blob)).await;
    checks.that("`HEAD` of a blob has its length", head.status == 200 && head.header("content-length") == "20000");
    let redirect = bench.call("GET", &at("blobs", &blob)).await.header("location").to_owned();
    checks.that("`GET` of a blob has its bytes", send(bench.http.get(&redirect)).await.body == layer);
    let part = send(bench.http.get(&redirect).header("range", "bytes=100-199")).await;
    checks.that("`GET` of a blob honors `Range`", part.status == 206 && part.body == layer[100..200]);
    checks.that("`HEAD` and `GET` of an absent manifest is 404", {
        status("HEAD", at("manifests", &"v2")).await == 404 && status("GET", at("manifests", &absent)).await == 404
    });
    for reference in ["v1".to_owned(), digest_of(&manifest).to_string()] {
        let head = bench.call("HEAD", &at("manifests", &reference)).await;
        let get = bench.call("GET", &at("manifests", &reference)).await;
        checks.that("`HEAD` of a manifest has type, length and digest", {
            let length = bytes.len().to_string();
            head.header("content-type") == OCI_MANIFEST
                && head.header("content-length") == length
                && head.header("docker-content-digest") == digest_of(&manifest).to_string()
        });
        checks.that("`GET` of a manifest has its bytes", get.status == 200 && get.body == bytes);
        checks.that("`GET` of a manifest has `Docker-Content-Digest`", !get.header("docker-content-digest").is_empty());
    }
    checks.fit("pull");
}

#[tokio::test]
async fn push() {
    let bench = Bench::new().await;
    let mut checks = Checks::default();
    let blob = noise(6 * MIB);
    let digest = Digest::of(&blob);
    checks.that("`POST` and `PUT` upload a blob", {
        let put = bench.put(&bench.begin().await, &digest, &blob).await;
        put.status == 201 && !put.header("location").is_empty()
    });
    let streamed = bench.patch(&bench.begin().await, None, blob.clone()).await;
    checks.that("`PATCH` is 202", streamed.status == 202);
    let closed = bench.put(streamed.header("location"), &digest, b"").await;
    checks.that("`POST`, `PATCH` and `PUT` upload a blob", closed.status == 201);
    checks.that("`POST` with `digest` is 201 or 202", {
        let path = format!("/v2/team/app/blobs/uploads/?digest={digest}");
        matches!(send(bench.request("POST", &path).body(blob.clone())).await.status.as_u16(), 201 | 202)
    });
    let url = bench.begin().await;
    checks.that("`GET` of an upload is 204 with its range", bench.call("GET", &url).await.status == 204);
    let first = bench.patch(&url, Some((0, 5 * MIB - 1)), blob[..5 * MIB].to_vec()).await;
    checks.that("a chunk at another offset is 416", {
        bench.patch(&url, Some((0, 5 * MIB - 1)), blob[..5 * MIB].to_vec()).await.status == 416
    });
    let second = bench.patch(&url, Some((5 * MIB, 6 * MIB - 1)), blob[5 * MIB..].to_vec()).await;
    checks.that("`Range` of a chunk's answer is that of all bytes so far", {
        first.header("range") == format!("0-{}", 5 * MIB - 1) && second.header("range") == format!("0-{}", 6 * MIB - 1)
    });
    checks.that("chunks make a blob", bench.put(&url, &digest, b"").await.status == 201);
    checks.that("chunks may be of any size unless `OCI-Chunk-Min-Length` says otherwise", {
        let url = bench.begin().await;
        bench.patch(&url, Some((0, 9)), noise(10)).await;
        bench.patch(&url, Some((10, 19)), noise(20)[10..].to_vec()).await;
        bench.put(&url, &Digest::of(&noise(20)), b"").await.status == 201
    });
    checks.that("a blob may be empty", bench.put(&bench.begin().await, &Digest::of(b""), b"").await.status == 201);
    checks.that("another digest than that of the bytes is 400", {
        bench.put(&bench.begin().await, &Digest::of(b"other"), b"blob").await.status == 400
    });
    checks.that("an upload can be cancelled", bench.call("DELETE", &bench.begin().await).await.status == 204);
    checks.that("a mount is 201, or 202 with an upload", {
        let path = format!("/v2/team/app/blobs/uploads/?mount={digest}&from=team%2Fother");
        let reply = bench.call("POST", &path).await;
        matches!(reply.status.as_u16(), 201 | 202) && !reply.header("location").is_empty()
    });
    let mut manifest = bench.image(b"layer").await;
    let put = bench.put_manifest("v1", OCI_MANIFEST, &manifest).await;
    checks.that("`PUT` of a manifest is 201", put.status == 201);
    checks.that("`PUT` of a manifest has `Location`", !put.header("location").is_empty());
    checks.that("a manifest whose blobs are absent may be refused", {
        let mut other = manifest.clone();
        other["config"]["digest"] = json!(Digest::of(b"absent"));
        matches!(bench.put_manifest("v2", OCI_MANIFEST, &other).await.status.as_u16(), 201 | 400 | 404)
    });
    checks.that("a manifest of 4 MiB is accepted", {
        let mut padded = manifest.to_string();
        padded.push_str(&" ".repeat((4 << 20) - padded.len()));
        bench.put_manifest_bytes("large", OCI_MANIFEST, padded.into_bytes()).await.status == 201
    });
    let subject =
        json!({"mediaType": OCI_MANIFEST, "digest": digest_of(&manifest), "size": manifest.to_string().len()});
    manifest["subject"] = subject.clone();
    manifest["artifactType"] = json!("application/vnd.example");
    let put = bench.put_manifest(&digest_of(&manifest).to_string(), OCI_MANIFEST, &manifest).await;
    checks.that("`PUT` of a manifest with `subject` has `OCI-Subject`", subject["digest"] == put.header("oci-subject"));
    manifest["config"]["annotations"] = json!({"a": "b"});
    checks.that("every descriptor may have annotations", {
        bench.put_manifest("annotated", OCI_MANIFEST, &manifest).await.status == 201
    });
    manifest["config"].as_object_mut().unwrap().remove("annotations");
    manifest["layers"] = json!([]);
    checks.that("an image may have no layers", {
        bench.put_manifest("empty", OCI_MANIFEST, &manifest).await.status == 201
    });
    checks.fit("push");
}

#[tokio::test]
async fn content_discovery() {
    let bench = Bench::new().await;
    let mut checks = Checks::default();
    let manifest = bench.image(b"layer").await;
    for tag in ["b", "a", "d", "c"] {
        assert_eq!(bench.put_manifest(tag, OCI_MANIFEST, &manifest).await.status, StatusCode::CREATED);
    }
    let tags = async |query: &str| {
        let reply = bench.call("GET", &format!("/v2/team/app/tags/list{query}")).await;
        (
            reply.status.as_u16(),
            reply.header("link").to_owned(),
            serde_json::from_slice(&reply.body).unwrap_or(Value::Null),
        )
    };
    checks.that("tags are listed in order", tags("").await.2["tags"] == json!(["a", "b", "c", "d"]));
    let (_, link, page) = tags("?n=2").await;
    checks.that("a page of tags has `Link`", {
        page["tags"] == json!(["a", "b"]) && link == "</v2/team/app/tags/list?last=b&n=2>; rel=\"next\""
    });
    checks.that("a page of tags begins after `last`", tags("?last=b&n=5").await.2["tags"] == json!(["c", "d"]));
    checks.that("`n=0` lists nothing", tags("?n=0").await.2["tags"] == json!([]));
    checks.that("`n` may be larger than a page", tags("?n=100000").await.0 == 200);
    let subject =
        json!({"mediaType": OCI_MANIFEST, "digest": digest_of(&manifest), "size": manifest.to_string().len()});
    let mut signature = bench.image(b"signature").await;
    signature["subject"] = subject;
    signature["artifactType"] = json!("application/vnd.example");
    signature["annotations"] = json!({"a": "b"});
    let digest = digest_of(&signature).to_string();
    assert_eq!(bench.put_manifest(&digest, OCI_MANIFEST, &signature).await.status, StatusCode::CREATED);
    let referrers = async |digest: &Digest| bench.call("GET", &format!("/v2/team/app/referrers/{digest}")).await;
    let reply = referrers(&digest_of(&manifest)).await;
    checks.that("referrers are listed with type and annotations", {
        let listed = &reply.json()["manifests"][0];
        reply.header("content-type") == OCI_INDEX
            && listed["digest"] == digest
            && listed["artifactType"] == "application/vnd.example"
            && listed["annotations"]["a"] == "b"
    });
    let none = referrers(&Digest::of(b"absent")).await;
    checks.that("without referrers the list is empty", none.status == 200 && none.json()["manifests"] == json!([]));
    checks.fit("content discovery");
}

#[tokio::test]
async fn content_management() {
    let bench = Bench::new().await;
    let mut checks = Checks::default();
    let manifest = bench.image(b"layer").await;
    for tag in ["a", "b"] {
        assert_eq!(bench.put_manifest(tag, OCI_MANIFEST, &manifest).await.status, StatusCode::CREATED);
    }
    let call = async |method: &str, reference: &str| {
        bench.call(method, &format!("/v2/team/app/manifests/{reference}")).await.status.as_u16()
    };
    let digest = digest_of(&manifest).to_string();
    checks.that("`DELETE` of a tag is 202 and removes only that", {
        call("DELETE", "a").await == 202 && call("GET", "a").await == 404 && call("GET", "b").await == 200
    });
    checks.that("`DELETE` of a digest is 202 and removes all tags", {
        call("DELETE", &digest).await == 202 && call("GET", "b").await == 404 && call("GET", &digest).await == 404
    });
    checks.that("`DELETE` of an absent manifest is 404", call("DELETE", &digest).await == 404);
    let tags = bench.call("GET", "/v2/team/app/tags/list").await.json();
    checks.that("deleted tags are not listed", tags["tags"] == json!([]));
    let blob = format!("/v2/team/app/blobs/{}", Digest::of(b"layer"));
    checks.that("`DELETE` of a blob is 202", bench.call("DELETE", &blob).await.status == 202);
    checks.fit("content management");
}
