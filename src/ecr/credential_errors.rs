//! Errors of credential sources: from the SDK's errors to a message with advice.

use std::error::Error as StdError;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sso::operation::get_role_credentials::GetRoleCredentialsError;
use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sts::operation::RequestId as _;
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityError as WebIdentityError;
use aws_smithy_runtime_api::client::result::ConnectorError;

use super::body::Unreadable;
use super::oidc::TokenRejected;
use super::profile::Selected;
use crate::error::{Advice, Code, Error, Kind, ServiceError, find_cause, root_cause};

/// Adds the cause and advice to an error. `profile` is the one that should provide the credentials, if one should.
pub(super) fn explain(error: Error, why: &CredentialsError, profile: Option<&Selected>) -> Error {
    let chain = std::iter::successors(Some(why as &(dyn StdError + 'static)), |&error| error.source());
    // A source of this program has its own message.
    if let Some(own) = chain.clone().find_map(|error| error.downcast_ref::<Error>()) {
        return own.clone();
    }
    if let Some(why @ Unreadable::TooLong(_)) = find_cause(why) {
        let error = error.with_kind(Kind::Refused).code(Code::ProtocolViolation).because(why.to_string());
        return error.hint("AWS sends no such response: check the proxy, and the endpoint if one is set.");
    }
    let claims = chain.clone().find_map(|error| error.downcast_ref::<TokenRejected>()?.claims.clone());
    let of_sso = chain.clone().find_map(service_error::<GetRoleCredentialsError>);
    let of_role = |error| service_error::<AssumeRoleError>(error).or_else(|| service_error::<WebIdentityError>(error));
    let answer = of_sso.clone().or_else(|| chain.clone().find_map(of_role));
    let is_transient = |error| {
        is_transient::<AssumeRoleError>(error)
            || is_transient::<WebIdentityError>(error)
            || is_transient::<GetRoleCredentialsError>(error)
            || error.is::<ConnectorError>()
    };
    if matches!(why, CredentialsError::ProviderTimedOut(_)) || chain.clone().any(is_transient) {
        let error = error.with_kind(Kind::Unavailable);
        return match answer {
            // A service that responds can be reached.
            Some(answer) => {
                error.with_service_error(answer).hint("The failure may be temporary: run the same command again.")
            }
            None if matches!(why, CredentialsError::ProviderTimedOut(_)) => {
                error.code(Code::TimedOut).because(root_cause(why)).hint(ROUTE)
            }
            None if profile.is_some_and(|profile| profile.log_in_command().is_some()) => {
                error.code(Code::Unreachable).because(root_cause(why)).hint(ROUTE)
            }
            None => error.code(Code::Unreachable).because(root_cause(why)).hint(format!(
                "{ROUTE} In a VPC without a route to the internet, AWS STS needs the interface endpoint \
                 com.amazonaws.REGION.sts."
            )),
        };
    }
    if let Some(answer) = of_sso {
        return error.code(Code::CredentialsRejected).hint(advice_on_sso(&answer, profile)).with_service_error(answer);
    }
    let is_by_token = chain.clone().any(|error| error.is::<WebIdentityError>());
    let Some(answer) = answer else {
        let mut all: Vec<String> = chain.map(ToString::to_string).collect();
        // The SDK repeats a message that states no reason.
        let general = why.to_string();
        all.retain(|text| *text != general);
        let message = if all.is_empty() { general } else { all.join(": ") };
        let error = error.because(message.trim_end().to_owned());
        let option = profile.map(Selected::option).unwrap_or_default();
        let check = format!("aws sts get-caller-identity{option}");
        if matches!(why, CredentialsError::InvalidConfiguration(_)) && profile.is_some() {
            let advice = Advice::new("Correct the profile, then check it with:").command(check);
            return error.code(Code::ProfileInvalid).hint(advice);
        }
        if let Some(advice) = profile.and_then(log_in_again) {
            return error.code(Code::CredentialsRejected).hint(advice);
        }
        let advice = Advice::new("Check the route to AWS and the proxy, and try the same settings with:");
        return error.hint(advice.command(check));
    };
    let hint = match (is_by_token, claims) {
        (false, _) => advice_on_role(&answer),
        (true, Some(claims)) => advice_on_token(&answer, &claims),
        (true, None) => advice_on_token(&answer, "its issuer, subject and audience"),
    };
    error.code(Code::RoleNotAssumed).with_service_error(answer).hint(hint)
}

const ROUTE: &str = "Check the proxy settings and the route to AWS, then run the same command again to resume.";

/// Advises to log in, if the profile's credentials come from a login.
fn log_in_again(profile: &Selected) -> Option<Advice> {
    Some(Advice::new("Log in again:").command(profile.log_in_command()?))
}

/// Advises after IAM Identity Center rejected a request.
fn advice_on_sso(answer: &ServiceError, profile: Option<&Selected>) -> Advice {
    match answer.status {
        Some(401) => profile.and_then(log_in_again).unwrap_or_else(|| "Log in again.".into()),
        _ => {
            let setting = |key| profile.and_then(|profile| profile.get(key)).unwrap_or("unknown");
            let (role, account) = (setting("sso_role_name"), setting("sso_account_id"));
            Advice::new(format!(
                "IAM Identity Center must assign the role {role} in the account {account} to the user who is logged in."
            ))
        }
    }
}

/// Returns the error response of AWS, if the error is one.
fn service_error<E>(error: &(dyn StdError + 'static)) -> Option<ServiceError>
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    let SdkError::ServiceError(error) = error.downcast_ref::<SdkError<E>>()? else { return None };
    let meta = error.err().meta();
    Some(ServiceError {
        status: Some(error.raw().status().as_u16()),
        code: meta.code().unwrap_or_default().to_owned(),
        message: meta.message().unwrap_or_default().to_owned(),
        request_id: meta.request_id().map(str::to_owned),
        ..ServiceError::default()
    })
}

/// Returns whether a later call may succeed: the service did not respond, throttles, or fails.
fn is_transient<E: ProvideErrorMetadata + StdError + 'static>(error: &(dyn StdError + 'static)) -> bool {
    match error.downcast_ref::<SdkError<E>>() {
        Some(SdkError::ServiceError(error)) => {
            let code = error.err().code().unwrap_or_default();
            error.raw().status().is_server_error()
                || code.starts_with("Throttl")
                || code.starts_with("TooManyRequests")
                || code.starts_with("IDPCommunication")
        }
        Some(SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) | SdkError::ResponseError(_)) => true,
        _ => false,
    }
}

/// Advises after a role could not be assumed with credentials.
fn advice_on_role(answer: &ServiceError) -> Advice {
    match answer.code.as_str() {
        "AccessDenied" | "AccessDeniedException" => Advice::new(
            "The caller needs sts:AssumeRole on the role, and the role's trust policy must name the caller, with the \
             external ID if it requires one",
        )
        .setting_with("external-id", "ID"),
        _ => general_advice(answer),
    }
}

/// Advises after a role could not be assumed with a token. A trust policy compares `claims`.
fn advice_on_token(answer: &ServiceError, claims: &str) -> Advice {
    match answer.code.as_str() {
        "AccessDenied" | "AccessDeniedException" => {
            format!("The role's trust policy must allow sts:AssumeRoleWithWebIdentity for this token: {claims}.").into()
        }
        "InvalidIdentityToken" | "InvalidIdentityTokenException" => {
            format!("The account needs an IAM OIDC provider for the token's issuer, with its audience: {claims}.")
                .into()
        }
        _ => general_advice(answer),
    }
}

/// Advises after a role could not be assumed, with credentials or with a token.
fn general_advice(answer: &ServiceError) -> Advice {
    match answer.code.as_str() {
        "ExpiredToken" | "ExpiredTokenException" | "ExpiredTokenFault" => {
            "Get a new token or new credentials, then run the same command again.".into()
        }
        "ValidationError" if answer.message.contains("DurationSeconds") => {
            Advice::new(
                "A session can last as long as the role's maximum session duration, and one hour if a role assumes another: \
                 choose a shorter one",
            )
            .setting_with("role-duration", "SECONDS")
        }
        "RegionDisabledException" => "Enable STS for the region in the account's IAM settings.".into(),
        _ => "Check the role's ARN and its trust policy.".into(),
    }
}

#[cfg(test)]
mod tests {
    use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
    use aws_smithy_runtime_api::http::StatusCode;
    use aws_smithy_types::body::SdkBody;
    use aws_smithy_types::error::ErrorMetadata;

    use super::*;

    /// Explains an error response of STS to a role that is assumed with credentials, or with a token.
    fn explained(status: u16, code: &str, by_token: bool) -> (Kind, String) {
        let metadata = ErrorMetadata::builder().code(code).build();
        let response = HttpResponse::new(StatusCode::try_from(status).unwrap(), SdkBody::empty());
        let why = match by_token {
            true => {
                CredentialsError::provider_error(SdkError::service_error(WebIdentityError::generic(metadata), response))
            }
            false => {
                CredentialsError::provider_error(SdkError::service_error(AssumeRoleError::generic(metadata), response))
            }
        };
        let error = explain(Error::new(Kind::Permission, "x"), &why, None);
        (error.kind(), error.advice().map(ToString::to_string).unwrap_or_default())
    }

    #[test]
    fn only_transient_failures_of_sts_are_retried_by_a_rerun() {
        for (status, code, kind) in [
            (400, "Throttling", Kind::Unavailable),
            (400, "TooManyRequestsException", Kind::Unavailable),
            (400, "IDPCommunicationError", Kind::Unavailable),
            (500, "", Kind::Unavailable),
            (403, "AccessDenied", Kind::Permission),
        ] {
            for by_token in [false, true] {
                assert_eq!(explained(status, code, by_token).0, kind, "{status} {code}");
            }
        }
    }

    #[test]
    fn the_advice_depends_on_the_code_and_the_kind_of_credentials() {
        for (code, by_token, words) in [
            ("AccessDenied", false, "The caller needs sts:AssumeRole on the role"),
            ("AccessDenied", true, "must allow sts:AssumeRoleWithWebIdentity for this token"),
            ("InvalidIdentityToken", true, "The account needs an IAM OIDC provider"),
            ("ExpiredTokenException", false, "Get a new token"),
            ("RegionDisabledException", true, "Enable STS for the region"),
            ("MalformedPolicyDocument", false, "Check the role's ARN"),
        ] {
            let advice = explained(400, code, by_token).1;
            assert!(advice.contains(words), "{code}: {advice}");
        }
    }
}
