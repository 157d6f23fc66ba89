//! What a refusal means at this target, and what it means if there is none: ECR hangs up instead.

use std::time::Duration;

use super::Destination;
use crate::ecr::{self, Ecr, RepositoryLocation, UploadProbe};
use crate::error::{Code, Error, Kind};
use crate::oci::OriginalManifest;

/// How long the API's answer is still waited for once nobody wants to know any more.
const CLOSING: Duration = Duration::from_millis(800);

impl Destination {
    /// Adds what ECR's answers mean.
    pub(in crate::push) fn advise(&self, error: Error) -> Error {
        if let Some(denied) = self.creation_denied.as_ref().filter(|_| is_absence(&error)) {
            return match &self.place {
                Some(place) => ecr::advise(denied.clone(), Some(place)),
                None => denied.clone(),
            };
        }
        match &self.place {
            Some(place) => ecr::advise(error, Some(place)),
            None if self.host.is_ecr_public() && is_absence(&error) => {
                error.hint("The alias has no such repository. Which aliases are yours:\n  aws ecr-public describe-registries --region us-east-1")
            }
            None => error,
        }
    }

    /// The same for a manifest that was put.
    pub(super) fn advise_on(&self, error: Error, put: &OriginalManifest) -> Error {
        match &self.place {
            Some(place) => ecr::advise_on_manifest(error, Some(place), &put.bytes),
            None => error,
        }
    }

    /// The same for an upload: where ECR hung up at its first request, as it was seen to do for want of the repository or of
    /// a right (<https://github.com/aws/containers-roadmap/issues/1970>), its API is asked which it is. Once for all layers.
    pub(in crate::push) async fn reason(&self, error: Error) -> Error {
        match (&self.ecr, error.unanswered_request()) {
            (Some((ecr, place)), Some(asked)) if ecr::opens_upload(asked) => {
                let mut asking = std::pin::pin!(self.doubt.get_or_init(|| self.doubt_of(ecr, place)));
                match self.cancel.run_until_cancelled(&mut asking).await {
                    Some(Some(found)) => found.clone(),
                    Some(None) => unclear(error, place),
                    None => {
                        // Who wants it to end does not wait for reasons, but what the API has opened meanwhile is closed.
                        let _too_late = tokio::time::timeout(CLOSING, asking).await;
                        Error::interrupted()
                    }
                }
            }
            _ => self.advise(error),
        }
    }

    /// What the API says, if it says anything.
    async fn doubt_of(&self, ecr: &Ecr, RepositoryLocation { host, repository }: &RepositoryLocation) -> Option<Error> {
        let hung_up = format!("cannot upload to {repository}: {} hung up instead of an answer", self.host);
        match ecr.probe_upload(&host.account, repository).await.ok()? {
            UploadProbe::RepositoryMissing if self.creation_denied.is_some() => {
                self.creation_denied.clone().map(|denied| ecr::advise(denied, self.place.as_ref()))
            }
            UploadProbe::RepositoryMissing => {
                let error = Error::new(Kind::Refused, format!("{hung_up}, since the repository does not exist"))
                    .code(Code::RepositoryNotFound);
                Some(error.hint(format!("Add --create-repository, or create it:\n  {}", self.creation())))
            }
            UploadProbe::Denied(said) => {
                let error = Error::new(Kind::Permission, format!("{hung_up}, and its API says why"))
                    .code(Code::PermissionDenied);
                let error = match said.service_error() {
                    Some(answer) => error.with_service_error(answer.clone()),
                    None => error,
                };
                Some(self.advise(error))
            }
            UploadProbe::Allowed(id) => {
                // As well as that goes: the API has no call for it, and an upload without a byte costs nobody anything.
                self.client.cancel_upload(&id).await;
                let error = Error::new(Kind::Unavailable, hung_up).code(Code::ConnectionLost);
                Some(error.because("the connection was cut on the way").hint(
                    "ECR's API says that the repository exists and that the caller may upload to it, so it is the way that \
                     is broken: a proxy, a firewall, a VPN. Run the same command again to carry on.",
                ))
            }
        }
    }
}

/// Whether an answer says that the repository does not exist.
fn is_absence(error: &Error) -> bool {
    error.service_error().is_some_and(|it| it.code == "NAME_UNKNOWN" || it.code.starts_with("RepositoryNotFound"))
}

/// What is said if the API could not be asked.
fn unclear(error: Error, RepositoryLocation { host, repository }: &RepositoryLocation) -> Error {
    let hint = error.advice().map(ToString::to_string).unwrap_or_default();
    error.hint(format!(
        "ECR hangs up like that if the repository {repository} does not exist, or if the caller lacks \
         ecr:InitiateLayerUpload on {}; its API did not say whether it is one of them. If it is neither: {hint}",
        host.arn(repository)
    ))
}
