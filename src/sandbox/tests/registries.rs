//! Registries of other accounts and regions.

use super::*;

/// A caller of AWS's API.
fn signed(key: &str, region: &str) -> String {
    let scope = format!("{key}/20261130/{region}/ecr/aws4_request");
    format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=y")
}

/// Calls AWS's API as another caller.
async fn call(bench: &Bench, (key, region): (&str, &str), operation: &str, body: Value) -> Reply {
    let mut request = bench.api_request(operation, body).build().unwrap();
    request.headers_mut().insert("authorization", signed(key, region).parse().unwrap());
    send(RequestBuilder::from_parts(bench.http.clone(), request)).await
}

/// Returns a login of a caller.
async fn token(bench: &Bench, caller: (&str, &str)) -> String {
    let reply = call(bench, caller, "GetAuthorizationToken", json!({})).await.json();
    reply["authorizationData"][0]["authorizationToken"].as_str().unwrap().to_owned()
}

/// The repositories that a caller sees.
async fn names(bench: &Bench, caller: (&str, &str)) -> Vec<String> {
    let reply = call(bench, caller, "DescribeRepositories", json!({})).await.json();
    let text = |repository: &Value| repository["repositoryArn"].as_str().unwrap().to_owned();
    reply["repositories"].as_array().unwrap().iter().map(text).collect()
}

const KEY: &str = "AKIAIOSFODNN7EXAMPLE";

#[tokio::test]
async fn each_account_and_region_has_a_registry_of_its_own() {
    let bench = Bench::new().await;
    let own = (KEY, "us-east-1");
    for (caller, arn) in [
        (own, "arn:aws:ecr:us-east-1:000000000000:repository/"),
        ((KEY, "eu-west-1"), "arn:aws:ecr:eu-west-1:000000000000:repository/"),
        (("123456789012", "cn-north-1"), "arn:aws-cn:ecr:cn-north-1:123456789012:repository/"),
    ] {
        let created = call(&bench, caller, "CreateRepository", json!({"repositoryName": "new"})).await;
        assert_eq!(created.status, StatusCode::OK, "no other registry has it");
        assert_eq!(names(&bench, caller).await, ["new", "team/app"].map(|name| format!("{arn}{name}")));
    }
    // A request may name the registry of another account.
    let named = json!({"registryId": "123456789012", "repositoryName": "theirs"});
    assert_eq!(call(&bench, (KEY, "eu-west-1"), "CreateRepository", named).await.status, StatusCode::OK);
    assert_eq!(names(&bench, ("123456789012", "eu-west-1")).await.len(), 2);
    assert_eq!(names(&bench, (KEY, "eu-west-1")).await.len(), 2);
    assert_eq!(bench.sandbox.repositories(), ["new", "team/app"]);
    let bad = call(&bench, (KEY, "Mars!"), "DescribeRepositories", json!({})).await;
    assert_eq!(bad.exception().1, "InvalidSignatureException");
}

#[tokio::test]
async fn a_login_or_a_host_leads_to_its_registry() {
    let mut bench = Bench::new().await;
    let caller = ("123456789012", "eu-west-1");
    bench.token = token(&bench, caller).await;
    let digest = bench.push(b"blob").await;
    let path = format!("/v2/team/app/blobs/{digest}");
    let url = bench.call("GET", &path).await.header("location").to_owned();
    assert_eq!(send(bench.http.get(url)).await.body, b"blob");
    assert!(bench.sandbox.blob("team/app", &digest).is_none());
    assert!(bench.sandbox.blob("123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/app", &digest).is_some());
    let at = async |header: &str, host: &str| send(bench.request("HEAD", &path).header(header, host)).await.status;
    for header in ["host", "x-ecr-push-registry"] {
        assert_eq!(at(header, "123456789012.dkr.ecr.eu-west-1.amazonaws.com").await, StatusCode::OK);
        assert_eq!(at(header, "123456789012.dkr-ecr-fips.eu-west-1.on.aws").await, StatusCode::OK);
        assert_eq!(at(header, "210987654321.dkr.ecr.eu-west-1.amazonaws.com").await, StatusCode::NOT_FOUND);
        // A login is for one region.
        assert_eq!(at(header, "123456789012.dkr.ecr.us-east-1.amazonaws.com").await, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn an_account_and_a_region_can_be_fixed() {
    let only = Options { any_account: false, any_region: false, ..Options::default() };
    let bench = Bench::start(Options { create: vec!["team/app".parse().unwrap()], ..only }).await;
    assert_eq!(names(&bench, ("123456789012", "us-east-1")).await.len(), 1);
    let elsewhere = call(&bench, (KEY, "eu-west-1"), "DescribeRepositories", json!({})).await;
    assert_eq!(elsewhere.exception().1, "InvalidSignatureException");
    let theirs = json!({"registryId": "123456789012", "repositoryNames": ["team/app"]});
    assert_eq!(bench.api("DescribeRepositories", theirs).await.exception().1, "RepositoryNotFoundException");
    let digest = bench.push(b"blob").await;
    let request = bench.request("HEAD", &format!("/v2/team/app/blobs/{digest}"));
    let request = request.header("host", "123456789012.dkr.ecr.eu-west-1.amazonaws.com");
    assert_eq!(send(request).await.status, StatusCode::OK, "every host is its own");
}

#[tokio::test]
async fn a_role_is_of_its_own_account() {
    let bench = Bench::new().await;
    let role = "Action=AssumeRoleWithWebIdentity&RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fci\
                &RoleSessionName=a&WebIdentityToken=a.b.c";
    let request = bench.http.post(bench.sandbox.url()).header("content-type", "application/x-www-form-urlencoded");
    let assumed = String::from_utf8(send(request.body(role)).await.body).unwrap();
    assert!(assumed.contains("<Arn>arn:aws:sts::123456789012:assumed-role/ci/a</Arn>"), "{assumed}");
}

#[tokio::test]
async fn registries_lie_in_folders_of_their_own() {
    let dir = TempDir::new();
    let host = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
    let options = || Options { dir: Some(dir.0.clone()), ..Options::default() };
    let caller = ("123456789012", "eu-west-1");
    let bench = Bench::start(options()).await;
    call(&bench, caller, "CreateRepository", json!({"repositoryName": "team/app"})).await;
    // A repository that has the name of a registry.
    bench.api("CreateRepository", json!({"repositoryName": format!("{host}/team/app")})).await;
    bench.sandbox.stop().await;
    assert!(dir.0.join(host).join("team/app/oci-layout").exists());
    assert!(dir.0.join(format!("{host}%")).join("team/app/oci-layout").exists());
    let again = Bench::start(options()).await;
    assert_eq!(again.sandbox.repositories(), [format!("{host}/team/app")]);
    assert_eq!(names(&again, caller).await.len(), 1);
}

#[tokio::test]
async fn every_alias_of_ecr_public_is_the_caller_s() {
    let bench = Bench::new().await;
    let public = async |operation: &str, body: Value| {
        let mut request = bench.api_request(operation, body).build().unwrap();
        let target = format!("SpencerFrontendService.{operation}");
        request.headers_mut().insert("x-amz-target", target.parse().unwrap());
        send(RequestBuilder::from_parts(bench.http.clone(), request)).await
    };
    let token = public("GetAuthorizationToken", json!({})).await.json();
    let token = token["authorizationData"]["authorizationToken"].as_str().unwrap().to_owned();
    let to_public = |method: &str, path: &str| {
        let url = format!("{}{path}", bench.sandbox.url());
        bench
            .http
            .request(Method::from_bytes(method.as_bytes()).unwrap(), url)
            .header("x-ecr-push-registry", "public.ecr.aws")
    };
    let challenged = send(to_public("GET", "/v2/")).await;
    assert!(challenged.header("www-authenticate").starts_with("Bearer realm=\"http://127.0.0.1:"));
    let path = "/token/?service=public.ecr.aws&scope=aws";
    let bearer = send(to_public("GET", path).header("authorization", format!("Basic {token}"))).await.json();
    let bearer = format!("Bearer {}", bearer["token"].as_str().unwrap());
    let begin =
        async || send(to_public("POST", "/v2/mine/app/blobs/uploads/").header("authorization", &bearer)).await.status;
    assert_eq!(begin().await, StatusCode::NOT_FOUND);
    let aliases = public("DescribeRegistries", json!({})).await.json()["registries"][0]["aliases"].clone();
    assert!(aliases.as_array().unwrap().iter().any(|alias| alias["name"] == "mine"), "{aliases}");
    let created = public("CreateRepository", json!({"repositoryName": "app"})).await.json();
    assert_eq!(created["repository"]["repositoryUri"], "public.ecr.aws/mine/app");
    assert_eq!(begin().await, StatusCode::ACCEPTED);
    // Also to those who may know.
    let head = to_public("HEAD", &format!("/v2/mine/app/blobs/{}", Digest::of(b"x")));
    assert_eq!(send(head.header("authorization", &bearer)).await.status, StatusCode::UNAUTHORIZED);
    bench.sandbox.expire_tokens();
    assert_eq!(begin().await, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn requests_open_a_bounded_number_of_registries_and_aliases() {
    let bench = Bench::new().await;
    let registries = &bench.sandbox.server.registries;
    let open = |number: usize| registries.open(&registries.find(Some(&format!("{number:012}")), None)).is_ok();
    assert!((0..10_000).all(open) && !open(10_000) && open(0));
    let home = registries.open(&registries.home).unwrap();
    for number in 0..1001 {
        home.expect(&format!("alias-{number}/app-{number}").parse().unwrap());
    }
    assert_eq!(home.aliases().len(), 1000);
}

#[tokio::test]
async fn the_account_setting_decides_on_mounts_in_its_registry_alone() {
    let mut bench = Bench::new().await;
    let callers = [("123456789012", "eu-west-1"), ("210987654321", "eu-west-1"), ("123456789012", "us-east-1")];
    let set = async |bench: &Bench, caller, value: &str| {
        let input = json!({"name": "BLOB_MOUNTING", "value": value});
        assert_eq!(call(bench, caller, "PutAccountSetting", input).await.status, StatusCode::OK);
    };
    let mut paths = Vec::new();
    for caller in callers {
        bench.token = token(&bench, caller).await;
        let manifest = bench.image(b"layer").await;
        assert_eq!(bench.put_manifest("1", OCI_MANIFEST, &manifest).await.status, StatusCode::CREATED);
        let created = call(&bench, caller, "CreateRepository", json!({"repositoryName": "other"})).await;
        assert_eq!(created.status, StatusCode::OK);
        let digest = Digest::of(b"layer");
        paths.push((bench.token.clone(), format!("/v2/other/blobs/uploads/?mount={digest}&from=team%2Fapp")));
    }
    let statuses = async |bench: &mut Bench| {
        let mut statuses = Vec::new();
        for (token, path) in &paths {
            bench.token.clone_from(token);
            statuses.push(bench.call("POST", path).await.status.as_u16());
        }
        statuses
    };
    assert_eq!(statuses(&mut bench).await, [202, 202, 202]);
    set(&bench, callers[0], "ENABLED").await;
    assert_eq!(statuses(&mut bench).await, [201, 202, 202]);
    // The rules have the default for registries without the setting.
    set(&bench, callers[1], "DISABLED").await;
    bench.sandbox.set_rules(|rules| rules.blob_mounting = BlobMounting::Enabled);
    assert_eq!(statuses(&mut bench).await, [201, 202, 201]);
    let get = |caller| call(&bench, caller, "GetAccountSetting", json!({"name": "BLOB_MOUNTING"}));
    let values = [get(callers[0]).await.json(), get(callers[1]).await.json(), get(callers[2]).await.json()];
    assert_eq!(values.map(|value| value["value"].clone()), ["ENABLED", "DISABLED", "ENABLED"]);
    set(&bench, callers[0], "DISABLED").await;
    assert_eq!(statuses(&mut bench).await, [202, 202, 201]);
}

#[tokio::test]
async fn the_templates_of_an_account_are_its_own() {
    let bench = Bench::with(Rules { templates: vec![CreationTemplate::on_push("team")], ..Rules::default() }).await;
    let prefixes = async |caller| {
        let reply = call(&bench, caller, "DescribeRepositoryCreationTemplates", json!({})).await.json();
        let prefix = |template: &Value| template["prefix"].as_str().unwrap().to_owned();
        reply["repositoryCreationTemplates"].as_array().unwrap().iter().map(prefix).collect::<Vec<_>>()
    };
    let (one, other) = (("123456789012", "us-east-1"), ("210987654321", "us-east-1"));
    let template = json!({"prefix": "own", "appliedFor": ["CREATE_ON_PUSH"]});
    assert_eq!(call(&bench, one, "CreateRepositoryCreationTemplate", template).await.status, StatusCode::OK);
    assert_eq!((prefixes(one).await, prefixes(other).await), (vec!["team".into(), "own".into()], vec!["team".into()]));
    let name = json!({"prefix": "team"});
    assert_eq!(call(&bench, one, "DeleteRepositoryCreationTemplate", name).await.status, StatusCode::OK);
    assert_eq!((prefixes(one).await, prefixes(other).await), (vec!["own".into()], vec!["team".into()]));
}

#[tokio::test]
async fn an_arn_names_the_registry_of_its_account() {
    let bench = Bench::new().await;
    let (one, other) = (("123456789012", "us-east-1"), ("210987654321", "us-east-1"));
    let arn = |region: &str| format!("arn:aws:ecr:{region}:123456789012:repository/team/app");
    let tag = json!({"resourceArn": arn("us-east-1"), "tags": [{"Key": "owner", "Value": "one"}]});
    assert_eq!(call(&bench, other, "TagResource", tag).await.status, StatusCode::OK);
    let tags = async |caller| {
        let resource = json!({"resourceArn": format!("arn:aws:ecr:us-east-1:{caller}:repository/team/app")});
        call(&bench, one, "ListTagsForResource", resource).await.json()["tags"].clone()
    };
    assert_eq!(tags("123456789012").await, json!([{"Key": "owner", "Value": "one"}]));
    assert_eq!(tags("210987654321").await, json!([]));
    for wrong in [arn("eu-west-1"), arn("us-east-1").replace(":aws:", ":aws-cn:"), "arn:aws:ecr:us-east-1".into()] {
        let refused = call(&bench, one, "ListTagsForResource", json!({"resourceArn": wrong})).await.exception();
        assert_eq!(refused.1, "InvalidParameterException", "{wrong}");
    }
}
