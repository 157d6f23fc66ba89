//! The command line: arguments and environment in, a `Command` out, which `run` runs.
//!
//! Reading the arguments opens no file and no connection.
//!
//! Each option can also be set in the environment as `ECR_PUSH_<OPTION>`: such variables are put in front of the arguments,
//! so that there is one parser, one set of rules and one set of messages.
//!
//! `parser` has the commands, `arguments` and its neighbors the options; `parse` and `push` read what they mean.
//! `error_sinks` decides where errors of the command line are reported.

mod arguments;
mod azure_connection;
mod azure_inputs;
mod azure_task;
mod batch;
mod bundle;
mod clap_errors;
mod credentials;
mod env_checks;
mod environment;
mod error_sinks;
mod files;
mod generated_docs;
mod inspect;
mod logins;
mod negative_values;
mod output;
mod parse;
mod parser;
mod pipeline;
mod policy;
mod push;
mod registries;
mod repository;
mod run;
#[cfg(feature = "sandbox")]
mod sandbox;
#[cfg(feature = "sandbox")]
mod sandbox_rules;
mod shard;
mod subcommand;
mod tag;
mod targets;
mod transports;
mod unexpanded;
mod values;

pub use credentials::access_from_env;
pub use run::main;

#[cfg(test)]
mod tests;
