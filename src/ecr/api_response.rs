//! Error responses of the API, and the IAM action of each call.
//!
//! A call that is new in this program gets a row in `actions!`.

use aws_sdk_ecr::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ecr::operation::{self as ecr, RequestId as _};
use aws_sdk_ecrpublic::operation as public;
use serde::de::IgnoredAny;

use crate::error::{ServiceError, page_title};

/// Returns the response in an error, if there is one. It may be one that the SDK cannot parse.
pub(super) fn service_error<E: OfAction>(error: &SdkError<E>) -> Option<ServiceError> {
    let raw = error.raw_response()?;
    let title = page_title(raw.body().bytes().unwrap_or_default());
    Some(ServiceError {
        status: Some(raw.status().as_u16()),
        code: error.code().unwrap_or_default().to_owned(),
        is_page: title.is_some(),
        message: title.unwrap_or_else(|| error.message().unwrap_or_default().to_owned()),
        request_id: error.request_id().map(str::to_owned),
        request: Some(E::ACTION.to_owned()),
        date: raw.headers().get("date").and_then(|date| httpdate::parse_http_date(date).ok()),
        ..ServiceError::default()
    })
}

/// Returns whether a successful response ends in the middle of its JSON. Nothing else shows that a body without a stated
/// length is incomplete.
pub(super) fn is_cut<E>(error: &SdkError<E>) -> bool {
    let Some(raw) = error.raw_response() else { return false };
    let json = raw.body().bytes().map(serde_json::from_slice::<IgnoredAny>);
    raw.status().is_success() && json.is_some_and(|json| json.is_err_and(|error| error.is_eof()))
}

/// The error of a call of ECR's API.
pub(super) trait OfAction: ProvideErrorMetadata {
    /// The IAM action that the call requires.
    const ACTION: &'static str;
}

/// Lists the errors of all calls that the program makes, with their actions.
macro_rules! actions {
    ($($error:path = $action:literal,)+) => {
        $(impl OfAction for $error {
            const ACTION: &'static str = $action;
        })+
    };
}

actions! {
    ecr::batch_check_layer_availability::BatchCheckLayerAvailabilityError = "ecr:BatchCheckLayerAvailability",
    ecr::create_repository::CreateRepositoryError = "ecr:CreateRepository",
    ecr::describe_images::DescribeImagesError = "ecr:DescribeImages",
    ecr::describe_repositories::DescribeRepositoriesError = "ecr:DescribeRepositories",
    ecr::describe_repository_creation_templates::DescribeRepositoryCreationTemplatesError =
        "ecr:DescribeRepositoryCreationTemplates",
    ecr::get_account_setting::GetAccountSettingError = "ecr:GetAccountSetting",
    ecr::get_authorization_token::GetAuthorizationTokenError = "ecr:GetAuthorizationToken",
    ecr::initiate_layer_upload::InitiateLayerUploadError = "ecr:InitiateLayerUpload",
    ecr::put_lifecycle_policy::PutLifecyclePolicyError = "ecr:PutLifecyclePolicy",
    ecr::set_repository_policy::SetRepositoryPolicyError = "ecr:SetRepositoryPolicy",
    public::create_repository::CreateRepositoryError = "ecr-public:CreateRepository",
    public::describe_registries::DescribeRegistriesError = "ecr-public:DescribeRegistries",
    public::describe_repositories::DescribeRepositoriesError = "ecr-public:DescribeRepositories",
    public::get_authorization_token::GetAuthorizationTokenError = "ecr-public:GetAuthorizationToken",
}
