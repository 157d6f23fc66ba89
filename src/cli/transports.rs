//! Archives and targets in the syntax of other tools: transports of skopeo, and ARNs.

use std::path::PathBuf;

use crate::archive::{ContainerEngine, EngineImage, ImageSelector, Source};
use crate::error::{Advice, Code, Error, Result};
use crate::oci::{EcrHost, Host, Tag, region_code, strip_credentials};

/// Transports of archives on disk (containers-transports(5)).
const ON_DISK: [&str; 4] = ["docker-archive:", "oci-archive:", "oci:", "dir:"];

/// Transports of images in the storage of a container engine, and their short forms.
const IN_STORAGE: [(&str, ContainerEngine); 4] = [
    ("docker-daemon:", ContainerEngine::Docker),
    ("docker:", ContainerEngine::Docker),
    ("containers-storage:", ContainerEngine::Podman),
    ("podman:", ContainerEngine::Podman),
];

/// Parses an archive argument: a path, `-` for standard input, or a transport of skopeo. Also returns what a transport
/// selects of the archive. A file whose name looks like a transport needs a `./`.
///
/// # Errors
/// If the transport is not that of an archive or of an engine.
pub(super) fn source(path: PathBuf) -> Result<(Source, Option<ImageSelector>)> {
    let Some(text) = path.to_str() else { return Ok((Source::Path(path), None)) };
    if text == "-" {
        return Ok((Source::StandardInput, None));
    }
    if let Some(image) = text.strip_prefix("docker://") {
        let image = strip_credentials(image);
        return Err(Error::usage(format!("docker://{image} is an image in a registry, not an archive"))
            .code(Code::ArchiveUnrecognized)
            .hint(
                Advice::new("Copy it to an archive first:")
                    .command(format!("skopeo copy --all docker://{image} oci-archive:image.tar")),
            ));
    }
    if let Some((transport, engine)) = IN_STORAGE.into_iter().find(|(transport, _)| text.starts_with(transport)) {
        // What the engine saves is one image.
        let image = EngineImage::new(engine, &text[transport.len()..])?;
        return Ok((Source::Engine(image), Some(ImageSelector::Only)));
    }
    let Some(transport) = ON_DISK.into_iter().find(|transport| text.starts_with(transport)) else {
        return Ok((Source::Path(path), None));
    };
    let rest = &text[transport.len()..];
    let (file, image) = match rest.split_once(':') {
        Some((file, image)) if transport != "dir:" => (file, Some(image).filter(|image| !image.is_empty())),
        _ => (rest, None),
    };
    if let Some(index) = image.and_then(|image| image.strip_prefix('@')) {
        return Err(Error::usage(format!(
            "{transport}...:@{index} selects an image by number, which is not supported"
        ))
        .code(Code::ImageNotFound)
        .hint(Advice::new("Select it by name or ID").setting_with("image", "NAME").setting_with("image-id", "ID")));
    }
    Ok((Source::Path(PathBuf::from(file)), image.map(|name| ImageSelector::Name(name.to_owned()))))
}

/// Converts a target in the form of a skopeo transport or an ARN to `HOST/REPOSITORY[:TAG]`.
///
/// # Errors
/// If it is not a repository of a registry.
pub(super) fn target(text: &str) -> Result<String> {
    let refuse = |what: String| Error::invalid_target(what);
    if let Some(reference) = text.strip_prefix("docker://") {
        let has_host =
            reference.split_once('/').is_some_and(|(first, _)| first.contains(['.', ':']) || first == "localhost");
        if !has_host {
            // skopeo would use Docker Hub, this program the user's own ECR registry.
            return Err(refuse(format!("the target {text} has no registry host")).hint(format!(
                "For Docker Hub write docker.io/{reference}. For your own ECR registry write {reference}."
            )));
        }
        return Ok(reference.to_owned());
    }
    let others = ON_DISK.into_iter().chain(["docker-daemon:", "containers-storage:"]);
    let is_transport = |transport: &&str| match text.strip_prefix(*transport) {
        // A repository or host may have that name, followed by a tag or a port.
        Some(rest) if ["oci:", "dir:"].contains(transport) => !is_host_or_tag(rest),
        rest => rest.is_some(),
    };
    if let Some(transport) = others.into_iter().find(is_transport) {
        return Err(refuse(format!("the target {text} is not in a registry: {transport} is a local transport"))
            .hint("Write the target as [HOST/]REPOSITORY[:TAG]."));
    }
    match text.strip_prefix("arn:") {
        Some(arn) => of_arn(arn).ok_or_else(|| {
            refuse(format!("the target {text:?} is not the ARN of a private ECR repository"))
                .hint("Use this form: arn:aws:ecr:eu-west-1:123456789012:repository/team/app[:TAG]")
        }),
        None => Ok(text.to_owned()),
    }
}

fn is_host_or_tag(rest: &str) -> bool {
    rest.parse::<Tag>().is_ok() || rest.starts_with(|c: char| c.is_ascii_digit())
}

fn of_arn(arn: &str) -> Option<String> {
    let mut parts = arn.splitn(5, ':');
    let (_partition, service, region, account, resource) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let repository = resource.strip_prefix("repository/")?;
    if service != "ecr" || account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let region = region_code(region)?;
    let host = Host::from_ecr(EcrHost { account: account.into(), region, fips: false, dual_stack: false });
    Some(format!("{host}/{repository}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transports_on_disk_are_paths_with_an_image() {
        for (text, path, image) in [
            ("docker-archive:a/b.tar", "a/b.tar", None),
            ("docker-archive:b.tar:team/app:1", "b.tar", Some("team/app:1")),
            ("oci:layout:1.4", "layout", Some("1.4")),
            ("oci-archive:a.tar:", "a.tar", None),
            ("dir:a:b", "a:b", None),
            ("./oci:a", "./oci:a", None),
            ("a.tar", "a.tar", None),
        ] {
            assert_eq!(
                source(path_of(text)).unwrap(),
                (Source::Path(path_of(path)), image.map(|name: &str| ImageSelector::Name(name.to_owned()))),
                "{text}"
            );
        }
        assert_eq!(source(path_of("-")).unwrap(), (Source::StandardInput, None));
        for refused in ["docker://x.io/a", "docker-daemon:", "podman:--help", "docker-archive:a.tar:@0"] {
            assert!(source(path_of(refused)).is_err(), "{refused}");
        }
    }

    #[test]
    fn images_in_the_storage_of_an_engine_are_read() {
        for (text, read) in [
            ("docker-daemon:app:1.4", "docker-daemon:app:1.4"),
            ("docker:team/app", "docker-daemon:team/app:latest"),
            ("docker:sha256:0a1b", "docker-daemon:sha256:0a1b"),
            ("containers-storage:app", "containers-storage:app:latest"),
            ("podman:localhost/app:1", "containers-storage:localhost/app:1"),
        ] {
            let (source, selected) = source(path_of(text)).unwrap();
            assert!(matches!(source, Source::Engine(_)), "{text}");
            assert_eq!((source.to_string().as_str(), selected), (read, Some(ImageSelector::Only)), "{text}");
        }
        assert_eq!(source(path_of("./docker:x")).unwrap(), (Source::Path(path_of("./docker:x")), None));
    }

    fn path_of(text: &str) -> PathBuf {
        PathBuf::from(text)
    }

    #[test]
    fn targets_of_other_tools_are_read() {
        for (text, read) in [
            ("docker://x.io/a:1", "x.io/a:1"),
            ("docker://localhost/a", "localhost/a"),
            ("team/app:1", "team/app:1"),
            ("oci:5000/app", "oci:5000/app"),
            (
                "arn:aws:ecr:eu-west-1:123456789012:repository/team/app:2",
                "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/app:2",
            ),
            (
                "arn:aws-cn:ecr:cn-north-1:123456789012:repository/a",
                "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/a",
            ),
        ] {
            assert_eq!(target(text).unwrap(), read);
        }
        for refused in [
            "docker://team/app",
            "oci:layout:1",
            "dir:a/b",
            "docker-daemon:app",
            "arn:aws:ecr-public::123456789012:repository/a",
            "arn:aws:s3:::bucket",
            "arn:aws:ecr:eu-west-1:12:repository/a",
        ] {
            assert!(target(refused).is_err(), "{refused}");
        }
    }
}
