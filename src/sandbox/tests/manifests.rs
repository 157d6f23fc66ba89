//! What is accepted as an image, and the errors for the rest.

use super::*;

fn syntax() -> (u16, String, String) {
    let message = "Invalid parameter at 'ImageManifest' failed to satisfy constraint: 'Invalid JSON syntax'";
    (405, "UNSUPPORTED".into(), message.into())
}

#[tokio::test]
async fn an_image_is_put_without_location_and_read_back() {
    let bench = Bench::new().await;
    let manifest = bench.image(b"layer").await;
    let bytes = manifest.to_string().into_bytes();
    let digest = Digest::of(&bytes);
    for reference in [digest.to_string(), "v1".to_owned(), "v1".to_owned()] {
        let reply = bench.put_manifest(&reference, OCI_MANIFEST, &manifest).await;
        assert_eq!(reply.status, StatusCode::CREATED, "{reply:?}");
        assert_eq!((reply.header("location"), reply.header("docker-content-digest")), ("", &*digest.to_string()));
    }
    assert_eq!(bench.sandbox.image("team/app", "v1"), Some((digest, bytes.clone(), OCI_MANIFEST.to_owned())));
    for reference in ["v1".to_owned(), digest.to_string()] {
        let path = format!("/v2/team/app/manifests/{reference}");
        let head = bench.call("HEAD", &path).await;
        assert_eq!(head.header("docker-content-digest"), digest.to_string());
        assert_eq!(head.header("content-type"), OCI_MANIFEST);
        assert_eq!(head.header("content-length"), bytes.len().to_string());
        let get = bench.call("GET", &path).await;
        assert_eq!((get.header("docker-content-digest"), get.header("content-type")), ("", OCI_MANIFEST));
        assert_eq!(get.body, bytes);
    }
    let narrow = bench.request("GET", "/v2/team/app/manifests/v1").header("accept", OCI_INDEX);
    assert_eq!(send(narrow).await.refusal().1, "MANIFEST_UNKNOWN");
    let wide =
        bench.request("GET", "/v2/team/app/manifests/v1").header("accept", format!("{OCI_INDEX}, {OCI_MANIFEST};q=1"));
    assert_eq!(send(wide).await.status, StatusCode::OK);
    let absent = bench.call("GET", "/v2/team/app/manifests/none").await;
    assert_eq!((absent.status.as_u16(), absent.refusal().1.as_str()), (404, "MANIFEST_UNKNOWN"));
    let reply = bench.call("GET", "/v2/team/app/tags/list").await;
    assert_eq!(reply.json(), json!({"name": "team/app", "tags": ["v1"]}));
    assert_eq!(bench.call("GET", "/v2/team/app/tags/list?n=1001").await.status.as_u16(), 405);
}

#[tokio::test]
async fn what_an_image_needs_must_be_there_and_as_long_as_it_says() {
    let bench = Bench::new().await;
    let mut manifest = bench.image(b"layer").await;
    let absent = Digest::of(b"absent").to_string();
    let good = manifest["layers"][0]["digest"].clone();
    manifest["layers"][0]["digest"] = json!(absent);
    let (status, code, message) = bench.put_manifest("v1", OCI_MANIFEST, &manifest).await.refusal();
    assert_eq!((status, code.as_str()), (400, "MANIFEST_BLOB_UNKNOWN"));
    assert_eq!(
        message,
        format!(
            "Layers with digests '[{absent}]' required for pushing image into repository with name 'team/app' in the \
             registry with id '000000000000' do not exist"
        )
    );
    manifest["layers"][0]["digest"] = good;
    manifest["layers"][0]["size"] = json!(4);
    assert_eq!(bench.put_manifest("v1", OCI_MANIFEST, &manifest).await.refusal().1, "MANIFEST_INVALID");
    assert_eq!(bench.sandbox.image("team/app", "v1"), None);
}

#[tokio::test]
async fn a_foreign_layer_need_not_be_there_if_it_says_where_it_is() {
    let bench = Bench::new().await;
    let mut manifest = bench.image(b"layer").await;
    let absent = json!({"digest": Digest::of(b"absent"), "size": 9, "urls": ["https://example.com/absent"],
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"});
    manifest["layers"].as_array_mut().unwrap().push(absent);
    assert_eq!(bench.put_manifest("v1", OCI_MANIFEST, &manifest).await.status, StatusCode::CREATED);
    let mut nowhere = manifest.clone();
    nowhere["layers"][1]["urls"] = json!([]);
    assert_eq!(bench.put_manifest("v2", OCI_MANIFEST, &nowhere).await.refusal().1, "MANIFEST_BLOB_UNKNOWN");
    manifest["layers"][1]["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar+gzip");
    assert_eq!(bench.put_manifest("v3", OCI_MANIFEST, &manifest).await.refusal().1, "MANIFEST_BLOB_UNKNOWN");
}

#[tokio::test]
async fn children_go_before_their_index() {
    let bench = Bench::new().await;
    let child = bench.image(b"layer").await;
    let bytes = child.to_string();
    let digest = Digest::of(bytes.as_bytes());
    let entry = json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": bytes.len()});
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]});
    let (status, code, message) = bench.put_manifest("v1", OCI_INDEX, &index).await.refusal();
    assert_eq!((status, code.as_str()), (400, "MANIFEST_BLOB_UNKNOWN"));
    assert!(message.starts_with(&format!("Images with digests '[{digest}]' required for pushing image into")));
    assert_eq!(bench.put_manifest(&digest.to_string(), OCI_MANIFEST, &child).await.status, StatusCode::CREATED);
    assert_eq!(bench.put_manifest("v1", OCI_INDEX, &index).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn fields_that_ecr_does_not_know_are_bad_syntax_unless_the_rules_say_otherwise() {
    let bench = Bench::new().await;
    let manifest = bench.image(b"layer").await;
    let subject =
        json!({"mediaType": OCI_MANIFEST, "digest": Digest::of(b"x"), "size": 1, "platform": {"os": "linux"}});
    let change = |path: &str, value: Value| {
        let mut changed = manifest.clone();
        *changed.pointer_mut(path.rsplit_once('/').unwrap().0).unwrap() = {
            let mut parent = manifest.pointer(path.rsplit_once('/').unwrap().0).unwrap().clone();
            parent[path.rsplit_once('/').unwrap().1] = value;
            parent
        };
        changed
    };
    type Relax = fn(&mut ManifestRules);
    let cases: [(Value, Relax); 4] = [
        (change("/config/platform", json!({"os": "linux"})), |rules| rules.no_config_platform = false),
        (change("/config/annotations", json!({"a": "b"})), |rules| rules.no_config_annotations = false),
        (change("/subject", subject), |rules| rules.no_subject_platform = false),
        (change("/config/mediaType", json!("a/b;c=d")), |rules| rules.no_media_type_parameters = false),
    ];
    for (changed, relax) in cases {
        assert_eq!(bench.put_manifest("v1", OCI_MANIFEST, &changed).await.refusal(), syntax(), "{changed}");
        bench.sandbox.set_rules(|rules| relax(&mut rules.manifest));
        assert_eq!(bench.put_manifest("v1", OCI_MANIFEST, &changed).await.status, StatusCode::CREATED, "{changed}");
    }
    let bytes = manifest.to_string();
    assert_eq!(bench.put_manifest("v1", OCI_MANIFEST, &manifest).await.status, StatusCode::CREATED);
    let mut entry = json!({"mediaType": OCI_MANIFEST, "digest": Digest::of(bytes.as_bytes()), "size": bytes.len()});
    entry["platform"] = json!({"os": "linux", "architecture": "amd64", "features": ["x"]});
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    assert_eq!(bench.put_manifest("v2", OCI_INDEX, &index).await.refusal(), syntax());
    bench.sandbox.set_rules(|rules| rules.manifest.no_platform_features = false);
    assert_eq!(bench.put_manifest("v2", OCI_INDEX, &index).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn what_is_no_manifest_is_refused() {
    let bench = Bench::new().await;
    let manifest = bench.image(b"layer").await;
    for bad in ["", "[]", "{", "{\"schemaVersion\":1}", "{\"schemaVersion\":2}"] {
        assert_eq!(bench.put_manifest_bytes("v1", OCI_MANIFEST, bad.into()).await.refusal(), syntax(), "{bad}");
    }
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    assert_eq!(bench.put_manifest("v1", docker, &manifest).await.refusal().1, "MANIFEST_INVALID");
    for media_type in ["application/json", "application/vnd.oci.image.manifest.v1+json; charset=utf-8"] {
        let reply = bench.put_manifest("v1", media_type, &manifest).await;
        assert_eq!((reply.status.as_u16(), reply.refusal().1.as_str()), (405, "UNSUPPORTED"));
    }
    let long = vec![b' '; 4 * MIB + 1];
    assert_eq!(bench.put_manifest_bytes("v1", OCI_MANIFEST, long).await.status.as_u16(), 405);
    let digest = Digest::of(b"other").to_string();
    let (status, code, message) = bench.put_manifest(&digest, OCI_MANIFEST, &manifest).await.refusal();
    assert_eq!((status, code.as_str()), (400, "MANIFEST_INVALID"));
    assert!(message.contains("does not match the image digest that Amazon ECR has calculated."), "{message}");
    let mut many = manifest.clone();
    many["layers"] = json!(vec![manifest["layers"][0].clone(); 128]);
    let (status, _, message) = bench.put_manifest("v1", OCI_MANIFEST, &many).await.refusal();
    assert_eq!(status, 405);
    assert!(message.contains("Limit on number of layers per image exceeded"), "{message}");
    for none in [json!([]), Value::Null] {
        let mut empty = manifest.clone();
        empty["layers"] = none;
        let refusal = bench.put_manifest("v1", OCI_MANIFEST, &empty).await.refusal();
        assert_eq!(refusal, (405, "UNSUPPORTED".into(), "Image has to have at least 1 layer".into()));
    }
}

#[tokio::test]
async fn a_bad_tag_is_refused() {
    let bench = Bench::new().await;
    let manifest = bench.image(b"layer").await;
    for tag in ["a+b", "a%2Bb", "-a"] {
        let (status, code, message) = bench.put_manifest(tag, OCI_MANIFEST, &manifest).await.refusal();
        assert_eq!((status, code.as_str()), (405, "UNSUPPORTED"));
        assert!(message.starts_with("Invalid parameter at 'imageTag' failed to satisfy constraint: 'must sat"));
    }
    assert_eq!(bench.call("HEAD", "/v2/team/app/manifests/a+b").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn an_immutable_tag_stays_even_for_the_same_image() {
    let bench = Bench::with(Rules { immutable: true, ..Rules::default() }).await;
    let manifest = bench.image(b"layer").await;
    assert_eq!(bench.put_manifest("v1", OCI_MANIFEST, &manifest).await.status, StatusCode::CREATED);
    let refusal = |what: &str| {
        let message = format!(
            "The image tag 'v1' already exists in the 'team/app' repository and cannot be overwritten because the \
             {what} is immutable."
        );
        (400, "TAG_INVALID".to_owned(), message)
    };
    assert_eq!(bench.put_manifest("v1", OCI_MANIFEST, &manifest).await.refusal(), refusal("tag"));
    bench.sandbox.set_rules(|rules| rules.immutable_words = ImmutableWords::Repository);
    assert_eq!(bench.put_manifest("v1", OCI_MANIFEST, &manifest).await.refusal(), refusal("repository"));
    assert_eq!(bench.put_manifest("v2", OCI_MANIFEST, &manifest).await.status, StatusCode::CREATED);
}

#[test]
fn exclusion_filters_work_in_both_directions() {
    use crate::sandbox::repository::{Mutability, Settings};
    let settings = |mutability| Settings { mutability, exclusion_filters: vec!["dev-*".into()], ..Settings::default() };
    let immutable = settings(Mutability::ImmutableWithExclusion);
    assert!(immutable.is_immutable("v1") && !immutable.is_immutable("dev-1"));
    let mutable = settings(Mutability::MutableWithExclusion);
    assert!(!mutable.is_immutable("v1") && mutable.is_immutable("dev-1"));
    let matches = |pattern: &str, text: &str| iam::matches(pattern.as_bytes(), text.as_bytes());
    for (pattern, text) in [("*", ""), ("a*", "a"), ("a*c", "abc"), ("*b*", "abc"), ("a", "a"), ("a*b*c", "a-b-c")] {
        assert!(matches(pattern, text), "{pattern} {text}");
    }
    for (pattern, text) in [("a", "ab"), ("a*", "ba"), ("a*a", "a"), ("a*b*c", "acb"), ("*ab*b", "ab")] {
        assert!(!matches(pattern, text), "{pattern} {text}");
    }
}

#[tokio::test]
async fn referrers_are_listed() {
    let bench = Bench::new().await;
    let mut manifest = bench.image(b"layer").await;
    let subject = Digest::of(b"subject");
    manifest["subject"] = json!({"mediaType": OCI_MANIFEST, "digest": subject, "size": 7});
    manifest["artifactType"] = json!("application/x");
    let put = bench.put_manifest("sig", OCI_MANIFEST, &manifest).await;
    assert_eq!((put.status, put.header("oci-subject")), (StatusCode::CREATED, subject.to_string().as_str()));
    let reply = bench.call("GET", &format!("/v2/team/app/referrers/{subject}")).await;
    assert_eq!(reply.json()["manifests"][0]["artifactType"], "application/x");
    assert_eq!(reply.json()["manifests"][0]["digest"], Digest::of(manifest.to_string().as_bytes()).to_string());

    bench.sandbox.set_rules(|rules| rules.no_referrers = true);
    let put = bench.put_manifest("sig", OCI_MANIFEST, &manifest).await;
    assert_eq!((put.status, put.header("oci-subject")), (StatusCode::CREATED, ""));
    let reply = bench.call("GET", &format!("/v2/team/app/referrers/{subject}")).await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn tags_are_listed_page_by_page() {
    let bench = Bench::new().await;
    let manifest = bench.image(b"layer").await;
    for tag in ["a", "b", "c"] {
        assert_eq!(bench.put_manifest(tag, OCI_MANIFEST, &manifest).await.status, StatusCode::CREATED);
    }
    let first = bench.call("GET", "/v2/team/app/tags/list?n=2").await;
    assert_eq!(first.json()["tags"], json!(["a", "b"]));
    assert_eq!(first.header("link"), "</v2/team/app/tags/list?last=b&n=2>; rel=\"next\"");
    let second = bench.call("GET", "/v2/team/app/tags/list?last=b&n=2").await;
    assert_eq!((second.json()["tags"].clone(), second.header("link")), (json!(["c"]), ""));
}

#[tokio::test]
async fn the_last_tag_takes_its_image_along_unless_an_index_lists_it() {
    let bench = Bench::new().await;
    let manifest = bench.image(b"layer").await;
    let (bytes, digest) = (manifest.to_string(), Digest::of(manifest.to_string().as_bytes()));
    assert_eq!(bench.put_manifest("one", OCI_MANIFEST, &manifest).await.status, StatusCode::CREATED);
    let entry = json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": bytes.len()});
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]});
    assert_eq!(bench.put_manifest("all", OCI_INDEX, &index).await.status, StatusCode::CREATED);
    let delete = async |reference: &str| bench.call("DELETE", &format!("/v2/team/app/manifests/{reference}")).await;
    let listed = delete(&digest.to_string()).await;
    let parent = Digest::of(index.to_string().as_bytes());
    let message = format!("Requested image referenced by manifest list: [{parent}]");
    assert_eq!(listed.refusal(), (405, "UNSUPPORTED".into(), message));
    assert_eq!(delete("one").await.status, StatusCode::ACCEPTED);
    assert!(bench.sandbox.image("team/app", "one").is_none());
    assert!(bench.sandbox.image("team/app", &digest.to_string()).is_some());
    assert_eq!(delete("all").await.status, StatusCode::ACCEPTED);
    assert!(bench.sandbox.image("team/app", &parent.to_string()).is_none());
    assert_eq!(delete(&digest.to_string()).await.status, StatusCode::ACCEPTED);
    bench.sandbox.set_rules(|rules| rules.deny = vec!["ecr:BatchDeleteImage".into()]);
    assert_eq!(delete("one").await.refusal().1, "DENIED");
}

#[tokio::test]
async fn the_catalog_lists_repositories_page_by_page() {
    let create = ["ab", "cd", "team/app"].map(|name| name.parse().unwrap()).to_vec();
    let bench = Bench::start(Options { create, ..Options::default() }).await;
    let reply = bench.call("GET", "/v2/_catalog?n=2").await;
    assert_eq!(reply.json(), json!({"repositories": ["ab", "cd"]}));
    assert_eq!(reply.header("link"), "</v2/_catalog?last=cd&n=2>; rel=\"next\"");
    let rest = bench.call("GET", "/v2/_catalog?last=cd&n=1000").await;
    assert_eq!((rest.json(), rest.header("link")), (json!({"repositories": ["team/app"]}), ""));
    assert_eq!(bench.call("GET", "/v2/_catalog?n=1001").await.refusal().1, "UNSUPPORTED");
    bench.sandbox.set_rules(|rules| rules.deny = vec!["ecr:DescribeRepositories".into()]);
    assert_eq!(bench.call("GET", "/v2/_catalog").await.refusal().1, "DENIED");
}

#[tokio::test]
async fn an_archived_image_is_absent_until_it_is_pushed_again() {
    let bench = Bench::with(Rules { immutable: true, ..Rules::default() }).await;
    let manifest = bench.image(b"layer").await;
    assert_eq!(bench.put_manifest("1", OCI_MANIFEST, &manifest).await.status, StatusCode::CREATED);
    assert!(bench.sandbox.archive("team/app", "1"));
    assert_eq!(bench.call("HEAD", "/v2/team/app/manifests/1").await.status, StatusCode::NOT_FOUND);
    assert_eq!(bench.call("GET", "/v2/team/app/tags/list").await.json()["tags"], json!(["1"]));
    assert_eq!(bench.put_manifest("1", OCI_MANIFEST, &manifest).await.status, StatusCode::CREATED);
    assert_eq!(bench.call("GET", "/v2/team/app/manifests/1").await.status, StatusCode::OK);
}
