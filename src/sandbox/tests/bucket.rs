//! Downloads: signed URLs of another host name, and every kind of client that follows them.

use std::time::Duration;

use reqwest::Url;

use super::*;

/// Downloads as clients in Go do: they forward their credentials to the same host name, whatever its port
/// (<https://github.com/golang/go/issues/54539>).
async fn pull_like_go(bench: &Bench, url: &str) -> Reply {
    let reply = bench.call("GET", url).await;
    assert_eq!(reply.status, StatusCode::TEMPORARY_REDIRECT);
    let location = Url::parse(reply.header("location")).unwrap();
    let is_same = location.host_str() == Url::parse(url).unwrap().host_str();
    let request = bench.http.get(location);
    send(if is_same { request.header("authorization", format!("Basic {}", bench.token)) } else { request }).await
}

#[tokio::test]
async fn a_client_that_forwards_its_login_to_the_same_name_pulls() {
    let bench = Bench::new().await;
    let blob = noise(70_000);
    let path = format!("/v2/team/app/blobs/{}", bench.push(&blob).await);
    let port = bench.sandbox.address().port();
    for host in ["127.0.0.1", "localhost"] {
        let pulled = pull_like_go(&bench, &format!("http://{host}:{port}{path}")).await;
        assert_eq!((pulled.status, pulled.body.as_slice()), (StatusCode::OK, blob.as_slice()), "{host}");
    }
    assert_eq!(bench.sandbox.leaked_credentials(), 0);
}

#[tokio::test]
async fn a_signed_url_is_for_a_get_of_one_object_for_an_hour() {
    let bench = Bench::new().await;
    let (blob, other) = (noise(1000), bench.push(b"other").await);
    let digest = bench.push(&blob).await;
    let url = bench.call("GET", &format!("/v2/team/app/blobs/{digest}")).await.header("location").to_owned();
    assert!(url.starts_with(&format!("http://localhost:{}/", bench.sandbox.address().port())), "{url}");
    assert!(url.contains("&X-Amz-Expires=3600&"), "{url}");
    let denied = async |request: RequestBuilder| {
        let reply = send(request).await;
        (reply.status.as_u16(), String::from_utf8(reply.body).unwrap())
    };
    let is_denied = |(status, body): (u16, String)| status == 403 && body.contains("<Code>AccessDenied</Code>");
    let forged = url.replace(&digest.to_string(), &other.to_string());
    assert!(is_denied(denied(bench.http.get(forged)).await));
    let later = url.replace("X-Amz-Date=2", "X-Amz-Date=3");
    assert!(is_denied(denied(bench.http.get(later)).await));
    let longer = url.replace("X-Amz-Expires=3600", "X-Amz-Expires=86400");
    assert!(is_denied(denied(bench.http.get(longer)).await));
    assert!(is_denied(denied(bench.http.get(format!("{url}&X-Amz-Date=30000101T000000Z"))).await));
    assert_eq!(send(bench.http.head(&url)).await.status, StatusCode::FORBIDDEN);
    assert_eq!(send(bench.http.get(&url)).await.body, blob);
    bench.sandbox.set_rules(|rules| rules.clock_ahead = Duration::from_secs(3_500));
    assert_eq!(send(bench.http.get(&url)).await.status, StatusCode::OK);
    bench.sandbox.set_rules(|rules| rules.clock_ahead = Duration::from_secs(3_700));
    let (status, body) = denied(bench.http.get(&url)).await;
    assert!(status == 403 && body.contains("Request has expired"), "{body}");
}

#[tokio::test]
async fn a_part_of_a_blob_is_served_from_memory_and_from_a_file() {
    let dir = TempDir::new();
    for dir in [None, Some(dir.0.clone())] {
        let bench =
            Bench::start(Options { dir, create: vec!["team/app".parse().unwrap()], ..Options::default() }).await;
        let blob = noise(300_000);
        let digest = bench.push(&blob).await;
        let url = bench.call("GET", &format!("/v2/team/app/blobs/{digest}")).await.header("location").to_owned();
        for (range, start, end) in [
            ("bytes=0-9", 0, 10),
            ("bytes=70000-299999", 70_000, 300_000),
            ("bytes=299990-", 299_990, 300_000),
            ("bytes=-5", 299_995, 300_000),
        ] {
            let part = send(bench.http.get(&url).header("range", range)).await;
            assert_eq!(part.status, StatusCode::PARTIAL_CONTENT, "{range}");
            assert_eq!(part.header("content-range"), format!("bytes {start}-{}/300000", end - 1));
            assert!(part.body == blob[start..end], "{range}");
        }
        let behind = send(bench.http.get(&url).header("range", "bytes=300000-")).await;
        assert_eq!((behind.status.as_u16(), behind.header("content-range")), (416, "bytes */300000"));
        let ignored = send(bench.http.get(&url).header("range", "bytes=0-1,3-4")).await;
        assert_eq!((ignored.status.as_u16(), ignored.body.len()), (200, 300_000));
    }
}
