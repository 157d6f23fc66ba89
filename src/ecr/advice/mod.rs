//! What ECR's errors mean, and what to do about them.
//!
//! `table` maps ECR's own words to advice: an error is one row. Rows with more to say have files of their own: `denied` for
//! missing permissions, `strict` for rejected manifests, `clock` for rejected signatures. `case` holds an error and its
//! context, `actions` the IAM actions of requests.

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
