//! The outputs for errors of the command line.
//!
//! A requested report is written even if other arguments are wrong. So this reads arguments that the parser may have
//! rejected, and ignores those that it does not understand.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::CommandFactory as _;

use super::environment::variable;
use super::output::PushOutput;
use super::parser::Cli;
use super::pipeline::{self, Pipeline};
use super::values::Environment;
use super::{subcommand, transports};
use crate::archive::Source;
use crate::error::one_line;
use crate::output::log::LogFormat;
use crate::output::report::ci::CiSystem;

/// The outputs for an error before the push.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ErrorSinks {
    /// The format of stderr.
    pub log_format: LogFormat,
    /// The format of stdout.
    pub output: PushOutput,
    /// Whether several images were to be pushed, whose results are lines.
    pub are_several: bool,
    /// The path of the report.
    pub report: Option<PathBuf>,
    /// The other files of the command line and the environment, which the report must not overwrite.
    pub other_files: Vec<PathBuf>,
    /// The output for the CI system.
    pub pipeline: Pipeline,
}

/// Reads the arguments (without the program's name) and the environment.
pub(super) fn error_sinks(arguments: &[OsString], environment: Environment<'_>) -> ErrorSinks {
    let arguments = subcommand::first(arguments.to_vec());
    let words: Vec<String> = arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let subcommand = words.first().map_or("", String::as_str);
    let is_batch = subcommand == "batch";
    let is_other = !is_batch && Cli::command().find_subcommand(subcommand).is_some();
    let words = TypedOptions { words: &words, environment };
    let named = words.value("ci").and_then(|name| match name.trim() {
        "none" => Some(None),
        name => CiSystem::by_name(name).map(Some),
    });
    let system = named.unwrap_or_else(|| CiSystem::detect(environment));
    let mut pipeline = Pipeline {
        display_name: one_line(words.value("display-name").as_deref().unwrap_or(pipeline::DISPLAY_NAME), usize::MAX),
        log_commands: system.and_then(|system| system.log_commands),
        summary: system.and_then(|system| pipeline::summary(system, environment)),
        variables: None,
    };
    if is_other {
        // Only pushes have a report and a summary.
        pipeline.summary = None;
        let (log_format, output) = (LogFormat::Text, PushOutput::Text);
        return ErrorSinks { log_format, output, are_several: false, report: None, other_files: Vec::new(), pipeline };
    }
    let is_json = |long| words.value(long).is_some_and(|how| how == "json");
    let is_jsonl = words.value("output").is_some_and(|how| how == "jsonl");
    let are_several = is_batch || is_jsonl || words.has("all-images") || words.value("image-list").is_some();
    let report = words.value("report").filter(|file| file != "-");
    let mut other_files = words.all();
    if let Some(at) = report.as_ref().and_then(|report| other_files.iter().position(|word| word == report)) {
        other_files.remove(at);
    }
    let files = system.map(CiSystem::file_variables).unwrap_or_default();
    other_files.extend(files.into_iter().filter_map(environment).map(|file| file.to_string_lossy().into_owned()));
    ErrorSinks {
        log_format: if is_json("log-format") { LogFormat::Json } else { LogFormat::Text },
        output: match words.value("output").as_deref() {
            Some("json") => PushOutput::Json,
            Some("jsonl") => PushOutput::Jsonl,
            _ => PushOutput::Text,
        },
        are_several,
        report: report.map(PathBuf::from),
        other_files: other_files.into_iter().map(PathBuf::from).collect(),
        pipeline,
    }
}

/// The options of the command line and the environment.
struct TypedOptions<'a> {
    words: &'a [String],
    environment: Environment<'a>,
}

impl TypedOptions<'_> {
    /// Returns the value of an option: the last one typed, else that of the environment, unless it was not expanded.
    fn value(&self, long: &str) -> Option<String> {
        let flag = format!("--{long}");
        let options = || self.words.iter().take_while(|word| *word != "--");
        let next = options().skip(1).map(Some).chain([None]);
        let typed = options().zip(next).filter_map(|(word, next)| match word.strip_prefix(flag.as_str())? {
            "" => next.filter(|next| !next.starts_with('-')).cloned(),
            value => value.strip_prefix('=').map(str::to_owned),
        });
        typed.last().or_else(|| self.set(long)).filter(|value| !value.is_empty() && !value.contains("$("))
    }

    /// Returns whether an option without a value is typed or set.
    fn has(&self, long: &str) -> bool {
        let flag = format!("--{long}");
        self.words.iter().take_while(|word| *word != "--").any(|word| *word == flag) || self.set(long).is_some()
    }

    /// Returns the value of an option in the environment.
    fn set(&self, long: &str) -> Option<String> {
        (self.environment)(&variable(long)).map(|value| value.to_string_lossy().into_owned())
    }

    /// Returns all words that may be file names.
    fn all(&self) -> Vec<String> {
        let typed = self.words.iter().flat_map(|word| match word.split_once('=') {
            Some((option, value)) if option.starts_with("--") => vec![value.to_owned()],
            _ => vec![word.clone()],
        });
        let command = Cli::command();
        let set = command.get_arguments().filter_map(|option| self.set(option.get_long()?));
        let named: Vec<String> = typed.chain(set).collect();
        // An archive may be written with a transport in front of its path.
        let paths = named.iter().filter_map(|word| match transports::source(word.into()) {
            Ok((Source::Path(path), _)) if path.as_os_str() != word.as_str() => Some(path.to_str()?.to_owned()),
            _ => None,
        });
        paths.collect::<Vec<_>>().into_iter().chain(named).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::pipeline::SummaryTo;
    use crate::output::report::ci::LogCommands;

    fn read(line: &str, variables: &[(&str, &str)]) -> ErrorSinks {
        let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        error_sinks(&arguments, &|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        })
    }

    fn report(line: &str, variables: &[(&str, &str)]) -> Option<String> {
        read(line, variables).report.map(|path| path.display().to_string())
    }

    #[test]
    fn options_are_read_from_arguments_and_environment() {
        assert_eq!(read("a.tar b --output json --colour red", &[]).output, PushOutput::Json);
        assert_eq!(read("push --output=json", &[]).output, PushOutput::Json);
        assert_eq!(read("a.tar b", &[("ECR_PUSH_OUTPUT", "json")]).output, PushOutput::Json);
        assert_eq!(read("a.tar --output text", &[("ECR_PUSH_OUTPUT", "json")]).output, PushOutput::Text);
        assert_eq!(read("a.tar -- --output json", &[]).output, PushOutput::Text);
        assert_eq!(read("inspect --output json", &[]).output, PushOutput::Text);
        assert_eq!(report("--report a --report=b x", &[]).as_deref(), Some("b"));
        assert_eq!(report("x", &[("ECR_PUSH_REPORT", "c")]).as_deref(), Some("c"));
        for none in [
            "x --report", "x --report --verbose", "x --report=", "x --report -", "x --report $(Report)",
            "inspect --report a",
        ] {
            assert_eq!(report(none, &[]), None, "{none}");
        }
    }

    #[test]
    fn several_images_are_recognized() {
        for (line, are_several) in [
            ("a.tar b/ --all-images", true),
            ("batch lines.txt", true),
            ("a.tar b/ --image-list=l", true),
            ("a.tar b --output jsonl", true),
            ("a.tar b", false),
            ("a.tar b -- --all-images", false),
            ("inspect a.tar --output jsonl", false),
        ] {
            assert_eq!(read(line, &[]).are_several, are_several, "{line}");
        }
        assert_eq!(report("batch lines.txt --report r", &[]).as_deref(), Some("r"));
    }

    #[test]
    fn the_log_format_is_read_even_if_other_arguments_are_wrong() {
        let format = |line, variable| read(line, &[("ECR_PUSH_LOG_FORMAT", variable)]).log_format;
        for objects in [
            "a.tar --log-format json --nonsense",
            "push --log-format=json",
            "--log-format=text --log-format json",
            "--image -x --log-format=json",
        ] {
            assert_eq!(format(objects, ""), LogFormat::Json, "{objects}");
        }
        for text in [
            "a.tar --log-format",
            "--log-format=text",
            "--log-format json --log-format text",
            "-- --log-format=json",
            "--log-formats=json",
            "inspect --log-format=json",
        ] {
            assert_eq!(format(text, ""), LogFormat::Text, "{text}");
        }
        assert_eq!(format("a.tar", "json"), LogFormat::Json);
        assert_eq!(format("a.tar --log-format=text", "json"), LogFormat::Text);
        assert_eq!(format("inspect a.tar", "json"), LogFormat::Text);
    }

    #[test]
    fn the_report_is_not_among_the_other_files() {
        let other_files = |line, variables| read(line, variables).other_files;
        assert_eq!(other_files("a.tar --report r", &[]), ["a.tar", "--report"].map(PathBuf::from));
        assert_eq!(other_files("r --report=r", &[]), ["r"].map(PathBuf::from));
        let github = [("GITHUB_ACTIONS", "1"), ("GITHUB_OUTPUT", "/o"), ("GITHUB_STEP_SUMMARY", "/s")];
        assert_eq!(other_files("a", &github), ["a", "/o", "/s"].map(PathBuf::from));
        let set = [("ECR_PUSH_REPORT", "r"), ("ECR_PUSH_DIGEST_FILE", "r")];
        assert_eq!(other_files("a", &set), ["a", "r"].map(PathBuf::from));
    }

    #[test]
    fn a_ci_system_receives_the_error() {
        let github = [("GITHUB_ACTIONS", "true"), ("GITHUB_STEP_SUMMARY", "/s")];
        let pipeline = read("--display-name Ship", &github).pipeline;
        assert_eq!(
            (pipeline.log_commands, pipeline.summary),
            (Some(LogCommands::GitHub), Some(SummaryTo::File("/s".into())))
        );
        assert_eq!(pipeline.display_name, "Ship");
        let pipeline = read("inspect", &github).pipeline;
        assert_eq!(
            (pipeline.log_commands, pipeline.summary, pipeline.display_name.as_str()),
            (Some(LogCommands::GitHub), None, "Push Image")
        );
        assert_eq!(read("--ci none", &github).pipeline.log_commands, None);
        assert_eq!(read("--ci=azure", &github).pipeline.log_commands, Some(LogCommands::Azure));
        // An unknown system is the error itself, so the detected one is used.
        assert_eq!(read("--ci hudson", &github).pipeline.log_commands, Some(LogCommands::GitHub));
    }
}
