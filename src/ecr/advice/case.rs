//! An error of ECR, and what is known about its context.

use super::actions;
use crate::error::{Advice, Kind, ServiceError};
use crate::oci::{EcrHost, Repository};

/// A repository of a private registry.
#[derive(Clone, Debug)]
pub(crate) struct RepositoryLocation {
    /// The registry.
    pub host: EcrHost,
    /// The repository.
    pub repository: Repository,
}

impl RepositoryLocation {
    /// Returns the account of the registry and the name of the repository, as the API takes them.
    pub(in crate::ecr) fn account_and_name(&self) -> (&str, &str) {
        (&self.host.account, self.repository.as_str())
    }

    /// Returns the command of the AWS CLI on this repository; `arguments` follow its name and its region.
    pub(super) fn command(&self, operation: &str, name_option: &str, arguments: &str) -> String {
        let Self { host, repository } = self;
        format!("aws ecr {operation} {name_option} {repository} --region {}{arguments}", host.region)
    }
}

/// An error, and what is known about its context.
pub(super) struct Case<'a> {
    pub(super) error: &'a ServiceError,
    pub(super) kind: Kind,
    pub(super) location: Option<&'a RepositoryLocation>,
    /// The manifest that was put, if one was.
    pub(super) manifest: &'a [u8],
}

/// The meaning of an error, and what to do about it.
pub(super) struct Meaning {
    pub(super) kind: Kind,
    pub(super) advice: Advice,
}

impl Case<'_> {
    /// Gives advice on an error whose kind its status states correctly.
    pub(super) fn advise(&self, advice: impl Into<Advice>) -> Option<Meaning> {
        self.advise_as(self.kind, advice)
    }

    /// Gives advice on an error of another kind than its status states.
    pub(super) fn advise_as(&self, kind: Kind, advice: impl Into<Advice>) -> Option<Meaning> {
        Some(Meaning { kind, advice: advice.into() })
    }

    /// Returns the message in lower case, without quoted names: a repository may be called `team/parts`.
    fn unquoted(&self) -> String {
        self.error.message.to_ascii_lowercase().split('\'').step_by(2).collect()
    }

    /// Returns whether the message contains any of these texts outside of quotes.
    pub(super) fn mentions(&self, texts: &[&str]) -> bool {
        let message = self.unquoted();
        texts.iter().any(|text| message.contains(text))
    }

    /// Returns whether the message is about an exhausted quota: a number and its bound, as in `has the maximum allowed
    /// number of images` or `exceeds the maximum allowed number of tags per image`.
    pub(super) fn is_about_a_quota(&self) -> bool {
        // A malformed value violates a constraint of the API, which is no quota.
        !self.mentions(&["failed to satisfy constraint"])
            && (self.mentions(&["quota"])
                || self.mentions(&["limit", "maximum"])
                    && self.mentions(&["number of", "limit of", "exceed", "reached", "allowed"]))
    }

    /// Returns the actions that the request requires, the most specific last, and the repository in its path.
    pub(super) fn needed(&self) -> Option<(Vec<&'static str>, Option<String>)> {
        actions::needed(self.error.request.as_deref()?)
    }
}
