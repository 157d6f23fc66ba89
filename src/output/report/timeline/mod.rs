//! The timeline of a push as one page: a lane a layer, with what it waited for and every request. It shows why a push took as
//! long as it did: the drive, the compression, the network, or a registry that throttles.
//!
//! `recorder.rs` records events while the push runs, `page.rs` writes the page at the end.

mod drawing;
mod page;
mod recorder;
mod recording;
mod requests;
mod shares;

pub(crate) use recorder::Timeline;
