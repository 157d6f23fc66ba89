//! Conversion of clap's errors. Values that may be secrets are not quoted.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::error::{Advice, Code, Error};
use crate::oci::strip_credentials;

/// Converts an error of clap.
pub(super) fn usage(clap_error: &clap::Error) -> Error {
    let named = [ContextKind::InvalidArg, ContextKind::PriorArg].into_iter().flat_map(|kind| list(clap_error, kind));
    let options: Vec<String> =
        named.map(|name| option_name(&name).to_owned()).filter(|name| name.starts_with("--")).collect();
    options.into_iter().fold(converted(clap_error), Error::about_option)
}

/// Returns the texts of one kind in an error of clap.
fn list(clap_error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match clap_error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    }
}

fn converted(clap_error: &clap::Error) -> Error {
    let list = |kind| list(clap_error, kind);
    let text = |kind| list(kind).into_iter().next().unwrap_or_default();
    let option = text(ContextKind::InvalidArg);
    let name = option_name(&option);
    match clap_error.kind() {
        ErrorKind::UnknownArgument if option.starts_with("--") && option.contains(' ') => {
            Error::usage(format!("{name} and its value are one argument, separated by a blank"))
                .code(Code::OptionUnknown)
                .hint(format!("Write two arguments, or {name}=VALUE."))
        }
        ErrorKind::UnknownArgument => unknown(name, &text(ContextKind::SuggestedArg)),
        ErrorKind::ArgumentConflict => {
            let others = list(ContextKind::PriorArg);
            match others.first().map(|other| option_name(other)) {
                Some(other) if other != name => {
                    Error::conflict(format!("{name} and {other} cannot be used together")).hint("Use only one of them.")
                }
                _ => Error::usage(format!("{name} can be used only once"))
                    .code(Code::OptionRepeated)
                    .hint("Use it once."),
            }
        }
        ErrorKind::InvalidValue if text(ContextKind::InvalidValue).is_empty() => needs_value(&option),
        kind @ (ErrorKind::InvalidValue | ErrorKind::ValueValidation) => {
            let value = text(ContextKind::InvalidValue);
            let value = strip_credentials(&value);
            let error = Error::usage(match positional(name) {
                Some(name) => format!("unknown {name} {value:?}"),
                None => format!("{name} does not accept {value:?}"),
            });
            let error = error.code(Code::ValueInvalid);
            let suggested = text(ContextKind::SuggestedValue);
            match (kind, std::error::Error::source(clap_error)) {
                (ErrorKind::InvalidValue, _) => {
                    let question = if suggested.is_empty() { "" } else { &format!("Did you mean {suggested}? ") };
                    error.hint(format!("{question}Use one of {}.", list(ContextKind::ValidValue).join(", ")))
                }
                (_, Some(why)) => error.because(why.to_string()),
                (_, None) => error,
            }
        }
        ErrorKind::TooManyValues => {
            Error::invalid(format!("{name} does not take a value")).hint("Leave the value out.")
        }
        ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues | ErrorKind::NoEquals => needs_value(&option),
        ErrorKind::MissingRequiredArgument => {
            let missing = list(ContextKind::InvalidArg);
            let name = |name: &String| positional(name).map_or_else(|| name.clone(), |name| format!("the {name}"));
            let missing: Vec<_> = missing.iter().map(name).collect();
            let verb = if missing.len() == 1 { "is" } else { "are" };
            let error = Error::usage(format!("{} {verb} missing", missing.join(" and "))).code(Code::ArgumentMissing);
            match error_usage(clap_error) {
                Some(usage) => error.hint(Advice::new("Usage:").command(usage)),
                None => error,
            }
        }
        ErrorKind::InvalidUtf8 => Error::invalid("an argument is not valid UTF-8"),
        // Without clap's text, which may contain values.
        kind => Error::usage(format!("the command line is invalid: {kind}")),
    }
}

fn needs_value(option: &str) -> Error {
    Error::invalid(format!("{option} needs a value"))
}

/// Returns the usage line of clap.
fn error_usage(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::StyledStr(usage)) = error.get(ContextKind::Usage) else { return None };
    Some(usage.to_string().trim_start_matches("Usage:").trim().to_owned())
}

/// Returns an option without its value: `--region` of `--region <REGION>` and of `--region=x`.
fn option_name(text: &str) -> &str {
    if text.starts_with('-') { text.split([' ', '=']).next().unwrap_or(text) } else { text }
}

/// Returns the name of a positional argument in words: `new tag` of `<NEW-TAG>...`.
fn positional(name: &str) -> Option<String> {
    Some(name.strip_prefix('<')?.split('>').next()?.to_ascii_lowercase().replace('-', " "))
}

fn unknown(name: &str, similar: &str) -> Error {
    if !name.starts_with('-') {
        return Error::usage(format!("unexpected argument {:?}", strip_credentials(name)))
            .code(Code::ArgumentUnexpected);
    }
    let error = Error::usage(format!("unknown option {name}")).code(Code::OptionUnknown);
    let known = equivalent_option(name).or_else(|| {
        let similar = option_name(similar).strip_prefix("--")?.to_owned();
        Some(Advice::new("Did you mean").setting(similar))
    });
    error.hint(known.unwrap_or_else(|| Advice::new("List all options:").command("ecr-push --help")))
}

/// Returns advice that replaces an option of docker, podman, skopeo, crane, oras, kaniko or the AWS CLI.
fn equivalent_option(option: &str) -> Option<Advice> {
    let advice = match option {
        "-a" | "--all" | "--all-platforms" | "--multi-arch" => {
            Advice::new("All platforms are pushed by default. To push one").setting_with("platform", "linux/arm64")
        }
        "-j" | "--jobs" | "--parallel" | "--image-parallel-copies" => {
            Advice::new("Set the number of layers to upload at once").setting_with("concurrency", "8")
        }
        "--json" | "--format" => Advice::new("Print the report to stdout").setting_with("output", "json"),
        "--timeout" | "--command-timeout" => {
            Advice::new("Limit the time of the whole push, or of an upload that stalls")
                .setting_with("deadline", "10m")
                .setting_with("stall-timeout", "90s")
        }
        "--tls-verify" | "--dest-tls-verify" | "--skip-tls-verify" | "--no-verify-ssl" | "--cert-dir" | "--cacert" => {
            Advice::new("Trust a certificate, or use plain HTTP").setting_with("ca-file", "FILE").setting("insecure")
        }
        "--plain-http" | "--dest-plain-http" | "--http" | "--allow-insecure" => {
            Advice::new("Use plain HTTP").setting("insecure")
        }
        "--dest-creds" | "--creds" | "--credential" | "--password" | "--dest-username" | "--dest-password" | "-u"
        | "-p" => Advice::new("Pass the password on standard input:")
            .command("printenv PASSWORD | ecr-push IMAGE.tar HOST/REPOSITORY:TAG --username NAME --password-stdin"),
        "--authfile" | "--dest-authfile" | "--registry-config" => {
            Advice::new("Set the variable REGISTRY_AUTH_FILE to the path of that file.")
        }
        "--additional-tag" | "--destination" => Advice::new("Add a tag").setting_with("tag", "TAG"),
        "--digestfile" => Advice::new("Write the digest to a file").setting_with("digest-file", "FILE"),
        "--arch" | "--os" | "--variant" | "--override-arch" | "--override-os" => {
            Advice::new("Push one platform").setting_with("platform", "linux/arm64")
        }
        "--dest-compress-format" | "--compression-format" => {
            Advice::new("Choose the compression").setting_with("compression", "zstd")
        }
        "--dest-compress-level" => Advice::new("Choose the compression level").setting_with("compression-level", "6"),
        "--debug" => Advice::new("Explain decisions and log every request").setting("verbose"),
        "--retry" | "--retry-times" | "--max-retries" | "--push-retry" => {
            Advice::new("Set the number of retries").setting_with("retries", "8")
        }
        "--endpoint-url" => Advice::new("Set the variable AWS_ENDPOINT_URL_ECR."),
        "--no-progress" => Advice::new("Show no progress").setting_with("progress", "none"),
        "--account" | "--account-id" | "--registry-ids" => {
            Advice::new("Set the account of the registry").setting_with("registry-id", "ACCOUNT")
        }
        _ => return None,
    };
    Some(advice)
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::super::parser::command;
    use super::*;

    fn error_of(arguments: &[&str]) -> Error {
        parse(arguments.iter().map(Into::into).collect(), &|_| None).unwrap_err()
    }

    #[test]
    fn advice_for_options_of_other_tools_has_existing_options() {
        for option in [
            "-a", "-j", "--json", "--format", "--timeout", "--tls-verify", "--plain-http", "--dest-creds",
            "--authfile", "--additional-tag", "--digestfile", "--override-os", "--compression-format", "--debug",
            "--retry-times", "--endpoint-url", "--no-progress", "--account-id",
        ] {
            let advice = equivalent_option(option).unwrap_or_else(|| panic!("no advice for {option}"));
            for setting in advice.settings() {
                let command = command();
                let exists = command.get_arguments().any(|known| known.get_long() == Some(&*setting.name));
                assert!(exists, "{option}: --{} does not exist", setting.name);
            }
            let is_ours = |known: &clap::Arg| known.get_long().is_some_and(|long| option == format!("--{long}"));
            assert!(!command().get_arguments().any(is_ours), "{option}");
        }
    }

    #[test]
    fn values_that_may_be_secrets_are_not_quoted() {
        for line in [
            &["a.tar", "x.io/app", "--username", "me", "--password-stdin=hunter2"][..],
            &["a.tar", "x.io/app", "--password=hunter2"],
            &["a.tar", "x.io/app", "-phunter2"],
            &["a.tar", "x.io/app", "--dest-creds=me:hunter2"],
            &["inspect", "a.tar", "https://me:hunter2@x.io/app"],
            &["a.tar", "https://me:hunter2@x.io/app"],
            &["a.tar", "me:hunter2@x.io/app:1"],
            &["a.tar", "me:hunt@er2@x.io/app@sha256:12"],
        ] {
            let error = error_of(line);
            let text = format!("{error} {:?} {}", error.causes(), error.advice().cloned().unwrap_or_default());
            assert!(!text.contains("hunt") && !text.contains("er2"), "{text}");
        }
    }
}
