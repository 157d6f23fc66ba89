//! Options that stand in the environment.

use std::ffi::OsString;

use clap::ArgAction;

use super::command;
use crate::error::{Error, Result};

/// Puts the options that stand in the environment in front of the arguments, each unless it is among them.
pub(super) fn with_environment(
    mut arguments: Vec<OsString>,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Vec<OsString>> {
    for argument in &arguments {
        refuse_unexpanded("the argument", &argument.to_string_lossy())?;
    }
    let mut command = command();
    let first = arguments.first().map(|first| first.to_string_lossy().into_owned()).unwrap_or_default();
    let mut all = Vec::new();
    match command.find_subcommand(&first).cloned() {
        Some(verb) if ["inspect", "policy"].contains(&&*first) => {
            all.push(arguments.remove(0));
            command = verb;
        }
        // A sandbox is set up by its arguments alone.
        Some(_) => return Ok(arguments),
        None if first == "help" => return Ok(arguments),
        None => {}
    }
    for option in command.get_arguments().filter(|option| !option.is_positional()) {
        let Some(long) = option.get_long().filter(|long| !["help", "version"].contains(long)) else { continue };
        let name = format!("ECR_PUSH_{}", long.to_ascii_uppercase().replace('-', "_"));
        let Some(value) = environment(&name).filter(|value| !value.is_empty()) else { continue };
        let rivals = command.get_arg_conflicts_with(option);
        let mut same = std::iter::once(option).chain(rivals);
        if same.any(|option| is_among(&arguments, option.get_long().unwrap_or_default(), option.get_short())) {
            continue;
        }
        let value = value.to_string_lossy().into_owned();
        refuse_unexpanded(&name, &value)?;
        let flag = format!("--{long}");
        // A value that may be left out, as that of --sandbox, can be a yes or a no as well.
        let takes_none = option.get_num_args().is_some_and(|count| count.min_values() == 0);
        match (option.get_action(), truth(&value)) {
            (ArgAction::SetTrue, None) => {
                return Err(Error::usage(format!("{name} is {value:?}")).hint("Write true or false."));
            }
            (ArgAction::SetTrue, Some(is_true)) => all.extend(is_true.then(|| flag.into())),
            (ArgAction::Count, _) => all.extend(times(&name, &value)?.map(|_| flag.clone().into())),
            (_, Some(is_true)) if takes_none => all.extend(is_true.then(|| flag.into())),
            (ArgAction::Append, _) => {
                // Tags of repositories may have blanks in them.
                let between: &[char] = if long == "repository-tag" { &[',', '\n'] } else { &[',', ' ', '\n', '\t'] };
                let values = value.split(between).map(str::trim).filter(|value| !value.is_empty());
                all.extend(values.map(|value| format!("{flag}={value}").into()));
            }
            _ => all.push(format!("{flag}={value}").into()),
        }
    }
    all.extend(arguments);
    Ok(all)
}

/// How often a switch is given that can be given twice.
fn times(name: &str, value: &str) -> Result<std::ops::Range<u8>> {
    match (truth(value), value.trim()) {
        (Some(is_true), _) => Ok(0..u8::from(is_true)),
        (None, "2") => Ok(0..2),
        _ => Err(Error::usage(format!("{name} is {value:?}")).hint("Write true, false, 1 or 2.")),
    }
}

/// What a word says about a switch, in any case.
fn truth(value: &str) -> Option<bool> {
    match value.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn is_among(arguments: &[OsString], long: &str, short: Option<char>) -> bool {
    let options = arguments.iter().map(|argument| argument.to_string_lossy()).take_while(|argument| argument != "--");
    options.into_iter().any(|argument| {
        argument.strip_prefix("--").is_some_and(|name| name.split('=').next() == Some(long))
            || short.is_some_and(|short| argument.strip_prefix('-').is_some_and(|name| name.starts_with(short)))
    })
}

/// Azure Pipelines leaves `$(NAME)` as it is where no such variable is defined.
pub(super) fn refuse_unexpanded(what: &str, value: &str) -> Result<()> {
    let Some((_, rest)) = value.split_once("$(") else { return Ok(()) };
    match rest.split_once(')') {
        Some((name, _)) => Err(Error::usage(format!("{what} holds $({name}), which nobody filled in"))
            .hint(format!("Define the pipeline variable {name}, or leave the option out."))),
        None => Ok(()),
    }
}
