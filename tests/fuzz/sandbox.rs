//! Garbage for both faces of the sandbox: whatever comes in, it answers the next request, and writes nothing outside its folder.
//!
//! `ECR_PUSH_CASES=200000` sends more.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ecr_push::sandbox::{Options, Sandbox};

use super::dice::Dice;

const METHODS: [&str; 9] = ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "BREW", "G\u{e4}T"];
const PATHS: [&str; 22] = [
    "/", "/v2/", "/v2", "/v2/team/app", "/v2/../..", "/v2/%2e%2e/%2e%2e/etc", "/blobs/uploads/", "/blobs/",
    "/manifests/", "/tags/list", "/referrers/", "/_catalog", "/token/", "/latest/api/token", "/oidc/azure",
    "/credentials", "/layer-bucket/", "/../", "//", "/%00", "/%2f", "/\u{1f600}",
];
const PIECES: [&str; 17] = [
    "team/app",
    "v1",
    "sha256:",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "a/blobs",
    "index.json",
    "..",
    "%2e%2e%2f",
    "%ff",
    "?",
    "&",
    "n=0",
    "digest=sha256:",
    "mount=",
    "from=../..",
    "last=",
    "_state=",
];
const HEADERS: [&str; 12] = [
    "Host: 999999999999.dkr.ecr.eu-west-1.amazonaws.com",
    "X-Ecr-Push-Registry: public.ecr.aws",
    "Content-Range: 0-9",
    "Content-Range: 18446744073709551615-0",
    "Range: bytes=-",
    "Range: bytes=9-18446744073709551615",
    "Content-Type: application/vnd.oci.image.manifest.v1+json",
    "Content-Type: application/x-www-form-urlencoded",
    "Transfer-Encoding: chunked",
    "Authorization: AWS4-HMAC-SHA256 Credential=123456789012/a/../../x/ecr/aws4_request",
    "Authorization: AWS4-HMAC-SHA256 Credential=a/20261130/eu-west-1/ecr/aws4_request",
    "Authorization: Basic !",
];
const OPERATIONS: [&str; 10] = [
    "CreateRepository", "DescribeRepositories", "DescribeImages", "BatchGetImage", "BatchCheckLayerAvailability",
    "InitiateLayerUpload", "GetAuthorizationToken", "PutImage", "ListTagsForResource", "\u{fffd}",
];
const JSON: [&str; 12] = [
    "{}",
    "[]",
    "null",
    "{\"repositoryName\": \"team/app\"}",
    "{\"repositoryName\": \"../x\"}",
    "{\"registryId\": \"../../../../x\"}",
    "{\"repositoryName\": \"team/app\", \"imageIds\": [{\"imageTag\": \"v1\"}]}",
    "{\"maxResults\": 99999999999999999999}",
    "{\"repositoryName\": [[[[[[[[",
    "{\"schemaVersion\": 2, \"config\": {\"digest\": \"\", \"size\": -1}}",
    "{\"nextToken\": \"page-18446744073709551615\"}",
    "{\"repositoryName\": \"team/app\", \"layerDigests\": [\"sha256:0\"]}",
];

/// One request, often well-formed, and whether its body is there.
fn request(dice: &mut Dice, address: SocketAddr, token: &str) -> (Vec<u8>, bool) {
    let mut path = dice.of(&PATHS).to_owned();
    for _ in 0..dice.roll(5) {
        path += if dice.one_in(2) { dice.of(&PIECES) } else { dice.of(&PATHS) };
    }
    if dice.one_in(50) {
        path += &"a/".repeat(dice.roll(20_000));
    }
    let mut body = dice.of(&JSON).as_bytes().to_vec();
    let mut head = format!("{} {path} HTTP/1.1\r\nConnection: close\r\n", dice.of(&METHODS));
    if !dice.one_in(4) {
        head += &format!("Host: {address}\r\n");
    }
    if dice.one_in(2) {
        head += &format!("Authorization: Basic {token}\r\n");
    }
    if dice.one_in(3) {
        head += &format!("X-Amz-Target: AmazonEC2ContainerRegistry_V20150921.{}\r\n", dice.of(&OPERATIONS));
    }
    let mut is_whole = true;
    for _ in 0..dice.roll(4) {
        let header = dice.of(&HEADERS);
        is_whole &= !header.ends_with("chunked");
        head += &format!("{header}\r\n");
    }
    if dice.one_in(3) {
        dice.damage(&mut body);
    }
    let length = if dice.one_in(8) { dice.roll(100) } else { body.len() };
    is_whole &= length <= body.len();
    head += &format!("Content-Length: {length}\r\n");
    let mut bytes = format!("{head}\r\n").into_bytes();
    bytes.append(&mut body);
    if dice.one_in(8) {
        dice.damage(&mut bytes);
        is_whole = false;
    }
    (bytes, is_whole)
}

/// Sends bytes, and reads what comes back. What is not whole ends with the connection.
fn send(address: SocketAddr, (bytes, is_whole): &(Vec<u8>, bool)) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // It may have hung up already.
    stream.write_all(bytes).ok();
    if !is_whole {
        stream.shutdown(Shutdown::Write).ok();
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    answer
}

/// Everything in a folder, as paths from it.
fn listed(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn garbage_never_ends_the_sandbox() {
    let cases = super::number("ECR_PUSH_CASES").unwrap_or(3_000);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let scratch = super::scratch();
    let dir = scratch.path().join("images");
    let create = vec!["team/app".parse().unwrap()];
    let options = Options { dir: Some(dir), create, ..Options::default() };
    let sandbox = runtime.block_on(Sandbox::start(options)).unwrap();
    // A task that panics closes its connection and nothing else.
    let panics = Arc::new(AtomicUsize::new(0));
    let (counted, before) = (Arc::clone(&panics), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |panic| {
        counted.fetch_add(1, Ordering::SeqCst);
        before(panic);
    }));
    let token = BASE64_STANDARD.encode(format!("AWS:{}", sandbox.token()));
    let address = sandbox.address();
    for seed in 0..cases {
        let mut dice = Dice::of_seed(seed);
        let sent = request(&mut dice, address, &token);
        let answer = send(address, &sent);
        let (text, seen) = (String::from_utf8_lossy(&sent.0), panics.load(Ordering::SeqCst));
        assert_eq!(seen, 0, "case {seed}: {text}");
        assert!(!sent.1 || answer.starts_with(b"HTTP/1.1 "), "case {seed} has no answer: {text}");
        if seed % 100 == 0 {
            let check = format!(
                "GET /v2/ HTTP/1.1\r\nHost: {address}\r\nAuthorization: Basic {token}\r\nConnection: close\r\n\r\n"
            );
            let answer = send(address, &(check.into_bytes(), true));
            assert!(answer.starts_with(b"HTTP/1.1 200"), "after case {seed}: {}", String::from_utf8_lossy(&answer));
        }
    }
    assert_eq!(listed(scratch.path()), ["images"], "nothing is written beside the folder");
}
