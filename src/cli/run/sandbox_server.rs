//! The sandbox as a server: until Ctrl-C, or as long as a command runs.

use std::process::{ExitCode, ExitStatus};

use tokio::process::{Child, Command};

use super::signals::{StopSignal, StopSignals, asked_to_stop};
use super::stderr::{print, text_writer};
use crate::cli::sandbox::{SandboxArgs, SandboxCommand};
use crate::error::{Error, Result};
use crate::oci::Repository;
use crate::output::log::{Entry, Level};
use crate::sandbox::{self, Sandbox};

/// Runs a sandbox, or prints how to reach one.
pub(super) async fn run(args: SandboxArgs, create: Vec<Repository>) -> Result<ExitCode> {
    if let Some(SandboxCommand::Env { address }) = args.action {
        let region = sandbox::Options::default().region;
        print(&exports(&variables(&address, &region), ""))?;
        return Ok(ExitCode::SUCCESS);
    }
    let default = sandbox::Options::default();
    let options = sandbox::Options {
        listen: args.address(),
        public: args.public,
        dir: args.dir,
        discard: args.discard,
        log: args.log,
        rules: args.rules.read()?,
        create,
        any_account: args.account.is_none(),
        any_region: args.region.is_none(),
        account: args.account.unwrap_or(default.account),
        region: args.region.unwrap_or(default.region),
    };
    let region = options.region.clone();
    let sandbox = Sandbox::start(options).await?;
    let url = sandbox.url();
    let address = url.trim_start_matches("http://");
    let writer = text_writer();
    let log = writer.log();
    if !sandbox.address().ip().is_loopback() {
        let text = format!(
            "the sandbox listens on {}: every machine that can connect has full access to it",
            sandbox.address()
        );
        log.write_entry(&Entry::new(Level::Warning, "sandbox", text));
    }
    let code = if args.command.is_empty() {
        log.drain();
        let exports = exports(&variables(address, &region), "  ");
        print(&format!(
            "The sandbox (a fake Amazon ECR) listens on {url} until Ctrl-C. To push into it:\n\n{exports}\
             \x20 ecr-push IMAGE.tar team/app:1 --create-repository\n"
        ))?;
        asked_to_stop().await;
        ExitCode::SUCCESS
    } else {
        let text = format!("sandbox: using the built-in fake ECR at {url}; nothing is sent to AWS");
        log.write_entry(&Entry::info("sandbox", text).with("url", url.as_str()));
        log.drain();
        run_command(&args.command, &variables(address, &region)).await?
    };
    sandbox.stop().await;
    Ok(code)
}

/// The variables that direct this program and AWS's tools to a sandbox.
fn variables(address: &str, region: &str) -> Vec<(&'static str, String)> {
    let url = format!("http://{address}");
    let mut variables = vec![
        ("AWS_ENDPOINT_URL_ECR", url.clone()),
        ("AWS_ENDPOINT_URL_ECR_PUBLIC", url.clone()),
        ("AWS_ENDPOINT_URL_STS", url.clone()),
        ("ECR_PUSH_REGISTRY_ENDPOINT", url),
        ("AWS_ACCESS_KEY_ID", "sandbox".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "sandbox".to_owned()),
        ("AWS_REGION", region.to_owned()),
        // botocore reads only this one.
        ("AWS_DEFAULT_REGION", region.to_owned()),
    ];
    let [upper, lower] = ["NO_PROXY", "no_proxy"].map(|name| std::env::var(name).ok());
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let hosts = without_proxy(host, upper.as_deref().or(lower.as_deref()).unwrap_or_default());
    // curl and Python prefer the name in lower case.
    variables.extend(lower.map(|_| ("no_proxy", hosts.clone())));
    variables.push(("NO_PROXY", hosts));
    variables
}

/// Returns the hosts without a proxy: that of the sandbox, and those that have none already.
fn without_proxy(host: &str, others: &str) -> String {
    let mut hosts = vec![host, "localhost"];
    let others = others.split(',').map(str::trim).filter(|other| !other.is_empty() && *other != host);
    hosts.extend(others.filter(|other| *other != "localhost"));
    hosts.join(",")
}

/// Returns a line of a shell for each variable. It refers to no other variable, which may be unset.
fn exports(variables: &[(&str, String)], indent: &str) -> String {
    // Without quotes where none are needed: a file of variables may be read by another program than a shell.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b",.:/-_".contains(&byte);
    let quoted = |value: &str| match shlex::try_quote(value) {
        Ok(quoted) if !value.bytes().all(is_plain) => quoted.into_owned(),
        _ => value.to_owned(),
    };
    variables.iter().map(|(name, value)| format!("{indent}export {name}={}\n", quoted(value))).collect()
}

/// Runs a command with these variables, forwards signals to it, and returns its exit code.
async fn run_command(words: &[std::ffi::OsString], variables: &[(&str, String)]) -> Result<ExitCode> {
    let [program, arguments @ ..] = words else { return Ok(ExitCode::SUCCESS) };
    let mut command = Command::new(program);
    command.args(arguments).kill_on_drop(true);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    let fail = |why| Error::usage(format!("cannot run {}", program.display())).because(why);
    // Before the command starts, so that no signal ends this process alone.
    let mut signals = StopSignals::listen();
    let mut child = command.spawn().map_err(fail)?;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status.map_err(fail)?,
            // The command decides what follows.
            signal = signals.next() => forward(signal, &child),
        }
    };
    Ok(ExitCode::from(status.code().map_or_else(|| signalled(status), |code| code as u8)))
}

/// Sends a signal to the command as well, unless a terminal has done so.
#[cfg(unix)]
fn forward(signal: StopSignal, command: &Child) {
    use rustix::process::{Pid, getpgrp, kill_process};
    // A terminal sends its Ctrl-C to this process and to the command.
    let is_in_foreground = || {
        let terminal = std::fs::File::open("/dev/tty");
        terminal.is_ok_and(|it| rustix::termios::tcgetpgrp(it).is_ok_and(|foreground| foreground == getpgrp()))
    };
    if signal == StopSignal::INT && is_in_foreground() {
        return;
    }
    if let Some(id) = command.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)) {
        // One that has ended needs no signal.
        let _ended = kill_process(id, signal);
    }
}

/// Leaves it to the console, which interrupts the command as well.
#[cfg(not(unix))]
fn forward(_: StopSignal, _: &Child) {}

/// Returns the exit code of a shell for a command that a signal ended.
fn signalled(status: ExitStatus) -> u8 {
    #[cfg(unix)]
    let signal = std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or_default();
    #[cfg(not(unix))]
    let signal = status.code().unwrap_or_default();
    u8::try_from(signal).unwrap_or_default().saturating_add(128)
}
