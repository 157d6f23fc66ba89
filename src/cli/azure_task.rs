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
use crate::error::{Code, Error, Result};
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
    let mut arguments: Vec<OsString> = vec![source(&inputs)?.into(), PLACEHOLDER.into()];
    arguments.extend(["--ci".into(), "azure".into()]);
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
    let overlaid = |name: &str| variables.get(name).cloned().unwrap_or_else(|| environment(name));
    let Command::Push(mut push) = parse(arguments, &overlaid).map_err(with_input)? else {
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
                    Err(Error::usage(format!("both sourceImageName ({name}) and sourceImageTag ({tag}) name a tag"))
                        .code(Code::OptionConflict)
                        .hint("Leave the tag out of sourceImageName."))
                }
            }
        }
        Some("archive") => inputs.required("archive"),
        Some(_) => inputs.required("sourceImageId").map(|id| format!("docker-daemon:{id}")),
    }
}

/// Returns the repository, and a note if its name is changed.
fn repository(inputs: &Inputs<'_>) -> Result<(Repository, Option<String>)> {
    let typed = inputs.required("repositoryName")?;
    if !inputs.flag("forceDockerNamingConventions") {
        return Ok((typed.parse()?, None));
    }
    // As the task does: unlike --docker-naming, it removes slashes.
    let is_kept = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(*c);
    let name: String = typed.to_lowercase().chars().filter(is_kept).collect();
    let note = (name != typed).then(|| format!("the repository {typed:?} is called {name:?}"));
    Ok((name.parse()?, note))
}

/// Returns all tags, and the form of the reference in the output variable: without a tag if `pushTag` is empty, as the task
/// writes it. Docker then pushes `latest`.
fn tags(inputs: &Inputs<'_>) -> Result<(Vec<Tag>, ReferenceForm)> {
    let (first, form) = match inputs.given("pushTag")? {
        Some(tag) if tag.is_empty() => (Tag::latest(), ReferenceForm::WithoutTag),
        None => (Tag::latest(), ReferenceForm::WithTag),
        Some(tag) => (tag.parse()?, ReferenceForm::WithTag),
    };
    let more = inputs.text("additionalTags")?.unwrap_or_default();
    let more = more.split([',', '\n', ' ']).map(str::trim).filter(|tag| !tag.is_empty()).map(str::parse);
    let tags = std::iter::once(Ok(first)).chain(more).collect::<Result<_>>()?;
    Ok((tags, form))
}

/// Adds to an error about an option which input sets it.
fn with_input(error: Error) -> Error {
    let text = error.to_string();
    let is_named = |option: &str| text.split([' ', '=', '\'']).any(|word| word == option);
    let Some((option, input)) = INPUTS_OF_OPTIONS.into_iter().find(|(option, _)| is_named(option)) else {
        return error;
    };
    let advice = error.advice().cloned().unwrap_or_default();
    error.hint(advice.preceded_by(&format!("The input {input} sets {option}.")))
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
    fn an_error_about_an_option_names_the_input() {
        let error = read(&[("INPUT_TAGMUTABILITY", "some")]).unwrap_err();
        let advice = error.advice().unwrap().to_string();
        assert!(advice.starts_with("The input tagMutability sets --tag-mutability."), "{error}: {advice}");
    }
}
