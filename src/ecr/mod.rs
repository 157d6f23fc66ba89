//! Amazon ECR's own API: who we are, which repositories there are, which layers they hold.
//!
//! No byte of a layer passes through here; that is `registry`'s work, which knows nothing of AWS.

mod advice;
mod api;
mod credentials;
mod public;

pub use advice::{Place, advise};
pub use api::{Availability, Ecr, Token};
pub use credentials::Access;
pub use public::EcrPublic;
