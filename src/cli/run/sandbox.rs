//! The sandbox inside a push.

use std::path::PathBuf;

use tracing::instrument::WithSubscriber as _;
use tracing::subscriber::NoSubscriber;

use crate::compress::size;
use crate::ecr::Access;
use crate::error::Result;
use crate::oci::{EcrHost, Host, Target};
use crate::output::log::Entry;
use crate::output::writer::Log;
use crate::push::{Options, Outcome, PushRequest, Pusher, ReadBack, TagState, read_back as read_back_target};
use crate::sandbox::{self, Sandbox};

/// Starts a sandbox for each registry of the request and turns the request to them, if that is wanted. The targets'
/// repositories are there, unless the push is to create them.
pub(super) async fn endpoint_override(
    wanted: Option<Option<PathBuf>>,
    request: &PushRequest,
    options: &mut Options,
    log: &Log,
) -> Result<Option<Vec<Sandbox>>> {
    let Some(dir) = wanted else { return Ok(None) };
    let own = own(request, options.registries.registry_id.as_deref());
    let mut registries: Vec<Registry> = Vec::new();
    for registry in request.targets.iter().map(|target| own.of_target(target)) {
        if !registries.contains(&registry) {
            registries.push(registry);
        }
    }
    if registries.is_empty() {
        registries.push(own.clone());
    }
    let is_one = registries.len() == 1;
    let (mut sandboxes, mut overrides) = (Vec::new(), Vec::new());
    for registry in registries {
        let is_here = |target: &&Target| own.of_target(target) == registry;
        let there = request.targets.iter().filter(|_| !options.repositories.create).filter(is_here);
        let create = there.map(|target| target.repository.clone()).collect();
        // One of several has a folder of its own.
        let dir = dir.as_ref().map(|dir| if is_one { dir.clone() } else { dir.join(registry.host()) });
        let host = registry.host();
        let Registry { account, region } = registry;
        let sandbox = sandbox::Options { dir, create, account, region, ..Default::default() };
        let sandbox = Sandbox::start(sandbox).await?;
        let of = if is_one { String::new() } else { format!(" for {host}") };
        let text = format!("sandbox: using the built-in fake ECR at {}{of}; nothing is sent to AWS", sandbox.url());
        log.log(&Entry::info("sandbox", text).with("url", sandbox.url()));
        overrides.push(sandbox.endpoint_override());
        sandboxes.push(sandbox);
    }
    let at = overrides.iter().position(|it| (&it.account, &it.region) == (&own.account, &own.region));
    let own = overrides.swap_remove(at.unwrap_or_default());
    options.registries.access = Access::Override { own, others: overrides };
    Ok(Some(sandboxes))
}

/// A registry of ECR's.
#[derive(Clone, Eq, PartialEq)]
struct Registry {
    account: String,
    region: String,
}

impl Registry {
    fn of(host: &EcrHost) -> Self {
        Self { account: host.account.clone(), region: host.region.clone() }
    }

    /// The registry of a target, where this one is the caller's own.
    fn of_target(&self, target: &Target) -> Self {
        let region = || target.region.clone().unwrap_or_else(|| self.region.clone());
        let own = || Self { account: self.account.clone(), region: region() };
        target.host.as_ref().and_then(Host::ecr).map_or_else(own, Self::of)
    }

    fn host(&self) -> String {
        let Self { account, region } = self.clone();
        Host::from_ecr(EcrHost { account, region, fips: false, dual_stack: false }).as_str().to_owned()
    }
}

/// The caller's own registry, in which targets without a host are: in the account and the region that are asked for, else
/// those of the first target that names a registry.
fn own(request: &PushRequest, given: Option<&str>) -> Registry {
    let default = sandbox::Options::default();
    let first = request.targets.iter().find_map(|target| target.host.as_ref()?.ecr()).map(Registry::of);
    let Registry { account, region } = first.unwrap_or(Registry { account: default.account, region: default.region });
    Registry {
        account: given.map_or(account, str::to_owned),
        region: request.targets.iter().find_map(|target| target.region.clone()).unwrap_or(region),
    }
}

/// Reads back what was pushed and describes it.
pub(super) async fn read_back(request: &PushRequest, options: &Options, outcome: &Outcome) -> Result<String> {
    let pusher = Pusher::builder().options(options.clone()).start().await?;
    let mut text = String::new();
    for (target, pushed) in request.targets.iter().zip(&outcome.targets) {
        let mut placed = pushed.placed.iter().zip(pushed.references());
        if let Some((placed, reference)) = placed.find(|(placed, _)| placed.state != TagState::Skipped) {
            // It would explain the login of the push again.
            let reading = read_back_target(&pusher, target, &placed.tag).with_subscriber(NoSubscriber::default());
            text += &text_of(&reference, &reading.await?);
        }
    }
    Ok(text)
}

/// Returns what was read back from a registry.
fn text_of(reference: &str, found: &ReadBack) -> String {
    let mut text = format!("read back {reference}\n  {}  {}\n", found.digest, found.media_type);
    for image_id in &found.image_ids {
        text += &format!("  config {image_id}\n");
    }
    for (digest, bytes) in &found.layers {
        text += &format!("  layer  {digest}  {:>10}\n", size(*bytes));
    }
    text
}
