//! The subcommand of a command line. Options may precede it.

use std::ffi::OsString;
use std::path::Path;

use clap::builder::ArgAction;

use super::parser::command;
use crate::error::{Advice, Code, Error, Result};

/// The default subcommand.
const DEFAULT: &str = "push";

/// Moves the subcommand before the options, and removes the default one.
pub(super) fn first(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let Some(at) = first_positional(&arguments).filter(|at| is_subcommand(&arguments[*at].to_string_lossy())) else {
        return arguments;
    };
    let name = arguments.remove(at);
    if name != DEFAULT {
        arguments.insert(0, name);
    }
    arguments
}

/// Rejects a misspelled subcommand and one of another tool, which would be read as an archive.
///
/// # Errors
/// If the first word resembles a subcommand or is a known one of another tool, and no such file exists.
pub(super) fn refuse_unknown(arguments: &[OsString]) -> Result<()> {
    let Some(word) = first_positional(arguments).map(|at| arguments[at].to_string_lossy()) else { return Ok(()) };
    if word.contains(['.', '/', '\\', ':']) || is_subcommand(&word) || Path::new(&*word).exists() {
        return Ok(());
    }
    if let Some(advice) = equivalent(&word) {
        return Err(Error::usage(format!("there is no command {word}")).code(Code::CommandUnknown).hint(advice));
    }
    let subcommands = subcommands().into_iter().map(|name| (strsim::damerau_levenshtein(&word, &name), name));
    match subcommands.min().filter(|(distance, name)| *distance <= (name.len() / 3).max(1)) {
        Some((_, name)) => Err(Error::usage(format!("{word} is neither a command nor a file"))
            .code(Code::CommandUnknown)
            .hint(Advice::new("Did you mean:").command(format!("ecr-push {name}")))),
        None => Ok(()),
    }
}

/// Returns advice that replaces a subcommand of docker, podman, skopeo or crane.
fn equivalent(word: &str) -> Option<Advice> {
    let advice = match word {
        "login" | "logout" => Advice::new(
            "No login is needed: AWS credentials and the logins of docker and podman are found. Push at once:",
        )
        .command("ecr-push image.tar REPOSITORY:TAG"),
        "build" => Advice::new("Build the archive with another tool:")
            .command("docker buildx build --output type=docker,dest=image.tar ."),
        "copy" | "cp" | "pull" => Advice::new("Copy the image into an archive first:")
            .command("skopeo copy docker://IMAGE oci-archive:image.tar"),
        _ => return None,
    };
    Some(advice)
}

fn is_subcommand(word: &str) -> bool {
    subcommands().iter().any(|name| name == word)
}

fn subcommands() -> Vec<String> {
    let command = command();
    let named = command.get_subcommands().map(|name| name.get_name().to_owned());
    named.chain([DEFAULT.to_owned(), "help".to_owned()]).collect()
}

/// Returns the position of the first word that is neither an option nor the value of one.
fn first_positional(arguments: &[OsString]) -> Option<usize> {
    let mut words = arguments.iter().map(|argument| argument.to_string_lossy()).enumerate();
    while let Some((at, word)) = words.next() {
        match &*word {
            "--" => return None,
            option if option.len() > 1 && option.starts_with('-') => {
                if takes_next_word(option) {
                    words.next();
                }
            }
            _ => return Some(at),
        }
    }
    None
}

/// Returns whether the word after this option is its value, for any subcommand that has the option.
pub(super) fn takes_next_word(word: &str) -> bool {
    if !word.starts_with('-') {
        return false;
    }
    let command = command();
    let options = || std::iter::once(&command).chain(command.get_subcommands()).flat_map(clap::Command::get_arguments);
    let takes_value = |option: &clap::Arg| {
        matches!(option.get_action(), ArgAction::Set | ArgAction::Append) && !option.is_require_equals_set()
    };
    if let Some(long) = word.strip_prefix("--") {
        let is_it = |option: &clap::Arg| {
            let aliases = option.get_all_aliases().unwrap_or_default();
            option.get_long() == Some(long) || aliases.contains(&long)
        };
        return options().any(|option| is_it(option) && takes_value(option));
    }
    // In a cluster such as -qt, the value of the last option follows, unless the rest of the word is the value of an earlier
    // one.
    let has_value = |short: char| options().any(|option| option.get_short() == Some(short) && takes_value(option));
    let cluster = &word[1..];
    cluster.find(has_value).is_some_and(|at| at + 1 == cluster.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn options_may_precede_the_subcommand() {
        for (typed, read) in [
            ("--region x policy team/app", "policy --region x team/app"),
            ("--region=x policy team/app", "policy --region=x team/app"),
            ("-q -t 1 policy a", "policy -q -t 1 a"),
            ("-qt 1 policy a", "policy -qt 1 a"),
            ("-t1 policy a", "policy -t1 a"),
            ("--output json inspect a.tar", "inspect --output json a.tar"),
            ("--listen 127.0.0.1:0 sandbox", "sandbox --listen 127.0.0.1:0"),
            ("--latency 5ms sandbox", "sandbox --latency 5ms"),
            ("--sandbox push a.tar b", "--sandbox a.tar b"),
            ("push a.tar b", "a.tar b"),
            ("-q --tag x tag a b", "tag -q --tag x a b"),
        ] {
            assert_eq!(first(words(typed)), words(read), "{typed}");
        }
        for unchanged in ["a.tar policy", "--tag policy a.tar b", "- policy", "-- policy", "--region policy a.tar b"] {
            assert_eq!(first(words(unchanged)), words(unchanged), "{unchanged}");
        }
    }

    #[test]
    fn a_misspelled_subcommand_is_not_an_archive() {
        for (line, cure) in [("inspct a.tar", "inspect"), ("--region x polcy a", "policy"), ("psuh a.tar b", "push")] {
            let error = refuse_unknown(&words(line)).unwrap_err();
            assert_eq!(error.advice().unwrap().commands(), [format!("ecr-push {cure}")]);
        }
        for fine in ["inspect a.tar", "app.tar b", "./inspct b", "image b", "-"] {
            assert!(refuse_unknown(&words(fine)).is_ok(), "{fine}");
        }
    }

    #[test]
    fn a_subcommand_of_another_tool_has_advice() {
        for line in ["login", "logout x", "build .", "copy a b", "--quiet pull a"] {
            let error = refuse_unknown(&words(line)).unwrap_err();
            assert!(error.to_string().starts_with("there is no command ") && error.advice().is_some(), "{line}");
        }
        assert!(refuse_unknown(&words("a.tar login")).is_ok(), "a repository");
    }
}
