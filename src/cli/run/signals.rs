//! Signals: Ctrl-C, SIGTERM and SIGHUP stop a push, and a limit of file sizes does not end the process.

#[cfg(unix)]
use std::task::Poll;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::error::Kind;
use crate::output::log::{Entry, Mode, PushLog};
use crate::output::writer::Log;

/// Cancels the push at the first Ctrl-C (or SIGTERM, or SIGHUP). The second ends the process.
pub(super) fn cancelled_by_ctrl_c(log: &Log, progress: &PushLog) -> CancellationToken {
    let cancel = CancellationToken::new();
    let cancelled = cancel.clone();
    let (log, progress) = (log.clone(), progress.clone());
    tokio::spawn(async move {
        asked_to_stop().await;
        let text = "interrupted: closing upload sessions; interrupt again to stop immediately";
        let entry = Entry::info("interrupted", text);
        if log.style().mode == Mode::Quiet {
            log.write_entry(&entry);
        }
        progress.stop(&entry);
        cancelled.cancel();
        // Some senders signal twice, `timeout` for one: to the process and to its group.
        tokio::time::sleep(Duration::from_millis(500)).await;
        asked_to_stop().await;
        progress.finish();
        log.drain();
        #[expect(clippy::exit, reason = "the user insists, and nothing can be half-tagged before the manifest")]
        std::process::exit(Kind::Interrupted.exit_code().into());
    });
    cancel
}

/// Waits for a signal that asks to stop.
pub(super) async fn asked_to_stop() {
    StopSignals::listen().next().await;
}

/// The signals that ask this process to stop. None that arrives between two calls of `next` is lost.
pub(super) struct StopSignals {
    #[cfg(unix)]
    listeners: Vec<(StopSignal, tokio::signal::unix::Signal)>,
}

/// A signal that asks to stop.
#[cfg(unix)]
pub(super) type StopSignal = rustix::process::Signal;
#[cfg(not(unix))]
pub(super) struct StopSignal;

#[cfg(unix)]
impl StopSignals {
    /// Replaces what these signals do by default.
    pub(super) fn listen() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        // Under nohup a hangup is ignored, and stays so.
        let hangup = (!ignores_hangup()).then_some(StopSignal::HUP);
        let listener = |kind: StopSignal| Some((kind, signal(SignalKind::from_raw(kind.as_raw())).ok()?));
        Self { listeners: [StopSignal::INT, StopSignal::TERM].into_iter().chain(hangup).filter_map(listener).collect() }
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) -> StopSignal {
        std::future::poll_fn(|context| {
            let mut listeners = self.listeners.iter_mut();
            let arrived = listeners.find_map(|(signal, it)| it.poll_recv(context).is_ready().then_some(*signal));
            arrived.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// Whether this process was started with SIGHUP ignored, as by nohup. Where that cannot be read, it is assumed.
#[cfg(unix)]
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    ignored.is_none_or(|ignored| ignored & 1 != 0)
}

/// Lets a file that exceeds the limit of its size (`ulimit -f`) be a failed write, and not the end of the process.
#[cfg(unix)]
pub(super) fn survive_file_size_limit() {
    use tokio::signal::unix::{SignalKind, signal};
    /// The same number on Linux, macOS and the BSDs.
    const SIGXFSZ: i32 = 25;
    // Once it has a handler, it keeps one. Where it cannot have one, all is as before.
    drop(signal(SignalKind::from_raw(SIGXFSZ)));
}

#[cfg(not(unix))]
pub(super) fn survive_file_size_limit() {}

#[cfg(not(unix))]
impl StopSignals {
    pub(super) fn listen() -> Self {
        Self {}
    }

    pub(super) async fn next(&mut self) -> StopSignal {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        StopSignal
    }
}
