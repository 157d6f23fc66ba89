//! One request: its body with the number of its bytes, its log line, and its connection,
//! which can be closed at any time.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
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
use super::log::Log;
use crate::oci::Host;
use crate::sync::lock;

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
    /// Whether the body is too large.
    pub(super) is_too_large: bool,
    /// The fault of this request.
    pub(super) trouble: Option<Trouble>,
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

    /// A header's value, if it is text.
    pub(super) fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Returns the host, with a port if it has one, that the client asked. Without one it is the address of the sandbox.
    pub(super) fn host(&self, address: SocketAddr) -> String {
        self.header(header::HOST).map_or_else(|| address.to_string(), str::to_owned)
    }

    /// Returns the host of the registry, if the client states it. This program states it in a header of its own where it
    /// connects to an override of the endpoint.
    pub(super) fn registry_host(&self) -> Option<Host> {
        let stated = self.header("x-ecr-push-registry").or_else(|| self.header(header::HOST))?;
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

impl Drop for Exchange {
    /// Whatever ended the request, and be it that the client vanished.
    fn drop(&mut self) {
        self.log.end(self.index);
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
        *lock(&self.ending) = ending;
    }

    /// Ends a connection as planned. Returns how many bytes it may still write; `None` if they are discarded.
    fn check(&self, stream: &mut TcpStream, cx: &mut Context<'_>) -> io::Result<Option<u64>> {
        match *lock(&self.ending) {
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
        if let Ending::After(left) = &mut *lock(&line.ending) {
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
