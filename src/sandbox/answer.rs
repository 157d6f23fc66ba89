//! Responses of both APIs.

use std::convert::Infallible;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use futures_util::{StreamExt as _, stream};

use super::faults::Trouble;

/// Returns the status of a fault.
pub(super) fn status_of(number: u16) -> StatusCode {
    StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Returns a response of a proxy instead of the service.
pub(super) fn page(status: u16, title: &str) -> Response {
    let page = format!("<!DOCTYPE html>\n<html>\n<head><title>{title}</title></head>\n<body>No.</body>\n</html>\n");
    let mut response = reply(status_of(status), page);
    set(&mut response, "content-type", "text/html");
    response
}

/// Returns a response without a body.
pub(super) fn empty(status: StatusCode) -> Response {
    reply(status, Body::empty())
}

/// Returns a response.
pub(super) fn reply(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response
}

/// Sets a header. Omits an invalid value.
pub(super) fn set(response: &mut Response, name: &'static str, value: impl AsRef<str>) {
    if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
        response.headers_mut().insert(HeaderName::from_static(name), value);
    }
}

/// Returns a response in JSON.
pub(super) fn json(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = reply(status, body);
    set(&mut response, "content-type", "application/json; charset=utf-8");
    response
}

/// Returns a response as a fault changes it.
pub(super) async fn changed(mut response: Response, trouble: Trouble) -> Response {
    match trouble {
        Trouble::TellStatus(status) | Trouble::Unconfirmed(status) if response.status().is_success() => {
            *response.status_mut() = status_of(status);
            if matches!(trouble, Trouble::Unconfirmed(_)) {
                response.headers_mut().remove("docker-content-digest");
            }
        }
        Trouble::TellLocation(Some(location)) => set(&mut response, "location", location),
        Trouble::TellLocation(None) => drop(response.headers_mut().remove("location")),
        Trouble::StallBody => {
            let (parts, body) = response.into_parts();
            // The sandbox's own bodies are in memory.
            let bytes = to_bytes(body, usize::MAX).await.unwrap_or_default();
            let half = Ok::<_, Infallible>(bytes.slice(..bytes.len() / 2));
            let body = Body::from_stream(stream::iter([half]).chain(stream::pending()));
            response = Response::from_parts(parts, body);
            set(&mut response, "content-length", bytes.len().max(2).to_string());
        }
        Trouble::EndlessBody => {
            response.headers_mut().remove("content-length");
            let piece = Ok::<_, Infallible>(Bytes::from_static(&[b' '; 4096]));
            *response.body_mut() = Body::from_stream(stream::repeat(piece));
        }
        _ => {}
    }
    response
}
