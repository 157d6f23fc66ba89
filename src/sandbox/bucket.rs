//! The bucket that downloads come from: S3, by signed URLs.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Method, StatusCode, header};
use axum::response::Response;
use futures_util::stream;

use super::exchange::{Ending, Exchange};
use super::faults::{Trouble, compact};
use super::route::query_value;
use super::server::{Registry, Server};
use super::upload::Blob;
use super::{answer, blobs, reply, set};
use crate::oci::{Digest, Repository};

/// What requests to the bucket are called in the log.
pub(super) const OPERATION: &str = "s3:GetObject";
/// The path of the bucket, which no request to the registry or to AWS's API has.
pub(super) const PATH: &str = "/layer-bucket/";
/// The lifetime of a signed URL (<https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetDownloadUrlForLayer.html>).
const LIFETIME: Duration = Duration::from_secs(60 * 60);

/// The last parameter of a signed URL.
const SIGNATURE: &str = "&X-Amz-Signature=";

/// Returns a URL of a blob's bytes that needs no credentials.
///
/// Its host has another *name* than the registry's, as on AWS: clients compare names without ports, and forward their
/// credentials to the same name (<https://github.com/golang/go/issues/54539>).
pub(super) fn signed_url(registry: &Registry, exchange: &Exchange, name: &Repository, digest: &Digest) -> String {
    let (account, region, server) = (&registry.account, &registry.region, &registry.server);
    let path = format!("{PATH}{account}/{region}/{name}/{digest}");
    let host = other_name(&exchange.host(server.address), exchange.local_ip(), server.address.port());
    let (signed, lifetime) = (compact(server.now()), LIFETIME.as_secs());
    let object = format!(
        "{path}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date={signed}&X-Amz-Expires={lifetime}&X-Amz-SignedHeaders=host"
    );
    format!("http://{host}{object}{SIGNATURE}{}", server.logins.sign(&object))
}

/// Returns another name, with a port, of the host that a client asked: one that every client resolves.
fn other_name(host: &str, local: Option<IpAddr>, listening: u16) -> String {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port.parse().unwrap_or(listening)),
        // The registry's own name on AWS, which leads here by a proxy.
        _ => (host, listening),
    };
    let asked = name.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    match (asked, local) {
        (Some(ip), _) if ip.is_loopback() => format!("localhost:{port}"),
        // The same address as another text: resolvers have no name for it.
        (Some(IpAddr::V4(ip)), _) => format!("[{}]:{port}", ip.to_ipv6_mapped()),
        // Behind a published port of a container, its own address has the port on which this listens.
        (None, Some(ip)) => SocketAddr::new(ip, if ip.is_loopback() { port } else { listening }).to_string(),
        _ => format!("{name}:{port}"),
    }
}

/// Serves an object to a client that has a signed URL, unless the client also sends credentials, which are none of the
/// bucket's business.
pub(super) fn serve(server: &Arc<Server>, exchange: &mut Exchange) -> Response {
    if exchange.headers.contains_key(header::AUTHORIZATION) {
        server.leaked.fetch_add(1, Ordering::SeqCst);
        let message = "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query \
                       string parameter or the Authorization header should be specified";
        return refuse(StatusCode::BAD_REQUEST, "InvalidArgument", message);
    }
    match &exchange.trouble {
        Some(Trouble::HangUp | Trouble::Reset | Trouble::HalfClose) => return exchange.end_response(Ending::Cut),
        Some(Trouble::Status { status, code, message }) => {
            return refuse(answer::status_of(*status), code, message);
        }
        Some(Trouble::Throttle { .. }) => {
            return refuse(StatusCode::SERVICE_UNAVAILABLE, "SlowDown", "Please reduce your request rate.");
        }
        _ => {}
    }
    let (path, query) = (exchange.uri.path(), exchange.uri.query());
    let object = exchange.uri.path_and_query().map_or("", |object| object.as_str());
    let (object, signature) = object.split_once(SIGNATURE).unwrap_or_default();
    // The signature is that of a GET.
    if signature != server.logins.sign(object) || exchange.method != Method::GET {
        return refuse(StatusCode::FORBIDDEN, "AccessDenied", "Access Denied");
    }
    // Times in this format are in the order of their texts.
    if query_value(query, "X-Amz-Date").unwrap_or_default() < compact(server.now() - LIFETIME) {
        return refuse(StatusCode::FORBIDDEN, "AccessDenied", "Request has expired");
    }
    let Some(blob) = find(server, path) else {
        return refuse(StatusCode::NOT_FOUND, "NoSuchKey", "The specified key does not exist.");
    };
    let size = blob.size();
    let range = match exchange.header(header::RANGE).and_then(|range| requested(range, size)) {
        Some(Err(Unsatisfiable)) => {
            let message = "The requested range is not satisfiable";
            let mut response = refuse(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange", message);
            set(&mut response, "content-range", format!("bytes */{size}"));
            return response;
        }
        Some(Ok(range)) => Some(range),
        None => None,
    };
    let (start, length) = range.unwrap_or((0, size));
    let Ok(body) = part(blob, start, length) else {
        return refuse(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "The object cannot be read");
    };
    let mut response = reply(if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK }, body);
    if range.is_some() {
        set(&mut response, "content-range", format!("bytes {start}-{}/{size}", start + length - 1));
    }
    set(&mut response, "accept-ranges", "bytes");
    set(&mut response, "content-length", length.to_string());
    set(&mut response, "content-type", "application/octet-stream");
    response
}

/// Returns the blob of an object.
fn find(server: &Arc<Server>, path: &str) -> Option<Blob> {
    let (account, rest) = path.strip_prefix(PATH)?.split_once('/')?;
    let (region, object) = rest.split_once('/')?;
    let (name, digest) = object.rsplit_once('/')?;
    let id = server.registries.find(Some(account), Some(region));
    Some(blobs::find(&server.registry(&id).ok()?, &name.parse().ok()?, digest).ok()?.1)
}

/// The object has no such bytes.
struct Unsatisfiable;

/// Parses the `Range` of an object of this size into the first byte and the length. `None` if it is not one range, which is
/// ignored (RFC 9110, section 14.2).
fn requested(range: &str, size: u64) -> Option<Result<(u64, u64), Unsatisfiable>> {
    let (first, last) = range.trim().strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| (text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse::<u64>().ok())?;
    let (start, end) = match (first, last) {
        ("", count) => (size.saturating_sub(number(count)?), size),
        (first, "") => (number(first)?, size),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            (first, last.saturating_add(1).min(size))
        }
    };
    Some(if start < end { Ok((start, end - start)) } else { Err(Unsatisfiable) })
}

/// Returns a part of a blob's bytes.
fn part(blob: Blob, start: u64, length: u64) -> std::io::Result<Body> {
    match blob {
        Blob::Memory(pieces, _) => {
            let mut pieces: Vec<Bytes> = pieces.to_vec();
            let (mut skip, mut left) = (start, length);
            for piece in &mut pieces {
                // Both fit, since neither exceeds the length of the piece.
                let from = skip.min(piece.len() as u64);
                let to = from + left.min(piece.len() as u64 - from);
                *piece = piece.slice(from as usize..to as usize);
                (skip, left) = (skip - from, left - (to - from));
            }
            Ok(Body::from_stream(stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>))))
        }
        Blob::File(path, _) => part_of_file(File::open(path)?, start, length),
        Blob::Temporary(path, _) => part_of_file(File::open(&*path)?, start, length),
        Blob::Discarded(_) => Err(std::io::Error::other("the bytes were discarded")),
    }
}

fn part_of_file(mut file: File, start: u64, length: u64) -> std::io::Result<Body> {
    file.seek(SeekFrom::Start(start))?;
    Ok(Body::from_stream(stream::iter(pieces_of(file.take(length)))))
}

/// A file in pieces, none of which is read before it is wanted.
fn pieces_of(mut file: std::io::Take<File>) -> impl Iterator<Item = std::io::Result<Bytes>> {
    const PIECE: usize = 1 << 18;
    let mut done = false;
    std::iter::from_fn(move || {
        let mut piece = vec![0; PIECE];
        let read = if done { Ok(0) } else { file.read(&mut piece) };
        done = !matches!(read, Ok(1..));
        match read {
            Ok(0) => None,
            Ok(read) => {
                piece.truncate(read);
                Some(Ok(piece.into()))
            }
            Err(error) => Some(Err(error)),
        }
    })
}

fn refuse(status: StatusCode, code: &str, message: &str) -> Response {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    let mut response = reply(status, body);
    set(&mut response, "content-type", "application/xml");
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_name_of_a_host_is_one_that_every_client_resolves() {
        let ip = |text: &str| text.parse().ok();
        for (host, local, other) in [
            ("127.0.0.1:5050", "127.0.0.1", "localhost:5050"),
            ("[::1]:5050", "::1", "localhost:5050"),
            ("localhost:5050", "127.0.0.1", "127.0.0.1:5050"),
            ("localhost:80", "::1", "[::1]:80"),
            ("10.0.0.7:5050", "10.0.0.7", "[::ffff:10.0.0.7]:5050"),
            // A service container: its name, and a port that is published under another number.
            ("ecr:9", "172.18.0.3", "172.18.0.3:9"),
            ("localhost:6000", "172.18.0.3", "172.18.0.3:9"),
            ("1.dkr.ecr.us-east-1.amazonaws.com", "127.0.0.1", "127.0.0.1:9"),
        ] {
            assert_eq!(other_name(host, ip(local), 9), other, "{host}");
        }
    }

    #[test]
    fn a_range_is_a_part_of_the_object_or_ignored() {
        let part = |range: &str| requested(range, 10).map(|range| range.map_err(|Unsatisfiable| ()));
        for (range, found) in [
            ("bytes=0-0", Some(Ok((0, 1)))),
            ("bytes=2-5", Some(Ok((2, 4)))),
            ("bytes=5-", Some(Ok((5, 5)))),
            ("bytes=5-99999999999999999", Some(Ok((5, 5)))),
            ("bytes=-3", Some(Ok((7, 3)))),
            ("bytes=-30", Some(Ok((0, 10)))),
            ("bytes=10-", Some(Err(()))),
            ("bytes=-0", Some(Err(()))),
            ("bytes=5-4", None),
            ("bytes=0-1,3-4", None),
            ("items=0-1", None),
            ("bytes=-", None),
            ("bytes=+1-2", None),
        ] {
            assert_eq!(part(range), found, "{range}");
        }
    }
}
