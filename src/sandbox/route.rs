//! The paths and queries of the registry's API.

use axum::http::Method;

/// The resource at a path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Route {
    Check,
    Token,
    Catalog,
    Uploads(String),
    Upload(String, String),
    Blob(String, String),
    Manifest(String, String),
    Tags(String),
    Referrers(String, String),
    Unknown,
}

impl Route {
    /// Parses a path from its end, since a repository may be called `a/blobs/uploads`.
    pub(super) fn of(path: &str) -> Self {
        if matches!(path, "/v2" | "/v2/") {
            return Self::Check;
        }
        if matches!(path, "/token" | "/token/") {
            return Self::Token;
        }
        if path == "/v2/_catalog" {
            return Self::Catalog;
        }
        let Some(rest) = path.strip_prefix("/v2/") else { return Self::Unknown };
        let rest = decode(rest);
        if let Some(name) = rest.strip_suffix("/blobs/uploads/").or_else(|| rest.strip_suffix("/blobs/uploads")) {
            return Self::Uploads(name.to_owned());
        }
        if let Some(name) = rest.strip_suffix("/tags/list") {
            return Self::Tags(name.to_owned());
        }
        let Some((before, last)) = rest.rsplit_once('/') else { return Self::Unknown };
        let last = last.to_owned();
        if let Some(name) = before.strip_suffix("/blobs/uploads") {
            return Self::Upload(name.to_owned(), last);
        }
        match before.rsplit_once('/') {
            Some((name, "blobs")) => Self::Blob(name.to_owned(), last),
            Some((name, "manifests")) => Self::Manifest(name.to_owned(), last),
            Some((name, "referrers")) => Self::Referrers(name.to_owned(), last),
            _ => Self::Unknown,
        }
    }

    /// Returns the repository in the path.
    pub(super) fn repository(&self) -> Option<&str> {
        match self {
            Self::Check | Self::Token | Self::Catalog | Self::Unknown => None,
            Self::Uploads(name) | Self::Tags(name) => Some(name),
            Self::Upload(name, _) | Self::Blob(name, _) | Self::Manifest(name, _) | Self::Referrers(name, _) => {
                Some(name)
            }
        }
    }

    /// The IAM action that a request needs
    /// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-push-iam.html>).
    pub(super) fn operation(&self, method: &Method) -> &'static str {
        match (self, method.as_str()) {
            (Self::Check, "GET" | "HEAD") => "v2:Check",
            (Self::Token, "GET" | "POST") => "v2:Token",
            (Self::Catalog, "GET") => "ecr:DescribeRepositories",
            (Self::Uploads(_), "POST") => "ecr:InitiateLayerUpload",
            (Self::Upload(..), "PATCH") => "ecr:UploadLayerPart",
            (Self::Upload(..), "PUT") => "ecr:CompleteLayerUpload",
            (Self::Upload(..), "GET" | "HEAD") => "v2:UploadStatus",
            (Self::Upload(..), "DELETE") => "v2:CancelUpload",
            (Self::Blob(..), "HEAD") => "ecr:BatchCheckLayerAvailability",
            (Self::Blob(..), "GET") => "ecr:GetDownloadUrlForLayer",
            (Self::Manifest(..), "GET" | "HEAD") | (Self::Referrers(..), "GET") => "ecr:BatchGetImage",
            (Self::Manifest(..), "PUT") => "ecr:PutImage",
            (Self::Manifest(..), "DELETE") => "ecr:BatchDeleteImage",
            (Self::Tags(_), "GET") => "ecr:ListImages",
            _ => "v2:Unknown",
        }
    }
}

/// Returns a value from a query.
pub(super) fn query_value(query: Option<&str>, key: &str) -> Option<String> {
    let pairs = query?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.into_iter().find(|(name, _)| *name == key).map(|(_, value)| decode(value))
}

/// Returns all values of a key.
pub(super) fn query_values(query: Option<&str>, key: &str) -> Vec<String> {
    let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(name, _)| *name == key).map(|(_, value)| decode(value)).collect()
}

/// Decodes percent-encoding. Leaves invalid encoding and bytes that are not text unchanged.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = after.get(..2).filter(|code| byte == b'%' && code.iter().all(u8::is_ascii_hexdigit));
        let code = code.and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}
