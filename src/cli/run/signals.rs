//! Signals: Ctrl-C, SIGTERM and SIGHUP stop a push, and a limit of file sizes does not end the process.

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

#[cfg(unix)]
pub(super) async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    // Under nohup a hangup is ignored, and stays so.
    let mut hangup = if ignores_hangup() { None } else { signal(SignalKind::hangup()).ok() };
    let hung_up = async {
        match &mut hangup {
            Some(hangup) => hangup.recv().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
        _ = hung_up => {}
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
pub(super) async fn asked_to_stop() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
