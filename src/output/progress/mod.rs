//! What happens, displayed while it happens: bars on a terminal, lines in a log, or nothing.
//!
//! A push reports events to [`Progress`], which keeps the state and logs a line for most of them. The thread of
//! [`Writer`](crate::output::writer::Writer) owns the `Display`, which draws that state: `rows.rs` decides what the rows
//! say, `bars.rs` draws them with indicatif, `screen.rs` writes them.

mod bars;
mod display;
mod handle;
mod rate;
mod rows;
mod screen;
mod state;
mod status;

pub(crate) use display::{Display, SharedState};
pub(crate) use handle::Progress;
pub(crate) use screen::ask_secret;

#[cfg(test)]
mod tests;
