//! The targets of the command line: registries and regions.

use std::path::Path;

use super::transports;
use crate::error::{Advice, Code, Error, Result};
use crate::oci::{Host, Target};

/// File name extensions of archives.
const ARCHIVES: [&str; 10] =
    [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".tar.lz4"];

/// Normalizes targets, including those in the syntax of other tools. Only checks whether a file of that name exists.
///
/// # Errors
/// If a target is a file: the shell may have expanded a pattern to several archives.
pub(super) fn texts(typed: &[String]) -> Result<Vec<String>> {
    typed.iter().map(|text| refuse_archive(text).and_then(|()| transports::target(text))).collect()
}

/// Rejects an archive among the targets of a command that needs none.
///
/// # Errors
/// If there is one.
pub(super) fn without_archive(typed: Vec<String>) -> Result<Vec<String>> {
    match typed.iter().find(|text| like_archive(text).is_some()) {
        Some(archive) => Err(Error::invalid_target(format!("{archive:?} is not a target"))
            .hint("Leave the archive out: only the targets are needed.")),
        None => Ok(typed),
    }
}

/// Returns why a target is likely an archive.
fn like_archive(text: &str) -> Option<&'static str> {
    let name = text.to_ascii_lowercase();
    let is_archive = ARCHIVES.iter().any(|end| name.ends_with(end));
    if Path::new(text).is_file() { Some("is a file") } else { is_archive.then_some("looks like an archive") }
}

fn refuse_archive(text: &str) -> Result<()> {
    let Some(why) = like_archive(text) else { return Ok(()) };
    let advice = Advice::new(format!(
        "A push has one archive. If {text} is a repository name, add the tag: {text}:latest. To push the images of \
         several archives, one for each platform, as one multi-platform image"
    ))
    .setting_with("join", text);
    Err(Error::invalid_target(format!("the target {text:?} {why}")).hint(advice))
}

/// Returns the first target that is a prefix for repositories.
pub(super) fn prefix(texts: &[String]) -> Option<&String> {
    // A host alone lacks a repository, whatever is pushed.
    let is_prefix = |text: &&String| {
        text.strip_suffix('/')
            .is_some_and(|path| !path.starts_with(['/', '.']) && (path.contains('/') || !path.contains(['.', ':'])))
    };
    texts.iter().find(is_prefix)
}

/// Rejects prefixes where one image is pushed: a variable after the slash may be unset.
pub(super) fn refuse_prefixes(texts: &[String]) -> Result<()> {
    match prefix(texts) {
        Some(text) => Err(Error::invalid_target(format!("the target {text:?} ends with a slash")).hint(
            Advice::new(
                "Is the shell variable after the / unset? To push every image of the archive below this prefix",
            )
            .setting("all-images"),
        )),
        None => Ok(()),
    }
}

/// Sets the regions of targets without a host, with one target per region.
///
/// # Errors
/// If every target has a host, and one of them is in none of the regions.
pub(super) fn in_regions(targets: Vec<Target>, regions: Vec<String>) -> Result<Vec<Target>> {
    if regions.is_empty() {
        return Ok(targets);
    }
    if targets.iter().all(|target| target.host.is_some()) {
        let mut named = targets.iter().filter_map(|target| Some((target, &target.host.as_ref()?.ecr()?.region)));
        if let Some((target, region)) = named.find(|(_, region)| !regions.contains(region)) {
            let what = format!("{target} is in region {region}, but --region is {}", regions.join(", "));
            let error = Error::conflict(what).about_option("--region");
            return Err(error.hint("Leave out --region: the host contains the region."));
        }
        return Ok(targets);
    }
    let targets = targets.into_iter().flat_map(|target| match &target.host {
        Some(_) => vec![target],
        None => {
            let in_region = |region: &String| Target { region: Some(region.clone()), ..target.clone() };
            regions.iter().map(in_region).collect()
        }
    });
    Ok(targets.collect())
}

/// Sets the account of VPC endpoints and of targets without a host.
pub(super) fn in_registry(targets: Vec<Target>, account: Option<&str>) -> Result<Vec<Target>> {
    if let Some(account) = account
        && (account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()))
    {
        return Err(Error::invalid(format!("--registry-id {account:?} is not an AWS account ID of twelve digits"))
            .about_option("--registry-id"));
    }
    let is_used = targets.iter().any(|target| target.host.as_ref().is_none_or(Host::is_vpc_endpoint));
    let with_account = |target: Target| match (&target.host, account) {
        (Some(host), Some(account)) if host.is_vpc_endpoint() => {
            Ok(Target { host: host.via_vpc_endpoint(account), ..target })
        }
        (Some(host), None) if host.is_vpc_endpoint() => {
            Err(Error::usage(format!("{host} is a VPC endpoint, which serves every registry of its region"))
                .code(Code::ArgumentMissing)
                .hint("Add --registry-id ACCOUNT, or use the host name of the registry if private DNS is enabled."))
        }
        (Some(host), Some(account)) if !is_used && host.ecr().is_none_or(|ecr| ecr.account != account) => {
            Err(Error::conflict(format!("--registry-id {account} contradicts {host}"))
                .about_option("--registry-id")
                .hint("Leave out --registry-id: the host contains the account."))
        }
        _ => Ok(target),
    };
    targets.into_iter().map(with_account).collect()
}
