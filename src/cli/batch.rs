//! A batch: pushes from a file, a line each.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use clap::Parser;

use super::arguments::{OptionArgs, PushArgs};
use super::clap_errors::usage;
use super::output::PushOutput;
use super::push::{PUSHES, Push, Reporting, push, reporting};
use super::targets;
use super::values::{Environment, input_name};
use crate::archive::{Source, shown};
use crate::ecr::Access;
use crate::error::{Advice, Code, Error, Kind, Result};
use crate::oci::{Host, Repository, Tag};
use crate::push::{Options, PushRequest};

/// The most problems in an error.
const MAX_LISTED: usize = 20;

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct BatchArgs {
    /// File with a push on each line: ARCHIVE TARGET [TARGET...]; - reads standard input
    ///
    /// A line may have --image, --image-id, --platform, --tag, --join, --expect-digest and --role-arn. Words are quoted as in a
    /// shell, variables are not expanded, and # starts a comment. All other options are for the whole run.
    #[arg(required = true, value_name = "FILE")]
    pub(super) file: PathBuf,
    #[command(flatten)]
    pub(super) options: OptionArgs,
}

/// The options of a push that are refused for a whole batch.
pub(super) const REFUSED: [&str; 15] = [
    "image", "image_id", "join", "expect_digest", "all_images", "image_list", "exclude", "keep_registry", "username",
    "password_stdin", "digest_file", "metadata_file", "timeline", "output_variable", "output_file",
];

/// A line.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct LineArgs {
    #[arg(required = true)]
    archive: Option<PathBuf>,
    #[arg(required = true)]
    target: Vec<String>,
    #[arg(long, conflicts_with = "image_id")]
    image: Option<String>,
    #[arg(long)]
    image_id: Option<String>,
    #[arg(long)]
    platform: Option<String>,
    #[arg(short, long)]
    tag: Vec<String>,
    #[arg(long)]
    join: Vec<PathBuf>,
    #[arg(long)]
    expect_digest: Option<String>,
    #[arg(long)]
    role_arn: Vec<String>,
}

/// The pushes of a batch.
pub(super) struct Batch {
    /// The pushes, in the order of their lines.
    pub lines: Vec<Line>,
    /// The options, by the roles of a line.
    pub options: HashMap<Vec<String>, Options>,
    /// The format of stdout.
    pub output: PushOutput,
    /// What is reported besides.
    pub reporting: Reporting,
    /// Whether to push into a sandbox, and the folder of its images.
    pub sandbox: Option<Option<PathBuf>>,
    /// Whether no push starts after a failure.
    pub fail_fast: bool,
}

/// One push of a batch.
#[derive(Debug)]
pub(super) struct Line {
    /// The number, from 1.
    pub number: usize,
    /// The push.
    pub request: PushRequest,
    /// The roles that the line names, each assumed with the one before.
    pub roles: Vec<String>,
}

/// Reads the lines and judges all of them: no push starts if one of them cannot succeed.
///
/// # Errors
/// If a line cannot be parsed, if an archive does not exist, or if two lines push the same tag.
pub(super) fn batch(text: &str, mut args: BatchArgs, environment: Environment<'_>) -> Result<Batch> {
    let name = input_name(&args.file);
    refuse_options(&args.options)?;
    let sandbox = args.options.sandbox();
    let (fail_fast, shard) = args.options.bundle.take_run(environment)?;
    let (output, mut reporting) = reporting(&mut args.options, &[], environment)?;
    output.check_for_several()?;
    let mut noted = HashSet::new();
    let (mut lines, mut all_options, mut problems) = (Vec::new(), HashMap::new(), Vec::new());
    let mut owners: HashMap<(Place, Repository, Tag), usize> = HashMap::new();
    for (at, text) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let number = at + 1;
        match line(text, &args.options, environment) {
            Ok(None) => {}
            Ok(Some((Push { mut request, options, reporting: Reporting { notes, .. }, .. }, roles))) => {
                reporting.notes.extend(notes.into_iter().filter(|note| noted.insert(note.clone())));
                for target in &request.targets {
                    let latest = Tag::latest();
                    let own = target.tags.iter().chain(&request.tags);
                    for tag in own.chain(Some(&latest).filter(|_| target.tags.is_empty() && request.tags.is_empty())) {
                        let place = match &target.host {
                            Some(host) => Place::Host(host.clone()),
                            None => Place::Own(target.region.clone(), roles.clone()),
                        };
                        let key = (place, target.repository.clone(), tag.clone());
                        if let Some(other) = owners.insert(key, number).filter(|other| *other != number) {
                            let repeated = format!("pushes {}:{tag}, as line {other} does", target.repository);
                            problems.push((number, Error::conflict(repeated)));
                        }
                    }
                }
                note_options(&mut all_options, &roles, options);
                request.targets.retain(|target| shard.is_none_or(|shard| shard.takes(&target.repository)));
                if request.targets.is_empty() {
                    continue;
                }
                lines.push(Line { number, request, roles });
            }
            Err(error) => problems.push((number, error)),
        }
    }
    if let Some((number, first)) = problems.first() {
        let others = problems[1..].iter().take(MAX_LISTED).map(|(number, error)| format!("line {number}: {error}"));
        let others: Vec<String> = first.causes().into_iter().chain(others).collect();
        let error = first.clone().about(&format!("line {number} of {name}"));
        let error = if others.is_empty() { error } else { error.because(others.join("; ")) };
        return Err(if first.advice().is_some() { error } else { error.hint("Nothing was pushed.") });
    }
    if lines.is_empty() && shard.is_none() {
        return Err(
            Error::invalid(format!("the batch {name} has no push")).hint("Write a push on each line: ARCHIVE TARGET.")
        );
    }
    // Lines of one archive follow each other, so that few archives are open at a time.
    let mut order = HashMap::new();
    for line in &lines {
        let next = order.len();
        order.entry(line.request.source.to_string()).or_insert(next);
    }
    lines.sort_by_key(|line| order[&line.request.source.to_string()]);
    for options in all_options.values_mut() {
        (options.layers.pushes, options.registries.machines) = (PUSHES, shard.map(|shard| shard.count()));
    }
    Ok(Batch { lines, options: all_options, output, reporting, sandbox, fail_fast })
}

/// A registry.
#[derive(Eq, Hash, PartialEq)]
enum Place {
    Host(Host),
    /// The caller's own, in a region, with these roles.
    Own(Option<String>, Vec<String>),
}

/// Notes the options of a line for all lines with the same roles. A line without a target of Amazon's reads no credentials.
fn note_options(all: &mut HashMap<Vec<String>, Options>, roles: &[String], options: Options) {
    let is_aws = |options: &Options| matches!(options.registries.access, Access::Aws(_));
    match all.get_mut(roles) {
        Some(known) if !is_aws(known) && is_aws(&options) => *known = options,
        Some(_) => {}
        None => drop(all.insert(roles.to_vec(), options)),
    }
}

/// Parses a line, and returns its push and the roles that it names. `None` for a line without words.
fn line(text: &str, options: &OptionArgs, environment: Environment<'_>) -> Result<Option<(Push, Vec<String>)>> {
    let words = shlex::split(text).ok_or_else(|| {
        let (what, hint) = match text.ends_with('\\') {
            true => ("it ends with \\", "Write each push on one line."),
            false => ("a quote is not closed", "Quote words as a shell does."),
        };
        Error::invalid(what).hint(hint)
    })?;
    if words.is_empty() {
        return Ok(None);
    }
    let line = LineArgs::try_parse_from(words).map_err(|error| {
        let error = usage(&error);
        let advice = Advice::new(
            "A line has ARCHIVE TARGET [TARGET...], --image, --image-id, --platform, --tag, --join, --expect-digest and \
             --role-arn. Other options belong on the command line.",
        );
        Error::usage(error.to_string()).code(error.stable_code()).hint(advice)
    })?;
    for (own, of_run, is_both) in [
        ("--image", "--index", options.index && line.image.is_some()),
        ("--image-id", "--index", options.index && line.image_id.is_some()),
        ("--platform", "--present-platforms", options.present_platforms && line.platform.is_some()),
    ] {
        if is_both {
            return Err(Error::conflict(format!("{own} of a line and {of_run} of the run cannot be used together"))
                .about_option(of_run)
                .hint("Use only one of them."));
        }
    }
    if let Some(prefix) = targets::prefix(&line.target) {
        return Err(Error::invalid_target(format!("the target {prefix:?} ends with a slash"))
            .hint("Write the repository after the slash: a line pushes one image."));
    }
    if let Some(text) = line.target.iter().chain(&line.tag).find(|text| text.contains('$')) {
        return Err(Error::usage(format!("variables are not expanded in a batch: {}", shown(text)))
            .code(Code::VariableUnexpanded)
            .hint(Advice::new("Expand them before:").command("envsubst < pushes.txt | ecr-push batch -")));
    }
    let mut options = options.clone();
    (options.image, options.image_id, options.expect_digest) = (line.image, line.image_id, line.expect_digest);
    options.platform = line.platform.or(options.platform);
    options.tag.extend(line.tag);
    options.join = line.join;
    if !line.role_arn.is_empty() {
        options.registry.credentials.set_roles(line.role_arn.clone());
    }
    let push = push(PushArgs { archive: line.archive, target: line.target, options }, environment)?;
    for (source, _) in push.request.sources() {
        match source {
            Source::Path(path) if !path.exists() => {
                return Err(Error::new(Kind::Input, format!("cannot find the file {}", path.display()))
                    .code(Code::ArchiveUnreadable)
                    .hint("Paths are relative to the current folder. Nothing was pushed."));
            }
            Source::StandardInput => {
                return Err(
                    Error::conflict("an archive of a batch cannot be standard input").hint("Write it to a file.")
                );
            }
            Source::Path(_) | Source::Engine(_) | Source::Opened(_) => {}
        }
    }
    Ok(Some((push, line.role_arn)))
}

/// Rejects the options that are [refused](REFUSED).
fn refuse_options(options: &OptionArgs) -> Result<()> {
    let of_line = [
        ("--image", options.image.is_some()),
        ("--image-id", options.image_id.is_some()),
        ("--join", !options.join.is_empty()),
        ("--expect-digest", options.expect_digest.is_some()),
    ];
    let of_line = of_line.into_iter().find_map(|(option, is_used)| is_used.then_some(option));
    let login = options.registry.username.as_ref().map(|_| "--username");
    let of_one = || options.files.of_one_image().or_else(|| options.pipeline.of_one_image());
    let (option, advice) = if let Some(option) = of_line {
        (option, Advice::from("Write it into the lines that need it."))
    } else if let Some(option) = options.bundle.used() {
        (
            option,
            Advice::from("Write a line for each image, or push the images of the archive with a command of their own."),
        )
    } else if let Some(option) = login {
        (option, Advice::new("Store the login before:").command("docker login HOST"))
    } else if let Some(option) = of_one() {
        (option, Advice::new("Write the results of all images to a file").setting_with("report", "FILE"))
    } else {
        return Ok(());
    };
    Err(Error::conflict(format!("{option} is not for a whole batch")).about_option(option).hint(advice))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::super::parse::{Command, parse};
    use super::super::parser::command;
    use super::*;

    #[test]
    fn a_shard_divides_the_rate_of_all_its_lines() {
        let words = ["batch", "no.txt", "--shard", "2/4", "--put-rate", "8"];
        let Ok(Command::Batch(args)) = parse(words.iter().map(Into::into).collect(), &|_| None) else {
            panic!("it cannot be parsed");
        };
        let lines = "README.md team/a:1\nREADME.md team/b:1 --role-arn arn:aws:iam::000000000000:role/x";
        let Ok(Batch { options, .. }) = batch(lines, *args, &|_| None) else { panic!("it is refused") };
        let rates: Vec<_> = options
            .values()
            .map(|options| (options.registries.put_rate, options.registries.machines.map(NonZeroU64::get)))
            .collect();
        assert_eq!(rates, [(Some(8.0), Some(4)); 2]);
    }

    #[test]
    fn what_the_help_of_a_batch_omits_is_refused() {
        let mut command = command();
        let hidden: Vec<_> = command
            .find_subcommand_mut("batch")
            .unwrap()
            .get_arguments()
            .filter(|arg| arg.is_hide_set())
            .cloned()
            .collect();
        assert_eq!(hidden.len(), REFUSED.len());
        for arg in hidden {
            let option = format!("--{}", arg.get_long().unwrap());
            let mut words = vec!["batch", "no.txt", option.as_str()];
            if arg.get_action().takes_values() {
                words.push("x");
            }
            match option.as_str() {
                "--username" => words.push("--password-stdin"),
                "--password-stdin" => words.extend(["--username", "x"]),
                "--output-file" => words.extend(["--output-variable", "x"]),
                _ => {}
            }
            let Ok(Command::Batch(args)) = parse(words.iter().map(Into::into).collect(), &|_| None) else {
                panic!("{option} cannot be parsed");
            };
            let Err(refused) = batch("a.tar app", *args, &|_| None) else { panic!("{option} is accepted") };
            assert!(refused.to_string().ends_with("is not for a whole batch"), "{option}: {refused}");
        }
    }
}
