//! Completions and the manual page, made of the command line itself.

use clap::{Command, ValueEnum};
use clap_complete::Shell;

use crate::error::{Error, Result};

#[derive(Debug, clap::Args)]
pub(super) struct CompletionArgs {
    /// Shell that reads them
    shell: ShellArg,
}

/// The shells.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum ShellArg {
    Bash,
    Elvish,
    Fish,
    Powershell,
    Zsh,
}

/// The script that makes a shell complete our arguments.
pub(super) fn completions(args: &CompletionArgs, mut command: Command) -> Result<String> {
    let shell = match args.shell {
        ShellArg::Bash => Shell::Bash,
        ShellArg::Elvish => Shell::Elvish,
        ShellArg::Fish => Shell::Fish,
        ShellArg::Powershell => Shell::PowerShell,
        ShellArg::Zsh => Shell::Zsh,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "ecr-push", &mut script);
    text(script)
}

/// The manual page, as roff.
pub(super) fn manual(command: Command) -> Result<String> {
    let mut page = Vec::new();
    // What the short help leaves out would stand there without its words.
    let command = command.mut_args(|argument| argument.hide_short_help(false));
    let rendered = clap_mangen::Man::new(command).render(&mut page);
    rendered.map_err(|error| Error::usage("the manual page cannot be made").because(error))?;
    text(page)
}

fn text(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes)
        .map_err(|error| Error::usage("what was made of the command line is no text").because(error))
}
