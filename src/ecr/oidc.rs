//! The tokens by which a CI vouches for a job.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use reqwest::Url;
use serde_json::Value;

use super::access::{IdToken, Secret};
use super::endpoint::{self, Failed, shown};
use super::network::Network;
use super::token_file;
use crate::error::{Advice, Error, Kind, Result};
use crate::request_log::{RequestTimer, Subject, UrlDetail};

/// Gets a token.
pub(super) async fn token(source: &IdToken, network: &Network) -> Result<Secret> {
    let (who, url, bearer, post, member) = match source {
        IdToken::Variable { token, .. } => return Ok(token.clone()),
        IdToken::File(path) => return token_file::read(path, "AWS_WEB_IDENTITY_TOKEN_FILE").await,
        IdToken::Azure { url, bearer, connection } => {
            let url = with_query(
                url,
                "SYSTEM_OIDCREQUESTURI",
                &[("api-version", "7.1-preview.1"), ("serviceConnectionId", connection)],
            )?;
            ("Azure Pipelines", url, bearer, true, "oidcToken")
        }
        IdToken::GitHub { url, bearer } => {
            let url = with_query(url, "ACTIONS_ID_TOKEN_REQUEST_URL", &[("audience", "sts.amazonaws.com")])?;
            ("GitHub Actions", url, bearer, false, "value")
        }
    };
    let what = format!("cannot get an OIDC token from {who}");
    let http = network.to_the_ci()?;
    let ask = || async {
        let request = if post {
            let json = http.post(url.clone()).header("content-type", "application/json");
            json.header("accept", "application/json").body("{}")
        } else {
            http.get(url.clone())
        };
        let size = Arc::new(AtomicU64::new(if post { 2 } else { 0 }));
        // The path says which job this is, and who has it needs the bearer alone.
        let asking =
            RequestTimer::new(network.witness(), if post { "POST" } else { "GET" }, &url, UrlDetail::Host, size)
                .about(Some(Subject::OidcToken(who)));
        let answer = endpoint::ask(request.bearer_auth(bearer.expose()), asking).await?;
        let reason = said(&answer.body, member);
        if !answer.status.is_success() {
            return Err(answer.failure(&reason));
        }
        let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        match json[member].as_str() {
            Some(token) if !token.is_empty() => Ok(Secret::new(token)),
            _ if reason.is_empty() => Err(Failed::Lasting(format!("its response has no {member}"))),
            _ => Err(Failed::Lasting(format!("its response has no {member}: {reason}"))),
        }
    };
    endpoint::retried(ask).await.map_err(|failed| match failed {
        Failed::Passing(why) => {
            let hint = "The failure may be temporary: run the same command again.";
            Error::new(Kind::Unavailable, what).because(why).hint(hint)
        }
        Failed::Lasting(why) => Error::new(Kind::Permission, what).because(why).hint(advice(source)),
    })
}

fn advice(source: &IdToken) -> Advice {
    match source {
        IdToken::Azure { .. } => Advice::new(
            "The step needs `SYSTEM_ACCESSTOKEN: $(System.AccessToken)` in its env, and the ID of a service connection \
                 that this pipeline may use and that a task of this stage names",
        )
        .setting_with("azure-service-connection", "ID"),
        IdToken::GitHub { .. } => "The job needs permissions: id-token: write.".into(),
        IdToken::File(_) | IdToken::Variable { .. } => "Set the variable to an OIDC token.".into(),
    }
}

/// What an error's body says: the message of a JSON one, which Azure also calls `value`
/// (<https://github.com/dotnet/docker-tools/issues/2012>), unless that is the `member` for tokens. Nothing else of it is
/// told, as it is not known what it holds.
fn said(body: &[u8], member: &str) -> String {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let value = || json["value"].as_str().filter(|_| member != "value");
    let message = json["message"].as_str().or_else(|| json["error"]["message"].as_str()).or_else(value);
    message.map(shown).unwrap_or_default()
}

fn with_query(url: &str, variable: &str, more: &[(&str, &str)]) -> Result<Url> {
    let refuse = |why: &str| {
        let hint = "The CI system sets it: do not change it.";
        Err(Error::usage(format!("{variable} is not the URL of a token service: {why}")).hint(hint))
    };
    let Ok(mut url) = Url::parse(url) else { return refuse("it cannot be parsed") };
    let host: Option<crate::oci::Host> = url.host_str().and_then(|host| host.parse().ok());
    if url.scheme() != "https" && !host.is_some_and(|host| host.is_loopback()) {
        return refuse("tokens are requested over HTTPS only");
    }
    url.query_pairs_mut().extend_pairs(more);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_says_is_told_but_no_token() {
        let azure = |body: &[u8]| said(body, "oidcToken");
        assert_eq!(azure(br#"{"count": 1, "value": "no explicit reference"}"#), "no explicit reference");
        assert_eq!(azure(br#"{"message": "wrong", "value": "other"}"#), "wrong");
        assert_eq!(azure(br#"{"oidcToken": "a.b.c"}"#), "");
        assert_eq!(azure(b"a.b.c"), "");
        assert_eq!(said(br#"{"value": "a.b.c"}"#, "value"), "", "with GitHub that is the token");
    }
}
