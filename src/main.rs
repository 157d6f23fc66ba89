//! The program: arguments to exit code. The only file that ends the process and that listens for Ctrl-C.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use ecr_push::cli::{self, Command, Inspect, Output, Push, Show};
use ecr_push::error::{Error, Kind, Result};
use ecr_push::image::{self, Spool};
use ecr_push::inspect::{Inspection, verify};
use ecr_push::progress::{Mode, Progress, Tell, harmless};
use ecr_push::push::{Event, Events, Given, Outcome, Request, push};
use ecr_push::registry::Login;
use ecr_push::report::{self, Timeline};
use tokio_util::sync::CancellationToken;

#[path = "main/pipeline.rs"]
mod pipeline;

fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1).collect();
    let done = cli::parse(arguments, &|name| std::env::var_os(name)).and_then(run);
    done.unwrap_or_else(|error| {
        complain(&report::failure(&error));
        ExitCode::from(error.kind().exit_code())
    })
}

fn run(command: Command) -> Result<ExitCode> {
    let runtime = || {
        let started = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        started.map_err(|error| Error::new(Kind::Unavailable, "cannot start").because(error))
    };
    match command {
        Command::Print(text) => {
            print(&text)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Push(mut push) => {
            push.request.login = push.username.take().map(password_of).transpose()?;
            let runtime = runtime()?;
            let done = runtime.block_on(run_push(*push));
            // A thread that hangs in the operating system, in a name server or a dead drive, keeps nobody waiting.
            runtime.shutdown_background();
            done
        }
        Command::Policy(policy) => {
            policy.notes.iter().for_each(|note| complain(&format!("{note}\n")));
            print(&policy.text)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Inspect(inspect) => run_inspect(&inspect),
        #[cfg(feature = "sandbox")]
        Command::Sandbox(sandbox) => runtime()?.block_on(sandbox::serve(sandbox)),
    }
}

/// Reads the password of a user from standard input. The end of its line is none of it.
fn password_of(user: String) -> Result<Given> {
    const LONGEST: u64 = 64 << 10;
    let mut password = String::new();
    // What is no text is not quoted: it is a secret all the same.
    let read = io::stdin().lock().take(LONGEST).read_to_string(&mut password);
    read.map_err(|error| Error::usage("cannot read the password from standard input").because(error))?;
    let password = password.strip_suffix('\n').map_or(password.as_str(), |line| line.trim_end_matches('\r'));
    if password.is_empty() {
        return Err(Error::usage("there is no password at standard input")
            .hint("Feed it in: printenv TOKEN | ecr-push ... --password-stdin"));
    }
    let login = Login::password(&user, password);
    Ok(Given { user, login })
}

async fn run_push(command: Push) -> Result<ExitCode> {
    let Push { mut request, said, report, timeline, pipeline, progress, tell, sandbox, .. } = command;
    let report = report.map(|path| Written::create("report", path)).transpose()?;
    let page = timeline.map(|path| Written::create("timeline", path)).transpose()?;
    let timeline = page.map(|page| (Timeline::start(), page));
    let mode = mode(progress);
    let pipeline = pipeline::Watcher::start(pipeline, mode)?;
    let cancel = cancelled_by_ctrl_c();
    let progress = Progress::start(mode, tell);
    let tell = pipeline.events(progress.events());
    pipeline.begin();
    said.into_iter().for_each(|note| tell(Event::Note(note)));

    #[cfg(feature = "sandbox")]
    let sandbox = sandbox::stand_in(sandbox, &mut request, &progress).await;
    #[cfg(not(feature = "sandbox"))]
    let sandbox: Result<Option<()>> = {
        let (_, _) = (sandbox, &mut request);
        Ok(None)
    };

    let outcome = match &sandbox {
        Ok(_) => {
            let tell = heard(&request, tell);
            let tell = match &timeline {
                Some((timeline, _)) => timeline.events(tell),
                None => tell,
            };
            push(request.clone(), tell, cancel).await
        }
        Err(error) => Outcome::failed(&request, error.clone()),
    };
    // Before anything else is done, which would be time on it.
    let drawn = timeline.map_or(Ok(()), |(timeline, page)| page.write(&timeline.page(&outcome)));

    #[cfg(feature = "sandbox")]
    let read_back = match (&sandbox, outcome.error(), outcome.dry_run) {
        (Ok(Some(_)), None, false) => sandbox::read_back(&request, &outcome).await,
        _ => Ok(String::new()),
    };
    #[cfg(not(feature = "sandbox"))]
    let read_back: Result<String> = Ok(String::new());

    let quiet = progress.is_quiet();
    progress.finish();
    pipeline.end();
    let reported = report.map_or(Ok(()), |report| report.write(&report::json(&outcome)));
    if outcome.dry_run {
        complain(&report::plan(&outcome));
    }
    if !quiet || outcome.dry_run {
        complain(&report::summary(&outcome));
    }
    // What was pushed is said, and why it was not decides the exit code, whatever cannot be written.
    let printed = print(&report::references(&outcome));
    if let (false, Ok(text)) = (quiet, &read_back) {
        complain(text);
    }
    let say = |error: &Error| pipeline.failure(error);
    instruct(&report::failures(&outcome, &say));
    pipeline.summarise(&outcome);
    let set = pipeline.set_variables(&outcome);
    let others: Vec<Error> =
        [read_back.map(drop), printed, reported, drawn, set].into_iter().filter_map(Result::err).collect();
    others.iter().for_each(|error| instruct(&say(error)));
    let error = outcome.error().or_else(|| others.first());
    Ok(error.map_or(ExitCode::SUCCESS, |error| ExitCode::from(error.kind().exit_code())))
}

/// A file that is written in the end. It is opened before the push, so that a bad path does not cost one.
struct Written {
    /// What it is, as its option is called.
    name: &'static str,
    path: PathBuf,
    file: File,
}

impl Written {
    fn create(name: &'static str, path: PathBuf) -> Result<Self> {
        match File::create(&path) {
            Ok(file) => Ok(Self { name, path, file }),
            Err(error) => Err(Error::usage(format!("cannot write the {name} {}", path.display()))
                .because(error)
                .hint(format!("--{name} takes a file in a folder that is there and can be written to."))),
        }
    }

    fn write(mut self, text: &str) -> Result<()> {
        let what = format!("cannot write the {} {}", self.name, self.path.display());
        self.file.write_all(text.as_bytes()).map_err(|error| Error::new(Kind::Input, what).because(error))
    }
}

/// Looks into an archive. Nothing of it is worth an orderly end: Ctrl-C ends the process.
fn run_inspect(command: &Inspect) -> Result<ExitCode> {
    let progress = Progress::start(mode(Show::Auto), Tell::Usual);
    let inspected = inspect(command, &progress);
    progress.finish();
    let inspection = inspected?;
    print(&match command.output {
        Output::Text => report::inspect::text(&inspection),
        Output::Json => report::inspect::json(&inspection),
    })?;
    let faults = inspection.faults();
    faults.iter().for_each(|fault| complain(&report::failure(fault)));
    Ok(faults.first().map_or(ExitCode::SUCCESS, |fault| ExitCode::from(fault.kind().exit_code())))
}

fn inspect(command: &Inspect, progress: &Progress) -> Result<Inspection> {
    let events = progress.events();
    let watch = |written| {
        events(Event::Spooled(written));
        ControlFlow::Continue(())
    };
    let mut archive = image::list(&command.archive, &Spool { folder: &command.temp_dir, watch: &watch, pass: None })?;
    let all = archive.images.len() + archive.unusable.len();
    if !command.is_of_all() {
        archive = archive.narrowed(&command.choice, &command.part)?;
    }
    let read = || verify(&archive, &|reading| progress.now(reading.to_string()));
    let verified = command.verify.then(read).transpose()?;
    Ok(Inspection { archive, all, verified })
}

/// What is told while it happens. The end of a dry run says of each layer what would become of it.
fn heard(request: &Request, events: Events) -> Events {
    if !request.dry_run {
        return events;
    }
    Arc::new(move |event| {
        if !matches!(event, Event::Planned { .. }) {
            events(event);
        }
    })
}

/// The first Ctrl-C (or SIGTERM) ends the push in good order; the second ends the process.
fn cancelled_by_ctrl_c() -> CancellationToken {
    let cancel = CancellationToken::new();
    let cancelled = cancel.clone();
    tokio::spawn(async move {
        asked_to_stop().await;
        complain("interrupted: closing uploads; once more to stop at once\n");
        cancelled.cancel();
        // Some senders signal twice, `timeout` for one: to the process and to its group.
        tokio::time::sleep(Duration::from_millis(500)).await;
        asked_to_stop().await;
        #[expect(clippy::exit, reason = "the user insists, and nothing can be half-tagged before the manifest")]
        std::process::exit(Kind::Interrupted.exit_code().into());
    });
    cancel
}

#[cfg(unix)]
async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(not(unix))]
async fn asked_to_stop() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn mode(show: Show) -> Mode {
    let dumb = || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    match show {
        Show::Auto if io::stderr().is_terminal() && !dumb() => Mode::Bars,
        Show::Auto | Show::Plain => Mode::Plain,
        Show::Bars => Mode::Bars,
        Show::None => Mode::Quiet,
    }
}

/// Writes the result. That nobody reads it any more is no failure of the push.
fn print(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::new(Kind::Input, "cannot write to stdout").because(error))
        }
        _ => Ok(()),
    }
}

/// Writes to stderr what people read.
fn complain(text: &str) {
    instruct(&harmless(text));
}

/// Writes to stderr what a CI system may act on. Where even that fails there is nobody left to tell.
fn instruct(text: &str) {
    let _nobody_listens = io::stderr().write_all(text.as_bytes());
}

#[cfg(feature = "sandbox")]
mod sandbox {
    use std::path::PathBuf;
    use std::process::ExitCode;

    use ecr_push::cli;
    use ecr_push::ecr::Access;
    use ecr_push::error::Result;
    use ecr_push::progress::Progress;
    use ecr_push::push::{self, Outcome, Request, TagFate};
    use ecr_push::reference::EcrHost;
    use ecr_push::report;
    use ecr_push::sandbox::{Options, Rules, Sandbox};

    /// Starts a sandbox and turns the request to it, if one is wanted. The targets' repositories are there, unless the push is
    /// to create them.
    pub(super) async fn stand_in(
        wanted: Option<Option<PathBuf>>,
        request: &mut Request,
        progress: &Progress,
    ) -> Result<Option<Sandbox>> {
        let Some(dir) = wanted else { return Ok(None) };
        let there = request.targets.iter().filter(|_| !request.create_repository);
        let create = there.map(|target| target.repository.clone()).collect();
        let mut options = Options { dir, create, ..Options::default() };
        // It plays the registry that the first target names, if one does.
        let named = request.targets.iter().find_map(|target| target.host.as_ref()?.ecr());
        if let Some(EcrHost { account, region, .. }) = named.cloned() {
            (options.account, options.region) = (account, region);
        }
        // Targets without a host are in the region that is asked for. It takes every host for its own.
        options.region = request.region.clone().unwrap_or(options.region);
        let region = options.region.clone();
        let sandbox = Sandbox::start(options).await?;
        progress.say(&format!("sandbox: an ECR of this program at {} stands in for AWS", sandbox.url()));
        request.registry_endpoint = Some(sandbox.address().to_string().parse()?);
        request.access = Access::StandIn { endpoint: sandbox.url(), region };
        Ok(Some(sandbox))
    }

    /// Reads back what was pushed, and says what is there.
    pub(super) async fn read_back(request: &Request, outcome: &Outcome) -> Result<String> {
        let mut text = String::new();
        for (target, pushed) in request.targets.iter().zip(&outcome.targets) {
            let mut placed = pushed.placed.iter().zip(pushed.references());
            if let Some((placed, reference)) = placed.find(|(placed, _)| placed.fate != TagFate::Skipped) {
                text += &report::read_back(&reference, &push::read_back(request, target, &placed.tag).await?);
            }
        }
        Ok(text)
    }

    /// Runs a sandbox until Ctrl-C.
    pub(super) async fn serve(asked: cli::Sandbox) -> Result<ExitCode> {
        let cli::Sandbox { listen, dir, discard, delay, create } = asked;
        let rules = Rules { delay, ..Rules::default() };
        let options = Options { listen, dir, discard, rules, create, ..Options::default() };
        let region = options.region.clone();
        let sandbox = Sandbox::start(options).await?;
        let (url, local) = (sandbox.url(), sandbox.address().ip());
        super::print(&format!(
            "A sandbox of Amazon ECR listens at {url} until Ctrl-C. To push into it:\n\n  \
             export AWS_ENDPOINT_URL_ECR={url} AWS_ENDPOINT_URL_ECR_PUBLIC={url} \\\n         \
             AWS_ENDPOINT_URL_STS={url} ECR_PUSH_REGISTRY_ENDPOINT={url} \\\n         \
             AWS_ACCESS_KEY_ID=sandbox AWS_SECRET_ACCESS_KEY=sandbox AWS_REGION={region} \\\n         \
             NO_PROXY=\"{local},$NO_PROXY\"\n  \
             ecr-push IMAGE.tar team/app:1 --create-repository\n"
        ))?;
        super::asked_to_stop().await;
        sandbox.stop().await;
        Ok(ExitCode::SUCCESS)
    }
}
