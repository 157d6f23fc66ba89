//! End-to-end tests: the built program against the sandbox and against registries of other people's making.
//!
//! Every test has folders, ports and registries of its own, starts from a cleared environment and resolves no public
//! name. Expectations are read from the archives here, by other code than the program's own.
//!
//! - `bench.rs`: runs the program; `ecr.rs`: a sandbox around it; `registry.rs`: docker-registry and skopeo
//! - `source.rs`: what an archive holds; `pushed.rs`: what a registry holds; `build.rs`: archives made to measure;
//!   `written.rs`: archives in the forms of their writers; `layouts.rs`: layouts with indexes and signatures
//! - `cloud.rs`: all of AWS behind a proxy, under its own names
//! - `document.rs`: the README, taken apart; `workshop.rs`: where its scripts run; `played.rs`: CI systems, played
//! - `drawn.rs`: schedules of faults; `samples.rs`: what they push; `judged.rs`: what came of it; `traffic.rs`: what went
//!   over the wire
//! - `schema.rs`: holds every report against its schema
//! - `screen.rs`: a terminal, and what is seen on it
//! - `page.rs`: the page of a push, read and shown by a browser
//! - `whole/`: holds all that a run says and writes against a file in `snapshots/`
//! - `proxy.rs`: a bad line; `line.rs`: one where single connections go wrong

#![cfg(feature = "sandbox")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bench;
mod build;
mod cloud;
mod document;
mod drawn;
mod ecr;
mod judged;
mod layouts;
mod line;
mod page;
mod parts;
#[cfg(unix)]
mod played;
mod proxy;
mod pushed;
mod registry;
mod samples;
mod schema;
#[cfg(target_os = "linux")]
mod screen;
mod source;
mod traffic;
#[cfg(unix)]
mod workshop;
mod written;

mod archived;
mod archives;
mod chunks;
mod compression;
mod confirmations;
mod counts;
mod credentials;
mod digests;
mod empty;
mod errors_of_archives;
mod errors_of_aws;
mod errors_of_credentials;
mod errors_of_ecr;
mod errors_of_proxies;
mod errors_of_registries;
mod errors_of_usage;
mod faults;
mod foreign;
mod hangs;
mod held;
mod help;
mod hostile;
mod identities;
mod indexes;
mod inside;
mod inspect;
mod installed;
mod journal;
mod limits;
mod live;
mod log;
mod logins;
mod logins_of_amazon;
mod messages;
mod moto;
mod mount;
mod nested;
mod oddities;
mod outputs;
mod overwrite;
mod passing;
mod pipelines;
#[cfg(unix)]
mod pipes;
mod platforms;
mod policy;
mod profiles;
mod promotion;
mod quick_start;
mod readme;
mod reasons;
#[cfg(unix)]
mod recipes;
mod regions;
mod repair;
mod report;
mod reported;
mod repositories;
mod requests;
mod reuse;
mod schedules;
mod sessions;
mod sign_ins;
mod sizes;
mod sparse;
mod spool;
mod survives;
mod tags;
mod targets;
mod tars;
#[cfg(target_os = "linux")]
mod terminal;
#[cfg(target_os = "linux")]
mod threads;
mod timeline;
mod tls;
mod told;
mod verify;
mod whole;
mod writers;
