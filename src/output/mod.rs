//! Everything that people and pipelines read: progress, the log, the report, the summaries of CI systems.
//!
//! A push reports events to a [`PushLog`](log::PushLog), which keeps the status and logs a line for most of them. The thread of
//! [`Writer`](writer::Writer) owns the `Display`, which reads that status and has indicatif draw it.

mod display;
pub(crate) mod log;
mod progress;
pub(crate) mod report;
pub(crate) mod stderr;
pub(crate) mod writer;
