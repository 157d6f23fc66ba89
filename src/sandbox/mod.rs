//! A small Amazon ECR on loopback: AWS's JSON API and the registry's HTTP API on one listener, over one state for each account
//! and region.
//!
//! It is as strict as ECR and has its quirks, each with a link to a report, because clients that are tested with a more lenient
//! emulator fail on ECR. Behavior that varies is in [`Rules`]; injected faults are in their [`faults`](Rules::faults).
//!
//! A test of a client of ECR starts a sandbox of its own, injects what goes wrong, and reads what arrived:
//!
//! ```
//! use ecr_push::sandbox::{Options, Rules, Sandbox};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> ecr_push::Result<()> {
//! let rules = Rules { faults: vec!["503:get-authorization-token".parse()?], ..Default::default() };
//! let sandbox = Sandbox::start(Options { rules, create: vec!["team/app".parse()?], ..Default::default() }).await?;
//! // The client under test, with AWS_ENDPOINT_URL_ECR as its endpoint and any access key:
//! let environment = [("AWS_ENDPOINT_URL_ECR", sandbox.url()), ("AWS_REGION", "us-east-1".to_owned())];
//! # let mut options = ecr_push::Options::default();
//! # options.registries.access = sandbox.endpoint_override().into();
//! # let pusher = ecr_push::Pusher::builder().options(options).start().await?;
//! # let archive = ecr_push::Source::Path("testdata/docker-20.10-save.tar".into());
//! # let request = ecr_push::PushRequest::new(archive, ["team/app:1.4".parse()?]);
//! # pusher.push(request, ecr_push::CancellationToken::new()).await.into_result()?;
//! assert!(sandbox.image("team/app", "1.4").is_some());
//! let logins = sandbox.log().into_iter().filter(|entry| entry.operation == "ecr:GetAuthorizationToken");
//! assert_eq!(logins.map(|entry| entry.status).collect::<Vec<_>>(), [503, 200]);
//! # Ok(())
//! # }
//! ```
//!
//! - `handle.rs`: a running sandbox; `serve.rs`: an answer with its faults and delays; `server.rs`: a registry as
//!   its endpoints see it, and permissions; `registries.rs`: all of them
//! - `exchange.rs`: one request: its counted body, its connection; `log.rs`: the log of requests; `answer.rs`: responses;
//!   `traffic.rs`: the number of concurrent requests, and ECR's rates
//! - `api.rs`: AWS's API, JSON 1.1: in `api/` the service's model, the table of operations, and their handlers
//! - `identity.rs`: STS, OIDC and metadata services; `sessions.rs`: sessions of assumed roles
//! - `distribution.rs`, `blobs.rs`, `bucket.rs`: the registry's API and its downloads; `route.rs`: its paths; `manifest.rs`:
//!   which images it accepts; `refusal.rs`: its error responses; `iam.rs`: permissions; `logins.rs`: passwords and tokens;
//!   `tokens.rs`: its token service
//! - `store.rs`: the state of a registry, which both APIs share; `repository.rs`: one repository; `upload.rs`: one upload
//!   session; `folder.rs`: the state as files
//! - `rules.rs`, `faults.rs`, `findings.rs`: settings for tests; `fault_text.rs`: faults as text
//!
//! The bucket to which ECR redirects downloads has another host name. It records requests with credentials.

mod answer;
mod api;
mod blobs;
mod bucket;
mod distribution;
mod exchange;
mod fault_text;
mod faults;
mod findings;
mod folder;
mod handle;
mod iam;
mod identity;
mod log;
mod logins;
mod manifest;
mod refusal;
mod registries;
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
use self::server::Registry;

pub use self::faults::{Fault, Trouble};
pub use self::findings::ScanFindings;
pub use self::handle::{Options, Sandbox};
pub use self::iam::Policy;
pub use self::log::LogEntry;
pub use self::rules::{
    Absent, Asks, BlobMounting, ClosedTwice, CreationTemplate, ImmutableWords, Interrupted, LayerState, Locations,
    ManifestRules, Parts, Rules, TokenService, UploadStatus,
};
pub use self::sessions::Assumed;

#[cfg(test)]
mod tests;
