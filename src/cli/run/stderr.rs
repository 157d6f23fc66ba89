//! What people and CI systems read on stderr, and the result on stdout.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use crate::cli::output::{ProgressArg, PushOutput};
use crate::error::{Error, Kind, Result};
use crate::file;
use crate::output::log::{ColorMode, Entry, LogFormat, Mode, Style, Verbosity, sanitize};
use crate::output::report::{self, References};
use crate::output::writer::{Log, Writer};
use crate::push::Outcome;

/// How long the reader of a push's result may be silent.
const STDOUT_WAIT: Duration = Duration::from_secs(60);

/// Starts the writer of a command that is no push.
pub(super) fn text_writer() -> Writer {
    Writer::start(style(ProgressArg::Auto, Verbosity::Normal, LogFormat::Text))
}

/// Decides how stderr looks. Bars need a terminal that can move its cursor, even if they are asked for.
pub(super) fn style(show: ProgressArg, verbosity: Verbosity, format: LogFormat) -> Style {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    let can_be_redrawn = io::stderr().is_terminal() && !is_dumb;
    let mode = match show {
        ProgressArg::None => Mode::Quiet,
        ProgressArg::Auto | ProgressArg::Bars if can_be_redrawn && format == LogFormat::Text => Mode::Bars,
        ProgressArg::Auto | ProgressArg::Bars | ProgressArg::Plain => Mode::Plain,
    };
    // https://no-color.org
    let color = if can_be_redrawn && !is_set("NO_COLOR") { ColorMode::Colored } else { ColorMode::Plain };
    Style { mode, verbosity, format, color }
}

/// Writes the summary of a push, or of a plan.
pub(super) fn print_summary(outcome: &Outcome, output: PushOutput, log: &Log) {
    let write = |entries: Vec<Entry>| entries.iter().for_each(|entry| log.write_entry(entry));
    match log.style().format {
        LogFormat::Json => {
            write(if outcome.dry_run { report::plan_entries(outcome) } else { Vec::new() });
            write(report::summary_entries(outcome));
        }
        LogFormat::Text => {
            let plan = if outcome.dry_run { report::plan(outcome) } else { String::new() };
            let are_below = output == PushOutput::Text && is_stdout_beside_stderr();
            let references = if are_below { References::OnStdout } else { References::Included };
            let text = plan + &report::summary(outcome, references);
            write(text.lines().map(|line| Entry::info("summary", line)).collect());
        }
    }
}

/// Writes what was read back from the registry.
pub(super) fn print_read_back(text: &str, log: &Log) {
    match log.style().format {
        LogFormat::Json => text.lines().for_each(|line| log.write_entry(&Entry::info("read_back", line))),
        LogFormat::Text => log.write_raw(sanitize(text)),
    }
}

/// Whether stdout and stderr lead to the same terminal or file.
fn is_stdout_beside_stderr() -> bool {
    if io::stdout().is_terminal() && io::stderr().is_terminal() {
        return true;
    }
    #[cfg(unix)]
    {
        use std::os::fd::{AsFd, BorrowedFd};
        use std::os::unix::fs::MetadataExt as _;
        let place = |stream: BorrowedFd<'_>| {
            let seen = std::fs::File::from(stream.try_clone_to_owned()?).metadata()?;
            io::Result::Ok((seen.dev(), seen.ino()))
        };
        let (out, err) = (place(io::stdout().as_fd()), place(io::stderr().as_fd()));
        out.is_ok_and(|out| err.is_ok_and(|err| out == err))
    }
    #[cfg(not(unix))]
    {
        false
    }
}

/// Formats an error like everything else on stderr.
pub(super) fn error_text(error: &Error, style: Style) -> String {
    match style.format {
        LogFormat::Json => style.line(&Entry::error(error)),
        LogFormat::Text => style.failure(&sanitize(&report::error_text(error))),
    }
}

/// Writes the result to stdout, however long a reader takes. A reader that is gone is no failure.
pub(super) fn print(text: &str) -> Result<()> {
    written(io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()))
}

/// Writes the result of a push to stdout, behind everything that waits for stderr. A reader that is silent for
/// [`STDOUT_WAIT`] is an error: the push is over, and the process has to end.
pub(super) fn print_result(text: &str, log: &Log) -> Result<()> {
    log.drain();
    let stdout = file::standard_output();
    written(stdout.and_then(|stdout| file::write_all_within(&stdout, text.as_bytes(), STDOUT_WAIT)))
}

fn written(written: io::Result<()>) -> Result<()> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::new(Kind::Input, "cannot write to stdout").because(error))
        }
        _ => Ok(()),
    }
}
