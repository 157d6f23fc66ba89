//! Authorization by a token service: it issues a token for a login, and every request carries the token
//! (<https://distribution.github.io/distribution/spec/auth/token/>).

use axum::http::{Method, StatusCode, header};
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use super::exchange::Exchange;
use super::logins::{Access, Bearer};
use super::refusal::Refusal;
use super::registries::RegistryId;
use super::route::{Route, query_value, query_values};
use super::rules::{Asks, TokenService};
use super::server::{Registry, Server};
use super::{answer, reply, set};

/// The service of ECR Public.
const PUBLIC: &str = "public.ecr.aws";
/// More than any form that is posted.
const LARGEST_FORM: usize = 64 << 10;

/// What ECR Public says to a token that it does not take, whatever is wrong with it
/// (<https://github.com/aws/containers-roadmap>).
fn invalid() -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, "DENIED", "Your Authorization Token is invalid.")
}

fn unauthorized(message: &str) -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message)
}

/// Returns the authentication that a request requires: by default, ECR Public has another one than private registries.
pub(super) fn asks(registry: &Registry, exchange: &Exchange) -> Asks {
    let is_public = exchange.registry_host().is_some_and(|host| host.is_ecr_public())
        || query_value(exchange.uri.query(), "service").as_deref() == Some(PUBLIC);
    match registry.rules(|rules| rules.asks.clone()) {
        Asks::Ecr if is_public => Asks::EcrPublic,
        asks => asks,
    }
}

/// Returns the registry of a login, whether or not it is still valid.
pub(super) fn login(server: &Server, exchange: &Exchange) -> Option<RegistryId> {
    let authorization = exchange.header(header::AUTHORIZATION)?;
    match server.logins.access(authorization) {
        Access::Granted(registry) => Some(registry),
        Access::Expired | Access::Unknown => {
            server.logins.bearer(authorization.split_once(' ')?.1.trim()).and_then(|bearer| bearer.registry)
        }
    }
}

/// Checks whether the token of a request allows it.
pub(super) fn authenticate(
    registry: &Registry,
    exchange: &Exchange,
    route: &Route,
    asks: &Asks,
) -> Result<(), Refusal> {
    let (scheme, secret) = exchange.authorization().unwrap_or_default();
    let address = exchange.host(registry.server.address);
    let bearer = registry.server.logins.bearer(secret).filter(|_| scheme == "bearer");
    match asks {
        Asks::Ecr => Ok(()),
        Asks::EcrPublic => {
            // Under its own name it is reached by a proxy with TLS.
            let protocol = if address == PUBLIC { "https" } else { "http" };
            let realm = format!("{protocol}://{address}/token/");
            let challenge = format!("Bearer realm=\"{realm}\",service=\"{PUBLIC}\",scope=\"aws\"");
            if scheme.is_empty() {
                return Err(Refusal::ChallengedBy(vec![challenge]));
            }
            let Some(Bearer { scopes, .. }) = bearer.filter(Bearer::is_alive) else { return Err(invalid()) };
            // Also to those who may know (https://github.com/aws/containers-roadmap/issues/2671).
            if matches!(route, Route::Blob(..)) && exchange.method == Method::HEAD {
                return Err(Refusal::Silent(StatusCode::UNAUTHORIZED));
            }
            let reads = matches!(exchange.method, Method::GET | Method::HEAD);
            if !reads && scopes.iter().any(|scope| scope == "anonymous") {
                return Err(Refusal::new(StatusCode::FORBIDDEN, "DENIED", "Not Authorized"));
            }
            Ok(())
        }
        Asks::Tokens(service) => {
            let needed = needed(exchange, route);
            let has = |scope: &String| bearer.as_ref().is_some_and(|bearer| bearer.scopes.contains(scope));
            if bearer.as_ref().is_some_and(Bearer::is_alive) && needed.iter().all(has) {
                return Ok(());
            }
            if service.readable && bearer.is_none() && *route != Route::Check {
                let reads = matches!(exchange.method, Method::GET | Method::HEAD);
                let denied =
                    Refusal::new(StatusCode::FORBIDDEN, "DENIED", "requested access to the resource is denied");
                return if reads { Ok(()) } else { Err(denied) };
            }
            let own = format!("http://{address}/token");
            let realm = service.realm.as_deref().unwrap_or(&own);
            let scope = joined(&needed);
            let challenge = format!("Bearer realm=\"{realm}\",service=\"sandbox\",scope=\"{scope}\"");
            Err(Refusal::ChallengedBy(service.beside.iter().cloned().chain([challenge]).collect()))
        }
    }
}

/// What a request has to be allowed, an action each (`appendAccessRecords` in
/// <https://github.com/distribution/distribution/blob/main/registry/handlers/app.go>).
fn needed(exchange: &Exchange, route: &Route) -> Vec<String> {
    let actions: &[&str] = match exchange.method.as_str() {
        "GET" | "HEAD" => &["pull"],
        "DELETE" => &["delete"],
        _ => &["pull", "push"],
    };
    let own = route.repository().into_iter().flat_map(|name| actions.iter().map(move |it| format!("{name}:{it}")));
    let from = query_value(exchange.uri.query(), "from").map(|name| format!("{name}:pull"));
    own.chain(from).collect()
}

/// As a challenge has it: `repository:a:pull,push repository:b:pull`.
fn joined(needed: &[String]) -> String {
    let mut scopes: Vec<String> = Vec::new();
    for (name, action) in needed.iter().filter_map(|needed| needed.rsplit_once(':')) {
        let start = format!("repository:{name}:");
        match scopes.iter_mut().find(|scope| scope.starts_with(&start)) {
            Some(scope) => *scope += &format!(",{action}"),
            None => scopes.push(start + action),
        }
    }
    scopes.join(" ")
}

/// Issues a token.
pub(super) async fn serve(registry: &Registry, exchange: &mut Exchange) -> Result<Response, Refusal> {
    let unknown = Refusal::Silent(StatusCode::NOT_FOUND);
    match asks(registry, exchange) {
        Asks::Ecr => Err(unknown),
        Asks::EcrPublic => {
            let login = exchange.header(header::AUTHORIZATION).map(|it| registry.server.logins.access(it));
            let (scopes, owner) = match login {
                Some(Access::Granted(owner)) => (Vec::new(), Some(owner)),
                Some(_) => return Err(invalid()),
                None => (vec!["anonymous".to_owned()], None),
            };
            let lifetime = registry.server.token_lifetime();
            let token = registry.server.logins.issue_bearer(scopes, owner, lifetime);
            Ok(answer::json(StatusCode::OK, json!({"token": token}).to_string()))
        }
        Asks::Tokens(service) => {
            if let Some(to) = &service.moved {
                let mut response = reply(StatusCode::TEMPORARY_REDIRECT, "");
                set(&mut response, "location", to);
                return Ok(response);
            }
            let asked = if exchange.method == Method::POST {
                let Ok(Some(form)) = exchange.whole(LARGEST_FORM).await else { return Err(Refusal::HangUp) };
                let form = String::from_utf8_lossy(&form).into_owned();
                let identity = query_value(Some(&form), "refresh_token").unwrap_or_default();
                let is_right = query_value(Some(&form), "grant_type").as_deref() == Some("refresh_token")
                    && query_value(Some(&form), "service").as_deref() == Some("sandbox")
                    && service.identities.contains(&identity);
                if !is_right {
                    return Err(unauthorized("unknown refresh token"));
                }
                query_value(Some(&form), "scope").into_iter().collect()
            } else {
                let (scheme, secret) = exchange.authorization().unwrap_or_default();
                let user = BASE64_STANDARD.decode(secret).ok().and_then(|user| String::from_utf8(user).ok());
                let is_known = scheme == "basic" && user.is_some_and(|user| service.users.contains(&user));
                let is_nobody = scheme.is_empty() && service.anonymous;
                if !is_known && !is_nobody {
                    return Err(unauthorized("incorrect username or password"));
                }
                query_values(exchange.uri.query(), "scope")
            };
            grant(registry, &service, &asked)
        }
    }
}

fn grant(registry: &Registry, service: &TokenService, asked: &[String]) -> Result<Response, Refusal> {
    let mut scopes = Vec::new();
    for scope in asked.iter().flat_map(|scopes| scopes.split([' ', '+'])) {
        let Some((name, actions)) = scope.strip_prefix("repository:").and_then(|rest| rest.rsplit_once(':')) else {
            continue;
        };
        // GitHub refuses all where a part is refused.
        let is_closed =
            |closed: &String| closed == name || actions.split(',').any(|action| *closed == format!("{name}:{action}"));
        if service.closed.iter().any(is_closed) {
            return Err(Refusal::new(StatusCode::FORBIDDEN, "DENIED", "requested access to the resource is denied"));
        }
        scopes.extend(actions.split(',').map(|action| format!("{name}:{action}")));
    }
    let life = service.expires_in.map_or(60, |seconds| seconds);
    let token = registry.server.logins.issue_bearer(scopes, None, std::time::Duration::from_secs(life));
    let mut body = json!({"access_token": token});
    if let Some(seconds) = service.expires_in {
        body["expires_in"] = json!(seconds);
    }
    Ok(answer::json(StatusCode::OK, body.to_string()))
}
