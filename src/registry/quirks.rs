//! What is special about one registry or another, as data. A registry that turns out to be special gets a row here, with a
//! link to where that was seen.

use reqwest::header::HeaderMap;

/// What is special about a registry.
#[derive(Debug, Eq, PartialEq)]
pub struct Quirks {
    /// What people call it.
    pub name: &'static str,
    /// Its hosts: a name, or everything below a domain where it begins with a dot.
    hosts: &'static [&'static str],
    /// Headers of the answer to its first POST, with what their values contain. For registries that run anywhere; the first
    /// row that fits counts.
    marks: &'static [(&'static str, &'static str)],
    /// The fewest bytes that a blob has.
    pub(super) least: u64,
    /// How blobs that are larger than a chunk go there.
    pub(super) parts: Parts,
    /// What carries the last chunk.
    pub(super) last: Last,
    /// What the end of a `Range` in an answer is.
    pub(super) range_end: RangeEnd,
    /// Whether it tells how far a session got.
    pub(super) status: Status,
    /// What it says to the question for a blob.
    pub(super) heads: Heads,
    /// The most bytes that a blob has.
    pub(super) most: u64,
    /// Where that was seen.
    sources: &'static [&'static str],
}

/// How blobs that are larger than a chunk go to a registry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Parts {
    /// In chunks.
    Chunks(Sizes),
    /// As one body, streamed.
    Whole,
    /// Nobody knows: in chunks, and as one body if those are refused.
    Unknown,
}

/// What a registry wants of chunks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Sizes {
    /// The fewest bytes that a chunk has unless it is the last.
    pub(super) least: u64,
    /// The most bytes that a chunk has.
    pub(super) most: u64,
    /// The most chunks that a blob has.
    pub(super) count: u64,
}

/// What carries the last chunk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Last {
    /// The closing PUT, which saves a request.
    Put,
    /// A PATCH like the others, since a closing PUT that breaks takes the session with it.
    Patch,
}

/// What the end of a `Range` in an answer is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum RangeEnd {
    /// The last byte that was received, as the specification has it.
    LastByte,
    /// The number of bytes that were received.
    Count,
}

/// Whether a registry tells how far a session got.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Status {
    /// It does, and where it knows no session there is none.
    UrlDetail,
    /// It says that there is no session, also where there is one.
    Hidden,
}

/// What a registry says to the question for a blob.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Heads {
    /// Whether it has it.
    UrlDetail,
    /// At times that we may not know, also to those who may.
    Withheld,
}

const MIB: u64 = 1 << 20;

/// No limit that we would come near to.
const ANY: Sizes = Sizes { least: MIB, most: 64 * MIB, count: 10_000 };

const PLAIN: Quirks = Quirks {
    name: "a registry",
    hosts: &[],
    marks: &[],
    least: 0,
    parts: Parts::Chunks(ANY),
    last: Last::Put,
    range_end: RangeEnd::LastByte,
    status: Status::UrlDetail,
    heads: Heads::UrlDetail,
    most: u64::MAX,
    sources: &[],
};

/// Amazon ECR, which is known by the form of its hosts.
pub static ECR: Quirks = Quirks {
    name: "Amazon ECR",
    // EmptyUploadException.
    least: 1,
    // Every chunk but the last, of which there are that many at most. The last may come with the PUT.
    parts: Parts::Chunks(Sizes { least: 5 * MIB, most: 10 * MIB, count: 4_200 }),
    status: Status::Hidden,
    sources: &[
        "https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html",
        "https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_CompleteLayerUpload.html",
        "https://github.com/dotnet/sdk-container-builds/issues/424",
        "https://github.com/aws/containers-roadmap/issues/2831",
        "https://github.com/dotnet/sdk/issues/33019",
    ],
    ..PLAIN
};

/// Any registry that nothing is known about.
pub(super) static OTHER: Quirks = Quirks { parts: Parts::Unknown, ..PLAIN };

/// The registries that are known by name or by what they answer.
static KNOWN: [Quirks; 10] = [
    Quirks {
        name: "Amazon ECR Public",
        hosts: &["public.ecr.aws", "ecr-public.aws.com"],
        least: 1,
        // Chunks were refused at the end ("None of the provided layer digests match"), and nobody found out why.
        parts: Parts::Whole,
        status: Status::Hidden,
        // Then it is sent.
        heads: Heads::Withheld,
        most: 10_000 * MIB,
        sources: &[
            "https://docs.aws.amazon.com/AmazonECRPublic/latest/APIReference/API_CompleteLayerUpload.html",
            "https://docs.aws.amazon.com/AmazonECR/latest/public/public-service-quotas.html",
            "https://github.com/aws/containers-roadmap/issues/2671",
            "https://github.com/helm/helm/issues/12491",
            "https://github.com/dotnet/sdk-container-builds/issues/472",
            "https://github.com/dotnet/sdk/pull/33019",
        ],
        ..PLAIN
    },
    Quirks {
        name: "Docker Hub",
        hosts: &["docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"],
        sources: &[
            "https://docs.docker.com/reference/api/registry/latest/operations/UploadBlobChunk/",
            "https://docs.docker.com/reference/api/registry/latest/operations/CompleteBlobUpload/",
        ],
        ..PLAIN
    },
    Quirks {
        name: "GitHub Container Registry",
        hosts: &["ghcr.io", ".ghe.com"],
        marks: &[("x-github-request-id", "")],
        // Above: 416, "the request body is too large and exceeds the maximum permissible limit of 4.00MiB".
        parts: Parts::Chunks(Sizes { most: 4 * MIB, ..ANY }),
        sources: &[
            "https://github.com/oras-project/rust-oci-client/issues/35",
            "https://github.com/oras-project/rust-oci-client/pull/37",
        ],
        ..PLAIN
    },
    Quirks {
        name: "GitLab container registry",
        hosts: &["registry.gitlab.com"],
        sources: &["https://gitlab.com/gitlab-org/container-registry/-/merge_requests/1393"],
        ..PLAIN
    },
    Quirks {
        name: "Google Artifact Registry",
        hosts: &[".pkg.dev", "gcr.io", ".gcr.io"],
        // "Artifact Registry does not support Docker chunked uploads."
        parts: Parts::Whole,
        sources: &[
            "https://github.com/dotnet/sdk-container-builds/pull/287",
            "https://github.com/kitops-ml/kitops/issues/777",
        ],
        ..PLAIN
    },
    Quirks {
        name: "Azure Container Registry",
        hosts: &[".azurecr.io", ".azurecr.cn", ".azurecr.us"],
        // Microsoft's own libraries send 4 MiB; 10 MiB were seen to be taken, and more than 20 MB in one body were not.
        parts: Parts::Chunks(Sizes { most: 10 * MIB, ..ANY }),
        sources: &[
            "https://learn.microsoft.com/en-us/rest/api/containerregistry/blob/end-upload",
            "https://github.com/goharbor/harbor/pull/23016",
        ],
        ..PLAIN
    },
    Quirks {
        name: "Quay",
        hosts: &["quay.io"],
        marks: &[("range", "bytes=0--1")],
        // A PUT that fails cancels the session, and GET and 416 tell how many bytes there are where others tell the last
        // one: complete_when_uploaded and _render_range in endpoints/v2/blob.py.
        last: Last::Patch,
        range_end: RangeEnd::Count,
        sources: &[
            "https://github.com/quay/quay/blob/master/endpoints/v2/blob.py",
            "https://github.com/quay/quay/pull/325",
        ],
        ..PLAIN
    },
    Quirks {
        name: "JFrog Artifactory",
        hosts: &[".jfrog.io"],
        marks: &[("server", "Artifactory/"), ("x-artifactory-id", "")],
        // It says that it stored the blob, and what it stored is the last chunk.
        parts: Parts::Whole,
        sources: &[
            "https://github.com/wasmCloud/wasmCloud/issues/3405",
            "https://github.com/oras-project/rust-oci-client/issues/179",
        ],
        ..PLAIN
    },
    Quirks {
        name: "Sonatype Nexus",
        hosts: &[],
        marks: &[("server", "Nexus/")],
        // Nobody was seen to send it chunks; as docker does it is what its users do.
        parts: Parts::Whole,
        sources: &["https://github.com/sonatype/nexus-public/issues/967"],
        ..PLAIN
    },
    Quirks {
        // The reference registry, 2.8 and 3. It runs anywhere, also inside Harbor and, as a fork, inside GitLab, and is
        // known by the state in its upload addresses. What 2.8 does badly, that a cut takes the session with it, shows when
        // it happens.
        name: "distribution",
        marks: &[("location", "_state=")],
        sources: &[
            "https://github.com/distribution/distribution/pull/3227",
            "https://github.com/distribution/distribution/pull/3755",
            "https://github.com/goharbor/harbor/pull/17602",
            "https://github.com/goharbor/harbor/pull/16322",
        ],
        ..PLAIN
    },
];

impl Quirks {
    /// What is special about the registry of that name, which is not ECR's.
    pub fn of_host(host: &str) -> &'static Self {
        let name = host.to_ascii_lowercase();
        let bare = name.rsplit_once(':').map_or(name.as_str(), |(bare, _)| bare);
        let is_its = |known: &&str| {
            let is_domain = known.starts_with('.');
            if is_domain { bare.ends_with(known) && bare.len() > known.len() } else { *known == name || *known == bare }
        };
        KNOWN.iter().find(|quirks| quirks.hosts.iter().any(is_its)).unwrap_or(&OTHER)
    }

    /// What is special about a registry that answered so, if that is to be seen.
    pub(super) fn of_answer(headers: &HeaderMap) -> Option<&'static Self> {
        let bears = |(name, part): &(&str, &str)| {
            headers.get(*name).and_then(|value| value.to_str().ok()).is_some_and(|value| value.contains(part))
        };
        KNOWN.iter().find(|quirks| quirks.marks.iter().any(bears))
    }

    /// The sizes of chunks that it takes, as far as is known: fewest and most bytes.
    pub fn chunk_sizes(&self) -> std::ops::RangeInclusive<u64> {
        let Sizes { least, most, .. } = self.sizes();
        least..=most
    }

    pub(super) fn sizes(&self) -> Sizes {
        match self.parts {
            Parts::Chunks(sizes) => sizes,
            Parts::Whole | Parts::Unknown => ANY,
        }
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn a_registry_is_known_by_its_host_and_by_nothing_that_looks_like_it() {
        for (host, name) in [
            ("ghcr.io", "GitHub Container Registry"),
            ("GHCR.io:443", "GitHub Container Registry"),
            ("europe-docker.pkg.dev", "Google Artifact Registry"),
            ("eu.gcr.io", "Google Artifact Registry"),
            ("acme.azurecr.io", "Azure Container Registry"),
            ("acme.jfrog.io", "JFrog Artifactory"),
            ("notgcr.io", "a registry"),
            ("ghcr.io.example.com", "a registry"),
            (".pkg.dev", "a registry"),
            ("registry.example.com:5000", "a registry"),
        ] {
            assert_eq!(Quirks::of_host(host).name, name, "{host}");
        }
    }

    #[test]
    fn a_registry_that_runs_anywhere_is_known_by_what_it_answers() {
        for (header, value, name) in [
            ("server", "Artifactory/7.90.1", Some("JFrog Artifactory")),
            ("x-artifactory-id", "abc", Some("JFrog Artifactory")),
            ("server", "Nexus/3.90.2-06 (COMMUNITY)", Some("Sonatype Nexus")),
            ("range", "bytes=0--1", Some("Quay")),
            ("range", "0-0", None),
            ("location", "/v2/app/blobs/uploads/1?_state=abc", Some("distribution")),
            ("location", "/v2/app/blobs/uploads/1", None),
            ("server", "nginx", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HeaderName::from_static(header), HeaderValue::from_static(value));
            assert_eq!(Quirks::of_answer(&headers).map(|quirks| quirks.name), name, "{header}: {value}");
        }
    }

    #[test]
    fn every_row_says_where_it_was_seen() {
        for quirks in KNOWN.iter().chain([&ECR]) {
            assert!(!quirks.sources.is_empty(), "{}", quirks.name);
            assert!(quirks.sources.iter().all(|source| source.starts_with("https://")), "{}", quirks.name);
            let Sizes { least, most, count } = quirks.sizes();
            assert!(least <= most && count > 0, "{}", quirks.name);
        }
    }
}
