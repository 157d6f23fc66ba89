//! A bad line: carries bytes between the program and a registry, and counts, cuts, slows or holds them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Runtime;

/// How a line is bad. Only what goes to the registry suffers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    /// Every connection breaks after so many bytes.
    CutAfter(u64),
    /// It carries a step of so many bytes, waits, and carries the next.
    Slow(usize, Duration),
    /// The first connection with so many bytes stands still from then on.
    StandStill(u64),
}

/// What has been carried.
#[derive(Debug, Default)]
struct Counts {
    carried: AtomicU64,
    breaks: AtomicU64,
}

/// A bad line to a registry. It is gone when it is dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    counts: Arc<Counts>,
    _runtime: Runtime,
}

impl Proxy {
    pub(crate) fn to(registry: &str, way: Way) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let registry: SocketAddr = registry.parse().unwrap();
        let counts = Arc::<Counts>::default();
        let listener = runtime.block_on(async {
            let socket = TcpSocket::new_v4().unwrap();
            // Little is under way, so that what was sent is nearly what was carried.
            socket.set_recv_buffer_size(32 << 10).unwrap();
            socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
            socket.listen(64).unwrap()
        });
        let address = listener.local_addr().unwrap();
        let shared = Arc::clone(&counts);
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let counts = Arc::clone(&shared);
                tokio::spawn(async move {
                    // If nobody listens there, the client finds its connection closed.
                    let Ok(server) = TcpStream::connect(registry).await else { return };
                    let ((from_client, mut to_client), (mut from_server, to_server)) =
                        (client.into_split(), server.into_split());
                    let answers = async { tokio::io::copy(&mut from_server, &mut to_client).await.ok() };
                    // Whichever ends first takes the other with it, and the connections too.
                    tokio::select! {
                        () = carry(from_client, to_server, way, &counts) => {}
                        _ = answers => {}
                    }
                });
            }
        });
        Self { address, counts, _runtime: runtime }
    }

    /// `127.0.0.1:PORT/NAME`
    pub(crate) fn target(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// The bytes that went to the registry.
    pub(crate) fn carried(&self) -> u64 {
        self.counts.carried.load(Ordering::SeqCst)
    }

    /// How many connections were cut or stood still.
    pub(crate) fn breaks(&self) -> u64 {
        self.counts.breaks.load(Ordering::SeqCst)
    }
}

/// Carries what the client sends, as well as the line can.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: Way, counts: &Counts) {
    let mut bytes = vec![0; if let Way::Slow(step, _) = way { step } else { 32 << 10 }];
    let mut here = 0;
    loop {
        let room = if let Way::CutAfter(limit) = way { limit - here } else { u64::MAX };
        let room = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        let Ok(read @ 1..) = from.read(&mut bytes[..room]).await else { return };
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
        here += read as u64;
        counts.carried.fetch_add(read as u64, Ordering::SeqCst);
        match way {
            Way::CutAfter(limit) if here == limit => {
                counts.breaks.fetch_add(1, Ordering::SeqCst);
                return;
            }
            Way::Slow(_, pause) => tokio::time::sleep(pause).await,
            Way::StandStill(limit) if here >= limit && counts.breaks.swap(1, Ordering::SeqCst) == 0 => {
                std::future::pending::<()>().await;
            }
            _ => {}
        }
    }
}
