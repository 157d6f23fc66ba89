//! What to do where no source has credentials, or those of the machine do not do.

use crate::error::{Advice, Error};

/// Says why EC2's metadata service does not answer in a container, and how to change it, after another `cure`.
pub(super) fn hop_limit(cure: &str, host: &str) -> Advice {
    Advice::new(format!(
        "{cure} EC2's metadata service ({host}) takes the connection and does not answer. In a container the likely reason \
         is a hop limit of 1, which its answers do not get over. Raise it from outside of the container:"
    ))
    .command("aws ec2 modify-instance-metadata-options --instance-id INSTANCE --http-put-response-hop-limit 2")
}

/// Says what a job of GitHub Actions lacks to assume a role.
pub(super) fn without_token(error: Error) -> Error {
    let other = error.advice().map(|advice| format!(" Otherwise: {advice}")).unwrap_or_default();
    error.hint(format!(
        "GitHub Actions gives this job no OIDC token (ACTIONS_ID_TOKEN_REQUEST_URL is not set), so the role was tried with \
         the credentials of the machine. The job needs permissions: id-token: write, and contents: read if it checks out \
         code; pull requests from forks get no token.{other}"
    ))
}
