//! Advice for ECR's errors.
//!
//! An error is one row of `ROWS` in `table.rs`: the code, status or message by which it is recognized, its stable
//! [`Code`](crate::error::Code), and a function that returns its kind and advice. To add one, add a row before the rows that
//! also match it; nothing else has to change.
//!
//! Longer functions are in separate files: `denied` for missing permissions, `strict` for rejected manifests, `clock` for
//! rejected signatures. `case` contains an error and its context, `actions` the IAM actions of requests.

mod actions;
mod case;
mod clock;
mod denied;
mod strict;
mod table;

pub(crate) use actions::opens_upload;
pub(crate) use case::RepositoryLocation;
pub(crate) use table::{advise, advise_on_manifest};

#[cfg(test)]
mod tests;
