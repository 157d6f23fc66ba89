//! Pushes container images from archives straight into Amazon ECR and any OCI registry, without a daemon.
//!
//! The door is [`push::push`]: a [`push::Request`] in, events on the way, a [`push::Outcome`] out.
//!
//! # The house
//!
//! One direction, no way back; `tests/house.rs` holds it. A room uses only rooms to its left:
//!
//! {`error`, `file`} ← {`exchange`, `log`, `proxy`} ← `oci` ← `layer` ← {`image`, `registry`, `ecr`} ← `reuse` ← `plan` ← {`push`,
//! `inspect`} ← {`progress`, `report`} ← `cli` ← `main`
//!
//! - [`error`]: what went wrong, for people; the kind decides the exit code
//! - [`exchange`]: one request and its answer, as whoever watches is told of it
//! - [`file`](mod@file): local files: identity, and reads and writes that end
//! - [`proxy`]: which proxy leads to a URL, and why one does not
//! - [`log`]: a line of the log, text for people or JSON for programs
//! - [`oci`]: digests, references, media types, platforms, documents: parsed once
//! - [`layer`]: bytes on their way: read by position, hashed, packed on all cores
//! - [`image`]: what is in an archive (with `layer`, the exporter)
//! - [`registry`]: the OCI distribution API (with `ecr`, the uploader)
//! - [`ecr`]: AWS's own API; no byte of a layer passes there
//! - [`reuse`]: what is known already
//! - [`plan`]: what happens to each layer, and why
//! - [`push`](mod@push): the story
//! - [`inspect`]: an archive looked at, its layers read and hashed
//! - [`progress`], [`report`]: what people and pipelines see
//! - [`cli`]: typed text in, a request out
//! - `sandbox`: an ECR on loopback; only `main` and tests use it

pub mod cli;
pub mod ecr;
pub mod error;
pub mod exchange;
pub mod file;
pub mod image;
pub mod inspect;
pub mod layer;
pub mod log;
pub mod oci;
pub mod plan;
pub mod progress;
pub mod proxy;
pub mod push;
pub mod registry;
pub mod report;
pub mod reuse;
#[cfg(feature = "sandbox")]
pub mod sandbox;
