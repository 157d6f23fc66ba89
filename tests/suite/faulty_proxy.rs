//! A line to a sandbox on which connections go wrong by their numbers: refused, reset, cut, half-closed, gone for a
//! while. Beside `tcp_proxy.rs`, which has a runtime of its own and one way for all connections, this one is cheap enough
//! to have a thousand of them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, sink};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// A connection that goes wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Break {
    /// Which one, counted from 0 in the order in which they are made.
    pub(crate) connection: u32,
    pub(crate) how: How,
}

/// How a connection goes wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum How {
    /// It is closed as soon as it is made.
    Close,
    /// It is reset as soon as it is made.
    Reset,
    /// It is cut after so many bytes to the registry.
    CutAfter(u64),
    /// It is cut after so many bytes from the registry.
    CutAnswer(u64),
    /// After so many bytes to the registry nothing comes back any more, and what is sent still arrives.
    Deaf(u64),
    /// After so many bytes to the registry nothing arrives any more, and what is answered still comes back.
    Mute(u64),
    /// The registry is gone for so long: this connection and all that there are end, and no others are let in.
    Gone(Duration),
}

/// A line to a sandbox. It is gone when it is dropped.
pub(crate) struct FaultyProxy {
    address: SocketAddr,
    struck: Arc<AtomicU32>,
    serving: JoinHandle<()>,
    /// Keeps the port while nothing listens on it, or another process might get it.
    _port: TcpSocket,
}

impl FaultyProxy {
    pub(crate) fn to(registry: SocketAddr, breaks: &[Break]) -> Self {
        let port = bind((Ipv4Addr::LOCALHOST, 0).into());
        let address = port.local_addr().unwrap();
        let struck = Arc::<AtomicU32>::default();
        let serving = serve(listen(address), registry, breaks.to_vec(), Arc::clone(&struck));
        Self { address, struck, serving: tokio::spawn(serving), _port: port }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections came to harm. Those that were refused while nothing listened are not among them.
    pub(crate) fn struck(&self) -> u32 {
        self.struck.load(Ordering::SeqCst)
    }
}

impl Drop for FaultyProxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A socket with that port. More than one may have it as long as one of them listens at most.
fn bind(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

fn listen(address: SocketAddr) -> TcpListener {
    bind(address).listen(64).unwrap()
}

async fn serve(mut listener: TcpListener, registry: SocketAddr, breaks: Vec<Break>, struck: Arc<AtomicU32>) {
    let address = listener.local_addr().unwrap();
    let mut carried = JoinSet::new();
    for number in 0.. {
        let Ok((client, _)) = listener.accept().await else { return };
        let how = breaks.iter().find(|it| it.connection == number).map(|it| it.how);
        match how {
            Some(How::Gone(time)) => {
                while carried.try_join_next().is_some() {}
                struck.fetch_add(1 + carried.len() as u32, Ordering::SeqCst);
                drop((client, listener));
                carried.shutdown().await;
                tokio::time::sleep(time).await;
                listener = listen(address);
            }
            Some(How::Close | How::Reset) => {
                struck.fetch_add(1, Ordering::SeqCst);
                if how == Some(How::Reset) {
                    client.set_zero_linger().unwrap();
                }
            }
            _ => drop(carried.spawn(carry(client, registry, how, Arc::clone(&struck)))),
        }
    }
}

/// Carries a connection until it ends or breaks. Whichever side ends it takes the other with it.
async fn carry(mut client: TcpStream, registry: SocketAddr, how: Option<How>, struck: Arc<AtomicU32>) {
    let Ok(mut server) = TcpStream::connect(registry).await else { return };
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) = (client.split(), server.split());
    let (there, back) = match how {
        Some(How::CutAfter(limit) | How::Deaf(limit) | How::Mute(limit)) => (limit, u64::MAX),
        Some(How::CutAnswer(limit)) => (u64::MAX, limit),
        _ => (u64::MAX, u64::MAX),
    };
    let is_over = tokio::select! {
        is_over = copy(&mut from_client, &mut to_server, there) => is_over,
        is_over = copy(&mut from_server, &mut to_client, back) => is_over,
    };
    if !is_over {
        return;
    }
    struck.fetch_add(1, Ordering::SeqCst);
    let mut nowhere = sink();
    match how {
        Some(How::Deaf(_)) => {
            to_client.shutdown().await.ok();
            tokio::select! {
                _ = copy(&mut from_client, &mut to_server, u64::MAX) => {}
                _ = copy(&mut from_server, &mut nowhere, u64::MAX) => {}
            }
        }
        Some(How::Mute(_)) => {
            to_server.shutdown().await.ok();
            tokio::select! {
                _ = copy(&mut from_client, &mut nowhere, u64::MAX) => {}
                _ = copy(&mut from_server, &mut to_client, u64::MAX) => {}
            }
        }
        _ => {}
    }
}

/// Copies up to so many bytes. `false`: it ended before.
async fn copy(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin), limit: u64) -> bool {
    let (mut bytes, mut left) = (vec![0; 64 << 10], limit);
    while left > 0 {
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let Ok(read @ 1..) = from.read(&mut bytes[..room]).await else { return false };
        if to.write_all(&bytes[..read]).await.is_err() {
            return false;
        }
        left -= read as u64;
    }
    true
}
