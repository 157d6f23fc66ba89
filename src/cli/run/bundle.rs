//! Runs the pushes of several images of an archive, which is opened once.

use std::process::ExitCode;

use super::frame::Frame;
use super::many::{Pushes, events_of_many, read_list};
#[cfg(feature = "sandbox")]
use super::sandbox;
use crate::cli::bundle::Bundle;
use crate::cli::push::Push;
use crate::cli::values::input_name;
use crate::error::{Error, Result};
use crate::oci::TargetPrefix;
use crate::push::{BundleOptions, Event, ListedReference, Outcome, PushRequest, Pusher};

/// Reads the list of images, if there is one.
///
/// # Errors
/// If it cannot be read, or is empty.
pub(super) fn listed(bundle: &Bundle) -> Result<Option<Vec<ListedReference>>> {
    let Some(path) = &bundle.list else { return Ok(None) };
    let references = ListedReference::list(&read_list("list of images", path)?);
    if references.is_empty() {
        return Err(Error::invalid(format!("the list of images {} is empty", input_name(path)))
            .hint("Write one image name a line."));
    }
    Ok(Some(references))
}

pub(super) async fn run(command: Push, bundle: Bundle, references: Option<Vec<ListedReference>>) -> Result<ExitCode> {
    let Push { request, mut options, reporting, output, sandbox, .. } = command;
    let verbosity = reporting.verbosity;
    let frame = Frame::start(request.sources().map(|(source, _)| source), request.targets.len(), &options, reporting)?;
    #[cfg(feature = "sandbox")]
    let _sandboxes = {
        // Its repositories are only known once the archive is open.
        options.repositories.create |= sandbox.is_some();
        sandbox::endpoint_override(sandbox, &request, &mut options, frame.log()).await?
    };
    #[cfg(not(feature = "sandbox"))]
    let (_, _) = (sandbox, &mut options);
    let dry_run = options.dry_run;
    let events = events_of_many(&frame.events, verbosity);
    let pusher = Pusher::builder().options(options).on_event(move |event| events(event)).start().await?;
    let archive = pusher.open(&request.source, &frame.cancel).await?;
    let wanted = BundleOptions {
        prefixes: request.targets.iter().cloned().map(TargetPrefix::of_example).collect(),
        references,
        exclude: bundle.exclude,
        keep_registry: bundle.keep_registry,
        docker_naming: bundle.docker_naming,
        image: request.image.clone(),
        tags: request.tags.clone(),
        shard: bundle.shard,
    };
    let planned = wanted.pushes(&archive)?;
    planned.notes.into_iter().for_each(|note| (frame.events)(Event::Note(note)));
    let all = planned.requests.len() + planned.unusable.len();
    let mut pushes = Pushes::new(&frame, output, request.source.to_string(), all).with(bundle.fail_fast, dry_run);
    for (request, error) in planned.unusable {
        let name = request.targets.first().map(ToString::to_string).unwrap_or_default();
        pushes.finish(&name, &Outcome::failed(&request, pusher.options(), error))?;
    }
    let push = |request: PushRequest| {
        let (pusher, stop) = (pusher.clone(), frame.cancel.clone());
        async move {
            let name = request.targets.first().map(ToString::to_string).unwrap_or_default();
            (name, pusher.push(request, stop).await)
        }
    };
    pushes.run(planned.requests.into_iter().map(push)).await
}
