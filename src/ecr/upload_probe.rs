//! What ECR's own API says where the registry hung up instead of an answer.

use super::api::{Ecr, is_denied};
use super::repositories::RepositoryState;
use crate::error::{Error, Result};
use crate::oci::Repository;

/// Why the registry may have hung up when an upload was to be opened.
#[derive(Clone, Debug)]
pub(crate) enum UploadProbe {
    /// There is no such repository.
    RepositoryMissing,
    /// The caller may not upload. The error says what is missing.
    Denied(Error),
    /// Neither: an upload was opened, under this ID.
    Allowed(String),
}

impl Ecr {
    /// Asks for what the registry gave no answer to: to open an upload.
    ///
    /// # Errors
    /// If that cannot be learned here either.
    pub(crate) async fn probe_upload(&self, registry: &str, name: &Repository) -> Result<UploadProbe> {
        let call = self.client().initiate_layer_upload().registry_id(registry).repository_name(name.as_str());
        let error = match call.send().await {
            Ok(opened) => return Ok(UploadProbe::Allowed(opened.upload_id.unwrap_or_default())),
            Err(error) => self.explain(error, &format!("cannot upload to the repository {name}")).await,
        };
        let code = error.service_error().map(|answer| answer.code.clone()).unwrap_or_default();
        if code == "RepositoryNotFoundException" {
            return Ok(UploadProbe::RepositoryMissing);
        }
        if !is_denied(Some(&code)) {
            return Err(error);
        }
        // Without the right nobody says that the repository is missing, too.
        match self.find_repository(registry, name).await {
            Ok(RepositoryState::Missing) => Ok(UploadProbe::RepositoryMissing),
            Ok(RepositoryState::Exists(_) | RepositoryState::AccessDenied) | Err(_) => Ok(UploadProbe::Denied(error)),
        }
    }
}
