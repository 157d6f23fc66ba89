//! What people and CI systems read on stderr, and the result on stdout.

use std::io::{self, IsTerminal as _, Write as _};

use ecr_push::cli::{Output, ProgressArg};
use ecr_push::error::{Error, Kind, Result};
use ecr_push::output::log::{Entry, LogFormat, sanitize};
use ecr_push::output::progress::{ColorMode, Mode, Style, Verbosity};
use ecr_push::output::report::{self, References};
use ecr_push::push::Outcome;

/// What stderr looks like. Bars are for terminals that can move their cursor, whoever asks for them.
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

/// Says what came of a push, or what a plan would do.
pub(super) fn sum_up(outcome: &Outcome, output: Output, style: Style) {
    let say = |entries: Vec<Entry>| entries.iter().for_each(|entry| instruct(&style.line(entry)));
    match style.format {
        LogFormat::Json => {
            say(if outcome.dry_run { report::plan_entries(outcome) } else { Vec::new() });
            say(report::summary_entries(outcome));
        }
        LogFormat::Text => {
            let plan = if outcome.dry_run { report::plan(outcome) } else { String::new() };
            let are_below = output == Output::Text && is_stdout_beside_stderr();
            let references = if are_below { References::OnStdout } else { References::Included };
            let text = plan + &report::summary(outcome, references);
            say(text.lines().map(|line| Entry::info("summary", line)).collect());
        }
    }
}

/// Says what was read back.
pub(super) fn read_out(text: &str, style: Style) {
    match style.format {
        LogFormat::Json => text.lines().for_each(|line| instruct(&style.line(&Entry::info("read_back", line)))),
        LogFormat::Text => complain(text),
    }
}

/// Whether what goes to stdout is read where stderr is: on the same terminal, in the same file.
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

/// An error in the style of all that stands around it.
pub(super) fn failure(error: &Error, style: Style) -> String {
    match style.format {
        LogFormat::Json => style.line(&Entry::error(error)),
        LogFormat::Text => style.failure(&sanitize(&report::error_text(error))),
    }
}

/// Writes the result. That nobody reads it any more is no failure of the push.
pub(super) fn print(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::new(Kind::Input, "cannot write to stdout").because(error))
        }
        _ => Ok(()),
    }
}

/// Writes to stderr what people read.
pub(super) fn complain(text: &str) {
    instruct(&sanitize(text));
}

/// Writes to stderr what a CI system may act on. Where even that fails there is nobody left to tell.
pub(super) fn instruct(text: &str) {
    let _nobody_listens = io::stderr().write_all(text.as_bytes());
}
