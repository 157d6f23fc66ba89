//! Shell completions and manual pages, generated from the parser.

use clap::Command;
use clap_complete::Shell;

use crate::error::{Code, Error, Result};

#[derive(Debug, clap::Args)]
pub(super) struct CompletionArgs {
    /// Shell to generate completions for
    shell: Shell,
}

/// Returns the completion script of a shell.
pub(super) fn completions(args: &CompletionArgs, mut command: Command) -> Result<String> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "ecr-push", &mut script);
    text(script)
}

#[derive(Debug, clap::Args)]
pub(super) struct ManArgs {
    /// Command to print the page of [default: the page of ecr-push itself]
    command: Option<String>,
}

/// Returns the manual page of the program or of a command, as roff.
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
    // The page omits options that are hidden in the short help.
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
