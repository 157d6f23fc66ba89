//! What the API answered, as data.

use aws_sdk_ecr::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ecr::operation::RequestId as _;
use serde::de::IgnoredAny;

use crate::error::{Answer, page_title};

/// The answer that an error is made of, if one came.
pub(super) fn answer<E: ProvideErrorMetadata>(error: &SdkError<E>) -> Option<Answer> {
    let raw = match error {
        SdkError::ServiceError(said) => said.raw(),
        // What cannot be read as an answer of the service.
        SdkError::ResponseError(said) => said.raw(),
        _ => return None,
    };
    let header = |name: &str| raw.headers().get(name);
    let title = page_title(raw.body().bytes().unwrap_or_default());
    Some(Answer {
        status: Some(raw.status().as_u16()),
        code: error.code().unwrap_or_default().to_owned(),
        is_page: title.is_some(),
        message: title.unwrap_or_else(|| error.message().unwrap_or_default().to_owned()),
        request_id: error.request_id().map(str::to_owned),
        asked: asked::<E>(),
        date: header("date").and_then(|date| httpdate::parse_http_date(date).ok()),
        ..Answer::default()
    })
}

/// Whether an answer of success ends in the middle of its JSON. Where a body has no stated length nothing else tells that
/// it broke off.
pub(super) fn is_cut<E>(error: &SdkError<E>) -> bool {
    let raw = match error {
        SdkError::ServiceError(said) => said.raw(),
        SdkError::ResponseError(said) => said.raw(),
        _ => return false,
    };
    let json = raw.body().bytes().map(serde_json::from_slice::<IgnoredAny>);
    raw.status().is_success() && json.is_some_and(|json| json.is_err_and(|error| error.is_eof()))
}

/// The action: the error's type is named after the operation, and nothing else in it is.
fn asked<E>() -> Option<String> {
    let operation = std::any::type_name::<E>().rsplit("::").next()?.strip_suffix("Error")?;
    Some(format!("ecr:{operation}"))
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecr::operation::describe_images::DescribeImagesError;

    #[test]
    fn an_error_tells_its_action() {
        assert_eq!(super::asked::<DescribeImagesError>().as_deref(), Some("ecr:DescribeImages"));
    }
}
