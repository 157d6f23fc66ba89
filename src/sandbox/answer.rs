//! Answers, of whichever face.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;

/// What a proxy answers instead of whom was asked.
pub(super) fn page(status: u16, title: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    let page = format!("<!DOCTYPE html>\n<html>\n<head><title>{title}</title></head>\n<body>No.</body>\n</html>\n");
    let mut response = reply(status, page);
    set(&mut response, "content-type", "text/html");
    response
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Response {
    reply(status, Body::empty())
}

/// An answer.
pub(super) fn reply(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response
}

/// Sets a header. A value that cannot be one is left out.
pub(super) fn set(response: &mut Response, name: &'static str, value: impl AsRef<str>) {
    if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
        response.headers_mut().insert(HeaderName::from_static(name), value);
    }
}
