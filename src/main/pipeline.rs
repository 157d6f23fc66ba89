//! What CI systems get, written: to the log, to files, to `buildkite-agent`. Which and where is decided before.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ecr_push::cli::{Pipeline, SummaryTo, Variables, VariablesTo};
use ecr_push::error::{Code, Error, Kind, Result, is_exhausted};
use ecr_push::file;
use ecr_push::output::log::{Entry, LogFormat};
use ecr_push::output::progress::{Mode, Style};
use ecr_push::output::report;
use ecr_push::output::report::ci::{self, LogCommands, OutputFormat};
use ecr_push::push::{Event, Events, Outcome};

use super::files::{Claims, VARIABLE, clear};
use super::stderr::{failure, instruct, print};

const AGENT: &str = "buildkite-agent";

/// How long it may take: it asks Buildkite's API.
const AGENT_LIMIT: Duration = Duration::from_secs(30);

/// A pipeline that watches, its files open.
pub(super) struct Watcher {
    display_name: String,
    log_commands: Option<LogCommands>,
    style: Style,
    summary: Option<SummaryTo>,
    variables: Option<Setter>,
}

/// Variables that are to be set, and all that it takes.
struct Setter {
    name: String,
    format: OutputFormat,
    to: Sink,
}

/// Where they go.
enum Sink {
    Buildkite,
    File(File),
    Folder(PathBuf),
    Stderr,
    Stdout,
}

impl Watcher {
    /// Opens what is written in the end, so that a bad path costs no push. A terminal is no log that a CI system reads.
    pub(super) fn start(pipeline: Pipeline, style: Style) -> Result<Self> {
        let is_log = !io::stderr().is_terminal();
        let Pipeline { display_name, log_commands, summary, variables } = pipeline;
        let variables = variables.map(|Variables { name, format, to }| Ok(Setter { name, format, to: open(to)? }));
        Ok(Self {
            display_name,
            // Lines would end up between bars, and are no objects.
            log_commands: log_commands
                .filter(|_| is_log && style.mode != Mode::Bars && style.format == LogFormat::Text),
            style,
            summary: summary.filter(|_| is_log),
            variables: variables.transpose()?,
        })
    }

    /// How lines of the log are marked, of those that say what happens on the way.
    fn aside(&self) -> Option<LogCommands> {
        self.log_commands.filter(|_| self.style.mode == Mode::Plain)
    }

    /// Begins the group of lines that say what happens on the way.
    pub(super) fn begin(&self) {
        self.aside().into_iter().for_each(|log_commands| instruct(&log_commands.group(&self.display_name)));
    }

    /// Ends it.
    pub(super) fn end(&self) {
        self.aside().into_iter().for_each(|log_commands| instruct(log_commands.group_end()));
    }

    /// Who is told, of warnings as the CI system marks them. That something is tried again is none.
    pub(super) fn events(&self, tell: Events) -> Events {
        let Some(log_commands) = self.aside() else { return tell };
        Arc::new(move |event| match event {
            Event::Warning(text) => instruct(&log_commands.warning(&text)),
            event => tell(event),
        })
    }

    /// An error as it stands in the log.
    pub(super) fn failure(&self, error: &Error) -> String {
        self.log_commands.map_or_else(|| failure(error, self.style), |log_commands| log_commands.error(error))
    }

    /// Writes the summary. It is no part of the push: without it, a line says why.
    pub(super) fn summarise(&self, outcome: &Outcome) {
        if !outcome.dry_run {
            let style = if outcome.error().is_some() { "error" } else { "info" };
            self.put_summary(&report::markdown(outcome, &self.display_name), style);
        }
    }

    /// The same where there was no push.
    pub(super) fn summarise_refusal(&self, error: &Error) {
        self.put_summary(&report::markdown_of_rejection(error, &self.display_name), "error");
    }

    /// `style` is Buildkite's word for how it looks.
    fn put_summary(&self, text: &str, style: &str) {
        let Some(to) = &self.summary else { return };
        let written = match to {
            SummaryTo::Buildkite => fed(&["annotate", "--style", style, "--context", "ecr-push", "--append"], text),
            SummaryTo::File(path) => added_to(path).and_then(|file| file::write_all(&file, text.as_bytes())),
            SummaryTo::Folder(folder) => in_a_file_of(folder, text).map(|path| instruct(&ci::azure_summary(&path))),
        };
        if let Err(error) = written {
            let note = Entry::note(format!("cannot write the summary for the CI system: {error}"));
            instruct(&self.style.line(&note));
        }
    }

    /// Sets the variables, if the push went well.
    pub(super) fn set_variables(&self, outcome: &Outcome) -> Result<()> {
        let Some(Setter { name, format, to }) = &self.variables else { return Ok(()) };
        let variables = ci::variables(name, outcome);
        let text: String = variables.iter().map(|variable| format.text(variable)).collect();
        let written = match to {
            Sink::Stdout => return print(&text),
            Sink::Stderr => {
                instruct(&text);
                Ok(())
            }
            Sink::File(file) => file::write_all(file, text.as_bytes()),
            Sink::Folder(folder) => {
                return variables.iter().try_for_each(|set| {
                    let path = folder.join(&set.name);
                    let file = VARIABLE.open(&path)?;
                    let written = clear(&file).and_then(|()| file::write_all(&file, format.text(set).as_bytes()));
                    written.map_err(|error| unset(&set.name, error))
                });
            }
            Sink::Buildkite => {
                variables.iter().try_for_each(|set| fed(&["meta-data", "set", &set.name], &format.text(set)))
            }
        };
        written.map_err(|error| unset(name, error))
    }
}

fn unset(name: &str, error: io::Error) -> Error {
    Error::new(Kind::Input, format!("cannot set the variable {name}")).code(Code::OutputFailed).because(error)
}

/// Adds the files that a CI system gets.
pub(super) fn claim(pipeline: &Pipeline, claims: &mut Claims) -> Result<()> {
    if let Some(SummaryTo::File(path)) = &pipeline.summary {
        claims.write("summary", path)?;
    }
    match &pipeline.variables {
        Some(Variables { to: VariablesTo::File(path), .. }) => claims.write("file of variables", path),
        Some(Variables { name, to: VariablesTo::Folder(folder), .. }) => {
            let mut files = ci::names(name).into_iter().map(|name| folder.join(name));
            files.try_for_each(|file| claims.write(VARIABLE.what, &file).and_then(|()| VARIABLE.check(&file)))
        }
        _ => Ok(()),
    }
}

/// Opens a file, or tries what else is written to.
fn open(to: VariablesTo) -> Result<Sink> {
    match to {
        VariablesTo::Stderr => Ok(Sink::Stderr),
        VariablesTo::Stdout => Ok(Sink::Stdout),
        VariablesTo::File(path) => added_to(&path)
            .map(Sink::File)
            .map_err(|error| Error::usage(format!("cannot write variables to {}", path.display())).because(error)),
        // A file without a name: nothing of it stays if the push fails.
        VariablesTo::Folder(folder) => match tempfile::tempfile_in(&folder) {
            Ok(_) => Ok(Sink::Folder(folder)),
            Err(error) => {
                Err(Error::usage(format!("cannot write variables to the folder {}", folder.display())).because(error))
            }
        },
        VariablesTo::Buildkite => fed(&["--version"], "").map(|()| Sink::Buildkite).map_err(|error| {
            if is_exhausted(&error) {
                let error = Error::new(Kind::Unavailable, format!("cannot start {AGENT}")).because(error);
                return error.code(Code::ResourcesExhausted);
            }
            Error::usage(format!("cannot run {AGENT}, which sets the variables of Buildkite"))
                .because(error)
                .hint(format!("Add {AGENT} to the PATH, or use --output-file FILE for lines of NAME=VALUE."))
        }),
    }
}

fn added_to(path: &Path) -> io::Result<File> {
    file::open_to_write(OpenOptions::new().append(true).create(true), path)
}

/// Writes a file that stays, and returns its path: whoever is told reads it later.
fn in_a_file_of(folder: &Path, text: &str) -> io::Result<String> {
    let folder = std::path::absolute(folder)?;
    let mut file = tempfile::Builder::new().prefix("ecr-push-").suffix(".md").tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    let (_, path): (File, PathBuf) = file.keep()?;
    Ok(path.display().to_string())
}

/// Runs Buildkite's agent with something at its standard input. It may take as long as [`AGENT_LIMIT`].
fn fed(arguments: &[&str], text: &str) -> io::Result<()> {
    let agent = &mut Command::new(AGENT);
    let mut child = agent.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    // One that does not read to the end says why by how it ends.
    let fed = child.stdin.take().map_or(Ok(()), |stdin| file::write_all(&as_file(stdin), text.as_bytes()));
    let until = Instant::now() + AGENT_LIMIT;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
            None => {
                child.kill().and_then(|()| child.wait())?;
                let why = format!("{AGENT} {} did not finish", arguments.join(" "));
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
        }
    };
    match fed {
        _ if !status.success() => Err(io::Error::other(format!("{AGENT} {}: {status}", arguments.join(" ")))),
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

fn as_file(stdin: ChildStdin) -> File {
    #[cfg(unix)]
    return File::from(std::os::fd::OwnedFd::from(stdin));
    #[cfg(windows)]
    return File::from(std::os::windows::io::OwnedHandle::from(stdin));
}
