//! Everything that people and pipelines read: progress, the log, the report, the summaries of CI systems.

pub(crate) mod log;
pub(crate) mod progress;
pub(crate) mod report;
pub(crate) mod stderr;
pub(crate) mod writer;
