//! The program: from the arguments to the exit code.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::SystemTime;

use super::password::password_of;
use super::stderr::{print, style, text_writer};
use super::{batch, bundle, inspect, push, rejected, threads};
use crate::cli::error_sinks::error_sinks;
use crate::cli::output::ProgressArg;
use crate::cli::parse::{Command, parse};
use crate::error::{Kind, Result};
use crate::output::log::{Verbosity, sanitize};
use crate::output::writer::Writer;

/// Runs the program with the arguments and the environment of this process, and returns its exit code.
pub fn main() -> ExitCode {
    let started_at = SystemTime::now();
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let environment = |name: &str| std::env::var_os(name);
    let done = parse(arguments.clone(), &environment).and_then(run);
    done.unwrap_or_else(|error| {
        let sinks = error_sinks(&arguments, &environment);
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
            let password = |user| password_of(user, push.options.deadline);
            push.options.registries.login = push.username.take().map(password).transpose()?;
            let runtime = threads::for_push(&push.request, &mut push.options.layers)?;
            let done = match push.bundle.take() {
                Some(bundle) => runtime.block_on(bundle::run(*push, bundle)),
                None => runtime.block_on(push::run(*push)),
            };
            // The process does not wait for a thread that hangs in the operating system: in a name server or a dead drive.
            runtime.shutdown_background();
            done
        }
        Command::Batch(args) => batch::run(*args),
        Command::Policy(policy) => {
            let writer = text_writer();
            policy.notes.iter().for_each(|note| writer.log().write_raw(sanitize(&format!("{note}\n"))));
            writer.log().drain();
            print(&policy.text)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Inspect(inspect) => inspect::run(&inspect),
        #[cfg(feature = "sandbox")]
        Command::Sandbox(sandbox) => threads::for_server()?.block_on(super::sandbox::serve(sandbox)),
    }
}
