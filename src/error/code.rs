//! Stable names of failures. A new one is a row here and a section in `docs/errors.md`.

use std::fmt;

use super::Error;

/// Defines the codes, their names and the list of all of them in one place.
macro_rules! codes {
    ($($(#[$doc:meta])+ $variant:ident = $name:literal,)+) => {
        /// The stable name of a failure. Scripts may compare it: it does not change between minor versions.
        ///
        /// `docs/errors.md` has a section for each code, whose anchor is the name.
        ///
        /// ```
        /// use ecr_push::Code;
        ///
        /// assert_eq!(Code::TagImmutable.name(), "tag_immutable");
        /// assert!(Code::ALL.contains(&Code::TagImmutable));
        /// ```
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])+ $variant,)+
        }

        impl Code {
            /// Every code, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Returns the name that reports, logs and the documentation use.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

codes! {
    /// The command line or a variable is wrong.
    Usage = "usage",
    /// There is no such command.
    CommandUnknown = "command_unknown",
    /// There is no such option.
    OptionUnknown = "option_unknown",
    /// An option for one value is given more than once.
    OptionRepeated = "option_repeated",
    /// Options contradict each other, or one needs another.
    OptionConflict = "option_conflict",
    /// The value of an option or of a variable is wrong.
    ValueInvalid = "value_invalid",
    /// A value contains a variable that was not expanded.
    VariableUnexpanded = "variable_unexpanded",
    /// A required argument is missing.
    ArgumentMissing = "argument_missing",
    /// There are more arguments than the command takes.
    ArgumentUnexpected = "argument_unexpected",
    /// A target names no repository that a registry could have.
    TargetInvalid = "target_invalid",
    /// The archive, or another input file, does not exist or cannot be opened.
    ArchiveUnreadable = "archive_unreadable",
    /// The input is not an image archive in a format that can be read.
    ArchiveUnrecognized = "archive_unrecognized",
    /// The archive is inconsistent.
    ArchiveInvalid = "archive_invalid",
    /// The archive's bytes do not match its digests, or it ends early.
    ArchiveDamaged = "archive_damaged",
    /// A part of an image is missing from the archive.
    ArchiveIncomplete = "archive_incomplete",
    /// The archive uses a feature that cannot be pushed.
    ArchiveUnsupported = "archive_unsupported",
    /// The archive has no image of that name, ID or digest.
    ImageNotFound = "image_not_found",
    /// The archive has several images, and none is selected.
    ImageAmbiguous = "image_ambiguous",
    /// The image does not exist for that platform.
    PlatformNotFound = "platform_not_found",
    /// The digest of the image is not the expected one.
    DigestMismatch = "digest_mismatch",
    /// A named AWS profile or its configuration cannot be used.
    ProfileInvalid = "profile_invalid",
    /// No credentials were found.
    CredentialsMissing = "credentials_missing",
    /// A source of credentials failed, or its credentials are rejected or expired.
    CredentialsRejected = "credentials_rejected",
    /// A role cannot be assumed.
    RoleNotAssumed = "role_not_assumed",
    /// A permission is missing.
    PermissionDenied = "permission_denied",
    /// The repository does not exist.
    RepositoryNotFound = "repository_not_found",
    /// The tag exists with another image and must not move.
    TagImmutable = "tag_immutable",
    /// A quota of the service is reached.
    QuotaExceeded = "quota_exceeded",
    /// The registry rejects a manifest or an index.
    ManifestRejected = "manifest_rejected",
    /// The registry rejects a blob.
    BlobRejected = "blob_rejected",
    /// The registry's response violates the distribution protocol, or is not that of a registry.
    ProtocolViolation = "protocol_violation",
    /// The registry rejects the push for another reason.
    Rejected = "rejected",
    /// A host name does not resolve, or a connection cannot be made.
    Unreachable = "unreachable",
    /// The certificate of a host is not trusted, or TLS fails.
    TlsFailed = "tls_failed",
    /// A proxy rejects the connection or fails.
    ProxyFailed = "proxy_failed",
    /// No response came in time.
    TimedOut = "timed_out",
    /// A connection broke, and the retries did not help.
    ConnectionLost = "connection_lost",
    /// The service asks to slow down, and the retries did not help.
    Throttled = "throttled",
    /// The service failed with a status of 500 or more.
    ServerError = "server_error",
    /// The time limit of the whole push has passed.
    DeadlineExceeded = "deadline_exceeded",
    /// The machine is out of threads, processes, memory or disk space.
    ResourcesExhausted = "resources_exhausted",
    /// The service failed for another reason that may be temporary.
    Unavailable = "unavailable",
    /// A result file cannot be written.
    OutputFailed = "output_failed",
    /// A fault of this program.
    Internal = "internal",
    /// The push was interrupted.
    Interrupted = "interrupted",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Error {
    /// Creates an error about a value of the command line.
    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Self::usage(what).code(Code::ValueInvalid)
    }

    /// Creates an error about a target of the command line.
    pub(crate) fn invalid_target(what: impl Into<String>) -> Self {
        Self::usage(what).code(Code::TargetInvalid)
    }

    /// Creates an error about options that exclude or need each other.
    pub(crate) fn conflict(what: impl Into<String>) -> Self {
        Self::usage(what).code(Code::OptionConflict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_section_in_the_documentation() {
        let text = include_str!("../../docs/errors.md");
        let sections: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        assert_eq!(sections, Code::ALL.iter().map(|code| code.name()).collect::<Vec<_>>());
        for section in text.split("\n## ").skip(1) {
            assert!(section.contains("\n- Exit code: ") && section.contains("\n- What to do: "), "{section}");
        }
    }
}
