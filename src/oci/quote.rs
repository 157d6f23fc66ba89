//! User input in messages.

use std::borrow::Cow;

/// Shortens user input to 80 characters for a message, without the credentials that may precede a host.
pub(super) fn shorten(text: &str) -> String {
    let text = strip_credentials(text);
    if text.chars().count() <= 80 { text.into() } else { text.chars().take(77).chain("...".chars()).collect() }
}

/// Replaces the credentials before a host by `***`: `https://***@host/app`. Keeps a digest after an `@`.
pub(crate) fn strip_credentials(text: &str) -> Cow<'_, str> {
    let is_digest = |end: &str| end.starts_with("sha256:") || end.starts_with("sha512:");
    let (before, digest) = match text.rsplit_once('@') {
        Some((before, end)) if is_digest(end) => (before, &text[before.len()..]),
        _ => (text, ""),
    };
    let Some((login, rest)) = before.rsplit_once('@') else { return Cow::Borrowed(text) };
    let scheme = login.split_once("://").map(|(scheme, _)| scheme);
    let scheme = scheme.filter(|scheme| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    Cow::Owned(format!("{}***@{rest}{digest}", scheme.map(|scheme| format!("{scheme}://")).unwrap_or_default()))
}
