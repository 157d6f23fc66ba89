//! A small Amazon ECR on loopback: AWS's JSON API and the registry's HTTP API on one listener, over one state.
//!
//! It is as strict as ECR and as odd, each oddity with a link to who met it, because a stand-in that is laxer than the
//! real thing teaches its clients to be wrong. What is known to vary is in [`Rules`]; what goes wrong on purpose is in
//! their [`faults`](Rules::faults).
//!
//! - `handle.rs`: a running sandbox; `serve.rs`: an answer with its faults and delays; `server.rs`: the shared state and permissions
//! - `exchange.rs`: one request on its way: its counted body, its log line, its connection; `answer.rs`: what answers are made of; `traffic.rs`: how many
//!   there are at once
//! - `api.rs`: AWS's face, JSON 1.1; in `api/` repositories, their policies and the templates for them
//! - `identity.rs`: STS, OIDC and metadata services; `sessions.rs`: sessions of assumed roles
//! - `distribution.rs`, `blobs.rs`: the registry's face; `route.rs`: what a path leads to; `manifest.rs`: which images it takes; `refusal.rs`: how it
//!   says no; `iam.rs`: who may do what; `tokens.rs`: its token service
//! - `store.rs`: the state that both faces share; `repository.rs`: one repository; `upload.rs`: one upload session; `folder.rs`: the state as files
//! - `rules.rs`, `faults.rs`: what tests change
//!
//! A second listener stands for the bucket that ECR sends downloads to. It records who shows it credentials.

mod answer;
mod api;
mod blobs;
mod distribution;
mod exchange;
mod faults;
mod folder;
mod handle;
mod iam;
mod identity;
mod manifest;
mod refusal;
mod repository;
mod route;
mod rules;
mod serve;
mod server;
mod sessions;
mod store;
mod tokens;
mod traffic;
mod upload;

use self::answer::{empty, reply, set};
use self::server::Server;

pub use self::exchange::LogEntry;
pub use self::faults::{Fault, Trouble};
pub use self::handle::{Options, Sandbox};
pub use self::iam::Policy;
pub use self::rules::{
    Absent, Asks, BlobMounting, ClosedTwice, CreationTemplate, ImmutableWords, Interrupted, LayerState, Locations,
    ManifestRules, Parts, Rules, TokenService, UploadStatus,
};
pub use self::sessions::Assumed;

#[cfg(test)]
mod tests;
