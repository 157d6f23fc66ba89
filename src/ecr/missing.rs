//! Advice when no source has credentials, or those of the machine are not enough.

use crate::error::{Advice, Error};

/// Explains why EC2's metadata service does not respond in a container, and how to change that, in addition to `advice`.
pub(super) fn hop_limit(advice: Advice, host: &str) -> Advice {
    let sentence = format!(
        "EC2's metadata service ({host}) accepts connections and does not respond. In a container the likely reason is a \
         hop limit of 1, which its responses do not survive: raise it from outside of the container with the command below. \
         Otherwise:"
    );
    advice
        .preceded_by(&sentence)
        .command("aws ec2 modify-instance-metadata-options --instance-id INSTANCE --http-put-response-hop-limit 2")
}

/// Explains what a job of GitHub Actions needs to assume a role.
pub(super) fn without_token(error: Error) -> Error {
    let sentence = "GitHub Actions gives this job no OIDC token (ACTIONS_ID_TOKEN_REQUEST_URL is not set), so the role was \
                    tried with the credentials of the machine. The job needs permissions: id-token: write, and contents: \
                    read to check out code; pull requests from forks get no token.";
    let advice = match error.advice() {
        Some(other) => other.clone().preceded_by(&format!("{sentence} Otherwise:")),
        None => sentence.into(),
    };
    error.hint(advice)
}
