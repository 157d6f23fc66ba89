//! What to do about ECR's answers: from its own words to the cure.

use crate::error::{Answer, Error, Kind};
use crate::reference::{EcrHost, Repository};

/// The place that an answer is about.
#[derive(Clone, Debug)]
pub struct Place {
    /// The registry.
    pub host: EcrHost,
    /// The repository.
    pub repository: Repository,
}

/// Adds the cure to an error that ECR answered with, if the cure is known. Before the login nobody knows the place.
#[must_use]
pub fn advise(error: Error, place: Option<&Place>) -> Error {
    let Some(answer) = error.answer() else { return error };
    match hint(answer, error.kind(), place) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

fn hint(answer: &Answer, kind: Kind, place: Option<&Place>) -> Option<String> {
    let says = |text: &str| answer.message.contains(text);
    let arn = || place.map_or_else(|| "*".to_owned(), |place| place.host.arn(&place.repository));
    Some(match (answer.code.as_str(), place) {
        ("NAME_UNKNOWN" | "RepositoryNotFoundException", Some(place)) => format!(
            "Add --create-repository, or create it: aws ecr create-repository --repository-name {} --region {}",
            place.repository, place.host.region
        ),
        ("TAG_INVALID", _) if says("immutable") => {
            "The tag exists and the repository does not let tags move: push under another tag.".into()
        }
        _ if says("'ImageManifest'") && says("Invalid JSON syntax") => {
            "ECR takes no manifest with fields that it does not know. A `platform` in the descriptor of the config, as Docker \
             25.0 and 26.0 write it, is taken out with --repair. Known besides: annotations in that descriptor, a \
             platform in `subject`, platform.features in an index; those are for whoever writes them to leave out."
                .into()
        }
        _ if says("Limit on number of layers") => "Make the image of fewer layers.".into(),
        _ if says("not authorized to perform") => {
            let action = answer.message.split_whitespace().find(|word| word.starts_with("ecr:")).unwrap_or("ecr:*");
            let arn = if action == "ecr:GetAuthorizationToken" { "*".to_owned() } else { arn() };
            format!("Allow the action {action} on {arn} in the caller's IAM policy.")
        }
        _ if kind == Kind::Permission && answer.status == Some(403) => {
            format!("The caller lacks a right on {}, or the repository's own policy denies it.", arn())
        }
        (code, _) if code.starts_with("UnrecognizedClient") || code.starts_with("InvalidClientTokenId") => {
            "AWS does not know this access key, or not in this region: check the credentials and the region.".into()
        }
        (code, _) if code.starts_with("ExpiredToken") => {
            "The credentials have expired: get new ones and run again.".into()
        }
        (code, _) if code.starts_with("InvalidSignature") || code.starts_with("SignatureDoesNotMatch") => {
            "The secret key does not fit the access key, or this machine's clock is wrong.".into()
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advised(status: u16, code: &str, message: &str) -> String {
        let host =
            EcrHost { account: "123456789012".into(), region: "cn-north-1".into(), fips: false, dual_stack: false };
        let place = Place { host, repository: "team/app".parse().unwrap() };
        let answer = Answer { status: Some(status), code: code.into(), message: message.into(), request_id: None };
        let kind = if status == 403 { Kind::Permission } else { Kind::Refused };
        let error = advise(Error::new(kind, "x").answered(answer), Some(&place));
        error.advice().unwrap_or_default().to_owned()
    }

    #[test]
    fn a_missing_repository_names_the_option_and_the_command() {
        let hint = advised(404, "NAME_UNKNOWN", "The repository with name 'team/app' does not exist");
        assert!(
            hint.contains("--create-repository,") && hint.contains("--repository-name team/app --region cn-north-1")
        );
    }

    #[test]
    fn a_missing_right_names_the_action_and_the_arn_in_its_partition() {
        let message =
            "User: arn:aws:iam::1:user/x is not authorized to perform: ecr:InitiateLayerUpload on resource: y";
        let hint = advised(403, "DENIED", message);
        assert!(hint.contains("ecr:InitiateLayerUpload on arn:aws-cn:ecr:cn-north-1:123456789012:repository/team/app"));
        assert!(advised(403, "", "").contains("lacks a right on arn:aws-cn:"));
    }
}
