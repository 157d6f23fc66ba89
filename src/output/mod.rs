//! Everything that people and pipelines read: progress, the log, the report, the summaries of CI systems.

pub mod log;
pub mod progress;
pub mod report;
mod stderr;
pub mod writer;
