//! The arguments of `ecr-push sandbox`.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::sandbox_rules::SandboxRulesArgs;
use crate::error::{Code, Error, Result};
use crate::oci::Host;

/// The default address.
const ADDRESS: &str = "127.0.0.1:5050";

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct SandboxArgs {
    #[command(subcommand)]
    pub(super) action: Option<SandboxCommand>,
    /// Address and port to listen on: 5050, localhost:5050, 127.0.0.1:0 for a free port [default: 127.0.0.1:5050, with a
    /// command a free port]
    #[arg(long, value_parser = address, value_name = "ADDR", hide_default_value = true)]
    pub(super) listen: Option<SocketAddr>,
    /// Allow --listen to use addresses that other machines can reach: every client has full access
    #[arg(long)]
    pub(super) public: bool,
    /// Account of the only registry [default: any account]
    #[arg(long, value_name = "ACCOUNT")]
    pub(super) account: Option<String>,
    /// Region of the only registry [default: any region]
    #[arg(long, value_name = "REGION")]
    pub(super) region: Option<String>,
    /// Folder to store images in, as one OCI layout per repository [default: in memory]
    #[arg(long, value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
    /// Verify digests and discard blobs above 1 MiB, for benchmarks
    #[arg(long)]
    pub(super) discard: bool,
    /// File to append a line of JSON to for each request
    #[arg(long, value_name = "FILE")]
    pub(super) log: Option<PathBuf>,
    #[command(flatten)]
    pub(super) rules: SandboxRulesArgs,
    /// Repository to create at the start in each registry (repeatable)
    #[arg(long, value_name = "NAME")]
    pub(super) repository: Vec<String>,
    /// Command to run with the variables of the sandbox, which stops with it
    #[arg(last = true, value_name = "COMMAND")]
    pub(super) command: Vec<OsString>,
}

impl SandboxArgs {
    /// Returns the address to listen on.
    pub(super) fn address(&self) -> SocketAddr {
        let port = if self.command.is_empty() { 5050 } else { 0 };
        self.listen.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }

    /// Checks that there is a command after `--`, which may be the last argument.
    ///
    /// # Errors
    /// If there is none: the sandbox would run until Ctrl-C.
    pub(super) fn check_command(&self, ends_with_separator: bool) -> Result<()> {
        let is_missing = match self.command.first() {
            Some(program) => program.is_empty(),
            None => ends_with_separator,
        };
        if !is_missing {
            return Ok(());
        }
        Err(Error::usage("the command after -- is missing")
            .code(Code::ArgumentMissing)
            .hint("Is a shell variable unset? To run the sandbox until Ctrl-C, leave -- out."))
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum SandboxCommand {
    /// Print the variables of a running sandbox for a shell to evaluate: eval "$(ecr-push sandbox env)"
    Env {
        /// Address of the sandbox: 5050, localhost:5050
        #[arg(value_parser = server, value_name = "ADDR", default_value = ADDRESS)]
        address: String,
    },
}

/// Parses an address to listen on: `5050`, `:5050`, `localhost:5050`, `127.0.0.1:5050`.
fn address(text: &str) -> Result<SocketAddr, &'static str> {
    const RULE: &str = "the value must be a port or ADDRESS:PORT, such as 5050 or 127.0.0.1:5050";
    let text = text.trim();
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let port = text.strip_prefix("localhost").unwrap_or(text);
    let port = port.strip_prefix(':').or_else(|| (port == text).then_some(port)).ok_or(RULE)?;
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|_| is_number).ok_or(RULE)?;
    Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
}

/// Parses the address of a sandbox, which may also be the name of another machine.
fn server(text: &str) -> Result<String, &'static str> {
    let text = text.trim().trim_start_matches("http://").trim_end_matches('/');
    match address(text) {
        Ok(address) => Ok(address.to_string()),
        Err(rule) => {
            let host = text.parse::<Host>().map_err(|_| rule)?;
            if host.as_str() == host.without_port() { Err(rule) } else { Ok(host.as_str().to_owned()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::*;

    #[test]
    fn a_command_follows_the_separator() {
        let parsed = |arguments: &[&str]| parse(arguments.iter().map(Into::into).collect(), &|_| None);
        for missing in [&["sandbox", "--"][..], &["sandbox", "--discard", "--"], &["sandbox", "--", "", "a"]] {
            assert_eq!(parsed(missing).unwrap_err().to_string(), "the command after -- is missing");
        }
        for complete in [&["sandbox"][..], &["sandbox", "--", "--"], &["sandbox", "--", "a", "--"]] {
            assert!(parsed(complete).is_ok(), "{complete:?}");
        }
    }

    #[test]
    fn an_address_may_be_a_port() {
        for (text, parsed) in [
            ("5088", "127.0.0.1:5088"),
            (":5088", "127.0.0.1:5088"),
            ("localhost:5088", "127.0.0.1:5088"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("[::1]:5088", "[::1]:5088"),
            ("0.0.0.0:5088", "0.0.0.0:5088"),
        ] {
            assert_eq!(address(text).map(|address| address.to_string()).as_deref(), Ok(parsed), "{text}");
            assert_eq!(server(text).as_deref(), Ok(parsed), "{text}");
        }
        for bad in ["", "localhost", "localhost5", "+5", "65536", "a:b", "127.0.0.1", "::5", "example.org:80"] {
            assert!(address(bad).is_err(), "{bad}");
        }
        assert_eq!(server("http://ecr:5050/").as_deref(), Ok("ecr:5050"));
        for bad in ["ecr", "a b:1", "a$(b):1", ""] {
            assert!(server(bad).is_err(), "{bad}");
        }
    }
}
