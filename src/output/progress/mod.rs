//! What happens, displayed while it happens: bars on a terminal, lines in a log, or nothing.
//!
//! A push reports events to [`Progress`], which keeps the state and logs a line for most of them. The thread of
//! [`Writer`](crate::output::writer::Writer) owns the `Display`, which reads that state. indicatif measures the rate, keeps
//! the rows, and draws them.

mod bars;
mod display;
mod handle;
mod state;
mod terminal;

pub(crate) use display::{Display, SharedState};
pub(crate) use handle::Progress;

#[cfg(test)]
mod tests;
