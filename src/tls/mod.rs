//! TLS: which certificates are trusted beside the machine's own, and why a certificate is not.
//!
//! Both `registry` and `ecr` connect over TLS and meet the same errors, so the types of rustls are named here alone.

mod issuer;
mod problem;
mod trust;

pub(crate) use problem::TlsProblem;
pub(crate) use trust::Trust;
