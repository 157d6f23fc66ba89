//! What a registry has only so much of.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use super::*;

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
    // Who goes away makes room too, as soon as the sandbox notices.
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
    let traffic = Arc::new(traffic::Traffic::default());
    let answer = traffic.enter(Some(1)).until_sent(reply(StatusCode::OK, "body"));
    assert_eq!(http_body::Body::size_hint(answer.body()).exact(), Some(4));
    assert!(!traffic.enter(Some(1)).is_served());
    drop(answer);
    assert!(traffic.enter(Some(1)).is_served());
    assert_eq!(traffic.most(), 2);
}
