//! The sandbox killed at any moment: what it acknowledged is in its folder.
//!
//! `ECR_PUSH_LONG=1` kills more often.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ecr_push::Digest;
use serde_json::{Value, json};

use super::archive_builder::noise;
use super::crash_recovery::long;
use super::harness::TestEnv;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A sandbox of the program, on a folder.
struct Server {
    child: Child,
    address: SocketAddr,
    token: String,
}

impl Server {
    fn start(env: &TestEnv, dir: &str) -> Self {
        let mut command =
            env.command(&["sandbox", "--dir", dir, "--repository", "team/app", "--listen", "127.0.0.1:0"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let line = lines.find(|line| line.contains("AWS_ENDPOINT_URL_ECR=")).expect("it starts");
        let address = line.split_once("http://").unwrap().1.parse().unwrap();
        let mut server = Self { child, address, token: String::new() };
        let headers = "X-Amz-Target: AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken\r\n\
                       Authorization: AWS4-HMAC-SHA256 Credential=a/20261130/us-east-1/ecr/aws4_request, \
                       SignedHeaders=host, Signature=b\r\nContent-Type: application/x-amz-json-1.1\r\n";
        let issued: Value = serde_json::from_slice(&server.ask("POST", "/", headers, b"{}").unwrap().2).unwrap();
        server.token = issued["authorizationData"][0]["authorizationToken"].as_str().unwrap().to_owned();
        server
    }

    /// Sends a request. `None` if the sandbox is gone before it has responded.
    fn ask(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Option<(u16, String, Vec<u8>)> {
        ask(self.address, method, path, headers, body)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Sends a request on a connection of its own, and returns status, headers and body of the whole response.
fn ask(address: SocketAddr, method: &str, path: &str, headers: &str, body: &[u8]) -> Option<(u16, String, Vec<u8>)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}");
    stream.write_all(format!("{head}Content-Length: {length}\r\n\r\n").as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1)?.parse().unwrap();
    let body = answer.split_off(end + 4);
    let stated = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map(|it| it.parse().unwrap());
    (method == "HEAD" || stated.is_none_or(|stated: usize| stated == body.len())).then_some((status, head, body))
}

/// The path in the `Location` of a response.
fn location(head: &str) -> &str {
    let url = head.lines().find_map(|line| line.strip_prefix("location: http://")).unwrap();
    &url[url.find('/').unwrap()..]
}

/// What one image consists of: no two have a byte in common.
fn image(n: u64) -> (Vec<u8>, [Vec<u8>; 2]) {
    let (config, layer) = (format!("{{\"n\":{n}}}").into_bytes(), noise(n, 30_000));
    let describe = |kind: &str, bytes: &[u8]| {
        let media_type = format!("application/vnd.oci.image.{kind}");
        json!({"mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len()})
    };
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": describe("config.v1+json", &config),
        "layers": [describe("layer.v1.tar", &layer)],
    });
    (manifest.to_string().into_bytes(), [config, layer])
}

/// Pushes an image. `None` as soon as the sandbox is gone.
fn push(address: SocketAddr, login: &str, n: u64) -> Option<()> {
    let (manifest, blobs) = image(n);
    for blob in &blobs {
        let (_, head, _) = ask(address, "POST", "/v2/team/app/blobs/uploads/", login, b"")?;
        let path = format!("{}?digest={}", location(&head), Digest::of(blob));
        assert_eq!(ask(address, "PUT", &path, login, blob)?.0, 201);
    }
    let headers = format!("{login}Content-Type: {MANIFEST}\r\n");
    assert_eq!(ask(address, "PUT", &format!("/v2/team/app/manifests/t{n}"), &headers, &manifest)?.0, 201);
    Some(())
}

/// Asserts that an image is there with every byte.
fn is_complete(server: &Server, login: &str, n: u64) {
    let (manifest, blobs) = image(n);
    let tagged = server.ask("GET", &format!("/v2/team/app/manifests/t{n}"), login, b"").unwrap();
    assert_eq!((tagged.0, tagged.2), (200, manifest), "tag t{n}");
    for blob in &blobs {
        let path = format!("/v2/team/app/blobs/{}", Digest::of(blob));
        let (status, head, _) = server.ask("GET", &path, login, b"").unwrap();
        assert_eq!(status, 307, "a blob of t{n}");
        let object = server.ask("GET", location(&head), "", b"").unwrap();
        assert!(object.0 == 200 && object.2 == *blob, "a blob of t{n}");
    }
}

/// Counts the tags, of which a page has 1,000 at most.
fn count_tags(server: &Server, login: &str) -> usize {
    let (mut count, mut last) = (0, String::new());
    loop {
        let (_, _, page) = server.ask("GET", &format!("/v2/team/app/tags/list?n=1000{last}"), login, b"").unwrap();
        let page: Value = serde_json::from_slice(&page).unwrap();
        let tags = page["tags"].as_array().map(Vec::as_slice).unwrap_or_default();
        let Some(end) = tags.last() else { return count };
        count += tags.len();
        last = format!("&last={}", end.as_str().unwrap());
    }
}

#[test]
fn a_sandbox_that_is_killed_has_every_tag_that_it_acknowledged() {
    let env = TestEnv::new();
    let dir = env.scratch("images");
    let kills = if long() { 50 } else { 3 };
    let (mut next, mut acknowledged, mut unclear) = (0, Vec::new(), 0);
    let moments = noise(u64::from(std::process::id()), kills);
    for moment in moments {
        let mut server = Server::start(&env, &dir);
        let (address, login) = (server.address, format!("Authorization: Basic {}\r\n", server.token));
        // What was acknowledged before the last kill is there.
        for n in acknowledged.iter().rev().take(20) {
            is_complete(&server, &login, *n);
        }
        let stopped = Arc::new(AtomicBool::new(false));
        let (seen, first) = (Arc::clone(&stopped), next);
        let pushing = std::thread::spawn(move || {
            let mut pushed = Vec::new();
            for n in first.. {
                match push(address, &login, n) {
                    Some(()) => pushed.push(n),
                    None => {
                        assert!(seen.load(Ordering::SeqCst), "it ends before it is killed");
                        return (n + 1, pushed);
                    }
                }
            }
            unreachable!()
        });
        std::thread::sleep(Duration::from_millis(20 + u64::from(moment)));
        stopped.store(true, Ordering::SeqCst);
        server.child.kill().unwrap();
        server.child.wait().unwrap();
        let (after, pushed) = pushing.join().unwrap();
        (next, unclear) = (after, unclear + 1);
        acknowledged.extend(pushed);
    }
    let server = Server::start(&env, &dir);
    let login = format!("Authorization: Basic {}\r\n", server.token);
    // How many there are depends on the load of the machine.
    assert!(!acknowledged.is_empty(), "no push in {kills} lives");
    acknowledged.iter().for_each(|n| is_complete(&server, &login, *n));
    let tags = count_tags(&server, &login);
    assert!((acknowledged.len()..=acknowledged.len() + unclear).contains(&tags), "{tags} tags");
    // An upload that was cut is gone, with its file.
    assert_eq!(std::fs::read_dir(format!("{dir}/.ecr-push-uploads")).unwrap().count(), 0);
}
