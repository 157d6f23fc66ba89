//! A bad line: carries bytes between the program and a registry, and counts, cuts, slows or holds them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Runtime;

/// How a line is bad. Only what goes to the registry suffers, where nothing else is said.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    /// Nothing is wrong with it.
    Good,
    /// Every connection breaks after so many bytes.
    CutAfter(u64),
    /// It carries a step of so many bytes, waits, and carries the next.
    Slow(usize, Duration),
    /// The same, until the client has closed a connection that carried more than so many bytes.
    SlowUntilClosed(usize, Duration, u64),
    /// The connection that carries a byte after so many in all stands still from then on.
    StandStill(u64),
    /// So many connections, the first, break after so many bytes.
    CutTheFirst(u64, u64),
    /// The first connection with so many bytes has another byte there.
    Garble(u64),
    /// The first answer on a connection that carried so many bytes has another byte in it.
    GarbleAnswer(u64),
}

/// What has been carried.
#[derive(Debug, Default)]
struct Counts {
    carried: AtomicU64,
    brought: AtomicU64,
    breaks: AtomicU64,
}

/// A bad line to a registry. It is gone when it is dropped.
pub(crate) struct TcpProxy {
    address: SocketAddr,
    counts: Arc<Counts>,
    _runtime: Runtime,
}

impl TcpProxy {
    pub(crate) fn to(registry: &str, way: Way) -> Self {
        Self::late(registry, way, Duration::ZERO)
    }

    /// A line that refuses every connection for a while.
    pub(crate) fn late(registry: &str, way: Way, refuses: Duration) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let registry: SocketAddr = registry.parse().unwrap();
        let counts = Arc::<Counts>::default();
        let socket = runtime.block_on(async {
            let socket = TcpSocket::new_v4().unwrap();
            // Little is under way, so that what was sent is nearly what was carried.
            socket.set_recv_buffer_size(32 << 10).unwrap();
            socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
            socket
        });
        let address = socket.local_addr().unwrap();
        let listen = async move {
            // Bound and not listening, it refuses, and no other process gets the port.
            tokio::time::sleep(refuses).await;
            socket.listen(64).unwrap()
        };
        let shared = Arc::clone(&counts);
        // At once, if nothing else is asked for.
        let listener = if refuses.is_zero() { Ok(runtime.block_on(listen)) } else { Err(listen) };
        runtime.spawn(async move {
            let listener = match listener {
                Ok(listener) => listener,
                Err(later) => later.await,
            };
            while let Ok((client, _)) = listener.accept().await {
                let counts = Arc::clone(&shared);
                tokio::spawn(async move {
                    // If nothing listens there, the client finds its connection closed.
                    let Ok(server) = TcpStream::connect(registry).await else { return };
                    let ((from_client, to_client), (from_server, to_server)) =
                        (client.into_split(), server.into_split());
                    // Of this connection: a client may make another, and not look at what it brings.
                    let went = AtomicU64::new(0);
                    let back = if let Way::GarbleAnswer(_) = way { way } else { Way::Good };
                    let there = if let Way::GarbleAnswer(_) = way { Way::Good } else { way };
                    // Whichever ends first takes the other with it, and the connections too.
                    tokio::select! {
                        () = carry(from_client, to_server, there, &counts, [&counts.carried, &went]) => {}
                        () = carry(from_server, to_client, back, &counts, [&counts.brought, &went]) => {}
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

    /// How many connections were cut, stood still or were garbled.
    pub(crate) fn breaks(&self) -> u64 {
        self.counts.breaks.load(Ordering::SeqCst)
    }
}

/// Carries what one side sends, as well as the line can.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    way: Way,
    counts: &Counts,
    [carried, went]: [&AtomicU64; 2],
) {
    let mut bytes =
        vec![0; if let Way::Slow(step, _) | Way::SlowUntilClosed(step, ..) = way { step } else { 32 << 10 }];
    let mut here = 0;
    loop {
        let limit = match way {
            Way::CutAfter(limit) => limit,
            Way::CutTheFirst(most, limit) if counts.breaks.load(Ordering::SeqCst) < most => limit,
            _ => u64::MAX,
        };
        let room = limit.saturating_sub(here).max(1);
        let room = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        let Ok(read @ 1..) = from.read(&mut bytes[..room]).await else {
            if matches!(way, Way::SlowUntilClosed(_, _, least) if here > least) {
                counts.breaks.fetch_add(1, Ordering::SeqCst);
            }
            return;
        };
        let garbled = match way {
            Way::Garble(at) if (here..here + read as u64).contains(&at) => usize::try_from(at - here).ok(),
            Way::GarbleAnswer(at) if went.load(Ordering::SeqCst) >= at => Some(read / 2),
            _ => None,
        };
        if let Some(byte) = garbled.filter(|_| counts.breaks.swap(1, Ordering::SeqCst) == 0) {
            bytes[byte] ^= 0x55;
        }
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
        here += read as u64;
        carried.fetch_add(read as u64, Ordering::SeqCst);
        went.fetch_add(read as u64, Ordering::SeqCst);
        match way {
            Way::CutAfter(_) | Way::CutTheFirst(..) if here == limit => {
                counts.breaks.fetch_add(1, Ordering::SeqCst);
                return;
            }
            Way::Slow(_, pause) => tokio::time::sleep(pause).await,
            Way::SlowUntilClosed(_, pause, _) if counts.breaks.load(Ordering::SeqCst) == 0 => {
                tokio::time::sleep(pause).await;
            }
            Way::StandStill(limit)
                if carried.load(Ordering::SeqCst) >= limit && counts.breaks.swap(1, Ordering::SeqCst) == 0 =>
            {
                std::future::pending::<()>().await;
            }
            _ => {}
        }
    }
}
