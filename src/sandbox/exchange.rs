//! One request: its body with the number of its bytes, its log line, and its connection,
//! which can be closed at any time.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::connect_info::Connected;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::Response;
use axum::serve::{IncomingStream, Listener};
use futures_util::StreamExt as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::answer::empty;
use super::faults::Trouble;
use super::sessions::access_key;
use crate::oci::Host;

/// A request that reached the sandbox.
///
/// ```
/// # use ecr_push::sandbox::{self, Sandbox};
/// # use ecr_push::{CancellationToken, Options, PushRequest, Pusher, Source};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ecr_push::Result<()> {
/// # let create = vec!["team/app".parse()?];
/// # let sandbox = Sandbox::start(sandbox::Options { create, ..Default::default() }).await?;
/// # let mut options = Options::default();
/// # options.registries.access = sandbox.endpoint_override().into();
/// # let pusher = Pusher::builder().options(options).start().await?;
/// # let archive = Source::Path("testdata/docker-20.10-save.tar".into());
/// # let request = PushRequest::new(archive, ["team/app:1.4".parse()?]);
/// pusher.push(request, CancellationToken::new()).await.into_result()?;
/// let operations: Vec<_> = sandbox.log().into_iter().map(|entry| entry.operation).collect();
/// assert_eq!(operations.iter().filter(|operation| *operation == "ecr:InitiateLayerUpload").count(), 4);
/// assert_eq!(operations.last().map(String::as_str), Some("ecr:PutImage"), "the tag comes last");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LogEntry {
    /// The HTTP method.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// The IAM action that the request requires: `ecr:UploadLayerPart`. Requests that need none are `v2:Check`,
    /// `v2:Token`, `v2:UploadStatus`, `v2:CancelUpload`, `v2:Unknown` and, on the bucket, `s3:GetObject`.
    pub operation: String,
    /// The status of the response; 0 if none was sent (yet), because the connection was closed or the request stalls.
    pub status: u16,
    /// The number of bytes of the body that arrived, also of cut and rejected requests.
    pub body_bytes: u64,
    /// The request's `Content-Range`.
    pub content_range: Option<String>,
    /// The request's `User-Agent`.
    pub user_agent: Option<String>,
    /// Whether the request carried an `Authorization` header.
    pub authorized: bool,
    /// The host that the request is for.
    pub host: Option<String>,
    /// The access key that signed it.
    pub access_key: Option<String>,
}

/// The maximum length of the log: a sandbox may run for weeks.
pub(super) const LOG_LIMIT: usize = 10_000;

/// The maximum length of a client's text in the log in bytes.
const TEXT_LIMIT: usize = 2 << 10;

/// The newest requests, in order of arrival.
#[derive(Debug, Default)]
pub(super) struct Log(Mutex<Newest>);

#[derive(Debug, Default)]
struct Newest {
    entries: VecDeque<LogEntry>,
    /// The number of older requests that were removed.
    forgotten: usize,
}

impl Log {
    pub(super) fn entries(&self) -> Vec<LogEntry> {
        self.lock().entries.iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Newest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the entry of a request that just arrived, and returns its number.
    pub(super) fn begin(&self, method: &Method, uri: &Uri, headers: &HeaderMap, operation: &str) -> usize {
        let text =
            |name| headers.get(name).map(|value| limited(String::from_utf8_lossy(value.as_bytes()).into_owned()));
        let entry = LogEntry {
            method: limited(method.to_string()),
            path: limited(uri.path_and_query().map_or_else(|| uri.path().to_owned(), ToString::to_string)),
            operation: limited(operation.to_owned()),
            content_range: text(header::CONTENT_RANGE),
            user_agent: text(header::USER_AGENT),
            authorized: headers.contains_key(header::AUTHORIZATION),
            host: text(header::HOST),
            access_key: access_key(headers).map(limited),
            ..LogEntry::default()
        };
        let mut log = self.lock();
        log.entries.push_back(entry);
        if log.entries.len() > LOG_LIMIT {
            log.entries.pop_front();
            log.forgotten += 1;
        }
        log.forgotten + log.entries.len() - 1
    }

    /// Changes the entry with this number, unless it was removed.
    pub(super) fn change(&self, number: usize, change: impl FnOnce(&mut LogEntry)) {
        let mut log = self.lock();
        let index = number.checked_sub(log.forgotten);
        if let Some(entry) = index.and_then(|index| log.entries.get_mut(index)) {
            change(entry);
        }
    }
}

fn limited(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_LIMIT));
    text.shrink_to_fit();
    text
}

/// The connection ended before the body did.
#[derive(Debug)]
pub(super) struct Broken;

/// A request while it is being served.
pub(super) struct Exchange {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    body: BodyDataStream,
    received: u64,
    broken: bool,
    is_cut_short: bool,
    most: Option<u64>,
    is_too_large: bool,
    trouble: Option<Trouble>,
    line: Line,
    log: Arc<Log>,
    index: usize,
    stop: CancellationToken,
}

impl Exchange {
    pub(super) fn new(
        request: axum::extract::Request,
        line: Line,
        log: &Arc<Log>,
        operation: &str,
        trouble: Option<Trouble>,
        stop: CancellationToken,
    ) -> Self {
        let (parts, body) = request.into_parts();
        let index = log.begin(&parts.method, &parts.uri, &parts.headers, operation);
        Self {
            method: parts.method,
            uri: parts.uri,
            headers: parts.headers,
            body: Body::into_data_stream(body),
            received: 0,
            broken: false,
            is_cut_short: false,
            most: None,
            is_too_large: false,
            trouble,
            line,
            log: Arc::clone(log),
            index,
            stop,
        }
    }

    /// Returns the faults of this request.
    pub(super) fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// A header's value, if it is text.
    pub(super) fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Returns the host, with a port if it has one, that the client asked. Without one it is the address of the sandbox.
    pub(super) fn host(&self, address: SocketAddr) -> String {
        self.header(header::HOST).map_or_else(|| address.to_string(), str::to_owned)
    }

    /// Returns the host of the registry, if the client states it. A client that connects to an override of the endpoint, or a
    /// proxy, states it in `X-Forwarded-Host`.
    pub(super) fn registry_host(&self) -> Option<Host> {
        let stated = self.header("x-forwarded-host").or_else(|| self.header(header::HOST))?;
        stated.parse().ok()
    }

    /// Returns the IP address at which the client reached the sandbox.
    pub(super) fn local_ip(&self) -> Option<IpAddr> {
        self.line.local
    }

    /// Returns the credentials of the request: the scheme in lower case, and the rest.
    pub(super) fn authorization(&self) -> Option<(String, &str)> {
        let (scheme, secret) = self.header(header::AUTHORIZATION)?.split_once(' ')?;
        Some((scheme.to_ascii_lowercase(), secret.trim()))
    }

    /// Returns whether the head announces a body.
    pub(super) fn announces_body(&self) -> bool {
        self.headers.contains_key(header::TRANSFER_ENCODING)
            || self.header(header::CONTENT_LENGTH).is_some_and(|length| length.trim() != "0")
    }

    /// Ends the body as soon as it has, or is announced to have, more than `most` bytes: it counts as broken then, and
    /// no more of it is read.
    pub(super) fn limit(&mut self, most: u64) {
        self.most = Some(most);
        let length = self.header(header::CONTENT_LENGTH).and_then(|length| length.trim().parse::<u64>().ok());
        self.is_too_large = length.is_some_and(|length| length > most);
    }

    /// Returns whether the body is too large.
    pub(super) fn is_too_large(&self) -> bool {
        self.is_too_large
    }

    /// Returns the next bytes of the body. `None` at its end.
    pub(super) async fn piece(&mut self) -> Option<Result<Bytes, Broken>> {
        if self.is_too_large {
            return Some(Err(Broken));
        }
        if self.broken && self.trouble != Some(Trouble::HalfClose) {
            return Some(Err(Broken));
        }
        if self.is_cut_short {
            return Some(Err(self.cut()));
        }
        let next = tokio::select! {
            next = self.body.next() => next?,
            () = self.stop.cancelled() => return Some(Err(self.cut())),
        };
        let Ok(mut bytes) = next else { return Some(Err(self.cut())) };
        if let Some(Trouble::CutAfter(limit)) = self.trouble {
            let left = usize::try_from(limit.saturating_sub(self.received)).unwrap_or(usize::MAX);
            if left == 0 && !bytes.is_empty() {
                return Some(Err(self.cut()));
            }
            // The rest came along, and there may be nothing behind it.
            self.is_cut_short = bytes.len() > left;
            bytes.truncate(left);
        }
        self.received += bytes.len() as u64;
        let received = self.received;
        self.log.change(self.index, |entry| entry.body_bytes = received);
        self.is_too_large = self.most.is_some_and(|most| received > most);
        if self.is_too_large {
            return Some(Err(Broken));
        }
        Some(Ok(bytes))
    }

    /// Returns the whole body. `None` if it is longer than `limit`.
    pub(super) async fn whole(&mut self, limit: usize) -> Result<Option<Vec<u8>>, Broken> {
        let mut whole = Vec::new();
        while let Some(piece) = self.piece().await {
            let piece = piece?;
            if whole.len() + piece.len() > limit {
                return Ok(None);
            }
            whole.extend_from_slice(&piece);
        }
        Ok(Some(whole))
    }

    /// Reads the rest of the body, so that a client that is still sending receives the error response, and so
    /// that the log is correct.
    pub(super) async fn drain(&mut self) {
        while let Some(Ok(_)) = self.piece().await {}
    }

    /// Waits until the client has closed the connection or the sandbox stops.
    pub(super) async fn stall(&mut self) {
        // This future is dropped when the client closes the connection.
        self.stop.cancelled().await;
        self.cut();
    }

    /// Closes the connection: no response is sent from now on.
    pub(super) fn cut(&mut self) -> Broken {
        self.end(Ending::Cut)
    }

    /// Closes the connection in another way.
    pub(super) fn end(&mut self, ending: Ending) -> Broken {
        self.broken = true;
        self.line.end(ending);
        Broken
    }

    /// Waits, unless the sandbox stops.
    pub(super) async fn wait(&mut self, time: Duration) {
        self.stop.run_until_cancelled(tokio::time::sleep(time)).await;
    }

    /// Closes the connection. The response is not sent.
    pub(super) fn end_response(&mut self, ending: Ending) -> Response {
        self.end(ending);
        empty(StatusCode::SERVICE_UNAVAILABLE)
    }

    /// Completes the log line. A response that is not sent counts as none.
    pub(super) fn finish(&mut self, status: u16) {
        match self.trouble {
            Some(Trouble::CutAfter(_)) => drop(self.cut()),
            Some(Trouble::CutAnswer(bytes)) if !self.broken => drop(self.end(Ending::After(bytes))),
            _ => {}
        }
        if !self.broken {
            self.log.change(self.index, |entry| entry.status = status);
        }
    }
}

/// A handle on the connection of a request.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    ending: Arc<Mutex<Ending>>,
    local: Option<IpAddr>,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Ending {
    /// When the client closes it.
    #[default]
    Open,
    /// After this many more bytes of responses.
    After(u64),
    /// At once.
    Cut,
    /// At once, with an RST.
    Reset,
    /// No more responses are sent, and everything is read.
    Half,
}

impl Line {
    fn end(&self, ending: Ending) {
        *self.ending() = ending;
    }

    fn ending(&self) -> MutexGuard<'_, Ending> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a connection as planned. Returns how many bytes it may still write; `None` if they are discarded.
    fn check(&self, stream: &mut TcpStream, cx: &mut Context<'_>) -> io::Result<Option<u64>> {
        match *self.ending() {
            Ending::Open => Ok(Some(u64::MAX)),
            Ending::After(bytes) => Ok(Some(bytes)),
            Ending::Cut => Err(io::ErrorKind::ConnectionReset.into()),
            Ending::Reset => {
                stream.set_zero_linger()?;
                Err(io::ErrorKind::ConnectionReset.into())
            }
            Ending::Half => {
                // It may be closed already.
                let _closed = Pin::new(stream).poll_shutdown(cx);
                Ok(None)
            }
        }
    }
}

impl Connected<IncomingStream<'_, Door>> for Line {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        stream.io().line.clone()
    }
}

/// A listener whose connections can be closed by the sandbox.
#[derive(Debug)]
pub(super) struct Door(pub(super) TcpListener);

impl Listener for Door {
    type Io = Socket;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Socket, SocketAddr) {
        loop {
            match self.0.accept().await {
                Ok((stream, address)) => {
                    // A failure only costs latency.
                    stream.set_nodelay(true).ok();
                    let local = stream.local_addr().ok().map(|local| local.ip());
                    return (Socket { stream, line: Line { local, ..Line::default() } }, address);
                }
                // Likely no file descriptors are left, which is temporary.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// A connection that can be closed by the sandbox.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    line: Line,
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, line } = &mut *self;
        line.check(stream, cx)?;
        Pin::new(stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Self { stream, line } = &mut *self;
        let Some(allowed) = line.check(stream, cx)? else { return Poll::Ready(Ok(buf.len())) };
        if allowed == 0 {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let some = buf.len().min(usize::try_from(allowed).unwrap_or(usize::MAX));
        let written = std::task::ready!(Pin::new(stream).poll_write(cx, &buf[..some]))?;
        if let Ending::After(left) = &mut *line.ending() {
            *left = left.saturating_sub(written as u64);
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, line } = &mut *self;
        line.check(stream, cx)?;
        Pin::new(stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_bounded() {
        let log = Log::default();
        let begin = |path: &str| log.begin(&Method::GET, &path.parse().unwrap(), &HeaderMap::new(), "v2:Check");
        let first = begin("/0");
        (1..LOG_LIMIT).for_each(|n| assert_eq!(begin("/"), n));
        let last = begin(&format!("/{}", "a".repeat(5000)));
        // The response to a request that takes longer than all others arrives after its entry was removed.
        log.change(first, |entry| entry.status = 200);
        log.change(last, |entry| entry.status = 201);
        let entries = log.entries();
        assert_eq!((entries.len(), entries[0].path.as_str(), entries[0].status), (LOG_LIMIT, "/", 0));
        assert_eq!((entries[LOG_LIMIT - 1].path.len(), entries[LOG_LIMIT - 1].status), (TEXT_LIMIT, 201));
    }
}
