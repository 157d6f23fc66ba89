//! Comparison of image names by Docker's rules.

/// Returns whether Docker considers two names equal.
pub(super) fn is_same_name(one: &str, other: &str) -> bool {
    one == other || canonical(one) == canonical(other)
}

#[cfg(test)]
thread_local! {
    /// The number of names that were normalized, which is the cost of a long list.
    pub(super) static NAMES_READ: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Returns the name with the defaults that Docker adds: `docker.io/library/app:latest`
/// (<https://pkg.go.dev/github.com/distribution/reference#ParseNormalizedNamed>). `oci_client::Reference` is not used:
/// compiling its regular expressions takes 12 MiB and 25 ms, more than everything else in a second push.
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

/// Returns whether `name` is `known` without its registry.
pub(super) fn is_same_but_registry(known: &str, name: &str) -> bool {
    fn registry(text: &str) -> Option<(&str, &str)> {
        text.split_once('/').filter(|(first, _)| first.contains(['.', ':']) || *first == "localhost")
    }
    registry(name).is_none() && registry(known).is_some_and(|(_, bare)| is_same_name(bare, name))
}

/// Returns whether `name` is the end of `known`, starting at a path component.
pub(super) fn is_end_of(known: &str, name: &str) -> bool {
    let path = canonical(&format!("localhost/{name}"));
    let end = path.strip_prefix("localhost").unwrap_or(&path);
    !name.is_empty() && canonical(known).ends_with(end)
}

/// The parts of an image name, with the defaults that Docker adds.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct NameParts {
    /// The registry: `docker.io` if the name has none.
    pub host: String,
    /// The repository: `library/nginx` for `nginx`.
    pub path: String,
    /// The tag: `latest` if the name has neither a tag nor a digest.
    pub tag: Option<String>,
    /// The digest, as written.
    pub digest: Option<String>,
}

impl NameParts {
    /// Splits a name by Docker's rules.
    pub(crate) fn of(name: &str) -> Self {
        let (name, digest) = match name.split_once('@') {
            Some((name, digest)) => (name, Some(digest.to_owned())),
            None => (name, None),
        };
        let has_tag = name.rsplit('/').next().is_some_and(|last| last.contains(':'));
        let full = canonical(name);
        let (host, rest) = full.split_once('/').unwrap_or(("", &full));
        let (path, tag) = rest.rsplit_once(':').unwrap_or((rest, ""));
        let tag = Some(tag.to_owned()).filter(|_| has_tag || digest.is_none());
        Self { host: host.to_owned(), path: path.to_owned(), tag, digest }
    }

    /// Returns the name as Docker normalizes it, without the digest.
    pub(crate) fn canonical(&self) -> String {
        let tag = self.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        format!("{}/{}{tag}", self.host, self.path)
    }

    /// Returns the repository as Docker shows it, without the registry: `nginx`, not `library/nginx`.
    pub(crate) fn familiar_path(&self) -> &str {
        let familiar = self.path.strip_prefix("library/").filter(|_| self.host == "docker.io");
        familiar.unwrap_or(&self.path)
    }
}
