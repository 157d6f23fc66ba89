//! Asks ECR's own API why the registry closed the connection without a response.

use super::advice::RepositoryLocation;
use super::api::{Ecr, is_denied};
use super::repositories::RepositoryState;
use crate::error::{Error, Result};

/// The likely reason for a connection that the registry closed instead of opening an upload.
#[derive(Debug)]
pub(crate) enum UploadProbe {
    /// The repository does not exist.
    RepositoryMissing,
    /// The caller may not upload. The error states the missing permission.
    Denied(Error),
    /// The API opened an upload, with this ID.
    Allowed(String),
}

impl Ecr {
    /// Opens an upload by the API instead of the registry.
    ///
    /// # Errors
    /// Fails if the API does not respond either, or rejects the call for another reason.
    pub(crate) async fn probe_upload(&self, location: &RepositoryLocation) -> Result<UploadProbe> {
        let (account, name) = location.account_and_name();
        let call = self.client.initiate_layer_upload().registry_id(account).repository_name(name);
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
        // Without the permission, ECR does not report that the repository is missing.
        match self.find_repository(location).await {
            Ok(RepositoryState::Missing) => Ok(UploadProbe::RepositoryMissing),
            Ok(RepositoryState::Exists(_) | RepositoryState::AccessDenied) | Err(_) => Ok(UploadProbe::Denied(error)),
        }
    }
}
