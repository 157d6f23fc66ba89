//! Serves the registries, the APIs and the bucket: faults and delays around each answer.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::answer::{empty, page, set};
use super::exchange::{Ending, Exchange, Line};
use super::faults::Trouble;
use super::registries::RegistryId;
use super::route::Route;
use super::server::Server;
use super::{answer, api, bucket, distribution, faults, identity, tokens};
use crate::oci::Host;

/// Serves a request.
pub(super) async fn serve(
    State(server): State<Arc<Server>>,
    ConnectInfo(line): ConnectInfo<Line>,
    request: Request,
) -> Response {
    let endpoint = Endpoint::of(&request);
    let operation = endpoint.operation(&request);
    let presence = match endpoint {
        Endpoint::Registry(_) => Some(server.traffic.enter(server.rules(|rules| rules.most_at_once))),
        Endpoint::Api | Endpoint::Bucket | Endpoint::Identity(_) => None,
    };
    let trouble = match &presence {
        Some(presence) if !presence.is_served() => Some(Trouble::Throttle { retry_after: None }),
        _ => server.rules(|rules| faults::next(&mut rules.faults, &operation)),
    };
    let mut exchange = Exchange::new(request, line, &server.log, &operation, trouble, server.stop.clone());
    let registry = match server.registry(&endpoint.registry(&server, &exchange)) {
        Ok(registry) => registry,
        Err(error) => {
            let body = serde_json::json!({"message": error.to_string()});
            return answer::json(StatusCode::INTERNAL_SERVER_ERROR, body.to_string());
        }
    };
    if exchange.trouble.is_none()
        && server.rules(|rules| rules.rates)
        && !server.rates.allow(registry.id(), &operation, Instant::now())
    {
        exchange.trouble = Some(Trouble::Throttle { retry_after: None });
    }
    let injected = match exchange.trouble.clone() {
        Some(Trouble::HangUp) => Some(exchange.end_response(Ending::Cut)),
        Some(Trouble::Reset) => Some(exchange.end_response(Ending::Reset)),
        Some(Trouble::HalfClose) => Some(exchange.end_response(Ending::Half)),
        Some(Trouble::Stall) => {
            exchange.stall().await;
            Some(empty(StatusCode::SERVICE_UNAVAILABLE))
        }
        Some(Trouble::Page { status, title }) => Some(page(status, &title)),
        Some(Trouble::Answer { status, body }) => Some(answer::json(answer::status_of(status), body)),
        Some(Trouble::ExpireTokens) => {
            server.logins.expire();
            None
        }
        Some(Trouble::ForgetUpload) => {
            if let Endpoint::Registry(Route::Upload(name, id)) = &endpoint
                && let Ok(name) = name.parse()
            {
                registry.store.cancel_upload(&name, id);
            }
            None
        }
        Some(trouble @ (Trouble::Status { .. } | Trouble::Throttle { .. } | Trouble::ThrottleUntil(_))) => {
            Some(match &endpoint {
                Endpoint::Api | Endpoint::Identity(_) => api::injected(&registry, &trouble),
                Endpoint::Bucket => bucket::serve(&server, &mut exchange),
                Endpoint::Registry(_) => distribution::injected(&registry, &mut exchange, &trouble),
            })
        }
        Some(_) | None => None,
    };
    let mut response = match (injected, &endpoint) {
        (Some(response), _) => response,
        (None, Endpoint::Api) => api::answer(&registry, &mut exchange).await,
        (None, Endpoint::Bucket) => bucket::serve(&server, &mut exchange),
        (None, Endpoint::Identity(_)) => identity::answer(&registry, &mut exchange).await,
        (None, Endpoint::Registry(route)) => distribution::answer(&registry, &mut exchange, route).await,
    };
    exchange.drain().await;
    if let Some(trouble) = exchange.trouble.clone() {
        response = match trouble {
            Trouble::Delay(time) => {
                exchange.wait(time).await;
                response
            }
            trouble => answer::changed(response, trouble).await,
        };
    }
    let (delay, ahead) = server.rules(|rules| (rules.delay, rules.clock_ahead));
    if !ahead.is_zero() {
        set(&mut response, "date", faults::http_date(server.now()));
    }
    // A sleep of nothing still waits for the clock's next tick, a millisecond.
    if matches!(endpoint, Endpoint::Registry(_)) && !delay.is_zero() {
        exchange.wait(delay).await;
    }
    exchange.finish(response.status().as_u16());
    match presence {
        Some(presence) => presence.until_sent(response),
        None => response,
    }
}

/// The API that a request is for.
enum Endpoint {
    Api,
    /// The bucket of the blobs.
    Bucket,
    /// STS, OIDC and metadata services, which give out credentials.
    Identity(&'static str),
    Registry(Route),
}

impl Endpoint {
    fn of(request: &Request) -> Self {
        if let Some(operation) = identity::operation(request.uri().path(), request.headers()) {
            return Self::Identity(operation);
        }
        match request.uri().path() {
            "/" => Self::Api,
            path if path.starts_with(bucket::PATH) => Self::Bucket,
            path => Self::Registry(Route::of(path)),
        }
    }

    /// Returns the name of the request in the log and in faults.
    fn operation(&self, request: &Request) -> String {
        match self {
            Self::Api => api::operation(request.headers()),
            Self::Bucket => bucket::OPERATION.to_owned(),
            Self::Identity(operation) => (*operation).to_owned(),
            Self::Registry(route) => route.operation(request.method()).to_owned(),
        }
    }

    /// Returns the registry that a request is for: of AWS's API that of the caller in the region of the signature, otherwise
    /// the one that the host names, and else that of the login.
    fn registry(&self, server: &Server, exchange: &Exchange) -> RegistryId {
        let find = |account: Option<&str>, region: Option<&str>| server.registries.find(account, region);
        match self {
            Self::Api | Self::Identity(_) => {
                let (account, region) = identity::signer(server, &exchange.headers);
                find(account.as_deref(), region.as_deref())
            }
            Self::Bucket => find(None, None),
            Self::Registry(_) => {
                let host = exchange.registry_host();
                let login = tokens::login(server, exchange);
                // No client without a login opens a registry.
                let may_open = login.is_some() || server.rules(|rules| rules.anonymous);
                match (host.as_ref().and_then(Host::ecr).filter(|_| may_open), login) {
                    (Some(ecr), _) => find(Some(&ecr.account), Some(&ecr.region)),
                    (None, Some(login)) => login,
                    (None, None) => find(None, None),
                }
            }
        }
    }
}
