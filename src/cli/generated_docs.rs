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
    let mut command = command.mut_args(|argument| argument.hide_short_help(false));
    let usage = command.render_usage().to_string();
    let mut page = Vec::new();
    let rendered =
        clap_mangen::Man::new(command).source(concat!("ecr-push ", env!("CARGO_PKG_VERSION"))).render(&mut page);
    rendered.map_err(|error| Error::usage("cannot generate the manual page").because(error))?;
    Ok(with_usual_sections(&text(page)?, &usage))
}

/// Gives a page the synopsis and the sections that manual pages have. Generated pages have every option in the synopsis, and one
/// section for all that follows the options.
fn with_usual_sections(page: &str, usage: &str) -> String {
    let mut result = String::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let heading = match line {
            ".SH SYNOPSIS" => {
                lines.next();
                let synopsis: Vec<_> = usage.trim_start_matches("Usage:").lines().map(str::trim).collect();
                &format!("{line}\n{}", synopsis.join("\n.br\n").replace('-', "\\-"))
            }
            ".SH EXTRA" => continue,
            "Exit codes:" => ".SH \"EXIT STATUS\"",
            "Environment:" => ".SH ENVIRONMENT",
            "Examples:" => ".SH EXAMPLES",
            line => line,
        };
        result += heading;
        result.push('\n');
    }
    result
}

fn text(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|error| Error::usage("cannot generate the text").because(error))
}
