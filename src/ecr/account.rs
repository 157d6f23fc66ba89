//! Settings of the caller's account.

use aws_sdk_ecr::error::ProvideErrorMetadata as _;

use super::api::{Ecr, is_denied};
use crate::error::Result;
use crate::oci::EcrHost;

impl Ecr {
    /// Notes the caller's account, which a login shows.
    pub(crate) fn note_account(&self, account: &str) {
        let _known = self.account.set(account.to_owned());
    }

    /// Returns whether the registry of a host mounts blobs, by the account setting `BLOB_MOUNTING`. `None` without the
    /// permission `ecr:GetAccountSetting`, and if the registry is another account's, whose settings ECR does not show.
    ///
    /// # Errors
    /// Fails without a response.
    pub(crate) async fn blob_mounting(&self, host: &EcrHost) -> Result<Option<bool>> {
        if self.account.get() != Some(&host.account) {
            return Ok(None);
        }
        match self.client.get_account_setting().name("BLOB_MOUNTING").send().await {
            Ok(setting) => Ok(setting.value().map(|value| value == "ENABLED")),
            // An older endpoint does not know the setting.
            Err(error) if is_denied(error.code()) || error.code() == Some("ValidationException") => Ok(None),
            Err(error) => Err(self.explain(error, "cannot read the account setting BLOB_MOUNTING").await),
        }
    }
}
