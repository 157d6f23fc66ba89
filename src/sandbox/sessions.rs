//! Sessions of assumed roles.

use std::collections::HashMap;
use std::time::SystemTime;

use axum::http::{HeaderMap, header};

/// A role that was assumed, and how it was asked for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Assumed {
    /// `AssumeRole` or `AssumeRoleWithWebIdentity`.
    pub action: String,
    /// The role.
    pub role: String,
    /// What the session is called.
    pub session_name: String,
    /// The external ID, where one was sent.
    pub external_id: Option<String>,
    /// How long, where it was said.
    pub seconds: Option<u64>,
    /// The access key that signed the request.
    pub signed_by: Option<String>,
    /// The access key of the new session.
    pub access_key: String,
    /// The host that was asked.
    pub host: String,
}

/// A session of a role.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) token: String,
    pub(super) arn: String,
    pub(super) ends: SystemTime,
}

/// The sessions by their access keys.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    pub(super) known: HashMap<String, Session>,
    pub(super) assumed: Vec<Assumed>,
}

/// The access key by which a request is signed, from its `Authorization`.
pub(super) fn access_key(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let scope = text.split_once("Credential=")?.1;
    Some(scope.split(['/', ',']).next()?.to_owned())
}
