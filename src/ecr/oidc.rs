//! The tokens by which a CI vouches for a job.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use reqwest::Url;
use serde_json::Value;

use super::access::{IdToken, Secret};
use super::network::Network;
use crate::error::{Error, Kind, Result, root_cause};
use crate::exchange::{Asking, Told};

/// A token is some kilobytes.
const LONGEST: usize = 1 << 20;

/// Azure's endpoint times out now and then (aws/aws-toolkit-azure-devops#591), so that it is asked up to five times.
const RETRIES: usize = 4;

/// Gets a token.
pub(super) async fn token(source: &IdToken, network: &Network) -> Result<Secret> {
    let (who, url, bearer, post, member) = match source {
        IdToken::Variable { token, .. } => return Ok(token.clone()),
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
    let what = format!("{who} gives no OIDC token");
    let http = network.to_the_ci()?;
    let ask = || async {
        let request = if post {
            let json = http.post(url.clone()).header("content-type", "application/json");
            json.header("accept", "application/json").body("{}")
        } else {
            http.get(url.clone())
        };
        // What a URL holds is not for logs.
        let failed = |error: reqwest::Error| Failed::Passing(root_cause(&error.without_url()));
        let size = Arc::new(AtomicU64::new(if post { 2 } else { 0 }));
        // The path says which job this is, and who has it needs the bearer alone.
        let asking = Asking::new(network.witness(), if post { "POST" } else { "GET" }, &url, Told::Host, size)
            .about(Some(format!("{who}' OIDC token")));
        let mut answer = match request.bearer_auth(bearer.expose()).send().await {
            Ok(answer) => answer,
            Err(error) => {
                asking.failed(&error);
                return Err(failed(error));
            }
        };
        asking.answered(answer.status().as_u16(), |name| text_of(&answer, name));
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(some) = answer.chunk().await.map_err(failed)? {
            body.extend_from_slice(&some);
            if body.len() > LONGEST {
                return Err(Failed::Lasting(format!("its answer is longer than {LONGEST} bytes")));
            }
        }
        if status.is_success() {
            let json: Value = serde_json::from_slice(&body).unwrap_or_default();
            return match json[member].as_str() {
                Some(token) if !token.is_empty() => Ok(Secret::new(token)),
                _ => Err(Failed::Lasting(format!("its answer has no {member}{}", said(&body, member)))),
            };
        }
        let said = format!("HTTP {}{}", status.as_u16(), said(&body, member));
        Err(if status.is_server_error() || status.as_u16() == 429 {
            Failed::Passing(said)
        } else {
            Failed::Lasting(said)
        })
    };
    let waits =
        ExponentialBuilder::default().with_min_delay(Duration::from_millis(500)).with_max_times(RETRIES).with_jitter();
    let mut waits = waits.build();
    loop {
        match (ask().await, waits.next()) {
            (Ok(token), _) => return Ok(token),
            (Err(Failed::Passing(_)), Some(wait)) => tokio::time::sleep(wait).await,
            (Err(Failed::Passing(why)), None) => {
                let hint = "It may be a passing trouble: run the same command again.";
                return Err(Error::new(Kind::Unavailable, what).because(why).hint(hint));
            }
            (Err(Failed::Lasting(why)), _) => {
                return Err(Error::new(Kind::Permission, what).because(why).hint(cure(source)));
            }
        }
    }
}

fn text_of(answer: &reqwest::Response, header: &str) -> Option<String> {
    answer.headers().get(header)?.to_str().ok().map(str::to_owned)
}

/// Why there is no token.
enum Failed {
    /// It may be better in a moment.
    Passing(String),
    /// It stays so.
    Lasting(String),
}

fn cure(source: &IdToken) -> &'static str {
    match source {
        IdToken::Azure { .. } => {
            "--azure-service-connection takes the ID of a service connection that this pipeline may use and that a task of \
             this stage names, and the step needs in its env:\n  SYSTEM_ACCESSTOKEN: $(System.AccessToken)"
        }
        IdToken::GitHub { .. } => "The job needs permissions: id-token: write.",
        IdToken::Variable { .. } => "Set the variable to an OIDC token.",
    }
}

/// What an error's body says: the message of a JSON one, which Azure also calls `value`
/// (<https://github.com/dotnet/docker-tools/issues/2012>), unless that is the `member` for tokens. Nothing else of it is
/// told, as it is not known what it holds.
fn said(body: &[u8], member: &str) -> String {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let value = || json["value"].as_str().filter(|_| member != "value");
    let message = json["message"].as_str().or_else(|| json["error"]["message"].as_str()).or_else(value);
    message.map_or_else(String::new, |message| format!(": {}", message.chars().take(300).collect::<String>()))
}

fn with_query(url: &str, variable: &str, more: &[(&str, &str)]) -> Result<Url> {
    let refuse = |why: &str| {
        let hint = "The CI sets it: leave it as it is.";
        Err(Error::usage(format!("{variable} is no address to get a token from: {why}")).hint(hint))
    };
    let Ok(mut url) = Url::parse(url) else { return refuse("it is no URL") };
    let host: Option<crate::oci::Host> = url.host_str().and_then(|host| host.parse().ok());
    if url.scheme() != "https" && !host.is_some_and(|host| host.is_loopback()) {
        return refuse("a token is only asked for over https");
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
        assert_eq!(azure(br#"{"count": 1, "value": "no explicit reference"}"#), ": no explicit reference");
        assert_eq!(azure(br#"{"message": "wrong", "value": "other"}"#), ": wrong");
        assert_eq!(azure(br#"{"oidcToken": "a.b.c"}"#), "");
        assert_eq!(azure(b"a.b.c"), "");
        assert_eq!(said(br#"{"value": "a.b.c"}"#, "value"), "", "with GitHub that is the token");
    }
}
