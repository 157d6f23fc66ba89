//! End-to-end tests: the built program against the sandbox and against registries of other people's making.
//!
//! Every test has folders, ports and registries of its own, starts from a cleared environment and resolves no public
//! name. Expectations are read from the archives here, by other code than the program's own.
//!
//! Helpers:
//!
//! - `harness.rs` runs the program; `ecr.rs` runs it against a sandbox; `pty.rs` runs it on a pseudo-terminal
//! - `archive_builder.rs` and `layout_builder.rs` make archives; `emulated_writers.rs` makes them as other tools write them
//! - `archive_contents.rs` reads what an archive holds, `stored_image.rs` what a registry holds
//! - `engines.rs` has stand-ins for docker and podman
//! - `docker_registry.rs` runs docker-registry and skopeo
//! - `fake_aws.rs` is a proxy through which every AWS host name leads to a sandbox
//! - `tcp_proxy.rs` cuts, slows or holds connections; `faulty_proxy.rs` breaks chosen ones
//! - `file_server.rs` is the mirror from which recipes download a release
//! - `markdown.rs` parses the documentation; `docs_env.rs` runs its scripts; `ci_simulator.rs` runs its CI pipelines
//! - `fault_schedule.rs` generates schedules of faults, `schedule_archives.rs` the archives to push under them;
//!   `schedule_verdict.rs` checks the outcome; `traffic.rs` counts the bytes sent for layers
//! - `schema.rs` validates every report; `timeline_page.rs` parses the timeline page and renders it in a browser
//! - `snapshots/` compares all output of a run with a file beside it

#![cfg(feature = "sandbox")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod archive_builder;
mod archive_contents;
#[cfg(unix)]
mod ci_simulator;
mod docker_registry;
#[cfg(unix)]
mod docs_env;
mod ecr;
mod emulated_writers;
mod fake_aws;
mod fault_schedule;
mod faulty_proxy;
#[cfg(unix)]
mod file_server;
mod harness;
mod layout_builder;
mod markdown;
#[cfg(target_os = "linux")]
mod pty;
mod schedule_archives;
mod schedule_verdict;
mod schema;
mod stored_image;
mod tcp_proxy;
mod timeline_page;
mod traffic;
mod upload_strategies;

mod archive_errors;
mod archive_writers;
mod archived_images;
mod archives;
mod aws_clients;
mod aws_errors;
mod aws_logins;
#[cfg(target_os = "linux")]
mod azure_credentials;
#[cfg(target_os = "linux")]
mod azure_extension;
#[cfg(target_os = "linux")]
mod azure_task;
mod batches;
mod bundle_archives;
mod bundle_recovery;
mod bundle_results;
mod bundles;
mod chunks;
mod ci_sessions;
mod ci_systems;
mod compression;
mod confirmations;
mod counts;
mod crash_recovery;
mod credential_errors;
mod credentials;
mod digests;
mod docs;
#[cfg(unix)]
mod docs_at_scale;
#[cfg(unix)]
mod docs_commands;
mod docs_migrating;
mod docs_outputs;
#[cfg(target_os = "linux")]
mod docs_pictures;
mod docs_reference;
mod ecr_errors;
mod ecr_quirks;
mod empty_layers;
#[cfg(target_os = "linux")]
mod engines;
#[cfg(target_os = "linux")]
mod engines_installed;
mod faults;
mod gzip;
mod hangs;
mod help;
mod identities;
mod independent_targets;
mod indexes;
mod inspect;
mod inspect_incomplete;
mod inspect_json;
mod inspect_verify;
#[cfg(target_os = "linux")]
mod integrations;
mod join;
mod language;
mod large_inputs;
mod layer_cache;
mod live_check;
mod log;
mod logins;
mod long_lines;
mod malicious_archives;
mod manifest_repair;
mod memory_limits;
mod messages;
mod moto;
mod mount;
mod nested_indexes;
mod non_distributable_layers;
mod oidc_tokens;
mod outputs;
mod overwrite;
mod platforms;
mod policy;
mod profiles;
mod proxy_errors;
mod quick_start;
mod rates;
mod regions;
mod registry_errors;
mod release_artifacts;
#[cfg(target_os = "linux")]
mod release_folder;
mod remote_reuse;
mod report;
mod report_details;
mod reported_archives;
mod repositories;
mod request_log;
#[cfg(target_os = "linux")]
mod resource_limits;
mod resume;
mod retag;
mod sandbox_recovery;
mod schedules;
mod shared_layers;
mod signed_images;
#[cfg(unix)]
mod silent_pipes;
#[cfg(target_os = "linux")]
mod slurm;
mod snapshots;
mod sparse;
mod spool;
mod sso_logins;
mod streaming;
mod tags;
mod tar_variants;
mod targets;
#[cfg(target_os = "linux")]
mod terminal;
#[cfg(target_os = "linux")]
mod thread_limits;
mod timeline;
mod tls;
#[cfg(target_os = "linux")]
mod unread;
mod upgrading;
mod usage_errors;
mod verbose;
