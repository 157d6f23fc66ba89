//! Who may ask, what goes wrong on purpose, and what the log says of it.

use std::time::Duration;

use super::*;

#[tokio::test]
async fn it_listens_on_loopback_only() {
    for (options, part) in [
        (Options { listen: "0.0.0.0:0".parse().unwrap(), ..Options::default() }, "cannot listen on 0.0.0.0"),
        (Options { account: "12".into(), ..Options::default() }, "twelve digits"),
        (Options { region: "Mars!".into(), ..Options::default() }, "not an AWS region"),
        (Options { create: vec!["a".parse().unwrap()], ..Options::default() }, "at least two characters"),
    ] {
        let error = Sandbox::start(options).await.unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(error.kind(), crate::error::Kind::Usage);
    }
}

#[tokio::test]
async fn who_shows_no_good_token_is_challenged() {
    let bench = Bench::new().await;
    let url = |path: &str| format!("{}{path}", bench.sandbox.url());
    let challenge =
        "Basic realm=\"https://000000000000.dkr.ecr.us-east-1.amazonaws.com/\",service=\"ecr.amazonaws.com\"";
    for path in ["/v2/", "/v2/team/app/manifests/v1", "/v2/absent/tags/list"] {
        for authorization in ["", "Basic QVdTOng=", "Basic !", "Bearer x"] {
            let reply = send(bench.http.get(url(path)).header("authorization", authorization)).await;
            assert_eq!((reply.status.as_u16(), reply.header("www-authenticate")), (401, challenge));
            assert_eq!(reply.header("docker-distribution-api-version"), "registry/2.0");
        }
    }
    assert_eq!(bench.call("GET", "/v2/").await.status, StatusCode::OK);
    assert_eq!(bench.last().operation, "v2:Check");
    assert_eq!(bench.call("GET", "/v3").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_expired_token_meets_403_without_a_challenge() {
    let mut bench = Bench::new().await;
    let expired =
        (403, "DENIED".to_owned(), "Your authorization token has expired. Reauthenticate and try again.".to_owned());
    bench.sandbox.expire_tokens();
    let reply = bench.call("GET", "/v2/").await;
    assert_eq!((reply.refusal(), reply.header("www-authenticate")), (expired.clone(), ""));
    bench.login().await;
    let fault = Fault::once("ecr:InitiateLayerUpload", Trouble::ExpireTokens).after(1);
    bench.sandbox.set_rules(|rules| rules.faults = vec![fault]);
    bench.begin().await;
    assert_eq!(bench.call("POST", "/v2/team/app/blobs/uploads/").await.refusal(), expired);
    bench.sandbox.set_rules(|rules| rules.token_lifetime = Some(Duration::ZERO));
    bench.login().await;
    assert_eq!(bench.call("GET", "/v2/").await.refusal(), expired);
}

#[tokio::test]
async fn a_missing_right_is_named_or_not() {
    let bench = Bench::new().await;
    bench.sandbox.set_rules(|rules| rules.deny = vec!["ecr:InitiateLayerUpload".into()]);
    let (status, code, message) = bench.call("POST", "/v2/team/app/blobs/uploads/").await.refusal();
    assert_eq!((status, code.as_str()), (403, "DENIED"));
    assert_eq!(
        message,
        "User: arn:aws:iam::000000000000:user/sandbox is not authorized to perform: ecr:InitiateLayerUpload on \
         resource: arn:aws:ecr:us-east-1:000000000000:repository/team/app because no identity-based policy allows the \
         ecr:InitiateLayerUpload action"
    );
    bench.sandbox.set_rules(|rules| rules.deny_silently = true);
    let reply = bench.call("POST", "/v2/team/app/blobs/uploads/").await;
    assert_eq!((reply.status.as_u16(), reply.body.len()), (403, 0));
    bench.sandbox.set_rules(|rules| rules.deny = vec!["ecr:UploadLayerPart".into()]);
    let url = bench.begin().await;
    assert_eq!(bench.put(&url, &Digest::of(b"x"), b"x").await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn an_absent_repository_is_named_or_hung_up_on_or_created() {
    let bench = Bench::new().await;
    let path = "/v2/new/app/blobs/uploads/";
    let message = "The repository with name 'new/app' does not exist in the registry with id '000000000000'";
    let absent = (404, "NAME_UNKNOWN".to_owned(), message.to_owned());
    assert_eq!(bench.call("POST", path).await.refusal(), absent);
    bench.sandbox.set_rules(|rules| rules.absent_repository = Absent::HangUp);
    assert!(try_send(bench.request("POST", path)).await.is_err());
    assert_eq!(bench.last().status, 0);
    assert_eq!(bench.call("GET", "/v2/new/app/tags/list").await.refusal(), absent);
    assert_eq!(bench.call("GET", "/v2/N/tags/list").await.refusal().1, "NAME_INVALID");
    bench.sandbox.set_rules(|rules| rules.templates = vec![CreationTemplate::on_push("new")]);
    assert_eq!(bench.call("POST", path).await.status, StatusCode::ACCEPTED);
    assert_eq!(bench.sandbox.repositories(), ["new/app", "team/app"]);
}

#[tokio::test]
async fn faults_are_counted_down() {
    let bench = Bench::new().await;
    let error = Trouble::Status { status: 503, code: "UNKNOWN".into(), message: "busy".into() };
    let wait = Some(Duration::from_secs(3));
    bench.sandbox.set_rules(|rules| {
        rules.faults = vec![
            Fault::once("v2:Check", error).after(1).times(2),
            Fault::once("*", Trouble::Throttle { retry_after: wait }).after(4),
        ];
    });
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(bench.call("GET", "/v2/").await.status.as_u16());
    }
    assert_eq!(statuses, [200, 503, 503, 200, 429, 200]);
    assert!(bench.sandbox.log().iter().any(|entry| entry.status == 429));
    bench.sandbox.set_rules(|rules| {
        rules.faults = vec![Fault::once("ecr:DescribeRepositories", Trouble::Throttle { retry_after: None }).times(2)];
    });
    let reply = bench.api("DescribeRepositories", json!({})).await;
    assert_eq!(reply.exception(), (400, "ThrottlingException".into(), "Rate exceeded".into()));
    assert_eq!(bench.call("HEAD", "/v2/team/app/manifests/v1").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_throttled_request_is_told_so_in_ecr_s_words() {
    let bench = Bench::new().await;
    let throttle = Trouble::Throttle { retry_after: Some(Duration::from_secs(3)) };
    bench.sandbox.set_rules(|rules| rules.faults = vec![Fault::once("ecr:UploadLayerPart", throttle)]);
    let url = bench.begin().await;
    let reply = bench.patch(&url, None, vec![1; MIB]).await;
    assert_eq!(reply.refusal(), (429, "TOOMANYREQUESTS".into(), "Rate exceeded".into()));
    assert_eq!((reply.header("retry-after"), bench.last().body_bytes), ("3", MIB as u64));
    // Nothing of it was taken.
    assert_eq!(bench.put(&url, &Digest::of(b"x"), b"x").await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_request_can_hang_or_be_hung_up_on() {
    let bench = Bench::new().await;
    bench.sandbox.set_rules(|rules| {
        rules.faults = vec![Fault::once("v2:Check", Trouble::HangUp), Fault::once("v2:Check", Trouble::Stall).after(1)];
    });
    assert!(try_send(bench.request("GET", "/v2/")).await.is_err());
    let stalled = try_send(bench.request("GET", "/v2/").timeout(Duration::from_millis(200)));
    assert!(stalled.await.unwrap_err().is_timeout());
    let log = bench.sandbox.log();
    assert!(log.iter().filter(|entry| entry.operation == "v2:Check").all(|entry| entry.status == 0));
}

#[tokio::test]
async fn it_stops_whatever_its_clients_do() {
    let bench = Bench::new().await;
    bench.sandbox.set_rules(|rules| rules.faults = vec![Fault::once("v2:Check", Trouble::Stall)]);
    let idle = std::net::TcpStream::connect(bench.sandbox.address()).unwrap();
    let stalled = tokio::spawn(try_send(bench.request("GET", "/v2/")));
    while bench.sandbox.log().iter().all(|entry| entry.operation != "v2:Check") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let address = bench.sandbox.address();
    tokio::time::timeout(Duration::from_secs(5), bench.sandbox.stop()).await.unwrap();
    assert!(stalled.await.unwrap().is_err());
    drop(idle);
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[tokio::test]
async fn the_log_says_who_asked_and_with_what() {
    let bench = Bench::new().await;
    let request = bench.request("GET", "/v2/team/app/tags/list?n=5").header("user-agent", "test/1");
    assert_eq!(send(request).await.status, StatusCode::OK);
    let expected = LogEntry {
        method: "GET".into(),
        path: "/v2/team/app/tags/list?n=5".into(),
        operation: "ecr:ListImages".into(),
        status: 200,
        user_agent: Some("test/1".into()),
        authorized: true,
        host: Some(bench.sandbox.address().to_string()),
        ..LogEntry::default()
    };
    assert_eq!(bench.last(), expected);
    assert_eq!(bench.sandbox.log()[0].operation, "ecr:GetAuthorizationToken");
}

#[test]
fn paths_are_read_from_their_end() {
    use crate::sandbox::route::Route;
    let digest = "sha256:12".to_owned();
    for (path, route) in [
        ("/v2/a/blobs/uploads/blobs/sha256:12", Route::Blob("a/blobs/uploads".into(), digest.clone())),
        ("/v2/a/blobs/blobs/uploads/7", Route::Upload("a/blobs".into(), "7".into())),
        ("/v2/a/blobs/uploads/manifests/t", Route::Manifest("a/blobs/uploads".into(), "t".into())),
        ("/v2/a/manifests/a%2Bb%zz%+1", Route::Manifest("a".into(), "a+b%zz%+1".into())),
        ("/v2/a/manifests/%ff", Route::Manifest("a".into(), "%ff".into())),
        ("/v2/a/referrers/sha256:12", Route::Referrers("a".into(), digest)),
        ("/v2/x", Route::Unknown),
        ("/v2", Route::Check),
        ("/x", Route::Unknown),
    ] {
        assert_eq!(Route::of(path), route, "{path}");
    }
}
