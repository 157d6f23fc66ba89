//! Image names, compared as Docker reads them.

/// Returns whether two names mean the same to Docker.
pub(super) fn is_same_name(one: &str, other: &str) -> bool {
    one == other || canonical(one) == canonical(other)
}

#[cfg(test)]
thread_local! {
    /// The number of names that were read: the cost of a long list of them.
    pub(super) static NAMES_READ: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Returns the name with everything that Docker adds to it: `docker.io/library/app:latest`
/// (<https://pkg.go.dev/github.com/distribution/reference#ParseNormalizedNamed>). No regular expressions: to build those of
/// `oci_client::Reference` takes 12 MiB and 25 ms, more than everything else that a second push does.
pub(super) fn canonical(name: &str) -> String {
    #[cfg(test)]
    NAMES_READ.set(NAMES_READ.get() + 1);
    let is_host = |first: &str| first.contains(['.', ':']) || first == "localhost";
    let (host, path) = name.split_once('/').filter(|(first, _)| is_host(first)).unwrap_or(("docker.io", name));
    let host = if host == "index.docker.io" { "docker.io" } else { host };
    let library = if host == "docker.io" && !path.contains('/') { "library/" } else { "" };
    let tag = if path.contains([':', '@']) { "" } else { ":latest" };
    format!("{host}/{library}{path}{tag}")
}

/// Returns whether `name`, which has no registry, is the name `known` without its registry.
pub(super) fn is_same_but_registry(known: &str, name: &str) -> bool {
    fn registry(text: &str) -> Option<(&str, &str)> {
        text.split_once('/').filter(|(first, _)| first.contains(['.', ':']) || *first == "localhost")
    }
    registry(name).is_none() && registry(known).is_some_and(|(_, bare)| is_same_name(bare, name))
}

/// Returns whether `name`, which has no registry, is the end of the name `known`, from the start of a path component on.
pub(super) fn is_end_of(known: &str, name: &str) -> bool {
    let path = canonical(&format!("localhost/{name}"));
    let end = path.strip_prefix("localhost").unwrap_or(&path);
    !name.is_empty() && canonical(known).ends_with(end)
}
