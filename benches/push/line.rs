//! A long line between the programs and a registry: a TCP proxy with a rate and a round trip.
//!
//! The rate is that of all connections together, in each direction. A connection takes one round trip to be made, as with
//! TCP. There is no loss and no window: what is under way is bounded by the rate alone, so that a single connection can use
//! the whole line from its first byte. Results are for comparisons between programs only.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// The bytes that are carried at once.
const FRAME: usize = 64 << 10;

/// How far the line may be occupied in advance: timers are a millisecond late or more, and the line must not idle meanwhile.
const AHEAD: Duration = Duration::from_millis(5);

/// The receive buffer of a connection: small, so that a program cannot hand over much more than the line has carried.
const BUFFER: u32 = 1 << 20;

/// A line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    /// Bytes per second.
    pub(crate) rate: u64,
    /// The time from one end to the other and back.
    pub(crate) round_trip: Duration,
    /// After so many bytes to the registry, the connection that carries the next ones is cut, once.
    pub(crate) cut_after: Option<u64>,
}

/// A line to a registry. It is gone when it is dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Proxy {
    pub(crate) fn start(line: Line, registry: SocketAddr, runtime: &Runtime) -> Self {
        let _context = runtime.enter();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(BUFFER).unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = socket.listen(64).unwrap();
        let address = listener.local_addr().unwrap();
        Self { address, serving: runtime.spawn(serve(listener, line, registry)) }
    }

    /// Returns `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// One direction of the line.
struct Direction {
    line: Line,
    /// When it has carried everything that was handed to it.
    free_at: Mutex<Instant>,
    carried: AtomicU64,
}

impl Direction {
    fn new(line: Line) -> Arc<Self> {
        Arc::new(Self { line, free_at: Mutex::new(Instant::now()), carried: AtomicU64::new(0) })
    }

    /// Occupies the line with `len` bytes, and returns when the last one has left.
    fn reserve(&self, len: usize) -> Instant {
        let mut free_at = self.free_at.lock().unwrap();
        let time = Duration::from_secs_f64(len as f64 / self.line.rate as f64);
        *free_at = (*free_at).max(Instant::now()) + time;
        *free_at
    }

    /// Carries what one side sends until it ends, or until the line has carried `limit` bytes, which cuts it. Returns whether
    /// it was cut.
    async fn carry(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, limit: u64) -> bool {
        let (sender, mut under_way) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
        let sending = async move {
            loop {
                let mut bytes = Vec::with_capacity(FRAME);
                let Ok(read @ 1..) = from.read_buf(&mut bytes).await else { return false };
                let before = self.carried.fetch_add(read as u64, Ordering::SeqCst);
                if (before..before + read as u64).contains(&limit) {
                    return true;
                }
                let left_at = self.reserve(read);
                if sender.send((left_at + self.line.round_trip / 2, bytes)).is_err() {
                    return false;
                }
                if let Some(time) = left_at.checked_sub(AHEAD) {
                    sleep_until(time).await;
                }
            }
        };
        let arriving = async {
            while let Some((time, bytes)) = under_way.recv().await {
                sleep_until(time).await;
                if to.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            to.shutdown().await.ok();
        };
        tokio::join!(sending, arriving).0
    }
}

async fn serve(listener: TcpListener, line: Line, registry: SocketAddr) {
    let (there, back) = (Direction::new(line), Direction::new(line));
    while let Ok((client, _)) = listener.accept().await {
        let made_at = Instant::now() + line.round_trip;
        let (there, back) = (Arc::clone(&there), Arc::clone(&back));
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(registry).await else { return };
            client.set_nodelay(true).unwrap();
            server.set_nodelay(true).unwrap();
            sleep_until(made_at).await;
            let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
            let cut = async {
                if there.carry(from_client, to_server, line.cut_after.unwrap_or(u64::MAX)).await {
                    return;
                }
                // The other direction ends the connection.
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = cut => {}
                _ = back.carry(from_server, to_client, u64::MAX) => {}
            }
        });
    }
}
