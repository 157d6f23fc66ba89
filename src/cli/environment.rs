//! Options from the environment: `ECR_PUSH_<OPTION>`.

use std::ffi::OsString;

use clap::ArgAction;

use super::parser::command;
use super::unexpanded::reject_unexpanded;
use super::values::{Environment, REGISTRY_ENDPOINT};
use crate::error::{Error, Result};

/// Inserts the options of the environment before the arguments, except those that the arguments set.
pub(super) fn with_environment(mut arguments: Vec<OsString>, environment: Environment<'_>) -> Result<Vec<OsString>> {
    // What follows `--` is a command of its own.
    let is_sandbox = arguments.first().is_some_and(|first| first == "sandbox");
    for argument in arguments.iter().take_while(|argument| !is_sandbox || *argument != "--") {
        reject_unexpanded("the argument", &argument.to_string_lossy(), environment)?;
    }
    let mut command = command();
    let first = arguments.first().map(|first| first.to_string_lossy().into_owned()).unwrap_or_default();
    let mut all = Vec::new();
    match command.find_subcommand(&first).cloned() {
        Some(verb) if ["batch", "inspect", "policy", "tag"].contains(&&*first) => {
            all.push(arguments.remove(0));
            command = verb;
        }
        // Other commands read no options from the environment.
        Some(_) => return Ok(arguments),
        None if first == "help" => return Ok(arguments),
        None => {}
    }
    for option in command.get_arguments().filter(|option| !option.is_positional()) {
        let Some(long) = option.get_long().filter(|long| !["help", "version"].contains(long)) else { continue };
        let name = variable(long);
        let Some(value) = environment(&name).filter(|value| !value.is_empty()) else { continue };
        let conflicts = command.get_arg_conflicts_with(option);
        if std::iter::once(option)
            .chain(conflicts)
            .any(|option| is_among(&arguments, option.get_long().unwrap_or_default(), option.get_short()))
        {
            continue;
        }
        let value = value.to_string_lossy().into_owned();
        reject_unexpanded(&name, &value, environment)?;
        let flag = format!("--{long}");
        // An optional value, such as that of --sandbox, can also be true or false.
        let takes_none = option.get_num_args().is_some_and(|count| count.min_values() == 0);
        match (option.get_action(), parse_bool(&value)) {
            (ArgAction::SetTrue, None) => return Err(switch_invalid(&name, "true or false")),
            (ArgAction::SetTrue, Some(is_true)) => all.extend(is_true.then(|| flag.into())),
            (ArgAction::Count, _) => all.extend(switch_count(&name, &value)?.map(|_| flag.clone().into())),
            (_, Some(is_true)) if takes_none => all.extend(is_true.then(|| flag.into())),
            (ArgAction::Append, _) => {
                // Resource tags may contain spaces.
                let separators: &[char] = if long == "repository-tag" { &[',', '\n'] } else { &[',', ' ', '\n', '\t'] };
                let values = value.split(separators).map(str::trim).filter(|value| !value.is_empty());
                all.extend(values.map(|value| format!("{flag}={value}").into()));
            }
            _ => all.push(format!("{flag}={value}").into()),
        }
    }
    all.extend(arguments);
    Ok(all)
}

/// Adds the variable to the hint of an error about an option that only the environment sets.
pub(super) fn with_origin(error: Error, arguments: &[OsString], environment: Environment<'_>) -> Error {
    let options = error.options().iter().filter_map(|option| option.strip_prefix("--"));
    let mut options = options.filter(|long| !is_among(arguments, long, None));
    let is_set = |name: &String| environment(name).is_some_and(|value| !value.is_empty());
    let Some(name) = options.find_map(|long| Some(variable(long)).filter(is_set)) else { return error };
    let advice = error.advice().cloned().unwrap_or_default();
    error.hint(advice.preceded_by(&format!("The value comes from the environment variable {name}.")))
}

/// Returns the variables with the program's prefix that set no option: they are likely misspelled.
pub(super) fn unknown_env_vars(names: impl Iterator<Item = String>) -> Vec<String> {
    let command = command();
    let verbs = std::iter::once(&command).chain(command.get_subcommands());
    let options = verbs.flat_map(clap::Command::get_arguments).filter_map(clap::Arg::get_long).map(variable);
    let known: Vec<String> = options.chain([REGISTRY_ENDPOINT.to_owned()]).collect();
    names.filter(|name| name.starts_with(&variable("")) && !known.contains(name)).collect()
}

/// Returns the variable that sets an option.
pub(super) fn variable(long: &str) -> String {
    format!("ECR_PUSH_{}", long.to_ascii_uppercase().replace('-', "_"))
}

/// Returns a range with one item for each time that a repeatable switch is set.
fn switch_count(name: &str, value: &str) -> Result<std::ops::Range<u8>> {
    match (parse_bool(value), value.trim()) {
        (Some(is_true), _) => Ok(0..u8::from(is_true)),
        (None, "2") => Ok(0..2),
        _ => Err(switch_invalid(name, "true, false, 1 or 2")),
    }
}

/// Returns the error about the variable of a switch. The value is not quoted: `ECR_PUSH_PASSWORD_STDIN` may contain a
/// password.
fn switch_invalid(name: &str, values: &str) -> Error {
    Error::invalid(format!("{name} must be {values}"))
}

/// Parses the value of a switch, in any case.
fn parse_bool(value: &str) -> Option<bool> {
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

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::unknown_env_vars;

    /// Returns the hint for these arguments with one variable set.
    fn advice(arguments: &[&str], (name, value): (&str, &str)) -> String {
        let arguments = arguments.iter().map(Into::into).collect();
        let error = parse(arguments, &|asked| (asked == name).then(|| value.into())).unwrap_err();
        error.advice().map(ToString::to_string).unwrap_or_default()
    }

    #[test]
    fn variables_that_set_no_option_are_found() {
        let names =
            ["ECR_PUSH_REGOIN", "ECR_PUSH_REGION", "ECR_PUSH_VERIFY", "ECR_PUSH_REGISTRY_ENDPOINT", "ECR_PUSH", "A"];
        assert_eq!(unknown_env_vars(names.into_iter().map(str::to_owned)), ["ECR_PUSH_REGOIN"]);
    }

    #[test]
    fn an_error_about_a_value_of_the_environment_has_its_variable() {
        let origin = |name: &str| format!("The value comes from the environment variable {name}.");
        for (variable, value) in [
            ("ECR_PUSH_LOG_FORMAT", "yaml"),
            ("ECR_PUSH_DEADLINE", "0"),
            ("ECR_PUSH_LIMIT_RATE", "1Q"),
            ("ECR_PUSH_COMPRESSION_LEVEL", "x"),
        ] {
            let advice = advice(&["a.tar", "h.io/app"], (variable, value));
            assert!(advice.starts_with(&origin(variable)), "{variable}: {advice}");
        }
        assert!(advice(&["a.tar", "h.io/app"], ("ECR_PUSH_LIMIT_RATE", "1Q")).ends_with("500K, 10M, 1G."));
        // An argument overrides the variable, and an error about another value does not mention it.
        let typed = ["a.tar", "h.io/app", "--limit-rate", "1Q"];
        assert!(!advice(&typed, ("ECR_PUSH_LIMIT_RATE", "5M")).contains("environment"));
        assert!(!advice(&["a.tar", "h.io/App"], ("ECR_PUSH_REGION", "eu-west-1")).contains("environment"));
    }
}
