//! Runs a command: the only files that read the process's arguments and environment, listen for signals, print, and end the
//! process.

mod batch;
mod bundle;
#[cfg(feature = "sandbox")]
mod demo;
mod files;
mod frame;
mod inspect;
mod many;
mod password;
mod pipeline;
mod program;
mod push;
#[cfg(feature = "sandbox")]
mod sandbox;
#[cfg(feature = "sandbox")]
mod sandbox_server;
mod signals;
mod stderr;
mod tag;
mod threads;

pub use program::main;
