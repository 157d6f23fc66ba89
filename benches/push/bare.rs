//! A client that sends the requests of a run and does nothing else: it knows every blob and every answer before.
//!
//! The number of requests of each operation is that of a report. Uploads of an image are sent eight at a time, and four images
//! at a time.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::StreamExt as _;
use futures_util::stream;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use crate::bundles::{TINY_LAYERS, tiny_config, tiny_layers};
use crate::input::sha256;
use crate::many::repository;
use crate::measure::{Measured, measure};
use crate::sink::Sink;

const IMAGES_AT_ONCE: usize = 4;
const UPLOADS_AT_ONCE: usize = 8;

/// Measures it, and returns the number of its requests, too.
pub(crate) fn run(sink: &Sink, images: usize, operations: &Value, work: &Path) -> Result<(Measured, u64), String> {
    let count = work.join("bare");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("--bare").arg(sink.address()).arg(sink.login().unwrap_or_default());
    command.arg(images.to_string()).arg(operations.to_string()).arg(&count);
    let measured = measure(&command, None, work)?;
    Ok((measured, std::fs::read_to_string(count).unwrap().parse().unwrap()))
}

/// Runs the measured process: `ADDRESS LOGIN IMAGES OPERATIONS OUTPUT`.
pub(crate) fn child(arguments: &[String]) {
    let [address, login, images, operations, output] = arguments else { panic!("{arguments:?}") };
    let images: usize = images.parse().unwrap();
    let operations: Vec<Value> = serde_json::from_str(operations).unwrap();
    let count = |it: &Value| (it["operation"].as_str().unwrap().to_owned(), it["requests"].as_u64().unwrap());
    let layers = tiny_layers();
    let bare = Bare {
        client: Client::builder().no_proxy().build().unwrap(),
        url: format!("http://{address}"),
        login: format!("Basic {}", BASE64_STANDARD.encode(login)),
        images: images as u64,
        counts: operations.iter().map(count).collect(),
        digests: layers.iter().map(|layer| sha256(layer)).collect(),
        layers,
        sent: AtomicU64::new(0),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // The others may mount its layers.
        bare.push(0).await;
        stream::iter(1..images).for_each_concurrent(IMAGES_AT_ONCE, |image| bare.push(image)).await;
    });
    std::fs::write(output, bare.sent.load(Ordering::Relaxed).to_string()).unwrap();
}

struct Bare {
    client: Client,
    url: String,
    login: String,
    images: u64,
    /// The requests of the run, by operation.
    counts: HashMap<String, u64>,
    layers: Vec<Vec<u8>>,
    digests: Vec<String>,
    sent: AtomicU64,
}

impl Bare {
    /// Returns how many requests of an operation are sent for an image.
    fn share(&self, operation: &str, image: usize) -> u64 {
        let all = self.counts.get(operation).copied().unwrap_or_default();
        let before = |image: u64| all * image / self.images;
        before(image as u64 + 1) - before(image as u64)
    }

    /// Returns whether layers are mounted from the first image: then most uploads that start do not finish.
    fn is_mounting(&self) -> bool {
        self.counts.get("finish_upload").copied().unwrap_or_default() < self.images * TINY_LAYERS as u64 / 2
    }

    async fn push(&self, image: usize) {
        let name = &repository(image);
        let config = tiny_config(image, &self.digests);
        for _ in 0..self.share("get_manifest", image) {
            self.registry(Method::GET, &format!("/v2/{name}/manifests/1"), None, &[StatusCode::NOT_FOUND]).await;
        }
        for operation in ["CreateRepository", "DescribeRepositories", "BatchCheckLayerAvailability"] {
            for _ in 0..self.share(&format!("ecr:{operation}"), image) {
                let body = json!({"repositoryName": name, "repositoryNames": [name], "layerDigests": self.digests});
                self.api(operation, &body).await;
            }
        }
        let own = [(&config, sha256(&config))];
        let shared = self.layers.iter().zip(self.digests.iter().cloned());
        let blobs = shared.map(|(bytes, digest)| (bytes, digest, self.is_mounting() && image > 0));
        let blobs = blobs.chain(own.iter().map(|(bytes, digest)| (*bytes, digest.clone(), false)));
        stream::iter(blobs)
            .for_each_concurrent(UPLOADS_AT_ONCE, |(bytes, digest, is_mounted)| async move {
                let uploads = format!("/v2/{name}/blobs/uploads/");
                if is_mounted {
                    let from = repository(0);
                    let mount = format!("{uploads}?mount={digest}&from={from}");
                    self.registry(Method::POST, &mount, None, &[StatusCode::CREATED]).await;
                    return;
                }
                let place = self.registry(Method::POST, &uploads, None, &[StatusCode::ACCEPTED]).await;
                let joint = if place.contains('?') { '&' } else { '?' };
                let close = format!("{place}{joint}digest={digest}");
                self.registry(Method::PUT, &close, Some((bytes, "application/octet-stream")), &[StatusCode::CREATED])
                    .await;
            })
            .await;
        let manifest_type = "application/vnd.docker.distribution.manifest.v2+json";
        let layer = |(bytes, digest): (&Vec<u8>, &String)| {
            let media_type = "application/vnd.docker.image.rootfs.diff.tar.gzip";
            json!({"mediaType": media_type, "size": bytes.len(), "digest": digest})
        };
        let manifest = json!({"schemaVersion": 2, "mediaType": manifest_type,
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "size": config.len(), "digest": own[0].1},
            "layers": self.layers.iter().zip(&self.digests).map(layer).collect::<Vec<_>>()});
        let body = manifest.to_string().into_bytes();
        let put = format!("/v2/{name}/manifests/1");
        self.registry(Method::PUT, &put, Some((&body, manifest_type)), &[StatusCode::CREATED]).await;
    }

    /// Sends a request to the registry, and returns the `Location` of its answer.
    async fn registry(
        &self,
        method: Method,
        path: &str,
        body: Option<(&[u8], &str)>,
        expected: &[StatusCode],
    ) -> String {
        let url = if path.starts_with('/') { format!("{}{path}", self.url) } else { path.to_owned() };
        let mut request = self.client.request(method, &url).header("authorization", &self.login);
        request = match body {
            Some((bytes, media_type)) => request.header("content-type", media_type).body(bytes.to_vec()),
            None => request.header("content-length", "0"),
        };
        let response = request.send().await.unwrap();
        self.sent.fetch_add(1, Ordering::Relaxed);
        let (status, place) = (response.status(), response.headers().get("location").cloned());
        let text = response.bytes().await.unwrap();
        assert!(expected.contains(&status), "{url}: {status} {}", String::from_utf8_lossy(&text));
        place.map(|place| place.to_str().unwrap().to_owned()).unwrap_or_default()
    }

    /// Sends a request to the API.
    async fn api(&self, operation: &str, body: &Value) {
        let request = self.client.post(&self.url).header("content-type", "application/x-amz-json-1.1");
        let request = request
            .header("x-amz-target", format!("AmazonEC2ContainerRegistry_V20150921.{operation}"))
            .header("authorization", "AWS4-HMAC-SHA256 Credential=x, SignedHeaders=host, Signature=y");
        let response = request.body(body.to_string()).send().await.unwrap();
        self.sent.fetch_add(1, Ordering::Relaxed);
        let status = response.status();
        let text = response.bytes().await.unwrap();
        assert!(status.is_success(), "{operation}: {status} {}", String::from_utf8_lossy(&text));
    }
}
