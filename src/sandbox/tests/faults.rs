//! What goes wrong on purpose, as a client meets it.

use std::io;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::*;

fn once(bench: &Bench, on: &str, what: Trouble) {
    bench.sandbox.set_rules(|rules| rules.faults = vec![Fault::once(on, what)]);
}

/// Sends a request with a body by hand, and reads until there is no more. The connection itself is handed back too.
async fn by_hand(bench: &Bench, method: &str, url: &str, body: Vec<u8>) -> (Vec<u8>, io::Result<()>, TcpStream) {
    let path = url.strip_prefix(&bench.sandbox.url()).unwrap_or(url);
    let (token, length, address) = (&bench.token, body.len(), bench.sandbox.address());
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {token}\r\nContent-Length: {length}\r\n\r\n"
    );
    let talk = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        let sent = stream.write_all(&body);
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        (answer, sent.and_then(|()| read.map(drop)), stream)
    };
    tokio::task::spawn_blocking(talk).await.unwrap()
}

#[tokio::test]
async fn a_connection_ends_with_a_reset_or_with_half_of_it_open() {
    let bench = Bench::new().await;
    once(&bench, "v2:Check", Trouble::Reset);
    let (answer, ended, _) = by_hand(&bench, "GET", "/v2/", Vec::new()).await;
    assert_eq!((answer.len(), ended.unwrap_err().kind()), (0, io::ErrorKind::ConnectionReset));
    once(&bench, "v2:Check", Trouble::HangUp);
    let (answer, ended, _) = by_hand(&bench, "GET", "/v2/", Vec::new()).await;
    assert_eq!((answer.len(), ended.is_ok()), (0, true), "a clean end");

    // The body goes through to its end, and comes to nothing.
    let url = bench.begin().await;
    once(&bench, "ecr:UploadLayerPart", Trouble::HalfClose);
    let (answer, ended, open) = by_hand(&bench, "PATCH", &url, noise(MIB)).await;
    assert_eq!((answer.len(), ended.is_ok()), (0, true));
    // The client knows of the end before the sandbox has read it all.
    while bench.last().body_bytes < MIB as u64 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(bench.last().status, 0);
    drop(open);
    assert_eq!(bench.put(&url, &Digest::of(b"x"), b"x").await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn an_answer_is_cut_after_some_bytes_and_the_work_is_done() {
    let bench = Bench::new().await;
    for bytes in [0, 20] {
        once(&bench, "ecr:InitiateLayerUpload", Trouble::CutAnswer(bytes));
        let (answer, ..) = by_hand(&bench, "POST", "/v2/team/app/blobs/uploads/", Vec::new()).await;
        assert_eq!(answer, &b"HTTP/1.1 202 Accepted"[..bytes as usize]);
        assert_eq!(bench.last().status, 0);
    }
    assert_eq!(bench.sandbox.open_uploads(), 2);
}

#[tokio::test]
async fn a_body_is_cut_where_the_fault_says_even_if_it_came_in_one_piece() {
    let bench = Bench::new().await;
    let url = bench.begin().await;
    once(&bench, "ecr:CompleteLayerUpload", Trouble::CutAfter(1));
    let put = bench.request("PUT", &format!("{url}?digest={}", Digest::of(b"abc"))).body("abc");
    assert!(try_send(put).await.is_err());
    assert_eq!((bench.last().status, bench.last().body_bytes), (0, 1));
    assert_eq!(bench.put(&url, &Digest::of(b"abc"), b"abc").await.status.as_u16(), 416, "the session is spoiled");
}

#[tokio::test]
async fn an_answer_can_be_late() {
    let bench = Bench::new().await;
    once(&bench, "v2:Check", Trouble::Delay(Duration::from_millis(150)));
    let started = Instant::now();
    assert_eq!(bench.call("GET", "/v2/").await.status, StatusCode::OK);
    assert!(started.elapsed() >= Duration::from_millis(150));
}

#[tokio::test]
async fn a_sandbox_can_be_far_away() {
    let far = Duration::from_millis(100);
    let bench = Bench::with(Rules { delay: far, ..Rules::default() }).await;
    for path in ["/v2/", "/v2/team/app/tags/list", "/v2/nowhere/tags/list"] {
        let started = Instant::now();
        bench.call("GET", path).await;
        assert!(started.elapsed() >= far, "{path}");
    }
    // AWS's own API is elsewhere. The best of several: other tests may keep the machine busy.
    let mut quickest = far;
    for _ in 0..5 {
        let started = Instant::now();
        bench.api("DescribeRepositories", json!({})).await;
        quickest = quickest.min(started.elapsed());
    }
    assert!(quickest < far);
}

#[tokio::test]
async fn a_throttle_may_name_the_moment_instead_of_the_wait() {
    let bench = Bench::new().await;
    once(&bench, "*", Trouble::ThrottleUntil(Duration::from_secs(90)));
    let reply = bench.call("GET", "/v2/").await;
    assert_eq!(reply.refusal(), (429, "TOOMANYREQUESTS".into(), "Rate exceeded".into()));
    let moment = reply.header("retry-after");
    assert!(moment.ends_with(" GMT") && moment.len() == 29, "{moment}");
    once(&bench, "*", Trouble::ThrottleUntil(Duration::from_secs(90)));
    let reply = bench.api("DescribeRepositories", json!({})).await;
    assert_eq!((reply.status.as_u16(), reply.header("retry-after").len()), (400, 29));
}

#[tokio::test]
async fn a_session_can_be_forgotten_and_its_client_learns_of_it() {
    let bench = Bench::new().await;
    let (url, other) = (bench.begin().await, bench.begin().await);
    once(&bench, "ecr:UploadLayerPart", Trouble::ForgetUpload);
    for _ in 0..2 {
        assert_eq!(bench.patch(&url, None, vec![1; 10]).await.refusal().1, "BLOB_UPLOAD_UNKNOWN");
    }
    assert_eq!(bench.patch(&other, None, vec![1; 10]).await.status, StatusCode::CREATED);
    assert_eq!(bench.sandbox.open_uploads(), 1);
}

#[tokio::test]
async fn a_layer_can_vanish_before_its_manifest_comes() {
    let bench = Bench::new().await;
    let manifest = bench.image(b"layer").await;
    once(&bench, "ecr:PutImage", Trouble::LoseLayer);
    for _ in 0..2 {
        let (status, code, message) = bench.put_manifest("1", OCI_MANIFEST, &manifest).await.refusal();
        assert_eq!((status, code.as_str()), (400, "MANIFEST_BLOB_UNKNOWN"));
        assert!(message.contains(&Digest::of(b"layer").to_string()), "{message}");
    }
    assert_eq!(bench.sandbox.blob("team/app", &Digest::of(b"layer")), None);
    bench.push(b"layer").await;
    assert_eq!(bench.put_manifest("1", OCI_MANIFEST, &manifest).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_success_is_told_with_another_status_or_location() {
    let bench = Bench::new().await;
    let url = bench.begin().await;
    once(&bench, "ecr:UploadLayerPart", Trouble::TellStatus(202));
    assert_eq!(bench.patch(&url, None, vec![1; 10]).await.status, StatusCode::ACCEPTED);
    once(&bench, "ecr:UploadLayerPart", Trouble::TellStatus(202));
    assert_eq!(bench.patch(&url, Some((7, 7)), vec![1]).await.status.as_u16(), 416, "a refusal stays one");
    for location in [None, Some("http://169.254.169.254/".to_owned())] {
        once(&bench, "ecr:InitiateLayerUpload", Trouble::TellLocation(location.clone()));
        let reply = bench.call("POST", "/v2/team/app/blobs/uploads/").await;
        assert_eq!((reply.status.as_u16(), reply.header("location")), (202, location.as_deref().unwrap_or_default()));
    }
}

#[tokio::test]
async fn locations_come_in_every_form_and_lead_to_the_same_place() {
    let bench = Bench::new().await;
    let (start, host) = ("/v2/team/app/blobs/uploads/", bench.sandbox.url());
    for (form, opened, closed) in [
        (Locations::Absolute, format!("{host}{start}"), format!("{host}/v2/team/app/blobs/sha256:")),
        (Locations::Path, start.to_owned(), "/v2/team/app/blobs/sha256:".to_owned()),
        (Locations::Query, format!("{host}{start}"), format!("{host}/v2/team/app/blobs/sha256:")),
        (Locations::Relative, String::new(), "../sha256:".to_owned()),
    ] {
        bench.sandbox.set_rules(|rules| rules.locations = form);
        let location = bench.call("POST", start).await.header("location").to_owned();
        assert!(location.starts_with(&opened), "{location}");
        let base = reqwest::Url::parse(&format!("{host}{start}")).unwrap();
        let session = base.join(&location).unwrap();
        let part = bench.patch(session.as_str(), None, b"ab".to_vec()).await;
        assert_eq!(part.status, StatusCode::CREATED, "{form:?}");
        let mut session = session.join(part.header("location")).unwrap();
        if form == Locations::Query {
            let mut bare = session.clone();
            bare.set_query(None);
            assert_eq!(bench.patch(bare.as_str(), None, b"c".to_vec()).await.status, StatusCode::NOT_FOUND);
        }
        session.query_pairs_mut().append_pair("digest", &Digest::of(b"ab").to_string());
        let reply = bench.call("PUT", session.as_str()).await;
        assert_eq!(reply.status, StatusCode::CREATED, "{form:?}");
        assert!(reply.header("location").starts_with(&closed), "{form:?}");
    }
}

#[tokio::test]
async fn a_session_tells_how_much_arrived_if_the_rules_let_it() {
    let bench = Bench::new().await;
    let url = bench.begin().await;
    for _ in 0..2 {
        assert_eq!(bench.patch(&url, None, vec![1; 6 * MIB]).await.status, StatusCode::CREATED);
    }
    let at = |mib: usize| format!("0-{}", mib * MIB - 1);
    for (rule, status, range) in [
        (UploadStatus::Unknown, 404, String::new()),
        (UploadStatus::Reported, 204, at(12)),
        (UploadStatus::Stuck, 204, at(6)),
    ] {
        bench.sandbox.set_rules(|rules| rules.upload_status = rule);
        let reply = bench.call("GET", &url).await;
        assert_eq!((reply.status.as_u16(), reply.header("range")), (status, range.as_str()), "{rule:?}");
    }
    once(&bench, "ecr:UploadLayerPart", Trouble::CutAfter(3));
    assert!(try_send(bench.request("PATCH", &url).body(vec![1; 10])).await.is_err());
    assert_eq!(bench.call("GET", &url).await.status, StatusCode::NOT_FOUND, "a spoiled session tells nothing");
}

#[tokio::test]
async fn a_closing_put_that_comes_twice_is_refused_or_told_its_success_again() {
    let bench = Bench::new().await;
    for (rule, again) in [(ClosedTwice::Unknown, 404), (ClosedTwice::Created, 201)] {
        bench.sandbox.set_rules(|rules| rules.closed_twice = rule);
        let (url, digest) = (bench.begin().await, Digest::of(b"blob"));
        assert_eq!(bench.put(&url, &digest, b"blob").await.status, StatusCode::CREATED);
        assert_eq!(bench.put(&url, &digest, b"blob").await.status.as_u16(), again);
        assert_eq!(bench.put(&url, &Digest::of(b"other"), b"other").await.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn a_fault_without_a_code_has_that_of_the_api_that_is_asked() {
    let bench = Bench::new().await;
    let faults = ["503:put-manifest", "403:create-repository", "404:put-image:1:1"];
    let faults = faults.map(|fault| fault.parse().unwrap()).to_vec();
    bench.sandbox.set_rules(|rules| rules.faults = faults);
    let put = || bench.put_manifest_bytes("1", OCI_MANIFEST, b"{}".to_vec());
    let codes = [put().await.refusal(), put().await.refusal()].map(|(status, code, _)| (status, code));
    assert_eq!(codes, [(503, "UNKNOWN".to_owned()), (404, "NAME_UNKNOWN".to_owned())]);
    let (status, name, _) = bench.api("CreateRepository", json!({"repositoryName": "new"})).await.exception();
    assert_eq!((status, name.as_str()), (403, "AccessDeniedException"));
}

#[tokio::test]
async fn requests_above_ecr_s_rates_are_throttled_on_both_faces() {
    let bench = Bench::with(Rules { rates: true, ..Rules::default() }).await;
    let api = (0..60).map(|_| bench.api("PutImage", json!({"repositoryName": "team/app", "imageManifest": "{}"})));
    let api = futures_util::future::join_all(api).await;
    let throttled = |name: &str| api.iter().filter(|reply| reply.exception().1 == name).count();
    let (passed, refused) = (throttled("InvalidParameterException"), throttled("ThrottlingException"));
    assert!(passed >= 10 && refused > 0 && passed + refused == 60, "{passed} {refused}");
    let registry = (0..60).map(|_| bench.put_manifest_bytes("1", OCI_MANIFEST, b"{}".to_vec()));
    let registry = futures_util::future::join_all(registry).await;
    assert!(registry.iter().any(|reply| reply.status == StatusCode::TOO_MANY_REQUESTS));
    // Operations without a rate are not counted.
    assert_eq!(bench.call("GET", "/v2/team/app/tags/list").await.status, StatusCode::OK);
}

#[tokio::test]
async fn each_request_is_a_line_of_the_log_file() {
    let dir = TempDir::new();
    std::fs::create_dir(&dir.0).unwrap();
    let file = dir.0.join("log.jsonl");
    std::fs::write(&file, "{}\n").unwrap();
    let bench = Bench::start(Options { log: Some(file.clone()), ..Options::default() }).await;
    once(&bench, "ecr:InitiateLayerUpload", Trouble::HangUp);
    assert!(try_send(bench.request("POST", "/v2/team/app/blobs/uploads/")).await.is_err());
    assert_eq!(bench.call("GET", "/v2/team/app/tags/list").await.status, StatusCode::NOT_FOUND);
    bench.sandbox.stop().await;
    let text = std::fs::read_to_string(file).unwrap();
    let lines: Vec<Value> = text.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect();
    let lines: Vec<_> =
        lines.iter().map(|line| (line["operation"].as_str().unwrap(), line["status"].as_u64().unwrap())).collect();
    let expected = [("ecr:GetAuthorizationToken", 200), ("ecr:InitiateLayerUpload", 0), ("ecr:ListImages", 404)];
    assert_eq!(lines, expected);
    assert!(Sandbox::start(Options { log: Some("/nonexistent/log".into()), ..Options::default() }).await.is_err());
}
