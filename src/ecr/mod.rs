//! Amazon ECR's own API: who we are, which repositories there are, which layers they hold.
//!
//! No byte of a layer passes through here; that is `registry`'s work, which knows nothing of AWS.

mod advice;
mod api;
mod credentials;
pub mod policy;

pub use advice::{Place, advise, advise_on, opens_upload};
pub use api::{Availability, Doubt, Ecr, Token};
pub use credentials::Access;
