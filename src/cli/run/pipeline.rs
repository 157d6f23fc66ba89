//! Writes what CI systems read: to the log, to files, to `buildkite-agent`. The command line decides what and where.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cli::files::OutputFile;
use crate::cli::pipeline::{Pipeline, ReferenceForm, SummaryTo, Variables, VariablesTo};
use crate::error::{Code, Error, Kind, Result, is_exhausted};
use crate::file;
use crate::output::log::{Entry, LogFormat, Mode};
use crate::output::report;
use crate::output::report::ci::{self, LogCommands};
use crate::output::writer::Log;
use crate::push::{Event, Events, Outcome};

use super::files::{Claims, clear};
use super::stderr::{error_text, print_result};

const AGENT: &str = "buildkite-agent";

/// How long the agent may take: it calls Buildkite's API.
const AGENT_LIMIT: Duration = Duration::from_secs(30);

/// What a CI system gets, its files open.
pub(super) struct CiOutput {
    display_name: String,
    log: Log,
    log_commands: Option<LogCommands>,
    summary: Option<SummaryTo>,
    variables: Option<Variables<Sink>>,
}

/// Where variables go.
enum Sink {
    Buildkite,
    File(File),
    Folder(PathBuf),
    Stderr,
    Stdout,
}

impl CiOutput {
    /// Opens what is written at the end, so that a bad path costs no push. No CI system reads a terminal.
    pub(super) fn start(pipeline: Pipeline, log: &Log) -> Result<Self> {
        let is_log = !io::stderr().is_terminal();
        let Pipeline { display_name, log_commands, summary, variables } = pipeline;
        let variables =
            variables.map(|Variables { name, format, to, form }| Ok(Variables { name, format, to: open(to)?, form }));
        let style = log.style();
        let has_commands = is_log && style.mode != Mode::Bars && style.format == LogFormat::Text;
        Ok(Self {
            display_name,
            log: log.clone(),
            log_commands: log_commands.filter(|_| has_commands),
            summary: summary.filter(|_| is_log),
            variables: variables.transpose()?,
        })
    }

    /// The logging commands for lines that are logged while the push runs.
    fn commands_while_running(&self) -> Option<LogCommands> {
        self.log_commands.filter(|_| self.log.style().mode == Mode::Plain)
    }

    /// Begins the group of these lines.
    pub(super) fn begin_group(&self) {
        if let Some(commands) = self.commands_while_running() {
            self.log.write_raw(commands.group(&self.display_name));
        }
    }

    /// Ends the group.
    pub(super) fn end_group(&self) {
        if let Some(commands) = self.commands_while_running() {
            self.log.write_raw(commands.group_end().to_owned());
        }
    }

    /// Marks warnings for the CI system, and passes all other events on. A retry is not marked.
    pub(super) fn events(&self, next: Events) -> Events {
        let Some(commands) = self.commands_while_running() else { return next };
        let log = self.log.clone();
        Arc::new(move |event| match event {
            Event::Warning(text) => log.log_raw(commands.warning(&text)),
            event => next(event),
        })
    }

    /// Formats an error for the log.
    pub(super) fn error_text(&self, error: &Error) -> String {
        self.log_commands.map_or_else(|| error_text(error, self.log.style()), |commands| commands.error(error))
    }

    /// Writes the summary of a push. Without it the push is no failure: a note says why it is missing.
    pub(super) fn summarize(&self, outcome: &Outcome) {
        if !outcome.dry_run {
            let style = if outcome.error().is_some() { "error" } else { "info" };
            self.put_summary(&report::markdown(outcome, &self.display_name), style);
        }
    }

    /// Writes the summary of the pushes of several images: what they came to, and the failures.
    pub(super) fn summarize_images(&self, sums: &str, failures: &[String]) {
        let style = if failures.is_empty() { "info" } else { "error" };
        self.put_summary(&report::markdown_of_images(sums, failures, &self.display_name), style);
    }

    /// Writes the summary of a command line that leads to no push.
    pub(super) fn summarize_rejection(&self, error: &Error) {
        self.put_summary(&report::markdown_of_rejection(error, &self.display_name), "error");
    }

    /// `style` is a style of Buildkite's annotations.
    fn put_summary(&self, text: &str, style: &str) {
        let Some(to) = &self.summary else { return };
        let written = match to {
            SummaryTo::Buildkite => {
                run_agent(&["annotate", "--style", style, "--context", "ecr-push", "--append"], text)
            }
            SummaryTo::File(path) => open_to_append(path).and_then(|file| file::write_all(&file, text.as_bytes())),
            SummaryTo::Folder(folder) => {
                write_new_file(folder, text).map(|path| self.log.write_raw(ci::azure_summary(&path)))
            }
        };
        if let Err(error) = written {
            self.log.write_entry(&Entry::note(format!("cannot write the summary for the CI system: {error}")));
        }
    }

    /// Sets the variables if the push succeeded.
    pub(super) fn set_variables(&self, outcome: &Outcome) -> Result<()> {
        let Some(Variables { name, format, to, form }) = &self.variables else { return Ok(()) };
        let mut variables = ci::variables(name, outcome);
        if let (ReferenceForm::WithoutTag, Some(first)) = (form, variables.first_mut()) {
            let end = first.value.rfind(':').unwrap_or(first.value.len());
            first.value.truncate(end);
        }
        let text: String = variables.iter().map(|variable| format.text(variable)).collect();
        let written = match to {
            Sink::Stdout => return print_result(&text, &self.log),
            Sink::Stderr => {
                self.log.write_raw(text);
                Ok(())
            }
            Sink::File(file) => file::write_all(file, text.as_bytes()),
            Sink::Folder(folder) => {
                return variables.iter().try_for_each(|set| {
                    let path = folder.join(&set.name);
                    let file = OutputFile::Variable.open(&path)?;
                    let written = clear(&file).and_then(|()| file::write_all(&file, format.text(set).as_bytes()));
                    written.map_err(|error| unset(&set.name, error))
                });
            }
            Sink::Buildkite => {
                variables.iter().try_for_each(|set| run_agent(&["meta-data", "set", &set.name], &format.text(set)))
            }
        };
        written.map_err(|error| unset(name, error))
    }
}

fn unset(name: &str, error: io::Error) -> Error {
    Error::new(Kind::Input, format!("cannot set the variable {name}")).code(Code::OutputFailed).because(error)
}

/// Claims the files that a CI system reads.
pub(super) fn claim(pipeline: &Pipeline, claims: &mut Claims) -> Result<()> {
    if let Some(SummaryTo::File(path)) = &pipeline.summary {
        claims.write("summary", path)?;
    }
    match &pipeline.variables {
        Some(Variables { to: VariablesTo::File(path), .. }) => claims.write("file of variables", path),
        Some(Variables { name, to: VariablesTo::Folder(folder), .. }) => {
            let mut files = ci::names(name).into_iter().map(|name| folder.join(name));
            files.try_for_each(|file| {
                claims.write(OutputFile::Variable.what(), &file).and_then(|()| OutputFile::Variable.check(&file))
            })
        }
        _ => Ok(()),
    }
}

/// Opens the file, or checks the folder or the agent.
fn open(to: VariablesTo) -> Result<Sink> {
    match to {
        VariablesTo::Stderr => Ok(Sink::Stderr),
        VariablesTo::Stdout => Ok(Sink::Stdout),
        VariablesTo::File(path) => open_to_append(&path)
            .map(Sink::File)
            .map_err(|error| Error::usage(format!("cannot write variables to {}", path.display())).because(error)),
        // A file without a name: nothing is left if the push fails.
        VariablesTo::Folder(folder) => match tempfile::tempfile_in(&folder) {
            Ok(_) => Ok(Sink::Folder(folder)),
            Err(error) => {
                Err(Error::usage(format!("cannot write variables to the folder {}", folder.display())).because(error))
            }
        },
        VariablesTo::Buildkite => run_agent(&["--version"], "").map(|()| Sink::Buildkite).map_err(|error| {
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

fn open_to_append(path: &Path) -> io::Result<File> {
    file::open_to_write(OpenOptions::new().append(true).create(true), path)
}

/// Writes a new file and returns its path. The CI system reads it later.
fn write_new_file(folder: &Path, text: &str) -> io::Result<String> {
    let folder = std::path::absolute(folder)?;
    let mut file = tempfile::Builder::new().prefix("ecr-push-").suffix(".md").tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    let (_, path): (File, PathBuf) = file.keep()?;
    Ok(path.display().to_string())
}

/// Runs Buildkite's agent with this standard input, for at most [`AGENT_LIMIT`].
fn run_agent(arguments: &[&str], text: &str) -> io::Result<()> {
    let agent = &mut Command::new(AGENT);
    let mut child = agent.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    // If it does not read to the end, its exit status says why.
    let written = child.stdin.take().map_or(Ok(()), |stdin| file::write_all(&as_file(stdin), text.as_bytes()));
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
    match written {
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
