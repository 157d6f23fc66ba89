//! The program: from the arguments to the exit code, also of a command line that leads to no push.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::SystemTime;

use super::files::{Claims, clear};
use super::password::password_of;
use super::pipeline::CiOutput;
use super::stderr::{error_text, print, print_result, style, text_writer};
use super::{batch, bundle, inspect, many, push, tag, threads};
use crate::cli::azure_task::AzureTask;
use crate::cli::error_sinks::{ErrorSinks, error_sinks};
use crate::cli::files::OutputFile;
use crate::cli::output::{ProgressArg, PushOutput};
use crate::cli::parse::{Command, parse};
use crate::cli::pipeline::SummaryTo;
use crate::error::{Error, Kind, Result};
use crate::file;
use crate::output::log::{Verbosity, sanitize};
use crate::output::report::{self, ReportCollector, RunInfo};
use crate::output::writer::{Log, Writer};

/// Runs the program with the arguments and the environment of this process, and returns its exit code.
pub fn main() -> ExitCode {
    let started_at = SystemTime::now();
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let environment = |name: &str| std::env::var_os(name);
    let done = parse(arguments.clone(), &environment).and_then(run);
    done.unwrap_or_else(|error| {
        let sinks = error_sinks(&arguments, &environment);
        let writer = Writer::start(style(ProgressArg::Auto, Verbosity::Normal, sinks.log_format));
        report_rejection(&error, sinks, writer.log(), started_at);
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
            let password = |user| password_of(user, push.options.deadline);
            push.options.registries.login = push.username.take().map(password).transpose()?;
            // Before there is a handler of signals: nothing has begun that would have to end in good order.
            let listed = push.bundle.as_ref().map(bundle::listed).transpose()?.flatten();
            let others = if push.bundle.is_some() { many::THREADS } else { 0 };
            let runtime = threads::for_push(&push.request, &mut push.options.layers, others)?;
            let done = match push.bundle.take() {
                Some(bundle) => threads::run(&runtime, bundle::run(*push, bundle, listed)),
                None => threads::run(&runtime, push::run(*push)),
            };
            // The process does not wait for a thread that hangs in the operating system: in a name server or a dead drive.
            runtime.shutdown_background();
            done
        }
        Command::AzureTask(AzureTask { push, remove }) => {
            let done = run(Command::Push(push))?;
            if let Some(image) = remove.filter(|_| done == ExitCode::SUCCESS) {
                image.remove()?;
            }
            Ok(done)
        }
        Command::Batch(args) => batch::run(*args),
        Command::Tag(mut tagging) => {
            let password = |user| password_of(user, None);
            tagging.options.registries.login = tagging.username.take().map(password).transpose()?;
            let runtime = threads::for_requests()?;
            let done = runtime.block_on(tag::run(*tagging));
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
        Command::Inspect(inspect) => inspect::run(&inspect),
        #[cfg(feature = "sandbox")]
        Command::Sandbox(args, create) => threads::for_requests()?.block_on(super::sandbox_server::run(args, create)),
        #[cfg(feature = "sandbox")]
        Command::Demo => {
            let (push, _file) = super::demo::demo()?;
            run(push)
        }
    }
}

/// Reports an error to people, to the CI system, and in the report if one is wanted. A report that cannot be written adds
/// nothing, and a file that may be an input is not written to.
fn report_rejection(error: &Error, sinks: ErrorSinks, log: &Log, started_at: SystemTime) {
    let ErrorSinks { output, report, are_several, other_files, mut pipeline, .. } = sinks;
    let display_name = pipeline.display_name.clone();
    let mut claims = Claims::default();
    let summary = match &pipeline.summary {
        Some(SummaryTo::File(path)) => Some(path.clone()),
        _ => None,
    };
    let others = other_files.iter().filter(|rival| Some(*rival) != summary.as_ref());
    others.for_each(|rival| claims.read("the argument", rival));
    if summary.is_some_and(|path| claims.write("summary", &path).is_err()) {
        pipeline.summary = None;
    }
    match CiOutput::start(pipeline, log) {
        Ok(ci) => {
            log.write_raw(ci.error_text(error));
            ci.summarize_rejection(error);
        }
        Err(_) => log.write_raw(error_text(error, log.style())),
    }
    let collector = ReportCollector::default();
    let run = RunInfo { display_name: &display_name, collector: &collector, error: Some(error) };
    let json = if are_several { report::rejection_line(run, started_at) } else { report::rejection(run, started_at) };
    let json = match json {
        Ok(json) => json,
        Err(fault) => return log.write_raw(error_text(&fault, log.style())),
    };
    if let Some(report) = report.filter(|report| claims.write(OutputFile::Report.what(), report).is_ok())
        && let Ok(file) = OutputFile::Report.open(&report)
    {
        let _unwritten = clear(&file).and_then(|()| file::write_all(&file, json.as_bytes()));
    }
    if output != PushOutput::Text {
        let _unwritten = print_result(&json, log);
    }
}
