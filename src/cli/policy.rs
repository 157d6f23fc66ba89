//! `ecr-push policy`: prints the IAM policy that a push needs.

use crate::ecr::NewRepository;
use crate::ecr::policy::{Creation, Needs, Policy, Registry, Source};
use crate::error::{Advice, Code, Error, Kind, Result};
use crate::oci::{EcrHost, Target};
use crate::push::{IfExists, Options, PushRequest, RepositoryOptions, Reuse};

use super::arguments::OptionArgs;

/// The policy of a push, with notes about it.
#[derive(Debug)]
pub(super) struct PolicyText {
    /// The policy, for stdout.
    pub text: String,
    /// What the user must add to the policy, one line each.
    pub notes: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct PolicyArgs {
    /// Target of the push: [HOST/]REPOSITORY[:TAG]
    #[arg(required = true)]
    pub(super) target: Vec<String>,
    /// Print a Terraform data source (aws_iam_policy_document) instead of JSON
    #[arg(long)]
    pub(super) terraform: bool,
    /// Signing profile that the registry's managed signing uses (repeatable)
    #[arg(long, value_name = "ARN")]
    pub(super) signing_profile: Vec<String>,
    #[command(flatten)]
    pub(super) options: OptionArgs,
}

/// Returns the policy that a request needs.
///
/// # Errors
/// If no target is in AWS.
pub(super) fn text(
    request: &PushRequest,
    options: &Options,
    region: Option<&str>,
    terraform: bool,
    signing_profiles: Vec<String>,
) -> Result<PolicyText> {
    signing_profiles.iter().try_for_each(|arn| check_signing_profile(arn))?;
    let policy = Policy::of(&Needs { signing_profiles, ..needs(request, options, region) });
    if policy.is_empty() {
        return Err(Error::new(Kind::Usage, "no target is in Amazon ECR, so the push needs no IAM policy")
            .code(Code::TargetInvalid)
            .hint("Use REPOSITORY or ACCOUNT.dkr.ecr.REGION.amazonaws.com/REPOSITORY as the target."));
    }
    let text = if terraform { policy.terraform() } else { policy.json()? };
    let mut notes = Vec::new();
    if let Some(target) = request.targets.iter().find(|target| target.host.is_none()) {
        let unknown = match (&options.registries.registry_id, target.region.as_deref().or(region)) {
            (None, None) => "account and region are",
            (None, Some(_)) => "the account is",
            (Some(_), None) => "the region is",
            (Some(_), Some(_)) => return Ok(PolicyText { text, notes }),
        };
        notes.push(format!(
            "note: {unknown} not known for targets without a host, so their ARNs contain `*`; add the host, or edit them"
        ));
    }
    Ok(PolicyText { text, notes })
}

fn needs(request: &PushRequest, options: &Options, region: Option<&str>) -> Needs {
    let account = options.registries.registry_id.as_deref();
    let reached: Vec<(Registry, &Target)> =
        request.targets.iter().filter_map(|target| Some((registry(target, account, region)?, target))).collect();
    let reads_images = options.layers.reuse == Reuse::Tag;
    let sources =
        reached.iter().filter(|(registry, _)| *registry != Registry::Public).flat_map(|(registry, target)| {
            let others = options.layers.mount_from.iter().filter(|from| from.repository != target.repository);
            others.map(|from| Source {
                registry: registry.clone(),
                repository: from.repository.clone(),
                is_read: from.tag.is_some(),
            })
        });
    Needs {
        reads_images,
        checks_tags: options.if_exists != IfExists::Overwrite,
        patterns: options.layers.reuse_from.iter().any(|pattern| pattern.tag().is_none()),
        create: options.repositories.create.then(|| creation(&options.repositories)),
        sources: if options.layers.reuse == Reuse::Off { Vec::new() } else { sources.collect() },
        signing_profiles: Vec::new(),
        targets: reached.iter().map(|(registry, target)| (registry.clone(), target.repository.clone())).collect(),
    }
}

/// Checks that an ARN has the form `arn:aws:signer:REGION:ACCOUNT:/signing-profiles/NAME`.
fn check_signing_profile(arn: &str) -> Result<()> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    match parts[..] {
        ["arn", partition, "signer", _, _, profile]
            if partition.starts_with("aws") && profile.starts_with("/signing-profiles/") =>
        {
            Ok(())
        }
        _ => Err(Error::usage(format!("--signing-profile {arn} is not the ARN of a signing profile"))
            .about_option("--signing-profile")
            .hint(
                Advice::new("List the profiles:").command("aws signer list-signing-profiles --query profiles[].arn"),
            )),
    }
}

fn creation(options: &RepositoryOptions) -> Creation {
    let NewRepository { tags, encryption, .. } = &options.settings;
    Creation {
        tags: !tags.is_empty(),
        lifecycle_policy: options.lifecycle_policy.is_some(),
        repository_policy: options.repository_policy.is_some(),
        kms_key: encryption.as_ref().and_then(|encryption| encryption.key()).map(str::to_owned),
    }
}

/// Returns the registry of a target, or `None` if it is not in AWS.
fn registry(target: &Target, account: Option<&str>, region: Option<&str>) -> Option<Registry> {
    let region = target.region.as_deref().or(region);
    let ecr = match &target.host {
        Some(host) if host.is_ecr_public() => return Some(Registry::Public),
        Some(host) => host.ecr()?.clone(),
        None => EcrHost {
            account: account.unwrap_or("*").into(),
            region: region.unwrap_or("*").into(),
            fips: false,
            dual_stack: false,
        },
    };
    Some(Registry::Private { partition: ecr.partition().into(), region: ecr.region, account: ecr.account })
}
