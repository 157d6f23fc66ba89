//! What a registry has only so much of.

use std::io;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::sandbox::traffic::Traffic;

/// A PATCH of which only the head and some bytes were sent yet.
struct Unfinished(TcpStream);

impl Unfinished {
    /// Returns once the sandbox is reading it.
    async fn begin(bench: &Bench) -> Self {
        let url = bench.begin().await;
        let path = url.strip_prefix(&bench.sandbox.url()).unwrap();
        let token = &bench.token;
        let mut stream = TcpStream::connect(bench.sandbox.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let head =
            format!("PATCH {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {token}\r\nContent-Length: 10\r\n");
        stream.write_all(format!("{head}\r\n12345").as_bytes()).unwrap();
        while !bench.sandbox.log().iter().any(|entry| entry.path == path && entry.body_bytes == 5) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Self(stream)
    }

    /// Sends the rest and returns the status.
    async fn end(mut self) -> String {
        let talk = move || {
            self.0.write_all(b"67890").unwrap();
            let mut answer = [0; 12];
            self.0.read_exact(&mut answer).unwrap();
            String::from_utf8_lossy(&answer[9..]).into_owned()
        };
        tokio::task::spawn_blocking(talk).await.unwrap()
    }
}

#[tokio::test]
async fn more_requests_at_once_than_are_served_are_throttled() {
    let bench = Bench::new().await;
    assert_eq!(bench.sandbox.most_at_once_seen(), 0, "AWS's face does not count");
    let (one, two) = (Unfinished::begin(&bench).await, Unfinished::begin(&bench).await);
    assert_eq!(bench.sandbox.most_at_once_seen(), 2);
    bench.sandbox.set_rules(|rules| rules.most_at_once = Some(2));
    for _ in 0..2 {
        let reply = bench.call("GET", "/v2/").await;
        assert_eq!(reply.refusal(), (429, "TOOMANYREQUESTS".into(), "Rate exceeded".into()));
        assert_eq!((reply.header("retry-after"), reply.header("content-length").is_empty()), ("", false));
    }
    assert_eq!(bench.sandbox.most_at_once_seen(), 3);
    assert_eq!(bench.api("DescribeRepositories", json!({})).await.status, StatusCode::OK);
    assert_eq!(one.end().await, "201");
    for _ in 0..3 {
        assert_eq!(bench.call("GET", "/v2/").await.status, StatusCode::OK, "one at a time has its place");
    }
    // A client that disconnects frees memory, as soon as the sandbox notices.
    bench.sandbox.set_rules(|rules| rules.most_at_once = Some(1));
    assert_eq!(bench.call("GET", "/v2/").await.status.as_u16(), 429);
    drop(two);
    while bench.call("GET", "/v2/").await.status != StatusCode::OK {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(bench.sandbox.most_at_once_seen(), 3);
}

#[test]
fn a_request_is_there_until_its_answer_is_handed_out() {
    let traffic = Arc::new(Traffic::default());
    let answer = traffic.enter(Some(1)).until_sent(reply(StatusCode::OK, "body"));
    assert_eq!(http_body::Body::size_hint(answer.body()).exact(), Some(4));
    assert!(!traffic.enter(Some(1)).is_served());
    drop(answer);
    assert!(traffic.enter(Some(1)).is_served());
    assert_eq!(traffic.most(), 2);
}

#[tokio::test]
async fn a_full_disk_takes_nothing_more_until_there_is_room() {
    let bench = Bench::with(Rules { space: Some(3 * MIB as u64), parts: Parts::Any, ..Rules::default() }).await;
    let full = (500, "UNKNOWN".to_owned(), "no space left on device".to_owned());
    let blob = noise(2 * MIB);
    let first = bench.push(&blob).await;
    // Of the same blob there is only one in the end, but both while it comes.
    let (url, other) = (bench.begin().await, noise(MIB + 1));
    assert_eq!(bench.put(&url, &first, &blob).await.refusal(), full);
    let digest = Digest::of(&other);
    assert_eq!(bench.put(&url, &digest, &other).await.refusal(), full);
    assert_eq!(bench.last().body_bytes, MIB as u64 + 1);
    assert_eq!(bench.patch(&url, Some((0, MIB - 1)), other[..MIB].to_vec()).await.status, StatusCode::ACCEPTED);
    assert_eq!(bench.put(&url, &digest, &other[MIB..]).await.refusal(), full, "uploads take memory, too");
    assert_eq!(bench.sandbox.open_uploads(), 1);
    bench.sandbox.set_rules(|rules| rules.space = Some(3 * MIB as u64 + 1));
    assert_eq!(bench.put(&url, &digest, &other[MIB..]).await.status, StatusCode::CREATED);
    assert_eq!(bench.patch(&bench.begin().await, None, vec![1]).await.refusal(), full);

    // A dropped upload frees memory, and a blob that was there already takes none.
    bench.sandbox.set_rules(|rules| rules.space = Some(4 * MIB as u64));
    let url = bench.begin().await;
    assert_eq!(bench.patch(&url, None, noise(MIB - 1)).await.status, StatusCode::ACCEPTED);
    assert_eq!(bench.patch(&bench.begin().await, None, vec![1]).await.refusal(), full);
    assert_eq!(bench.call("DELETE", &url).await.status, StatusCode::NO_CONTENT);
    bench.push(&other[..MIB - 1]).await;
    bench.sandbox.set_rules(|rules| rules.space = Some(6 * MIB as u64));
    for _ in 0..3 {
        bench.push(&blob).await;
    }
    assert_eq!(bench.api("CreateRepository", json!({"repositoryName": "other"})).await.status, StatusCode::OK);
    let opened = bench.call("POST", "/v2/other/blobs/uploads/").await;
    assert_eq!(bench.put(opened.header("location"), &first, &blob).await.status, StatusCode::CREATED);
    // Counted twice, it would leave nothing.
    bench.push(&[7]).await;
}

#[tokio::test]
async fn a_disk_can_get_full_while_a_stream_comes() {
    let rules = Rules { space: Some(MIB as u64), interrupted: Interrupted::Resumable, ..Rules::default() };
    let bench = Bench::with(rules).await;
    let blob = noise(3 * MIB);
    let pieces: Vec<_> = blob.chunks(10_000).map(|piece| Ok::<_, io::Error>(piece.to_vec())).collect();
    let url = bench.begin().await;
    let stream = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    let reply = send(bench.request("PATCH", &url).body(stream)).await;
    assert_eq!(reply.refusal(), (500, "UNKNOWN".into(), "no space left on device".into()));
    assert_eq!(bench.last().body_bytes, 3 * MIB as u64, "a client that is still sending gets to see why");
    bench.sandbox.set_rules(|rules| rules.upload_status = UploadStatus::Reported);
    let reply = bench.call("GET", &url).await;
    let arrived = reply.header("range").strip_prefix("0-").unwrap().parse::<usize>().unwrap() + 1;
    assert!((1..=MIB).contains(&arrived), "{arrived}");
    bench.sandbox.set_rules(|rules| rules.space = None);
    let reply = bench.patch(&url, Some((arrived, 3 * MIB - 1)), blob[arrived..].to_vec()).await;
    assert_eq!(reply.status, StatusCode::CREATED);
    assert_eq!(bench.put(&url, &Digest::of(&blob), b"").await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn what_is_being_sent_takes_room_from_others() {
    let bench = Bench::with(Rules { space: Some(16), ..Rules::default() }).await;
    let (one, two) = (Unfinished::begin(&bench).await, Unfinished::begin(&bench).await);
    assert_eq!(bench.patch(&bench.begin().await, None, vec![1; 7]).await.status.as_u16(), 500);
    assert_eq!(bench.patch(&bench.begin().await, None, vec![1; 6]).await.status.as_u16(), 201);
    assert_eq!((one.end().await, two.end().await), ("500".into(), "500".into()));
}

#[tokio::test]
async fn a_large_blob_is_in_a_file_that_goes_with_it() {
    let bench = Bench::new().await;
    let blob = noise(3 * MIB);
    let digest = bench.push(&blob).await;
    let path = format!("/v2/team/app/blobs/{digest}");
    let url = bench.call("GET", &path).await.header("location").to_owned();
    assert_eq!(send(bench.http.get(&url)).await.body, blob);
    let part = send(bench.http.get(&url).header("range", "bytes=2000000-2000009")).await;
    assert_eq!(part.body, blob[2_000_000..2_000_010]);
    let file = {
        let store = bench.sandbox.server.registries.open(&bench.sandbox.server.registries.home).unwrap();
        let found = store.look(&"team/app".parse().unwrap(), |repo| repo.blobs.get(&digest).cloned()).flatten();
        let Some(upload::Blob::Temporary(file, _)) = found else { panic!("it is in memory") };
        file.to_path_buf()
    };
    assert!(file.exists());
    drop(bench);
    while file.exists() {
        tokio::task::yield_now().await;
    }
}
