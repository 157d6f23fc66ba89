//! The quirks of registries, as data.
//!
//! A registry that needs special treatment is one row of [`KNOWN`]: how it is recognized, what differs from [`STANDARD`], and
//! links to where that was seen. Nothing else has to change, unless the quirk is of a new kind: then it is also a field of
//! [`Quirks`] with the usual value in [`STANDARD`], and the code that uses it.

use reqwest::header::HeaderMap;

/// The quirks of a registry.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Quirks {
    /// Its name in messages.
    pub name: &'static str,
    /// Its hosts: names, and domains with a leading dot, which match everything below them.
    hosts: &'static [&'static str],
    /// Headers of the response to its first POST, with a part of their values. They identify registries that run on any host;
    /// the first row that matches counts.
    fingerprints: &'static [(&'static str, &'static str)],
    /// The smallest blob in bytes.
    pub(super) min_blob_size: u64,
    /// How blobs larger than a chunk are uploaded.
    pub(super) large_blobs: LargeBlobs,
    /// Whether it is known to accept blobs of any size in a single streamed request.
    pub(super) streams: Streams,
    /// Which request carries the last chunk.
    pub(super) last_chunk: LastChunk,
    /// The meaning of the end of a `Range` in a response.
    pub(super) range_end: RangeEnd,
    /// Whether it reports the offset of a session.
    pub(super) upload_status: StatusReport,
    /// How it responds to the lookup of a blob.
    pub(super) blob_lookup: BlobLookup,
    /// The largest blob in bytes.
    pub(super) max_blob_size: u64,
    /// Where that was seen.
    sources: &'static [&'static str],
}

/// How blobs larger than a chunk are uploaded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum LargeBlobs {
    /// In chunks.
    Chunks(ChunkLimits),
    /// In a single streamed request.
    SingleRequest,
    /// Not known: in chunks, or in a single request if those are rejected.
    Unknown,
}

/// Whether a registry is known to accept blobs of any size in one PATCH without a range and an empty closing PUT.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Streams {
    /// It is, if only because docker sends every layer like that
    /// (<https://github.com/distribution/distribution/blob/v2.8.3/registry/client/blob_writer.go>), as skopeo does
    /// (<https://github.com/containers/image/blob/v5.22.0/docker/docker_image_dest.go>).
    Accepted,
    /// There are contrary reports.
    Doubtful,
}

/// The limits of a registry on chunks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct ChunkLimits {
    /// The smallest chunk in bytes, except the last.
    pub(super) min: u64,
    /// The largest chunk in bytes.
    pub(super) max: u64,
    /// The maximum number of chunks of a blob.
    pub(super) count: u64,
}

/// Which request carries the last chunk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum LastChunk {
    /// The closing PUT, which saves a request.
    Put,
    /// A PATCH like the others: a closing PUT that fails loses the session.
    Patch,
}

/// The meaning of the end of a `Range` in a response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum RangeEnd {
    /// The last byte that was received, as the specification requires.
    LastByte,
    /// The number of bytes that were received.
    Count,
}

/// Whether a registry reports the offset of a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum StatusReport {
    /// It does, and a session that it does not know does not exist.
    Reported,
    /// It denies sessions that exist.
    Hidden,
}

/// How a registry responds to the lookup of a blob.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum BlobLookup {
    /// It reports whether the blob exists.
    Reported,
    /// It sometimes denies access to callers who have it.
    Withheld,
}

const MIB: u64 = 1 << 20;

/// Limits that are never reached.
const ANY_SIZE: ChunkLimits = ChunkLimits { min: MIB, max: 64 * MIB, count: 10_000 };

const STANDARD: Quirks = Quirks {
    name: "a registry",
    hosts: &[],
    fingerprints: &[],
    min_blob_size: 0,
    large_blobs: LargeBlobs::Chunks(ANY_SIZE),
    streams: Streams::Accepted,
    last_chunk: LastChunk::Put,
    range_end: RangeEnd::LastByte,
    upload_status: StatusReport::Reported,
    blob_lookup: BlobLookup::Reported,
    max_blob_size: u64::MAX,
    sources: &[],
};

/// Amazon ECR, which is recognized by the form of its hosts.
pub(crate) static ECR: Quirks = Quirks {
    name: "Amazon ECR",
    // EmptyUploadException.
    min_blob_size: 1,
    // The minimum does not apply to the last chunk, which the PUT may carry.
    large_blobs: LargeBlobs::Chunks(ChunkLimits { min: 5 * MIB, max: 10 * MIB, count: 4_200 }),
    upload_status: StatusReport::Hidden,
    sources: &[
        "https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html",
        "https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_CompleteLayerUpload.html",
        "https://github.com/dotnet/sdk-container-builds/issues/424",
        "https://github.com/aws/containers-roadmap/issues/2831",
        "https://github.com/dotnet/sdk/issues/33019",
    ],
    ..STANDARD
};

/// Any unknown registry.
pub(super) static OTHER: Quirks = Quirks { large_blobs: LargeBlobs::Unknown, ..STANDARD };

/// The registries that are recognized by host or by response.
static KNOWN: &[Quirks] = &[
    Quirks {
        name: "Amazon ECR Public",
        hosts: &["public.ecr.aws", "ecr-public.aws.com"],
        min_blob_size: 1,
        // Chunks were rejected at the end ("None of the provided layer digests match") for an unknown reason.
        large_blobs: LargeBlobs::SingleRequest,
        upload_status: StatusReport::Hidden,
        blob_lookup: BlobLookup::Withheld,
        max_blob_size: 10_000 * MIB,
        sources: &[
            "https://docs.aws.amazon.com/AmazonECRPublic/latest/APIReference/API_CompleteLayerUpload.html",
            "https://docs.aws.amazon.com/AmazonECR/latest/public/public-service-quotas.html",
            "https://github.com/aws/containers-roadmap/issues/2671",
            "https://github.com/helm/helm/issues/12491",
            "https://github.com/dotnet/sdk-container-builds/issues/472",
            "https://github.com/dotnet/sdk/pull/33019",
        ],
        ..STANDARD
    },
    Quirks {
        name: "Docker Hub",
        hosts: &["docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"],
        sources: &[
            "https://docs.docker.com/reference/api/registry/latest/operations/UploadBlobChunk/",
            "https://docs.docker.com/reference/api/registry/latest/operations/CompleteBlobUpload/",
        ],
        ..STANDARD
    },
    Quirks {
        name: "GitHub Container Registry",
        hosts: &["ghcr.io", ".ghe.com"],
        fingerprints: &[("x-github-request-id", "")],
        // Above: 416, "the request body is too large and exceeds the maximum permissible limit of 4.00MiB".
        large_blobs: LargeBlobs::Chunks(ChunkLimits { max: 4 * MIB, ..ANY_SIZE }),
        sources: &[
            "https://github.com/oras-project/rust-oci-client/issues/35",
            "https://github.com/oras-project/rust-oci-client/pull/37",
        ],
        ..STANDARD
    },
    Quirks {
        name: "GitLab container registry",
        hosts: &["registry.gitlab.com"],
        sources: &["https://gitlab.com/gitlab-org/container-registry/-/merge_requests/1393"],
        ..STANDARD
    },
    Quirks {
        name: "Google Artifact Registry",
        hosts: &[".pkg.dev", "gcr.io", ".gcr.io"],
        // "Artifact Registry does not support Docker chunked uploads."
        large_blobs: LargeBlobs::SingleRequest,
        sources: &[
            "https://github.com/dotnet/sdk-container-builds/pull/287",
            "https://github.com/kitops-ml/kitops/issues/777",
        ],
        ..STANDARD
    },
    Quirks {
        name: "Azure Container Registry",
        hosts: &[".azurecr.io", ".azurecr.cn", ".azurecr.us"],
        // Microsoft's own libraries send 4 MiB; 10 MiB were seen to be accepted, and more than 20 MB in one request were not.
        large_blobs: LargeBlobs::Chunks(ChunkLimits { max: 10 * MIB, ..ANY_SIZE }),
        streams: Streams::Doubtful,
        sources: &[
            "https://learn.microsoft.com/en-us/rest/api/containerregistry/blob/end-upload",
            "https://github.com/goharbor/harbor/pull/23016",
        ],
        ..STANDARD
    },
    Quirks {
        name: "Quay",
        hosts: &["quay.io"],
        fingerprints: &[("range", "bytes=0--1")],
        // A PUT that fails cancels the session. GET and 416 report the number of bytes instead of the last one:
        // complete_when_uploaded and _render_range in endpoints/v2/blob.py.
        last_chunk: LastChunk::Patch,
        range_end: RangeEnd::Count,
        sources: &[
            "https://github.com/quay/quay/blob/master/endpoints/v2/blob.py",
            "https://github.com/quay/quay/pull/325",
        ],
        ..STANDARD
    },
    Quirks {
        name: "JFrog Artifactory",
        hosts: &[".jfrog.io"],
        fingerprints: &[("server", "Artifactory/"), ("x-artifactory-id", "")],
        // It confirms the blob but stores the last chunk only.
        large_blobs: LargeBlobs::SingleRequest,
        sources: &[
            "https://github.com/wasmCloud/wasmCloud/issues/3405",
            "https://github.com/oras-project/rust-oci-client/issues/179",
        ],
        ..STANDARD
    },
    Quirks {
        name: "Sonatype Nexus",
        hosts: &[],
        fingerprints: &[("server", "Nexus/")],
        // No client was seen to send it chunks; docker sends a single request.
        large_blobs: LargeBlobs::SingleRequest,
        sources: &["https://github.com/sonatype/nexus-public/issues/967"],
        ..STANDARD
    },
    Quirks {
        // The reference registry, 2.8 and 3. It runs anywhere, also inside Harbor and, as a fork, inside GitLab, and is
        // recognized by the state in its upload URLs. That 2.8 loses the session with a broken connection shows when it
        // happens.
        name: "distribution",
        fingerprints: &[("location", "_state=")],
        sources: &[
            "https://github.com/distribution/distribution/pull/3227",
            "https://github.com/distribution/distribution/pull/3755",
            "https://github.com/goharbor/harbor/pull/17602",
            "https://github.com/goharbor/harbor/pull/16322",
        ],
        ..STANDARD
    },
];

impl Quirks {
    /// Returns the quirks of a host that is not ECR's.
    pub(crate) fn of_host(host: &str) -> &'static Self {
        let name = host.to_ascii_lowercase();
        let bare = name.rsplit_once(':').map_or(name.as_str(), |(bare, _)| bare);
        let matches = |known: &&str| {
            let is_domain = known.starts_with('.');
            if is_domain { bare.ends_with(known) && bare.len() > known.len() } else { *known == name || *known == bare }
        };
        KNOWN.iter().find(|quirks| quirks.hosts.iter().any(matches)).unwrap_or(&OTHER)
    }

    /// Recognizes a registry by a response.
    pub(super) fn of_response(headers: &HeaderMap) -> Option<&'static Self> {
        let matches = |(name, part): &(&str, &str)| {
            headers.get(*name).and_then(|value| value.to_str().ok()).is_some_and(|value| value.contains(part))
        };
        KNOWN.iter().find(|quirks| quirks.fingerprints.iter().any(matches))
    }

    /// Returns the chunk sizes that it accepts, in bytes, as far as known.
    pub(crate) fn chunk_sizes(&self) -> std::ops::RangeInclusive<u64> {
        let ChunkLimits { min, max, .. } = self.chunk_limits();
        min..=max
    }

    /// Returns the limits on chunks. With an unknown registry they are never reached.
    pub(super) fn chunk_limits(&self) -> ChunkLimits {
        match self.large_blobs {
            LargeBlobs::Chunks(chunk_limits) => chunk_limits,
            LargeBlobs::SingleRequest | LargeBlobs::Unknown => ANY_SIZE,
        }
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn a_registry_is_recognized_by_its_host_and_not_by_a_similar_one() {
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
    fn a_registry_on_any_host_is_recognized_by_its_response() {
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
            assert_eq!(Quirks::of_response(&headers).map(|quirks| quirks.name), name, "{header}: {value}");
        }
    }

    #[test]
    fn every_row_has_a_source() {
        for quirks in KNOWN.iter().chain([&ECR]) {
            assert!(!quirks.sources.is_empty(), "{}", quirks.name);
            assert!(quirks.sources.iter().all(|source| source.starts_with("https://")), "{}", quirks.name);
            let ChunkLimits { min, max, count } = quirks.chunk_limits();
            assert!(min <= max && count > 0, "{}", quirks.name);
        }
    }
}
