//! The program: arguments to exit code. The only file that ends the process and that listens for Ctrl-C.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Read as _};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ecr_push::archive::inspect::{Inspection, verify};
use ecr_push::archive::{self, Source, Spool};
use ecr_push::cli::{self, Command, Inspect, Output, Pipeline, ProgressArg, Push};
use ecr_push::error::{Advice, Code, Error, Kind, Result};
use ecr_push::file;
use ecr_push::output::log::{Entry, LogFormat, Mode, Verbosity, replace_controls, sanitize};
use ecr_push::output::progress::{Progress, ask_secret};
use ecr_push::output::report::{self, ReportCollector, RunInfo, Timeline};
use ecr_push::output::writer::{Log, Writer};
use ecr_push::push::{Event, Events, ExplicitCredentials, Outcome, Request, push};
use ecr_push::registry::Login;
use tokio_util::sync::CancellationToken;

#[path = "main/files.rs"]
mod files;
#[path = "main/pipeline.rs"]
mod pipeline;
#[path = "main/rejected.rs"]
mod rejected;
#[cfg(feature = "sandbox")]
#[path = "main/sandbox.rs"]
mod sandbox;
#[path = "main/stderr.rs"]
mod stderr;
#[path = "main/threads.rs"]
mod threads;

use files::{Claims, Files};
use pipeline::CiOutput;
use stderr::{print, print_read_back, print_result, print_summary, style};

fn main() -> ExitCode {
    let started_at = SystemTime::now();
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let environment = |name: &str| std::env::var_os(name);
    let done = cli::parse(arguments.clone(), &environment).and_then(run);
    done.unwrap_or_else(|error| {
        let sinks = cli::error_sinks(&arguments, &environment);
        let writer = Writer::start(style(ProgressArg::Auto, Verbosity::Normal, sinks.log_format));
        rejected::report_rejection(&error, sinks, writer.log(), started_at);
        ExitCode::from(error.kind().exit_code())
    })
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Print(text) => {
            print(&text)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Help(text) => {
            text_writer().log().write_raw(sanitize(&text));
            Ok(ExitCode::from(Kind::Usage.exit_code()))
        }
        Command::Push(mut push) => {
            let password = |user| password_of(user, push.request.deadline);
            push.request.login = push.username.take().map(password).transpose()?;
            let runtime = threads::for_push(&mut push.request)?;
            let done = runtime.block_on(run_push(*push));
            // A thread that hangs in the operating system, in a name server or a dead drive, keeps nobody waiting.
            runtime.shutdown_background();
            done
        }
        Command::Policy(policy) => {
            let writer = text_writer();
            policy.notes.iter().for_each(|note| writer.log().write_raw(sanitize(&format!("{note}\n"))));
            writer.log().drain();
            print(&policy.text)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Inspect(inspect) => run_inspect(&inspect),
        #[cfg(feature = "sandbox")]
        Command::Sandbox(sandbox) => threads::for_server()?.block_on(sandbox::serve(sandbox)),
    }
}

/// Starts the writer of a command that is no push.
fn text_writer() -> Writer {
    Writer::start(style(ProgressArg::Auto, Verbosity::Normal, LogFormat::Text))
}

/// Reads the password of a user from standard input. The end of its line is none of it.
fn password_of(user: String, deadline: Option<Duration>) -> Result<ExplicitCredentials> {
    const LONGEST: u64 = 64 << 10;
    /// Whoever feeds it may ask a person.
    const LIMIT: Duration = Duration::from_secs(120);
    let limit = deadline.map_or(LIMIT, |deadline| deadline.min(LIMIT));
    let failed = "cannot read the password from standard input";
    if io::stdin().is_terminal() && io::stderr().is_terminal() {
        return typed_password(user);
    }
    let mut password = String::new();
    let input = file::standard_input().map_err(|error| Error::usage(failed).because(error))?;
    // What is no text is not quoted: it is a secret all the same.
    file::TimedReader::new(input, limit).take(LONGEST).read_to_string(&mut password).map_err(|error| {
        match error.kind() {
            io::ErrorKind::TimedOut => Error::new(Kind::Unavailable, failed)
                .code(Code::TimedOut)
                .because(format!("no end of input within {} s", limit.as_secs()))
                .hint("Check the command that writes the password."),
            _ => Error::usage(failed).because(error),
        }
    })?;
    let password = password.strip_suffix('\n').map_or(password.as_str(), |line| line.trim_end_matches('\r'));
    if password.is_empty() {
        return Err(Error::usage("standard input has no password").hint(
            Advice::new("Pass it on standard input:").command("printenv TOKEN | ecr-push ... --password-stdin"),
        ));
    }
    let login = Login::password(&user, password);
    Ok(ExplicitCredentials { user, login })
}

/// Asks for the password on the terminal, which does not show it.
fn typed_password(user: String) -> Result<ExplicitCredentials> {
    let read = ask_secret(&format!("Password of {}: ", sanitize(&user)));
    let password = read.map_err(|error| Error::usage("cannot read the password from the terminal").because(error))?;
    if password.is_empty() {
        return Err(Error::usage("the password is empty"));
    }
    let login = Login::password(&user, &password);
    Ok(ExplicitCredentials { user, login })
}

async fn run_push(command: Push) -> Result<ExitCode> {
    survive_file_size_limit();
    let Push { mut request, said, reasons, output, files, pipeline, progress, verbosity, log_format, sandbox, .. } =
        command;
    let writer = Writer::start(style(progress, verbosity, log_format));
    let log = writer.log();
    let display_name = pipeline.display_name.clone();
    claim(&request, &pipeline, &files)?;
    let ci = CiOutput::start(pipeline, log)?;
    let files = Files::open(files)?;
    let timeline = files.has_timeline().then(Timeline::start);
    let progress = Progress::start(log, request.targets.len());
    let cancel = cancelled_by_ctrl_c(log, &progress);
    let collector = Arc::new(ReportCollector::default());
    let events = collector.observe(ci.events(progress.events()));
    ci.begin_group();
    let unknown = cli::unknown_env_vars(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()));
    let unknown = unknown.iter().map(|name| format!("{name} sets no option of ecr-push; is it misspelled?"));
    said.into_iter().chain(unknown).for_each(|note| events(Event::Note(note)));
    reasons.into_iter().for_each(|reason| events(Event::Detail(reason)));

    #[cfg(feature = "sandbox")]
    let sandbox = sandbox::endpoint_override(sandbox, &mut request, log).await;
    #[cfg(not(feature = "sandbox"))]
    let sandbox: Result<Option<()>> = {
        let (_, _) = (sandbox, &mut request);
        Ok(None)
    };

    let outcome = match &sandbox {
        Ok(_) => {
            let events = log_events(&request, events);
            let events = match &timeline {
                Some(timeline) => timeline.events(events),
                None => events,
            };
            push(request.clone(), events, cancel).await
        }
        Err(error) => Outcome::failed(&request, error.clone()),
    };
    // Before anything else, which would count as time of the push.
    let timeline = timeline.map_or(Ok(()), |timeline| files.write_timeline(&timeline.page(&outcome)));

    #[cfg(feature = "sandbox")]
    let read_back = match (&sandbox, outcome.error(), outcome.dry_run) {
        (Ok(Some(_)), None, false) => sandbox::read_back(&request, &outcome).await,
        _ => Ok(String::new()),
    };
    #[cfg(not(feature = "sandbox"))]
    let read_back: Result<String> = Ok(String::new());

    let quiet = log.style().mode == Mode::Quiet;
    progress.finish();
    ci.end_group();
    if !quiet || outcome.dry_run {
        print_summary(&outcome, output, log);
    }
    // What was pushed is printed, and the error decides the exit code, whatever cannot be written.
    let printed = if output == Output::Text { print_result(&report::references(&outcome), log) } else { Ok(()) };
    if let (false, Ok(text)) = (quiet, &read_back) {
        print_read_back(text, log);
    }
    let error_text = |error: &Error| ci.error_text(error);
    log.write_raw(report::error_texts(&outcome, &error_text));
    report::partial_success(&outcome).iter().for_each(|entry| log.write_entry(entry));
    ci.summarize(&outcome);
    let set = ci.set_variables(&outcome);
    let unwritten = [printed, timeline, set].into_iter().filter_map(Result::err).chain(files.write_result(&outcome));
    let mut others: Vec<Error> = read_back.err().into_iter().collect();
    others.extend(unwritten.map(|error| after_push(&outcome, error)));
    // The report holds the result, and that may be that the report cannot be written.
    let json = |others: &[Error]| {
        let error = outcome.error().or_else(|| Error::most_severe(others));
        report::json(&outcome, RunInfo { display_name: &display_name, collector: &collector, error })
    };
    let mut text = json(&others);
    let written = text.as_ref().map_err(Clone::clone).and_then(|text| files.write_report(text));
    if let Err(error) = written {
        others.push(after_push(&outcome, error));
        text = json(&others);
    }
    if let (Output::Json, Ok(text)) = (output, &text) {
        others.extend(print_result(text, log).err().map(|error| after_push(&outcome, error)));
    }
    others.iter().for_each(|error| log.write_raw(error_text(error)));
    let error = outcome.error().or_else(|| Error::most_severe(&others));
    Ok(error.map_or(ExitCode::SUCCESS, |error| ExitCode::from(error.kind().exit_code())))
}

/// Adds to an error after a successful push that the image was pushed: the exit code alone would not say so.
fn after_push(outcome: &Outcome, error: Error) -> Error {
    match outcome.error() {
        None if !outcome.dry_run => {
            error.hint("The image was pushed. Fix this and run the same command again: nothing is uploaded twice.")
        }
        _ => error,
    }
}

/// Variables that name files of credentials.
const FILES_OF_AWS: [&str; 4] = [
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
];

/// Checks every file that a push writes against all that it reads and all else that it writes.
fn claim(request: &Request, pipeline: &Pipeline, files: &cli::Files) -> Result<()> {
    let mut claims = Claims::default();
    match &request.archive {
        Source::Path(path) => claims.read("the archive", path),
        Source::StandardInput => claims.read_standard_input(),
    }
    let policies = [&request.lifecycle_policy, &request.repository_policy];
    policies.into_iter().flatten().for_each(|path| claims.read("the policy", path));
    let bundle = request.ca_bundle.as_ref().map(|bundle| &bundle.path);
    request.ca_file.iter().chain(bundle).for_each(|path| claims.read("the CA file", path));
    request.keychain.files.iter().for_each(|path| claims.read("the login file", path));
    for variable in FILES_OF_AWS {
        if let Some(path) = std::env::var_os(variable) {
            claims.read(&format!("the file of {variable},"), Path::new(&path));
        }
    }
    if let Some(cache) = &request.cache {
        claims.write("layer cache", cache)?;
    }
    pipeline::claim(pipeline, &mut claims)?;
    Files::claim(files, &mut claims)
}

/// Inspects an archive. Ctrl-C ends the process at once: there is nothing to clean up.
fn run_inspect(command: &Inspect) -> Result<ExitCode> {
    let writer = text_writer();
    let log = writer.log();
    let progress = Progress::start(log, 0);
    let inspected = inspect(command, &progress);
    progress.finish();
    let inspection = inspected?;
    log.drain();
    print(&match command.output {
        Output::Text if command.is_in_ci => sanitize(&report::inspect::text(&inspection)),
        Output::Text => replace_controls(&report::inspect::text(&inspection)),
        Output::Json => report::inspect::json(&inspection)?,
    })?;
    let faults = inspection.faults();
    faults.iter().for_each(|fault| log.write_raw(sanitize(&report::error_text(fault))));
    Ok(Error::most_severe(&faults).map_or(ExitCode::SUCCESS, |fault| ExitCode::from(fault.kind().exit_code())))
}

fn inspect(command: &Inspect, progress: &Progress) -> Result<Inspection> {
    let events = progress.events();
    let watch = |written| {
        events(Event::Spooled(written));
        ControlFlow::Continue(())
    };
    let mut archive = archive::list(&command.archive, &Spool { folder: &command.temp_dir, watch: &watch, pass: None })?;
    let all = archive.images.len() + archive.unusable.len();
    if !command.is_of_all() {
        archive = archive.narrowed(&command.choice, &command.part)?;
    }
    let read = || verify(&archive, &|reading| progress.set_activity(reading.to_string()));
    let verified = command.verify.then(read);
    Ok(Inspection { archive, all, verified })
}

/// Drops the plans of a dry run from the log: its summary lists every layer.
fn log_events(request: &Request, events: Events) -> Events {
    if !request.dry_run {
        return events;
    }
    Arc::new(move |event| {
        if !matches!(event, Event::Planned { .. }) {
            events(event);
        }
    })
}

/// Cancels the push at the first Ctrl-C (or SIGTERM, or SIGHUP). The second ends the process.
fn cancelled_by_ctrl_c(log: &Log, progress: &Progress) -> CancellationToken {
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
async fn asked_to_stop() {
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
fn survive_file_size_limit() {
    use tokio::signal::unix::{SignalKind, signal};
    /// The same number on Linux, macOS and the BSDs.
    const SIGXFSZ: i32 = 25;
    // Once it has a handler, it keeps one. Where it cannot have one, all is as before.
    drop(signal(SignalKind::from_raw(SIGXFSZ)));
}

#[cfg(not(unix))]
fn survive_file_size_limit() {}

#[cfg(not(unix))]
async fn asked_to_stop() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
