//! Shell completions and manual pages, generated from the parser.

use clap::{Command, ValueEnum};
use clap_complete::Shell;

use crate::error::{Code, Error, Result};

#[derive(Debug, clap::Args)]
pub(super) struct CompletionArgs {
    /// Shell to generate completions for
    shell: ShellArg,
}

/// The supported shells.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum ShellArg {
    Bash,
    Elvish,
    Fish,
    Powershell,
    Zsh,
}

/// Returns the completion script of a shell.
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

#[derive(Debug, clap::Args)]
pub(super) struct ManArgs {
    /// Command to print the page of [default: the page of ecr-push itself]
    command: Option<String>,
}

/// Returns a manual page as roff: that of the program, or of one of its commands.
pub(super) fn manual(args: &ManArgs, mut program: Command) -> Result<String> {
    program.build();
    let names = program.get_subcommands().map(|known| known.get_name().to_owned()).filter(|name| name != "help");
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    let command = match &args.command {
        None => program,
        Some(name) => {
            names.contains(name).then(|| program.find_subcommand(name).cloned()).flatten().ok_or_else(|| {
                Error::usage(format!("ecr-push has no command {name:?}"))
                    .code(Code::CommandUnknown)
                    .hint(format!("Use one of {}.", names.join(", ")))
            })?
        }
    };
    // The page shows the short help of each option, and nothing of an option that the short help hides.
    let command = command.mut_args(|argument| argument.hide_short_help(false));
    let mut page = Vec::new();
    let rendered =
        clap_mangen::Man::new(command).source(concat!("ecr-push ", env!("CARGO_PKG_VERSION"))).render(&mut page);
    rendered.map_err(|error| Error::usage("cannot generate the manual page").because(error))?;
    text(page)
}

fn text(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|error| Error::usage("cannot generate the text").because(error))
}
