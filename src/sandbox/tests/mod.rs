//! The sandbox, asked over real sockets.

mod api;
mod bucket;
mod conformance;
mod discard;
mod faults;
mod folder;
mod limits;
mod manifests;
mod operations;
mod parts;
mod registries;
mod server;
mod uploads;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use super::*;
use crate::oci::Digest;

const MIB: usize = 1 << 20;
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A sandbox with the repository `team/app`, and a client that is logged in.
struct Bench {
    sandbox: Sandbox,
    http: Client,
    token: String,
}

/// An answer, read to its end.
#[derive(Debug)]
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Reply {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Status, code and message of a refusal.
    fn refusal(&self) -> (u16, String, String) {
        let error = self.json()["errors"][0].clone();
        let text = |key: &str| error[key].as_str().unwrap().to_owned();
        (self.status.as_u16(), text("code"), text("message"))
    }

    /// The same for an exception of the API.
    fn exception(&self) -> (u16, String, String) {
        let body = self.json();
        assert_eq!(body["__type"].as_str().unwrap(), self.header("x-amzn-errortype"));
        let text = |key: &str| body[key].as_str().unwrap().to_owned();
        (self.status.as_u16(), text("__type"), text("message"))
    }
}

async fn send(request: RequestBuilder) -> Reply {
    try_send(request).await.unwrap()
}

async fn try_send(request: RequestBuilder) -> reqwest::Result<Reply> {
    let response = request.send().await?;
    let (status, headers) = (response.status(), response.headers().clone());
    Ok(Reply { status, headers, body: response.bytes().await?.to_vec() })
}

impl Bench {
    async fn new() -> Self {
        Self::with(Rules::default()).await
    }

    async fn with(rules: Rules) -> Self {
        Self::start(Options { rules, create: vec!["team/app".parse().unwrap()], ..Options::default() }).await
    }

    async fn start(options: Options) -> Self {
        let sandbox = Sandbox::start(options).await.unwrap();
        let http = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let mut bench = Self { sandbox, http, token: String::new() };
        bench.login().await;
        bench
    }

    async fn login(&mut self) {
        let reply = self.api("GetAuthorizationToken", json!({})).await;
        if reply.status == StatusCode::OK {
            self.token = reply.json()["authorizationData"][0]["authorizationToken"].as_str().unwrap().to_owned();
        }
    }

    /// A request to the registry; `path` may also be a whole URL.
    fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let url = if path.starts_with('/') { format!("{}{path}", self.sandbox.url()) } else { path.to_owned() };
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.http.request(method, url).header("authorization", format!("Basic {}", self.token))
    }

    async fn call(&self, method: &str, path: &str) -> Reply {
        send(self.request(method, path)).await
    }

    fn api_request(&self, operation: &str, body: Value) -> RequestBuilder {
        self.http
            .post(format!("{}/", self.sandbox.url()))
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", format!("AmazonEC2ContainerRegistry_V20150921.{operation}"))
            .header("authorization", "AWS4-HMAC-SHA256 Credential=x, SignedHeaders=host, Signature=y")
            .body(body.to_string())
    }

    async fn api(&self, operation: &str, body: Value) -> Reply {
        send(self.api_request(operation, body)).await
    }

    /// Opens an upload session and returns its URL.
    async fn begin(&self) -> String {
        let reply = self.call("POST", "/v2/team/app/blobs/uploads/").await;
        assert_eq!(reply.status, StatusCode::ACCEPTED);
        reply.header("location").to_owned()
    }

    async fn patch(&self, url: &str, range: Option<(usize, usize)>, body: Vec<u8>) -> Reply {
        let mut request = self.request("PATCH", url).body(body);
        if let Some((start, end)) = range {
            request = request.header("content-range", format!("{start}-{end}"));
        }
        send(request).await
    }

    async fn put(&self, url: &str, digest: &Digest, body: &[u8]) -> Reply {
        send(self.request("PUT", &format!("{url}?digest={digest}")).body(body.to_vec())).await
    }

    /// Uploads a blob in one PUT.
    async fn push(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let url = self.begin().await;
        assert_eq!(self.put(&url, &digest, bytes).await.status, StatusCode::CREATED);
        digest
    }

    async fn put_manifest(&self, reference: &str, media_type: &str, manifest: &Value) -> Reply {
        self.put_manifest_bytes(reference, media_type, manifest.to_string().into_bytes()).await
    }

    async fn put_manifest_bytes(&self, reference: &str, media_type: &str, bytes: Vec<u8>) -> Reply {
        let request = self.request("PUT", &format!("/v2/team/app/manifests/{reference}"));
        send(request.header("content-type", media_type).body(bytes)).await
    }

    /// Uploads a config and a layer, and returns a manifest of both.
    async fn image(&self, layer: &[u8]) -> Value {
        let config = b"{}";
        let (config_digest, layer_digest) = (self.push(config).await, self.push(layer).await);
        json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": 2},
            "layers": [{
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": layer_digest,
                "size": layer.len(),
            }],
        })
    }

    fn last(&self) -> LogEntry {
        self.sandbox.log().pop().unwrap()
    }
}

/// Bytes that are not all alike.
fn noise(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 7 + at % 251) as u8).collect()
}

/// A folder of its own, gone at the end.
struct TempDir(PathBuf);

impl TempDir {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ecr-push-sandbox-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        let path = std::env::temp_dir().join(name);
        std::fs::remove_dir_all(&path).ok();
        Self(path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}
