//! Pushes container images from archives straight into Amazon ECR and any OCI registry, without a daemon.
//!
//! The entry point is [`push::push`]: it takes a [`push::Request`], reports events while it works, and returns a
//! [`push::Outcome`].
//!
//! # Architecture
//!
//! A module uses only the modules to its left; `tests/architecture.rs` holds this order.
//!
//! {`error`, `file`} ← {`request_log`, `proxy`, `tls`} ← `oci` ← `compress` ← {`archive`, `registry`, `ecr`} ← `reuse` ← `push` ←
//! `output` ← `cli` ← `main`
//!
//! - [`error`]: error kinds, exit codes, causes, and advice as data
//! - [`file`](mod@file): local files: identity, and bounded reads and writes
//! - `request_log`: the record of one request and its response
//! - `proxy`: which proxy a URL goes through, and why one is not used
//! - `tls`: trusted certificates, and why a certificate is rejected
//! - [`oci`]: digests, references, media types, platforms, documents: parsed once
//! - [`compress`]: reads, hashes and compresses layers on all cores
//! - [`archive`]: the exporter: formats, selection, streaming, inspection
//! - [`registry`]: the uploader: the OCI distribution API
//! - [`ecr`]: the uploader: AWS's own API; no byte of a layer passes through it
//! - [`reuse`]: layers that need not be uploaded: the local cache, and remote images
//! - [`push`](mod@push): what happens to each layer, and the push itself
//! - [`output`]: progress, log, report, CI systems
//! - [`cli`]: turns arguments into a request
//! - `sandbox`: an emulator of ECR on loopback; only `main` and tests use it

pub mod archive;
pub mod cli;
pub mod compress;
pub mod ecr;
pub mod error;
pub mod file;
pub mod oci;
pub mod output;
pub(crate) mod proxy;
pub mod push;
pub mod registry;
pub(crate) mod request_log;
pub mod reuse;
#[cfg(feature = "sandbox")]
pub mod sandbox;
pub(crate) mod tls;
