//! AWS's face.

use super::*;

fn exception(name: &str, message: &str) -> (u16, String, String) {
    (400, name.into(), message.into())
}

#[tokio::test]
async fn a_token_is_long_and_names_the_registry_s_real_host() {
    let bench = Bench::new().await;
    let reply = bench.api("GetAuthorizationToken", json!({})).await;
    assert_eq!(reply.header("content-type"), "application/x-amz-json-1.1");
    assert_eq!(reply.header("x-amzn-requestid").len(), 36);
    let data = reply.json()["authorizationData"][0].clone();
    assert_eq!(data["proxyEndpoint"], "https://000000000000.dkr.ecr.us-east-1.amazonaws.com");
    assert!(data["expiresAt"].as_f64().unwrap() > 1.7e9);
    let token = data["authorizationToken"].as_str().unwrap();
    assert!(token.len() > 1800 && token != bench.token, "{}", token.len());
}

#[tokio::test]
async fn amazon_s_own_client_understands_the_answers() {
    use aws_sdk_ecr::config::{BehaviorVersion, Credentials, Region};
    use aws_smithy_http_client::{Builder, tls};
    let bench = Bench::new().await;
    // Built by hand, since the client that the SDK builds takes the proxies of the environment.
    let provider = tls::Provider::rustls(tls::rustls_provider::CryptoMode::AwsLc);
    let config = aws_sdk_ecr::Config::builder()
        .http_client(Builder::new().tls_provider(provider).build_https())
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("AKIAEXAMPLE", "secret", None, None, "test"))
        .endpoint_url(bench.sandbox.url())
        .build();
    let client = aws_sdk_ecr::Client::from_conf(config);
    let token = client.get_authorization_token().send().await.unwrap();
    let data = &token.authorization_data()[0];
    assert!(data.expires_at().unwrap().secs() > 1_700_000_000);
    let access = bench.sandbox.server.logins.access(&format!("Basic {}", data.authorization_token().unwrap()));
    assert!(matches!(access, logins::Access::Granted(owner) if owner.account == "000000000000"));
    let created = client.create_repository().repository_name("new/one").send().await.unwrap();
    assert_eq!(created.repository().unwrap().repository_name(), Some("new/one"));
    let again = client.create_repository().repository_name("new/one").send().await.unwrap_err();
    assert!(again.into_service_error().is_repository_already_exists_exception());
    let absent = client.describe_repositories().repository_names("absent").send().await.unwrap_err();
    assert!(absent.into_service_error().is_repository_not_found_exception());
}

#[tokio::test]
async fn requests_that_are_not_signed_or_not_known_are_refused() {
    let bench = Bench::new().await;
    let unsigned = bench.api_request("GetAuthorizationToken", json!({})).build().unwrap();
    let mut request = bench.http.post(unsigned.url().clone()).body("{}");
    request = request.header("x-amz-target", "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken");
    assert_eq!(send(request).await.exception().1, "MissingAuthenticationTokenException");
    assert_eq!(bench.api("MakeCoffee", json!({})).await.exception().1, "UnknownOperationException");
    let other = bench.http.post(unsigned.url().clone()).header("x-amz-target", "Other_V1.GetAuthorizationToken");
    assert_eq!(send(other).await.exception().1, "UnknownOperationException");
    let garbage = bench.api_request("CreateRepository", json!({})).body("{");
    assert_eq!(send(garbage).await.exception().1, "SerializationException");
}

#[tokio::test]
async fn repositories_are_created_once_and_as_told() {
    let bench = Bench::new().await;
    let request = json!({
        "repositoryName": "app",
        "tags": [{"Key": "team", "Value": "x"}],
        "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION",
        "imageTagMutabilityExclusionFilters": [{"filterType": "WILDCARD", "filter": "dev-*"}],
        "imageScanningConfiguration": {"scanOnPush": true},
        "encryptionConfiguration": {"encryptionType": "KMS", "kmsKey": "alias/k"},
    });
    let repository = bench.api("CreateRepository", request.clone()).await.json()["repository"].clone();
    assert_eq!(repository["repositoryArn"], "arn:aws:ecr:us-east-1:000000000000:repository/app");
    assert_eq!(repository["repositoryUri"], "000000000000.dkr.ecr.us-east-1.amazonaws.com/app");
    for key in ["imageTagMutability", "imageTagMutabilityExclusionFilters", "imageScanningConfiguration"] {
        assert_eq!(repository[key], request[key], "{key}");
    }
    assert_eq!(repository["encryptionConfiguration"], request["encryptionConfiguration"]);
    let list = json!({"resourceArn": repository["repositoryArn"]});
    assert_eq!(bench.api("ListTagsForResource", list).await.json()["tags"], request["tags"]);
    let message = "The repository with name 'app' already exists in the registry with id '000000000000'";
    let again = bench.api("CreateRepository", request).await;
    assert_eq!(again.exception(), exception("RepositoryAlreadyExistsException", message));
    assert_eq!(bench.sandbox.repositories(), ["app", "team/app"]);
}

#[tokio::test]
async fn repositories_that_break_a_constraint_are_not_created() {
    let bench = Bench::new().await;
    let tags =
        |count: usize| json!((0..count).map(|key| json!({"Key": key.to_string(), "Value": ""})).collect::<Vec<_>>());
    let cases = [
        (json!({"repositoryName": "A"}), "InvalidParameterException"),
        (json!({"repositoryName": "a"}), "InvalidParameterException"),
        (json!({"registryId": "1"}), "InvalidParameterException"),
        (json!({"imageTagMutability": "SOMETIMES"}), "InvalidParameterException"),
        (json!({"imageTagMutability": "MUTABLE_WITH_EXCLUSION"}), "InvalidParameterException"),
        (
            json!({"imageTagMutabilityExclusionFilters": [{"filterType": "WILDCARD", "filter": "a"}]}),
            "InvalidParameterException",
        ),
        (
            json!({
                "imageTagMutability": "MUTABLE_WITH_EXCLUSION",
                "imageTagMutabilityExclusionFilters": [{"filterType": "WILDCARD", "filter": "*a*b*"}],
            }),
            "InvalidParameterException",
        ),
        (json!({"encryptionConfiguration": {"encryptionType": "ROT13"}}), "InvalidParameterException"),
        (json!({"tags": tags(51)}), "TooManyTagsException"),
        (json!({"tags": [{"Key": "aws:x", "Value": ""}]}), "InvalidTagParameterException"),
        (json!({"tags": [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]}), "InvalidTagParameterException"),
        (json!({"tags": 7}), "SerializationException"),
    ];
    for (change, name) in cases {
        let mut request = json!({"repositoryName": "new"});
        request.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let (status, exception, _) = bench.api("CreateRepository", request).await.exception();
        assert_eq!((status, exception.as_str()), (400, name), "{change}");
    }
    assert_eq!(bench.sandbox.repositories(), ["team/app"]);
}

#[tokio::test]
async fn repositories_are_described_by_name_or_page_by_page() {
    let bench = Bench::new().await;
    for name in ["ab", "cd", "ef"] {
        assert_eq!(bench.api("CreateRepository", json!({"repositoryName": name})).await.status, StatusCode::OK);
    }
    let (mut names, mut request) = (Vec::new(), json!({"maxResults": 3}));
    loop {
        let page = bench.api("DescribeRepositories", request.clone()).await.json();
        let listed = page["repositories"].as_array().unwrap();
        names.extend(listed.iter().map(|repository| repository["repositoryName"].as_str().unwrap().to_owned()));
        let Some(next) = page.get("nextToken") else { break };
        request["nextToken"] = next.clone();
    }
    assert_eq!(names, ["ab", "cd", "ef", "team/app"]);
    let one = bench.api("DescribeRepositories", json!({"repositoryNames": ["cd"]})).await.json();
    assert_eq!(one["repositories"].as_array().unwrap().len(), 1);
    let message = "The repository with name 'xy' does not exist in the registry with id '000000000000'";
    let absent = bench.api("DescribeRepositories", json!({"repositoryNames": ["ab", "xy"]})).await;
    assert_eq!(absent.exception(), exception("RepositoryNotFoundException", message));
    for bad in [json!({"repositoryNames": []}), json!({"maxResults": 1001}), json!({"nextToken": "x"})] {
        assert_eq!(bench.api("DescribeRepositories", bad).await.exception().1, "InvalidParameterException");
    }
}

#[tokio::test]
async fn layers_are_checked_a_hundred_at_a_time() {
    let bench = Bench::new().await;
    let (here, absent) = (bench.push(b"layer").await.to_string(), Digest::of(b"absent").to_string());
    let request = json!({"repositoryName": "team/app", "layerDigests": [here, absent, "sha512:12"]});
    let reply = bench.api("BatchCheckLayerAvailability", request).await.json();
    assert_eq!(reply["layers"][0]["layerAvailability"], "AVAILABLE");
    assert_eq!(reply["layers"][0]["layerSize"], 5);
    assert_eq!(reply["layers"][1], json!({"layerDigest": absent, "layerAvailability": "UNAVAILABLE"}));
    assert_eq!(reply["failures"][0]["failureCode"], "InvalidLayerDigest");
    for count in [0, 101] {
        let request = json!({"repositoryName": "team/app", "layerDigests": vec![&absent; count]});
        assert_eq!(bench.api("BatchCheckLayerAvailability", request).await.exception().1, "InvalidParameterException");
    }
}

#[tokio::test]
async fn images_are_described_and_got_byte_for_byte() {
    let bench = Bench::new().await;
    let manifest = bench.image(b"layer").await;
    let bytes = format!(" {manifest} ");
    assert_eq!(bench.put_manifest_bytes("v1", OCI_MANIFEST, bytes.clone().into()).await.status, StatusCode::CREATED);
    let digest = Digest::of(bytes.as_bytes()).to_string();
    let ids = json!([{"imageTag": "v1"}, {"imageTag": "v2"}, {}, {"imageDigest": "x"}]);
    let reply = bench.api("BatchGetImage", json!({"repositoryName": "team/app", "imageIds": ids})).await.json();
    assert_eq!(reply["images"][0]["imageManifest"], bytes);
    assert_eq!(reply["images"][0]["imageId"], json!({"imageTag": "v1", "imageDigest": digest}));
    let codes: Vec<_> = reply["failures"].as_array().unwrap().iter().map(|it| it["failureCode"].clone()).collect();
    assert_eq!(codes, ["ImageNotFound", "MissingDigestAndTag", "InvalidImageDigest"]);
    let reply = bench.api("DescribeImages", json!({"repositoryName": "team/app"})).await.json();
    assert_eq!(reply["imageDetails"][0]["imageTags"], json!(["v1"]));
    assert_eq!(reply["imageDetails"][0]["imageSizeInBytes"], 5);
    let absent = json!({"repositoryName": "team/app", "imageIds": [{"imageTag": "v2"}]});
    assert_eq!(bench.api("DescribeImages", absent).await.exception().1, "ImageNotFoundException");
}

#[tokio::test]
async fn policies_are_kept_if_they_are_json_of_the_right_length() {
    let bench = Bench::new().await;
    let selection = json!({"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 9});
    let rule = json!({"rulePriority": 1, "selection": selection, "action": {"type": "expire"}});
    let policy = json!({"rules": [rule]}).to_string();
    let put = |text: &str| {
        bench.api("PutLifecyclePolicy", json!({"repositoryName": "team/app", "lifecyclePolicyText": text}))
    };
    assert_eq!(put(&policy).await.json()["lifecyclePolicyText"], policy);
    for (bad, why) in [
        ("{}".to_owned(), "Member must have length greater than or equal to 100"),
        (" ".repeat(100), "Lifecycle policy validation failure: Could not map policyString into LifecyclePolicy."),
        (policy.replace("rules", "rule"), r#"object has missing required properties (["rules"])"#),
        (policy.replace("rulePriority", "priority"), r#"object has missing required properties (["rulePriority"])"#),
        (policy.replace("expire", "delete"), r#"instance value ("delete") not found in enum"#),
        (policy.replace("\"any\"", "\"tagged\""), "instance failed to match exactly one schema (matched 0 out of 2)"),
        (policy.replace("}]", ",\"color\":1}]"), r#"not allowed by the schema: (["color"])"#),
    ] {
        let (_, name, message) = put(&bad).await.exception();
        assert_eq!(name, "InvalidParameterException", "{bad}");
        assert!(message.contains(why), "{message}");
    }
    let set =
        |name: &str, text: &str| bench.api("SetRepositoryPolicy", json!({"repositoryName": name, "policyText": text}));
    let own = json!({"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "ecr:*"}]}).to_string();
    assert_eq!(set("team/app", &own).await.json()["policyText"], own);
    let message =
        "Invalid parameter at 'PolicyText' failed to satisfy constraint: 'Invalid repository policy provided'";
    for bad in ["{", "{}", "[]"] {
        assert_eq!(set("team/app", bad).await.exception(), exception("InvalidParameterException", message));
    }
    assert_eq!(set("absent", &own).await.exception().1, "RepositoryNotFoundException");
    let get = |operation| bench.api(operation, json!({"repositoryName": "team/app"}));
    assert_eq!(get("GetLifecyclePolicy").await.json()["lifecyclePolicyText"], policy);
    assert_eq!(get("GetRepositoryPolicy").await.json()["policyText"], own);
    let new = json!({"repositoryName": "new"});
    assert_eq!(bench.api("CreateRepository", new.clone()).await.status, StatusCode::OK);
    assert_eq!(bench.api("GetLifecyclePolicy", new.clone()).await.exception().1, "LifecyclePolicyNotFoundException");
    assert_eq!(bench.api("GetRepositoryPolicy", new).await.exception().1, "RepositoryPolicyNotFoundException");
}

#[tokio::test]
async fn what_is_said_of_layers_that_are_there_can_vary() {
    let bench = Bench::new().await;
    let here = bench.push(b"layer").await;
    let request = json!({"repositoryName": "team/app", "layerDigests": [here]});
    for (state, taken) in [(LayerState::Archived, 201), (LayerState::ArchivedAndKept, 400)] {
        bench.sandbox.set_rules(|rules| rules.layers = state);
        let reply = bench.api("BatchCheckLayerAvailability", request.clone()).await.json();
        assert_eq!(reply["layers"][0], json!({"layerDigest": here, "layerAvailability": "ARCHIVED"}));
        assert_eq!(bench.call("HEAD", &format!("/v2/team/app/blobs/{here}")).await.status, StatusCode::NOT_FOUND);
        let url = bench.begin().await;
        let put = bench.put(&url, &here, b"layer").await;
        assert_eq!(put.status.as_u16(), taken);
        assert!(taken == 201 || put.refusal().2.contains("already exists in the repository"));
        assert_eq!(bench.sandbox.open_uploads(), 0);
    }
    bench.sandbox.set_rules(|rules| rules.layers = LayerState::Failing);
    let reply = bench.api("BatchCheckLayerAvailability", request).await.json();
    assert_eq!((reply["layers"].as_array().unwrap().len(), &reply["failures"][0]["layerDigest"]), (0, &json!(here)));
}

#[tokio::test]
async fn a_template_is_for_what_begins_with_its_prefix_and_the_longest_wins() {
    let bench = Bench::new().await;
    let closest = CreationTemplate { immutable: true, ..CreationTemplate::on_push("team/web/") };
    let replicated = CreationTemplate { applied_for: vec!["REPLICATION".into()], ..CreationTemplate::on_push("x") };
    let templates = vec![CreationTemplate::on_push("team"), closest, replicated];
    bench.sandbox.set_rules(|rules| rules.templates = templates);
    let begin = |name: &str| bench.request("POST", &format!("/v2/{name}/blobs/uploads/"));
    for (name, status) in [("teams/a", 404), ("team", 404), ("x/a", 404), ("team/a", 202), ("team/web/a", 202)] {
        assert_eq!(send(begin(name)).await.status.as_u16(), status, "{name}");
    }
    let mutability = |name: &str| bench.sandbox.settings(name).unwrap()["mutability"].clone();
    assert_eq!((mutability("team/a"), mutability("team/web/a")), (json!("MUTABLE"), json!("IMMUTABLE")));
    bench.sandbox.set_rules(|rules| rules.templates.push(CreationTemplate::on_push("ROOT")));
    assert_eq!(send(begin("x/a")).await.status, StatusCode::ACCEPTED);

    let mut request = json!({"maxResults": 3});
    let page = bench.api("DescribeRepositoryCreationTemplates", request.clone()).await.json();
    assert_eq!(page["registryId"], "000000000000");
    let prefixes = [0, 1, 2].map(|at| page["repositoryCreationTemplates"][at]["prefix"].clone());
    assert_eq!(prefixes, ["ROOT", "team", "team/web/"]);
    assert_eq!(page["repositoryCreationTemplates"][2]["imageTagMutability"], "IMMUTABLE");
    request["nextToken"] = page["nextToken"].clone();
    let page = bench.api("DescribeRepositoryCreationTemplates", request).await.json();
    assert_eq!(page["repositoryCreationTemplates"].as_array().unwrap().len(), 1);
    assert_eq!(page["repositoryCreationTemplates"][0]["appliedFor"], json!(["REPLICATION"]));
    assert!(page.get("nextToken").is_none());
    let one = bench.api("DescribeRepositoryCreationTemplates", json!({"prefixes": ["x"]})).await.json();
    assert_eq!(one["repositoryCreationTemplates"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn who_loses_the_race_to_create_a_repository_is_told() {
    let bench = Bench::new().await;
    let fault = Fault::once("ecr:CreateRepository", Trouble::LoseRace);
    bench.sandbox.set_rules(|rules| rules.faults = vec![fault]);
    let request = json!({"repositoryName": "new", "imageTagMutability": "IMMUTABLE"});
    assert_eq!(bench.api("CreateRepository", request).await.exception().1, "RepositoryAlreadyExistsException");
    assert_eq!(bench.sandbox.settings("new").unwrap()["mutability"], "MUTABLE");
}

#[tokio::test]
async fn a_right_that_is_missing_is_named() {
    let bench = Bench::with(Rules { deny: vec!["ecr:CreateRepository".into()], ..Rules::default() }).await;
    let message = "User: arn:aws:iam::000000000000:user/sandbox is not authorized to perform: ecr:CreateRepository on \
                   resource: arn:aws:ecr:us-east-1:000000000000:repository/new because no identity-based policy allows \
                   the ecr:CreateRepository action";
    let reply = bench.api("CreateRepository", json!({"repositoryName": "new"})).await;
    assert_eq!(reply.exception(), exception("AccessDeniedException", message));
}

#[tokio::test]
async fn a_key_of_one_s_own_takes_rights_on_it() {
    let bench = Bench::new().await;
    let allow = |action: &str, resource: &str| json!({"Effect": "Allow", "Action": action, "Resource": resource});
    let key = "arn:aws:kms:us-east-1:000000000000:key/1";
    let encryption = json!({"encryptionType": "KMS", "kmsKey": "1"});
    let request = json!({"repositoryName": "team/new", "encryptionConfiguration": encryption});
    let mut statements = vec![allow("ecr:*", "*"), allow("kms:DescribeKey", key)];
    for is_allowed in [false, true] {
        let policy = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
        bench.sandbox.set_rules(|rules| rules.policy = Some(Policy::of_json(&policy).unwrap()));
        let reply = bench.api("CreateRepository", request.clone()).await;
        if is_allowed {
            assert_eq!(reply.json()["repository"]["repositoryName"], "team/new");
        } else {
            let (_, name, message) = reply.exception();
            assert_eq!(name, "AccessDeniedException");
            assert!(message.contains(&format!("kms:CreateGrant on resource: {key} because no identity-based")));
        }
        statements.push(allow("kms:CreateGrant", key));
    }
}

#[tokio::test]
async fn an_upload_can_be_opened_and_is_that_of_the_other_face() {
    let bench = Bench::new().await;
    let absent = bench.api("InitiateLayerUpload", json!({"repositoryName": "absent"})).await;
    assert_eq!(absent.exception().1, "RepositoryNotFoundException");
    bench.api("CreateRepository", json!({"repositoryName": "team/new"})).await;
    let opened = bench.api("InitiateLayerUpload", json!({"repositoryName": "team/new"})).await;
    assert_eq!(opened.json()["partSize"], 10_485_760);
    assert_eq!(bench.sandbox.open_uploads(), 1);
}

#[tokio::test]
async fn an_archived_image_is_described_where_it_is_asked_for_and_not_served() {
    let bench = Bench::new().await;
    let manifest = bench.image(b"layer").await;
    let put = bench.put_manifest("1", OCI_MANIFEST, &manifest).await;
    assert_eq!(put.status, 201);
    let digest = Digest::of(manifest.to_string().as_bytes()).to_string();
    assert!(bench.sandbox.archive("team/app", "1") && !bench.sandbox.archive("team/app", "2"));
    let describe = |status: Option<&str>| {
        let mut request = json!({"repositoryName": "team/app", "imageIds": [{"imageTag": "1"}]});
        if let Some(status) = status {
            request["filter"] = json!({"imageStatus": status});
        }
        bench.api("DescribeImages", request)
    };
    assert_eq!(describe(None).await.exception().1, "ImageNotFoundException");
    let details = describe(Some("ANY")).await.json()["imageDetails"].clone();
    assert_eq!((&details[0]["imageStatus"], &details[0]["imageDigest"]), (&json!("ARCHIVED"), &json!(digest)));
    let ids = json!({"repositoryName": "team/app", "imageIds": [{"imageTag": "1"}]});
    assert_eq!(bench.api("BatchGetImage", ids).await.json()["failures"][0]["failureCode"], "ImageNotFound");
    assert_eq!(bench.call("GET", "/v2/team/app/manifests/1").await.status, 404);
}
