//! What CI systems read: variables for later steps, annotations and groups in the log, summaries. One row of [`SYSTEMS`]
//! describes a system. Nothing is written here.

mod escape;
mod log_commands;
mod system;
mod variables;

pub(crate) use log_commands::{LogCommands, azure_summary};
pub use system::{CiSystem, SYSTEMS};
pub(crate) use system::{OutputTarget, SummaryTarget};
pub(crate) use variables::VARIABLE_SUFFIXES;
pub(crate) use variables::{OutputFormat, OutputScope, names, variables};

#[cfg(test)]
mod tests;
