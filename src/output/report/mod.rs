//! The outcome as text, JSON, Markdown and variables; the timeline of a push as a page; the content of an archive.

pub(crate) mod ci;
mod collector;
pub(crate) mod inspect;
mod json;
mod lines;
mod markdown;
mod metadata;
mod planned;
mod requests;
mod summary;
mod text;
mod timeline;

pub(crate) use collector::ReportCollector;
pub(crate) use json::{RunInfo, Totals, json, rejection};
pub(crate) use lines::{ImageCounts, Run, image_line, rejection_line, summary_line};
pub(crate) use markdown::{markdown, markdown_of_images, markdown_of_rejection};
pub(crate) use metadata::{digest, metadata};
pub(crate) use planned::PlannedTotals;
pub(crate) use summary::{References, partial_success, plan, plan_entries, summary, summary_entries};
pub(crate) use text::{duration, error_text, error_texts, references};
pub(crate) use timeline::Timeline;
