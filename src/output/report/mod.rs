//! The outcome as text, JSON, Markdown and variables; the timeline of a push as a page; the content of an archive.

pub mod ci;
mod collector;
pub mod inspect;
mod json;
mod markdown;
mod metadata;
mod requests;
mod summary;
mod text;
mod timeline;

pub use collector::ReportCollector;
pub use json::{RunInfo, json, rejection};
pub use markdown::{markdown, markdown_of_rejection};
pub use metadata::{digest, metadata};
pub use summary::{References, partial_success, plan, plan_entries, summary, summary_entries};
pub use text::{error_text, error_texts, read_back, references};
pub use timeline::Timeline;
