//! `ecr-push azure-task`: a push with the inputs of the task in `integrations/azure`, as an Azure Pipelines agent passes them to
//! a task's process: `INPUT_*`, the data of service connections, and variables.
//!
//! The inputs become the arguments of a push, so that they have the same rules and messages.

use std::ffi::OsString;

use super::azure_connection::{Credentials, credentials};
use super::azure_inputs::{Environment, Inputs};
use super::parse::{Command, parse};
use super::pipeline::ReferenceForm;
use super::push::Push;
use crate::archive::{EngineImage, Source};
use crate::error::{Error, Result};
use crate::oci::{Repository, Tag};

/// A push, and what the task does after it.
#[derive(Debug)]
pub(super) struct AzureTask {
    /// The push.
    pub push: Box<Push>,
    /// The image to remove from the engine after a successful push.
    pub remove: Option<EngineImage>,
}

/// The options that an input sets. Errors about one name the input.
const INPUTS_OF_OPTIONS: [(&str, &str); 5] = [
    ("--region", "regionName"),
    ("--tag-mutability", "tagMutability"),
    ("--scan-on-push", "scanOnPush"),
    ("--output-variable", "outputVariable"),
    ("--role-arn", "roleArn"),
];

/// Stands for the repository in the arguments: a name such as `my.team/app` would be read as a host and a repository.
const PLACEHOLDER: &str = "repository";

/// Reads the inputs, the service connection and the variables.
///
/// # Errors
/// If an input is missing or wrong, or the push cannot be made of them.
pub(super) fn azure_task(environment: Environment<'_>) -> Result<AzureTask> {
    let inputs = Inputs::of(environment);
    let Credentials { arguments: of_credentials, variables, notes } = credentials(&inputs)?;
    let (name, naming_note) = repository(&inputs)?;
    let (tags, form) = tags(&inputs)?;
    let source = source(&inputs)?;
    let mut arguments: Vec<OsString> = vec!["--ci=azure".into()];
    arguments.extend(of_credentials.into_iter().map(OsString::from));
    arguments.extend(tags.iter().map(|tag| format!("--tag={tag}").into()));
    let mut option = |option: &str, value: Option<String>| {
        arguments.extend(value.map(|value| OsString::from(format!("{option}={value}"))));
    };
    option("--region", inputs.text("regionName")?.map(|region| region.to_lowercase()));
    option("--output-variable", inputs.text("outputVariable")?);
    option("--tag-mutability", inputs.text("tagMutability")?.filter(|mode| mode != "default"));
    option("--display-name", inputs.variable("SYSTEM_TASKDISPLAYNAME"));
    let switches = [
        ("--create-repository", inputs.flag("autoCreateRepository")),
        ("--scan-on-push", inputs.flag("scanOnPush")),
        ("-vv", inputs.flag("logRequest") || inputs.flag("logResponse")),
    ];
    arguments.extend(switches.into_iter().filter(|(_, is_set)| *is_set).map(|(option, _)| option.into()));
    // The tag is often that of the build: layers are then those of other tags.
    if ["ECR_PUSH_REUSE", "ECR_PUSH_REUSE_FROM"].into_iter().all(|name| environment(name).is_none()) {
        arguments.push("--reuse-from=*".into());
    }
    let of_inputs = arguments.clone();
    // An archive may have the name of an option or of a command.
    arguments.extend(["--".into(), source.into(), PLACEHOLDER.into()]);
    let overlaid = |name: &str| variables.get(name).cloned().unwrap_or_else(|| environment(name));
    let Command::Push(mut push) = parse(arguments, &overlaid).map_err(|error| with_input(error, &of_inputs))? else {
        return Err(Error::internal("the inputs of the task are not those of a push"));
    };
    for target in &mut push.request.targets {
        target.repository = name.clone();
    }
    push.reporting.notes.extend(notes.into_iter().chain(naming_note));
    if let Some(variables) = &mut push.reporting.pipeline.variables {
        variables.form = form;
    }
    let remove = match &push.request.source {
        Source::Engine(image) if inputs.flag("removeDockerImage") && !push.options.dry_run => Some(image.clone()),
        _ => None,
    };
    Ok(AzureTask { push, remove })
}

/// Returns the source as an argument. As in the task, any `imageSource` except `imagename` (and `archive`) is an ID.
fn source(inputs: &Inputs<'_>) -> Result<String> {
    match inputs.text("imageSource")?.as_deref() {
        None | Some("imagename") => {
            let name = inputs.required("sourceImageName")?;
            let tag = inputs.text("sourceImageTag")?.unwrap_or_else(|| "latest".to_owned());
            let is_complete = name.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
            match (is_complete, tag.as_str()) {
                (false, tag) => Ok(format!("docker-daemon:{name}:{tag}")),
                // The agent passes the default if the pipeline sets none.
                (true, "latest") => Ok(format!("docker-daemon:{name}")),
                (true, tag) => {
                    Err(Error::conflict(format!("both sourceImageName ({name}) and sourceImageTag ({tag}) name a tag"))
                        .hint("Leave the tag out of sourceImageName."))
                }
            }
        }
        Some("archive") => match inputs.required("archive")? {
            archive if archive == "-" => {
                Err(Error::invalid("the input archive is -, but a task has no standard input")
                    .hint("Set archive to the path of a file or a folder."))
            }
            archive => Ok(archive),
        },
        Some(_) => inputs.required("sourceImageId").map(|id| format!("docker-daemon:{id}")),
    }
}

/// Returns the repository, and a note if its name is changed.
fn repository(inputs: &Inputs<'_>) -> Result<(Repository, Option<String>)> {
    let typed = inputs.required("repositoryName")?;
    if !inputs.flag("forceDockerNamingConventions") {
        return Ok((typed.parse().map_err(of_input("repositoryName"))?, None));
    }
    // As the task does: unlike --docker-naming, it removes slashes.
    let is_kept = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(*c);
    let name: String = typed.to_lowercase().chars().filter(is_kept).collect();
    let note = (name != typed).then(|| format!("the repository {typed:?} is called {name:?}"));
    Ok((name.parse().map_err(of_input("repositoryName"))?, note))
}

/// Returns all tags, and the form of the reference in the output variable: without a tag if `pushTag` is empty, as the task
/// writes it. Docker then pushes `latest`.
fn tags(inputs: &Inputs<'_>) -> Result<(Vec<Tag>, ReferenceForm)> {
    let (first, form) = match inputs.given("pushTag")? {
        Some(tag) if tag.is_empty() => (Tag::latest(), ReferenceForm::WithoutTag),
        None => (Tag::latest(), ReferenceForm::WithTag),
        Some(tag) => (tag.parse().map_err(of_input("pushTag"))?, ReferenceForm::WithTag),
    };
    let more = inputs.text("additionalTags")?.unwrap_or_default();
    let more = more.split([',', '\n', ' ']).map(str::trim).filter(|tag| !tag.is_empty());
    let more = more.map(|tag| tag.parse().map_err(of_input("additionalTags")));
    let tags = std::iter::once(Ok(first)).chain(more).collect::<Result<_>>()?;
    Ok((tags, form))
}

/// Adds the input to an error about its value.
fn of_input(input: &str) -> impl Fn(Error) -> Error {
    move |error| with_hint(error, &format!("Correct the input {input}."))
}

fn with_hint(error: Error, first: &str) -> Error {
    let advice = error.advice().cloned().unwrap_or_default();
    error.hint(advice.preceded_by(first))
}

/// Adds to an error about an option which input has set it.
fn with_input(error: Error, arguments: &[OsString]) -> Error {
    let is_set = |option: &str| {
        let values = arguments.iter().filter_map(|argument| argument.to_str()?.strip_prefix(option));
        values.into_iter().any(|value| value.is_empty() || value.starts_with('='))
    };
    let mut known = INPUTS_OF_OPTIONS.into_iter();
    let found = known.find(|(option, _)| error.options().iter().any(|named| named == option) && is_set(option));
    let Some((option, input)) = found else { return error };
    with_hint(error, &format!("The input {input} sets {option}."))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<AzureTask> {
        let usual =
            [("INPUT_SOURCEIMAGENAME", "app"), ("INPUT_REPOSITORYNAME", "team/app"), ("AWS_REGION", "eu-west-1")];
        let all: HashMap<_, _> = usual.iter().chain(variables).map(|(name, value)| (*name, *value)).collect();
        azure_task(&|name| all.get(name).map(OsString::from))
    }

    #[test]
    fn a_name_with_dots_is_no_host() {
        let task = read(&[("INPUT_REPOSITORYNAME", "my.team/app")]).unwrap();
        let target = &task.push.request.targets[0];
        assert_eq!((target.host.as_ref(), target.repository.as_str()), (None, "my.team/app"));
    }

    #[test]
    fn an_error_names_the_input() {
        for (variable, value, start) in [
            ("INPUT_TAGMUTABILITY", "some", "The input tagMutability sets --tag-mutability."),
            ("INPUT_SCANONPUSH", "true", "The input scanOnPush sets --scan-on-push."),
            ("INPUT_REGIONNAME", "Ireland", "The input regionName sets --region."),
            ("INPUT_OUTPUTVARIABLE", "the image", "The input outputVariable sets --output-variable."),
            ("INPUT_PUSHTAG", "feature/x", "Correct the input pushTag."),
            ("INPUT_ADDITIONALTAGS", "a, b/c", "Correct the input additionalTags."),
            ("INPUT_REPOSITORYNAME", "Team/App", "Correct the input repositoryName."),
            // Another option, and an option that no input has set.
            ("ECR_PUSH_RETRIES", "many", "The value comes from the environment variable ECR_PUSH_RETRIES."),
            ("ECR_PUSH_REGION", "Ireland", "The value comes from the environment variable ECR_PUSH_REGION."),
        ] {
            let error = read(&[(variable, value)]).unwrap_err();
            let advice = error.advice().map(ToString::to_string).unwrap_or_default();
            assert!(advice.starts_with(start), "{variable}: {error}: {advice}");
        }
    }

    #[test]
    fn the_value_of_an_input_is_no_option_and_no_command() {
        for archive in ["--dry-run", "-x.tar", "inspect", "push", "azure-task"] {
            let task = read(&[("INPUT_IMAGESOURCE", "archive"), ("INPUT_ARCHIVE", archive)]).unwrap();
            assert_eq!(task.push.request.source, Source::Path(archive.into()));
            assert!(!task.push.options.dry_run);
        }
        assert!(read(&[("INPUT_IMAGESOURCE", "archive"), ("INPUT_ARCHIVE", "-")]).is_err());
        assert!(read(&[("INPUT_SOURCEIMAGENAME", "--help")]).is_err());
    }
}
