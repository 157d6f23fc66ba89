//! One target whose registry answered, and the words for what goes wrong there.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::Event;
use super::agreement::Agreement;
use super::connect::Connection;
use super::context::{PushContext, Run};
use super::options::Options;
use super::plan::{LayerAction, PlannedLayer};
use super::run_blobs::PushBlobs;
use crate::ecr::{self, Ecr, EcrPublic, RepositoryLocation, UploadProbe};
use crate::error::{Advice, Code, Error, Kind};
use crate::oci::{Host, OriginalManifest, Repository, Tag, Target};
use crate::registry::Client;
use crate::request_log::{Named, Subject, TargetId};
use crate::reuse::RemoteImage;

/// How long a stopped push still waits for the API's answer.
const CLOSING: Duration = Duration::from_millis(800);

/// One target whose registry answered.
pub(super) struct TargetSession {
    pub(super) run: Arc<Run>,
    id: TargetId,
    /// The repositories of all targets of the push.
    pub(super) repositories: Vec<Repository>,
    /// The plans of all targets, if the image is to have one digest.
    pub(super) agreement: Option<Arc<Agreement>>,
    /// Whether only one digest may be tagged.
    pub(super) is_digest_expected: bool,
    pub(super) client: Client,
    pub(super) host: Host,
    pub(super) repository: Repository,
    pub(super) tags: Vec<Tag>,
    /// The blobs of the registry, as seen in this run.
    pub(super) blobs: Arc<PushBlobs>,
    /// ECR's API, unless there are no AWS credentials for it.
    pub(super) ecr: Option<(Ecr, RepositoryLocation)>,
    /// The repository, if it is a private one of ECR's.
    pub(super) place: Option<RepositoryLocation>,
    /// ECR Public's API, if it is ECR Public's.
    pub(super) public: Option<EcrPublic>,
    /// Cancelled when the push has to end.
    pub(super) stop: CancellationToken,
    /// Why the repository could not be created, which matters as soon as it turns out to be missing.
    pub(super) creation_denied: OnceLock<Error>,
    /// Why the registry hung up, as soon as that is asked. `None` if its API does not say.
    hung_up: OnceCell<Option<Error>>,
}

impl TargetSession {
    /// Returns the session of a target of a push.
    pub(super) fn of_push(
        context: &PushContext,
        id: TargetId,
        target: &Target,
        connection: Connection,
        stop: CancellationToken,
    ) -> Self {
        let PushContext { run, request, agreement } = context;
        Self {
            repositories: request.targets.iter().map(|target| target.repository.clone()).collect(),
            agreement: agreement.clone(),
            is_digest_expected: request.image.expect_digest.is_some(),
            tags: tags(target, &request.tags),
            ..Self::new(run, id, target, connection, stop)
        }
    }

    /// Returns the session of a single target that is connected to.
    pub(super) fn new(
        run: &Arc<Run>,
        id: TargetId,
        target: &Target,
        connection: Connection,
        stop: CancellationToken,
    ) -> Self {
        let Connection { client, host, ecr, place, public } = connection;
        // ECR mounts what a manifest refers to (https://github.com/aws/containers-roadmap/issues/2860).
        let blobs = run.blobs.begin(&host, &target.repository, place.is_some());
        Self {
            run: Arc::clone(run),
            id,
            repositories: vec![target.repository.clone()],
            agreement: None,
            is_digest_expected: false,
            client,
            host,
            repository: target.repository.clone(),
            tags: tags(target, &[]),
            blobs,
            ecr,
            place,
            public,
            stop,
            creation_denied: OnceLock::new(),
            hung_up: OnceCell::new(),
        }
    }

    /// Returns the options of the run.
    pub(super) fn options(&self) -> &Options {
        &self.run.options
    }

    /// Waits for the plans of the other targets, and has every layer sent for which they differ, if the image is to have one
    /// digest.
    pub(super) async fn agree(&self, planned: &mut [(PlannedLayer, LayerAction)]) {
        if let Some(agreement) = &self.agreement {
            agreement.agree(self.id, planned).await;
        }
    }

    /// Returns the images whose manifests may be taken over from the repository: none if all targets are to have the same.
    pub(super) fn manifests_to_keep<'b>(&self, images: &'b [RemoteImage]) -> &'b [RemoteImage] {
        if self.agreement.is_some() { &[] } else { images }
    }

    /// Reports an event.
    pub(super) fn emit(&self, event: Event) {
        self.run.emit(event);
    }

    /// Reports something worth a line.
    pub(super) fn note(&self, text: String) {
        self.emit(Event::Note(text));
    }

    /// Returns `HOST/REPOSITORY`.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }

    /// Returns the target's ID and name.
    pub(super) fn target(&self) -> Named<TargetId> {
        Named::new(self.id, self.name())
    }

    /// Returns what the requests about a layer are about.
    pub(super) fn subject(&self, layer: &PlannedLayer) -> Subject {
        Subject::Layer { target: self.id, layer: layer.named() }
    }

    /// Adds what an answer of ECR's means.
    pub(super) fn explain(&self, error: Error) -> Error {
        if let Some(denied) = self.creation_denied.get().filter(|_| is_absence(&error)) {
            return match &self.place {
                Some(place) => ecr::advise(denied.clone(), Some(place)),
                None => denied.clone(),
            };
        }
        match &self.place {
            Some(place) => ecr::advise(error, Some(place)),
            None if self.host.is_ecr_public() && is_absence(&error) => error.hint(
                Advice::new("The alias has no such repository. Which aliases are yours:")
                    .command("aws ecr-public describe-registries --region us-east-1"),
            ),
            None => error,
        }
    }

    /// Adds what the answer to a manifest means.
    pub(super) fn explain_manifest(&self, error: Error, put: &OriginalManifest) -> Error {
        match &self.place {
            Some(place) => ecr::advise_on_manifest(error, Some(place), &put.bytes),
            None => error,
        }
    }

    /// Adds what a failed upload means. Where ECR hung up at its first request, as it does if the repository or a permission
    /// is missing (<https://github.com/aws/containers-roadmap/issues/1970>), its API is asked which it is, once for all layers.
    pub(super) async fn explain_upload(&self, error: Error) -> Error {
        match (&self.ecr, error.unanswered_request()) {
            (Some((ecr, place)), Some(asked)) if ecr::opens_upload(asked) => {
                let mut asking = std::pin::pin!(self.hung_up.get_or_init(|| self.ask_why_hung_up(ecr, place)));
                match self.stop.run_until_cancelled(&mut asking).await {
                    Some(Some(found)) => found.clone(),
                    Some(None) => unclear(error, place),
                    None => {
                        // A stopped push needs no reason, but what the API has opened meanwhile is closed.
                        let _too_late = tokio::time::timeout(CLOSING, asking).await;
                        Error::interrupted()
                    }
                }
            }
            _ => self.explain(error),
        }
    }

    /// Asks the API why the registry hung up, if it says anything.
    async fn ask_why_hung_up(&self, ecr: &Ecr, place: &RepositoryLocation) -> Option<Error> {
        let hung_up =
            format!("cannot upload to {}: {} closed the connection without an answer", place.repository, self.host);
        match ecr.probe_upload(place).await.ok()? {
            UploadProbe::RepositoryMissing if self.creation_denied.get().is_some() => {
                self.creation_denied.get().cloned().map(|denied| ecr::advise(denied, self.place.as_ref()))
            }
            UploadProbe::RepositoryMissing => {
                let error = Error::new(Kind::Refused, format!("{hung_up}: the repository does not exist"))
                    .code(Code::RepositoryNotFound);
                Some(error.hint(creation_advice(self.creation_command())))
            }
            UploadProbe::Denied(denied) => {
                let error = Error::new(Kind::Permission, format!("{hung_up}; its API states the reason"))
                    .code(Code::PermissionDenied);
                let error = match denied.service_error() {
                    Some(answer) => error.with_service_error(answer.clone()),
                    None => error,
                };
                Some(self.explain(error))
            }
            UploadProbe::Allowed(id) => {
                // The API has no call for it, and an upload without a byte costs nothing.
                self.client.cancel_upload(&id).await;
                let error = Error::new(Kind::Unavailable, hung_up).code(Code::ConnectionLost);
                Some(error.because("the connection was cut on the way").hint(
                    "The repository exists and the caller may upload to it, so the cause is likely the network: a proxy, a \
                     firewall, a VPN. Run the same command again to resume.",
                ))
            }
        }
    }

    /// Returns what a person types to create the repository.
    pub(super) fn creation_command(&self) -> String {
        let (service, name, region) = match &self.place {
            Some(place) => ("ecr", self.repository.as_str(), place.host.region.as_str()),
            // The first part is the registry's alias.
            None => ("ecr-public", self.repository.as_str().split_once('/').map_or("", |(_, own)| own), "us-east-1"),
        };
        format!("aws {service} create-repository --repository-name {name} --region {region}")
    }
}

/// Returns the advice to create a missing repository.
pub(super) fn creation_advice(command: String) -> Advice {
    Advice::new("Create it with the push, or before it").setting("create-repository").command(command)
}

/// Returns whether an answer says that the repository does not exist.
fn is_absence(error: &Error) -> bool {
    error.service_error().is_some_and(|it| it.code == "NAME_UNKNOWN" || it.code.starts_with("RepositoryNotFound"))
}

/// Adds what may be the cause if the API could not be asked.
fn unclear(error: Error, RepositoryLocation { host, repository }: &RepositoryLocation) -> Error {
    let hint = error.advice().map(ToString::to_string).unwrap_or_default();
    error.hint(format!(
        "ECR hangs up like that if the repository {repository} does not exist, or if the caller does not have \
         ecr:InitiateLayerUpload on {}; its API did not say whether it is one of them. If it is neither: {hint}",
        host.arn(repository)
    ))
}

/// Returns the target's tags and the additional ones, each once; `latest` only if there is none.
fn tags(target: &Target, additional: &[Tag]) -> Vec<Tag> {
    let mut tags: Vec<Tag> = Vec::new();
    for tag in target.tags.iter().chain(additional) {
        if !tags.contains(tag) {
            tags.push(tag.clone());
        }
    }
    if tags.is_empty() {
        tags.push(Tag::latest());
    }
    tags
}
