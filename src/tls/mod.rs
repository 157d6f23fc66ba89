//! TLS: which certificates are trusted in addition to the machine's own, and why a certificate is rejected.
//!
//! `registry` and `ecr` both connect over TLS and handle the same errors, so only this module uses the types of rustls.

mod issuer;
mod problem;
mod trust;

pub(crate) use problem::TlsProblem;
pub(crate) use trust::Trust;
