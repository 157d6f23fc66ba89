//! The operations of AWS's API that clients use beside a push. Every response is held against the service's model.

use super::*;

/// Asks for an operation of `team/app`.
async fn ask(bench: &Bench, operation: &str, mut input: Value) -> Reply {
    input["repositoryName"] = json!("team/app");
    bench.api(operation, input).await
}

async fn ask_public(bench: &Bench, operation: &str, input: Value) -> Reply {
    let request = bench.api_request(operation, input).build().unwrap();
    let mut request = bench.http.post(request.url().clone()).body(request.body().unwrap().as_bytes().unwrap().to_vec());
    request = request.header("authorization", "AWS4-HMAC-SHA256 Credential=x, SignedHeaders=host, Signature=y");
    send(request.header("x-amz-target", format!("SpencerFrontendService.{operation}"))).await
}

/// Uploads an image under a tag and returns its digest.
async fn image(bench: &Bench, tag: &str, layer: &[u8]) -> String {
    let manifest = bench.image(layer).await;
    assert_eq!(bench.put_manifest(tag, OCI_MANIFEST, &manifest).await.status, StatusCode::CREATED);
    Digest::of(manifest.to_string().as_bytes()).to_string()
}

/// Uploads an index of one image under a tag.
async fn index(bench: &Bench, tag: &str, child: &str) -> String {
    let (_, bytes, _) = bench.sandbox.image("team/app", child).unwrap();
    let entry = json!({"mediaType": OCI_MANIFEST, "digest": child, "size": bytes.len()});
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]});
    assert_eq!(bench.put_manifest(tag, OCI_INDEX, &index).await.status, StatusCode::CREATED);
    Digest::of(index.to_string().as_bytes()).to_string()
}

#[tokio::test]
async fn what_the_model_does_not_allow_is_refused_in_the_service_s_words() {
    let bench = Bench::new().await;
    let at = |name: &str, constraint: &str| {
        let message = format!("Invalid parameter at '{name}' failed to satisfy constraint: '{constraint}'");
        ("InvalidParameterException", message)
    };
    let type_of = |message: &str| ("SerializationException", message.to_owned());
    let set =
        "Member must satisfy enum value set: [MUTABLE, IMMUTABLE, IMMUTABLE_WITH_EXCLUSION, MUTABLE_WITH_EXCLUSION]";
    let pattern =
        r"must satisfy regular expression '[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*'";
    let named = |others: Value| {
        let mut input = json!({"repositoryName": "new"});
        input.as_object_mut().unwrap().extend(others.as_object().unwrap().clone());
        input
    };
    let cases = [
        ("CreateRepository", json!({}), at("repositoryName", "Member must not be null")),
        ("CreateRepository", json!({"repositoryName": null}), at("repositoryName", "Member must not be null")),
        ("CreateRepository", json!({"repositoryName": "Bad_Name!"}), at("repositoryName", pattern)),
        (
            "CreateRepository",
            json!({"repositoryName": "a"}),
            at("repositoryName", "Member must have length greater than or equal to 2"),
        ),
        ("CreateRepository", named(json!({"imageTagMutability": "SOMETIMES"})), at("imageTagMutability", set)),
        (
            "CreateRepository",
            named(json!({"tags": [{"Key": "a", "Value": "b"}, {"Value": "b"}]})),
            at("tags.2.member.Key", "Member must not be null"),
        ),
        ("CreateRepository", json!({"repositoryName": 7}), type_of("NUMBER_VALUE can not be converted to a String")),
        (
            "CreateRepository",
            named(json!({"tags": {}})),
            type_of("Start of structure or map found where not expected."),
        ),
        (
            "DescribeImages",
            named(json!({"maxResults": "7"})),
            type_of("STRING_VALUE can not be converted to an Integer"),
        ),
        (
            "DescribeImages",
            named(json!({"maxResults": 1001})),
            at("maxResults", "Member must have value less than or equal to 1000"),
        ),
        (
            "DescribeImages",
            named(json!({"filter": {"tagStatus": "SOME"}})),
            at("filter.tagStatus", "Member must satisfy enum value set: [TAGGED, UNTAGGED, ANY]"),
        ),
        (
            "BatchDeleteImage",
            named(json!({"imageIds": vec![json!({}); 101]})),
            at("imageIds", "Member must have length less than or equal to 100"),
        ),
        ("UploadLayerPart", named(json!({"uploadId": "x"})), at("partFirstByte", "Member must not be null")),
        (
            "UploadLayerPart",
            named(json!({"uploadId": "x", "partFirstByte": -1, "partLastByte": 0, "layerPartBlob": ""})),
            at("partFirstByte", "Member must have value greater than or equal to 0"),
        ),
        ("TagResource", json!({"resourceArn": "app", "tags": []}), at("resourceArn", "Invalid ARN")),
    ];
    for (operation, input, (name, message)) in cases {
        let expected = (400, name.to_owned(), message);
        assert_eq!(bench.api(operation, input.clone()).await.exception(), expected, "{operation}: {input}");
    }
    // Members that the model does not have are ignored.
    assert_eq!(bench.api("CreateRepository", named(json!({"color": "red"}))).await.status, StatusCode::OK);
    let message = "the sandbox does not implement PutReplicationConfiguration; it implements: docs/sandbox.md";
    let (_, name, text) = bench.api("PutReplicationConfiguration", json!({})).await.exception();
    assert_eq!((name.as_str(), text.as_str()), ("UnknownOperationException", message));
}

#[tokio::test]
async fn images_are_listed_described_and_deleted() {
    let bench = Bench::new().await;
    let child = image(&bench, "a1", b"layer").await;
    assert_eq!(bench.put_manifest("a2", OCI_MANIFEST, &bench.image(b"layer").await).await.status, StatusCode::CREATED);
    let parent = index(&bench, "all", &child).await;
    let (mut listed, mut input) = (Vec::new(), json!({"maxResults": 2}));
    loop {
        let page = ask(&bench, "ListImages", input.clone()).await.json();
        listed.extend(page["imageIds"].as_array().unwrap().iter().cloned());
        let Some(next) = page.get("nextToken") else { break };
        input["nextToken"] = next.clone();
    }
    let id = |tag: &str, digest: &str| json!({"imageTag": tag, "imageDigest": digest});
    assert_eq!(listed, [id("a1", &child), id("a2", &child), id("all", &parent)]);
    let describe = |tag: &str| ask(&bench, "DescribeImages", json!({"imageIds": [{"imageTag": tag}]}));
    let details = describe("all").await.json()["imageDetails"][0].clone();
    assert_eq!((&details["imageSizeInBytes"], &details["imageStatus"]), (&json!(5), &json!("ACTIVE")));
    assert_eq!((details.get("artifactMediaType"), details.get("lastRecordedPullTime")), (None, None));
    assert_eq!(bench.call("HEAD", "/v2/team/app/manifests/a1").await.status, StatusCode::OK);
    assert_eq!(describe("a1").await.json()["imageDetails"][0].get("lastRecordedPullTime"), None);
    assert_eq!(bench.call("GET", "/v2/team/app/manifests/a1").await.status, StatusCode::OK);
    let details = describe("a1").await.json()["imageDetails"][0].clone();
    assert!(details["lastRecordedPullTime"].is_f64());
    assert_eq!(details["artifactMediaType"], "application/vnd.oci.image.config.v1+json");

    let delete = |ids: Value| ask(&bench, "BatchDeleteImage", json!({"imageIds": ids}));
    // An image of an index stays, with its tags.
    let reply = delete(json!([{"imageDigest": child}, {"imageTag": "b"}, {}])).await.json();
    let failures: Vec<_> = reply["failures"].as_array().unwrap().iter().map(|it| it["failureCode"].clone()).collect();
    assert_eq!(failures, ["ImageReferencedByManifestList", "ImageNotFound", "MissingDigestAndTag"]);
    let reason = format!("Requested image referenced by manifest list: [{parent}]");
    assert_eq!((&reply["failures"][0]["failureReason"], &reply["imageIds"]), (&json!(reason), &json!([])));
    // The last tag takes its image along, another one does not.
    assert_eq!(delete(json!([{"imageTag": "all"}])).await.json()["imageIds"], json!([id("all", &parent)]));
    assert_eq!(delete(json!([{"imageTag": "a1"}])).await.json()["imageIds"], json!([id("a1", &child)]));
    assert_eq!(bench.call("HEAD", &format!("/v2/team/app/manifests/{child}")).await.status, StatusCode::OK);
    assert_eq!(delete(json!([{"imageDigest": child}])).await.json()["imageIds"], json!([id("a2", &child)]));
    assert_eq!(ask(&bench, "ListImages", json!({})).await.json()["imageIds"], json!([]));
}

#[tokio::test]
async fn filters_are_by_tag_and_by_status() {
    let bench = Bench::new().await;
    let (one, two) = (image(&bench, "one", b"1").await, image(&bench, "two", b"2").await);
    let put = ask(&bench, "PutImage", json!({"imageManifest": bench.image(b"3").await.to_string()})).await.json();
    let three = put["image"]["imageId"]["imageDigest"].as_str().unwrap().to_owned();
    let update = json!({"imageId": {"imageTag": "two"}, "targetStorageClass": "ARCHIVE"});
    assert_eq!(ask(&bench, "UpdateImageStorageClass", update).await.json()["imageStatus"], "ARCHIVED");
    let cases: [(Value, &[&String]); 5] = [
        (json!({}), &[&one, &three]),
        (json!({"tagStatus": "TAGGED"}), &[&one]),
        (json!({"tagStatus": "UNTAGGED"}), &[&three]),
        (json!({"imageStatus": "ARCHIVED"}), &[&two]),
        (json!({"imageStatus": "ANY", "tagStatus": "TAGGED"}), &[&one, &two]),
    ];
    for (filter, expected) in cases {
        for (operation, member) in [("ListImages", "imageIds"), ("DescribeImages", "imageDetails")] {
            let reply = ask(&bench, operation, json!({"filter": filter})).await.json();
            let found =
                reply[member].as_array().unwrap().iter().map(|it| it["imageDigest"].as_str().unwrap().to_owned());
            let mut found: Vec<String> = found.collect();
            found.sort();
            let mut expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
            expected.sort();
            assert_eq!(found, expected, "{operation} {filter}");
        }
    }
}

#[tokio::test]
async fn an_image_is_uploaded_and_put_by_the_api_alone() {
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    let bench = Bench::new().await;
    let layer = noise(6 * MIB);
    let digest = Digest::of(&layer).to_string();
    let id = ask(&bench, "InitiateLayerUpload", json!({})).await.json()["uploadId"].as_str().unwrap().to_owned();
    let part = |first: usize, bytes: &[u8]| {
        let last = (first + bytes.len()).saturating_sub(1);
        let blob = BASE64_STANDARD.encode(bytes);
        let input = json!({"uploadId": id, "partFirstByte": first, "partLastByte": last, "layerPartBlob": blob});
        ask(&bench, "UploadLayerPart", input)
    };
    assert_eq!(part(0, &layer[..5 * MIB]).await.json()["lastByteReceived"], 5 * MIB - 1);
    let wrong = part(7, &layer[7..]).await;
    assert_eq!(wrong.exception().1, "InvalidLayerPartException");
    assert_eq!(wrong.json()["lastValidByteReceived"], 5 * MIB - 1);
    assert_eq!(part(5 * MIB, &layer[5 * MIB..]).await.json()["lastByteReceived"], 6 * MIB - 1);
    let complete = |digest: &str| ask(&bench, "CompleteLayerUpload", json!({"uploadId": id, "layerDigests": [digest]}));
    assert_eq!(complete(&Digest::of(b"x").to_string()).await.exception().1, "InvalidLayerException");
    assert_eq!(complete(&digest).await.json()["layerDigest"], digest);
    assert_eq!(complete(&digest).await.exception().1, "UploadNotFoundException");

    let url = || ask(&bench, "GetDownloadUrlForLayer", json!({"layerDigest": digest}));
    assert_eq!(url().await.exception().1, "LayerInaccessibleException");
    let manifest = bench.image(&layer).await.to_string();
    let put = |tag: &str| ask(&bench, "PutImage", json!({"imageManifest": manifest, "imageTag": tag}));
    let image = put("1").await.json()["image"].clone();
    assert_eq!((&image["imageManifest"], &image["imageId"]["imageTag"]), (&json!(manifest), &json!("1")));
    assert_eq!(put("1").await.exception().1, "ImageAlreadyExistsException");
    assert_eq!(put("2").await.status, StatusCode::OK);
    assert_eq!(put("a+b").await.exception().1, "InvalidParameterException");
    let mutability = json!({"imageTagMutability": "IMMUTABLE"});
    assert_eq!(ask(&bench, "PutImageTagMutability", mutability).await.json()["imageTagMutability"], "IMMUTABLE");
    assert_eq!(put("1").await.exception().1, "ImageTagAlreadyExistsException");
    let other = json!({"imageManifest": manifest, "imageDigest": digest});
    assert_eq!(ask(&bench, "PutImage", other).await.exception().1, "ImageDigestDoesNotMatchException");
    let missing = json!({"imageManifest": manifest.replace(&digest, &Digest::of(b"x").to_string())});
    assert_eq!(ask(&bench, "PutImage", missing).await.exception().1, "LayersNotFoundException");
    let url = url().await.json()["downloadUrl"].as_str().unwrap().to_owned();
    assert_eq!(send(bench.http.get(url)).await.body, layer);
    let exists = ask(&bench, "InitiateLayerUpload", json!({})).await.json()["uploadId"].clone();
    let blob = BASE64_STANDARD.encode(b"{}");
    let input = json!({"uploadId": exists, "partFirstByte": 0, "partLastByte": 1, "layerPartBlob": blob});
    assert_eq!(ask(&bench, "UploadLayerPart", input).await.status, StatusCode::OK);
    let input = json!({"uploadId": exists, "layerDigests": [Digest::of(b"{}")]});
    assert_eq!(ask(&bench, "CompleteLayerUpload", input).await.exception().1, "LayerAlreadyExistsException");
    assert_eq!(bench.sandbox.open_uploads(), 0);
    let lost = ask(&bench, "InitiateLayerUpload", json!({})).await.json()["uploadId"].clone();
    bench.sandbox.set_rules(|rules| rules.faults = vec!["lose-upload:upload-part".parse().unwrap()]);
    let input = json!({"uploadId": lost, "partFirstByte": 0, "partLastByte": 1, "layerPartBlob": blob});
    assert_eq!(ask(&bench, "UploadLayerPart", input).await.exception().1, "UploadNotFoundException");
}

#[tokio::test]
async fn a_scan_is_finished_at_once_and_finds_what_the_rules_have() {
    let bench = Bench::new().await;
    let pushed = image(&bench, "1", b"layer").await;
    let (id, index) = (json!({"imageId": {"imageTag": "1"}}), index(&bench, "all", &pushed).await);
    let findings = |id: &Value| ask(&bench, "DescribeImageScanFindings", id.clone());
    let (_, name, message) = findings(&id).await.exception();
    assert_eq!(name, "ScanNotFoundException");
    assert!(message.starts_with("Image scan does not exist for the image with '{imageDigest:'"), "{message}");
    assert_eq!(ask(&bench, "StartImageScan", id.clone()).await.json()["imageScanStatus"]["status"], "IN_PROGRESS");
    assert_eq!(ask(&bench, "StartImageScan", id.clone()).await.exception().1, "LimitExceededException");
    let of_index = json!({"imageId": {"imageDigest": index}});
    assert_eq!(ask(&bench, "StartImageScan", of_index).await.exception().1, "UnsupportedImageTypeException");
    let found = findings(&id).await.json();
    assert_eq!(found["imageScanStatus"]["status"], "COMPLETE");
    assert_eq!(found["imageScanFindings"]["findings"], json!([]));
    // As the AWS CLI prints it, with the counts and the times of that scan.
    let text = r#"{"imageScanFindings": {"imageScanCompletedAt": "2026-11-30T12:00:00+00:00", "findings": [
        {"name": "CVE-1", "severity": "HIGH"}, {"name": "CVE-2", "severity": "HIGH"}
    ]}, "imageScanStatus": {"status": "COMPLETE"}}"#;
    bench.sandbox.set_rules(|rules| rules.scan_findings = Some(ScanFindings::of_json(text).unwrap()));
    let found = findings(&id).await.json();
    assert_eq!(found["imageScanFindings"]["findings"][1]["name"], "CVE-2");
    let details = ask(&bench, "DescribeImages", json!({"imageIds": [{"imageTag": "1"}]})).await.json();
    let summary = &details["imageDetails"][0]["imageScanFindingsSummary"];
    assert_eq!(summary["findingSeverityCounts"], json!({"HIGH": 2}));
    // On push, where the repository is set so.
    let on_push = json!({"imageScanningConfiguration": {"scanOnPush": true}});
    assert_eq!(ask(&bench, "PutImageScanningConfiguration", on_push).await.status, StatusCode::OK);
    image(&bench, "2", b"other").await;
    assert_eq!(findings(&json!({"imageId": {"imageTag": "2"}})).await.status, StatusCode::OK);
    assert_eq!(bench.api("GetRegistryScanningConfiguration", json!({})).await.status, StatusCode::OK);
}

#[tokio::test]
async fn tags_of_resources_are_added_and_removed() {
    let bench = Bench::new().await;
    let arn = "arn:aws:ecr:us-east-1:000000000000:repository/team/app";
    let tag = |key: &str| json!({"resourceArn": arn, "tags": [{"Key": key, "Value": "1"}]});
    for key in ["a", "b"] {
        assert_eq!(bench.api("TagResource", tag(key)).await.json(), json!({}));
    }
    assert_eq!(bench.api("TagResource", tag("aws:c")).await.exception().1, "InvalidTagParameterException");
    let untag = json!({"resourceArn": arn, "tagKeys": ["a", "c"]});
    assert_eq!(bench.api("UntagResource", untag).await.json(), json!({}));
    let tags = bench.api("ListTagsForResource", json!({"resourceArn": arn})).await.json();
    assert_eq!(tags["tags"], json!([{"Key": "b", "Value": "1"}]));
}

#[tokio::test]
async fn the_registry_has_a_policy_and_settings() {
    let bench = Bench::new().await;
    assert_eq!(bench.api("DescribeRegistry", json!({})).await.json()["registryId"], "000000000000");
    let policy = json!({"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "ecr:*"}]}).to_string();
    let call = |operation, input| bench.api(operation, input);
    let absent = || call("GetRegistryPolicy", json!({}));
    assert_eq!(absent().await.exception().1, "RegistryPolicyNotFoundException");
    let put = |text: &str| call("PutRegistryPolicy", json!({"policyText": text}));
    assert_eq!(put("{}").await.exception().1, "InvalidParameterException");
    assert_eq!(put(&policy).await.json()["policyText"], policy);
    assert_eq!(call("GetRegistryPolicy", json!({})).await.json()["policyText"], policy);
    assert_eq!(call("DeleteRegistryPolicy", json!({})).await.json()["policyText"], policy);
    assert_eq!(absent().await.exception().1, "RegistryPolicyNotFoundException");
    let get = |name: &str| call("GetAccountSetting", json!({"name": name}));
    let set = |name: &str, value: &str| call("PutAccountSetting", json!({"name": name, "value": value}));
    assert_eq!(get("BLOB_MOUNTING").await.json()["value"], "DISABLED");
    assert_eq!(set("BLOB_MOUNTING", "ENABLED").await.json()["value"], "ENABLED");
    assert_eq!(get("BLOB_MOUNTING").await.json()["value"], "ENABLED");
    assert_eq!(get("REGISTRY_POLICY_SCOPE").await.json()["value"], "V1");
    for (name, value) in [("BLOB_MOUNTING", "MAYBE"), ("COLOR", "RED")] {
        assert_eq!(set(name, value).await.exception().1, "InvalidParameterException");
    }
}

#[tokio::test]
async fn templates_are_created_changed_and_used() {
    let bench = Bench::new().await;
    let call = |operation, input| bench.api(operation, input);
    let input = json!({"prefix": "auto", "appliedFor": ["CREATE_ON_PUSH"], "imageTagMutability": "IMMUTABLE"});
    let template = call("CreateRepositoryCreationTemplate", input.clone()).await.json();
    assert_eq!(template["repositoryCreationTemplate"]["imageTagMutability"], "IMMUTABLE");
    let again = call("CreateRepositoryCreationTemplate", input).await;
    assert_eq!(again.exception().1, "TemplateAlreadyExistsException");
    let tags = json!([{"Key": "by", "Value": "template"}]);
    let update = json!({"prefix": "auto/", "resourceTags": tags});
    assert_eq!(call("UpdateRepositoryCreationTemplate", update).await.status, StatusCode::OK);
    assert_eq!(bench.call("POST", "/v2/auto/one/blobs/uploads/").await.status, StatusCode::ACCEPTED);
    let settings = bench.sandbox.settings("auto/one").unwrap();
    assert_eq!((&settings["mutability"], &settings["tags"]), (&json!("IMMUTABLE"), &json!({"by": "template"})));
    let delete = || call("DeleteRepositoryCreationTemplate", json!({"prefix": "auto"}));
    assert_eq!(delete().await.status, StatusCode::OK);
    assert_eq!(delete().await.exception().1, "TemplateNotFoundException");
}

#[tokio::test]
async fn referrers_are_listed_by_type() {
    let bench = Bench::new().await;
    let subject = image(&bench, "1", b"layer").await;
    let (_, bytes, _) = bench.sandbox.image("team/app", "1").unwrap();
    let mut signature = bench.image(b"signature").await;
    signature["subject"] = json!({"mediaType": OCI_MANIFEST, "digest": subject, "size": bytes.len()});
    signature["artifactType"] = json!("application/x.signature");
    assert_eq!(bench.put_manifest("sig", OCI_MANIFEST, &signature).await.status, StatusCode::CREATED);
    for (types, count) in [(json!([]), 1), (json!(["application/x.signature"]), 1), (json!(["application/x.sbom"]), 0)]
    {
        let input = json!({"subjectId": {"imageDigest": subject}, "filter": {"artifactTypes": types}});
        let reply = ask(&bench, "ListImageReferrers", input).await.json();
        assert_eq!(reply["referrers"].as_array().unwrap().len(), count, "{types}");
    }
}

#[tokio::test]
async fn a_repository_is_deleted_with_its_folder() {
    let dir = TempDir::new();
    let create = vec!["team/app".parse().unwrap(), "team/app/sub".parse().unwrap()];
    let options = || Options { dir: Some(dir.0.clone()), create: create.clone(), ..Options::default() };
    let bench = Bench::start(options()).await;
    image(&bench, "1", b"layer").await;
    let (_, name, message) = ask(&bench, "DeleteRepository", json!({})).await.exception();
    assert_eq!(name, "RepositoryNotEmptyException");
    assert!(message.ends_with("cannot be deleted because it still contains images"), "{message}");
    let url = bench.begin().await;
    let deleted = ask(&bench, "DeleteRepository", json!({"force": true})).await.json();
    assert_eq!(deleted["repository"]["repositoryName"], "team/app");
    assert_eq!(bench.sandbox.repositories(), ["team/app/sub"]);
    assert!(!["blobs", "index.json"].iter().any(|name| dir.0.join("team/app").join(name).exists()));
    assert_eq!((bench.sandbox.open_uploads(), bench.call("GET", &url).await.status), (0, StatusCode::NOT_FOUND));
    assert_eq!(ask(&bench, "DeleteRepository", json!({})).await.exception().1, "RepositoryNotFoundException");
    bench.sandbox.stop().await;
    let options = Options { create: Vec::new(), ..options() };
    assert_eq!(Sandbox::start(options).await.unwrap().repositories(), ["team/app/sub"]);
}

#[tokio::test]
async fn ecr_public_has_repositories_of_its_own() {
    let bench = Bench::new().await;
    let input = || json!({"repositoryName": "tool"});
    let created = ask_public(&bench, "CreateRepository", input()).await.json();
    assert_eq!(created["repository"]["repositoryName"], "tool");
    let (_, name, message) = ask_public(&bench, "CreateRepository", input()).await.exception();
    assert_eq!(name, "RepositoryAlreadyExistsException");
    assert!(message.starts_with("The repository with name 'tool'"), "{message}");
    let described = ask_public(&bench, "DescribeRepositories", json!({})).await.json();
    assert_eq!(described["repositories"].as_array().unwrap().len(), 1);
    let absent = ask_public(&bench, "DescribeRepositories", json!({"repositoryNames": ["other"]})).await;
    assert_eq!(absent.exception().1, "RepositoryNotFoundException");
    assert_eq!(ask_public(&bench, "DescribeImages", input()).await.json()["imageDetails"], json!([]));
    let ids = json!({"repositoryName": "tool", "imageIds": [{"imageTag": "1"}]});
    assert_eq!(ask_public(&bench, "BatchDeleteImage", ids).await.json()["failures"][0]["failureCode"], "ImageNotFound");
    assert_eq!(ask_public(&bench, "DeleteRepository", input()).await.json()["repository"]["repositoryName"], "tool");
    let data = ask_public(&bench, "GetAuthorizationToken", json!({})).await.json()["authorizationData"].clone();
    assert!(data["authorizationToken"].is_string() && data.get("proxyEndpoint").is_none());
}

#[tokio::test]
async fn images_that_are_deleted_page_by_page_are_all_listed() {
    let bench = Bench::new().await;
    let manifest = bench.image(b"layer").await;
    for tag in ["a", "b", "c", "d", "e"] {
        let mut own = manifest.clone();
        own["annotations"] = json!({"of": tag});
        assert_eq!(bench.put_manifest(tag, OCI_MANIFEST, &own).await.status, StatusCode::CREATED);
    }
    let (mut pages, mut input) = (0, json!({"maxResults": 2}));
    loop {
        let page = ask(&bench, "ListImages", input.clone()).await.json();
        assert_eq!(
            ask(&bench, "BatchDeleteImage", json!({"imageIds": page["imageIds"]})).await.json()["failures"],
            json!([])
        );
        pages += 1;
        let Some(next) = page.get("nextToken") else { break };
        input["nextToken"] = next.clone();
    }
    assert_eq!(pages, 3);
    assert_eq!(ask(&bench, "ListImages", json!({})).await.json()["imageIds"], json!([]));
    // The page is another one, but its request was the same.
    input["maxResults"] = json!(1);
    assert_eq!(ask(&bench, "ListImages", input.clone()).await.status, StatusCode::OK);
    let token = input["nextToken"].as_str().unwrap().to_owned();
    input["filter"] = json!({"tagStatus": "TAGGED"});
    let described = json!({"nextToken": token});
    let forged = json!({"nextToken": format!("{token}x")});
    for (operation, input) in [("ListImages", input), ("DescribeImages", described), ("ListImages", forged)] {
        let (_, name, message) = ask(&bench, operation, input).await.exception();
        assert_eq!(name, "InvalidParameterException");
        assert!(message.starts_with("Invalid parameter at 'nextToken'"), "{message}");
    }
}

#[tokio::test]
async fn referrers_have_pages_of_20() {
    let bench = Bench::new().await;
    let manifest = bench.image(b"layer").await;
    let subject = image(&bench, "1", b"layer").await;
    let size = manifest.to_string().len();
    for count in 0..21 {
        let mut referrer = manifest.clone();
        referrer["annotations"] = json!({"of": count.to_string()});
        referrer["subject"] = json!({"mediaType": OCI_MANIFEST, "digest": subject, "size": size});
        let digest = Digest::of(referrer.to_string().as_bytes()).to_string();
        assert_eq!(bench.put_manifest(&digest, OCI_MANIFEST, &referrer).await.status, StatusCode::CREATED);
    }
    let mut input = json!({"subjectId": {"imageDigest": subject}});
    let page = ask(&bench, "ListImageReferrers", input.clone()).await.json();
    assert_eq!(page["referrers"].as_array().unwrap().len(), 20);
    input["nextToken"] = page["nextToken"].clone();
    let page = ask(&bench, "ListImageReferrers", input).await.json();
    assert_eq!((page["referrers"].as_array().unwrap().len(), page.get("nextToken")), (1, None));
}

#[tokio::test]
async fn a_repository_and_an_image_are_full_at_their_quotas() {
    let manifest = ManifestRules { tag_limit: 2, image_limit: 2, ..ManifestRules::default() };
    let bench = Bench::with(Rules { manifest, ..Rules::default() }).await;
    let first = bench.image(b"layer").await;
    for tag in ["1", "2", "2"] {
        assert_eq!(bench.put_manifest(tag, OCI_MANIFEST, &first).await.status, StatusCode::CREATED);
    }
    let place = "repository with name 'team/app' in registry with id '000000000000'";
    let tags = format!(
        "Adding tag '3' to an image in the {place} exceeds the maximum allowed number of tags per image which is '2'"
    );
    let refused = bench.put_manifest("3", OCI_MANIFEST, &first).await.refusal();
    assert_eq!(refused, (403, "DENIED".into(), tags.clone()));
    let put = |manifest: &Value, tag: &str| {
        ask(&bench, "PutImage", json!({"imageManifest": manifest.to_string(), "imageTag": tag}))
    };
    assert_eq!(put(&first, "3").await.exception(), (400, "LimitExceededException".into(), tags));
    let [second, third] = [1, 2].map(|count| {
        let mut other = first.clone();
        other["annotations"] = json!({"of": count.to_string()});
        other
    });
    assert_eq!(put(&second, "3").await.status, StatusCode::OK);
    let images = format!("The {place} already has the maximum allowed number of images which is '2'");
    assert_eq!(put(&third, "3").await.exception(), (400, "LimitExceededException".into(), images));
    // A tag that moves leaves its old image.
    assert_eq!(put(&second, "1").await.status, StatusCode::OK);
    assert_eq!(put(&first, "4").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_manifest_that_is_not_json_is_refused_in_ecr_s_words() {
    let bench = Bench::new().await;
    let message = "Invalid parameter at 'ImageManifest' failed to satisfy constraint: 'Invalid JSON syntax'";
    for text in ["{", "no", "[]"] {
        let refused = ask(&bench, "PutImage", json!({"imageManifest": text, "imageTag": "1"})).await.exception();
        assert_eq!(refused, (400, "InvalidParameterException".into(), message.into()), "{text}");
        let put = bench.put_manifest_bytes("1", "text/plain", text.into()).await.refusal();
        assert_eq!(put, (405, "UNSUPPORTED".into(), message.into()), "{text}");
    }
}
