//! Sessions of assumed roles.

use std::collections::HashMap;
use std::time::SystemTime;

use axum::http::{HeaderMap, header};

/// A role that was assumed, and the parameters of the request.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Assumed {
    /// `AssumeRole` or `AssumeRoleWithWebIdentity`.
    pub action: String,
    /// The role.
    pub role: String,
    /// The name of the session.
    pub session_name: String,
    /// The external ID, if one was sent.
    pub external_id: Option<String>,
    /// The requested duration, if any.
    pub seconds: Option<u64>,
    /// The access key that signed the request.
    pub signed_by: Option<String>,
    /// The access key of the new session.
    pub access_key: String,
    /// The host of the request.
    pub host: String,
}

/// A session of a role.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) token: String,
    pub(super) arn: String,
    pub(super) ends: SystemTime,
}

/// The sessions, by their access keys.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    pub(super) known: HashMap<String, Session>,
    pub(super) assumed: Vec<Assumed>,
}

/// Returns the access key of a signed request, from its `Authorization`.
pub(super) fn access_key(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let scope = text.split_once("Credential=")?.1;
    Some(scope.split(['/', ',']).next()?.to_owned())
}
