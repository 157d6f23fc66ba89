//! Identities of callers: AWS's security token service, the OIDC endpoints of CI systems, EC2's and a container's metadata.
//!
//! Each is on the same listener, by its path. What ends in `/latest` is EC2's instance metadata, version 2
//! (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html>); `/oidc/` is the
//! CIs'; `/credentials` is a container's (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>).
//! STS speaks its query protocol on `/` (<https://docs.aws.amazon.com/STS/latest/APIReference/welcome.html>).

use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::exchange::Exchange;
use super::faults::utc;
use super::route::query_value;
use super::server::{Registry, Server};
use super::sessions::{Assumed, Session, access_key};
use super::{reply, set};
use crate::sync::lock;

/// A token that the sandbox's OIDC endpoints issue. A trust policy compares its issuer and subject.
const SUBJECT: &str = "sc://org/project/connection";
/// More than any request here.
const LARGEST_REQUEST: usize = 1 << 20;

/// Where a path belongs to this file.
pub(super) fn operation(path: &str, headers: &HeaderMap) -> Option<&'static str> {
    let is_form =
        headers.get(header::CONTENT_TYPE).is_some_and(|it| it.as_bytes().starts_with(b"application/x-www-form"));
    match path {
        "/" if is_form => Some("sts:Request"),
        "/credentials" => Some("metadata:Container"),
        "/federation/credentials" => Some("sso:GetRoleCredentials"),
        path if path.starts_with("/latest/") => Some("metadata:Instance"),
        path if path.starts_with("/oidc/") => Some("oidc:Token"),
        _ => None,
    }
}

/// The region for which a request is signed.
pub(super) fn signed_region(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    text.split_once("Credential=")?.1.split('/').nth(2).map(str::to_owned)
}

/// Returns the account and the region of a signed request, as far as they are known. An access key of twelve digits is the
/// account itself, as with other emulators of AWS; a session has the account of its role.
pub(super) fn signer(server: &Server, headers: &HeaderMap) -> (Option<String>, Option<String>) {
    let account = access_key(headers).and_then(|key| {
        let sessions = lock(&server.sessions);
        sessions.known.get(&key).map(|session| account_of(&session.arn)).unwrap_or(Some(key))
    });
    (account, signed_region(headers))
}

/// Returns the account in an ARN.
fn account_of(arn: &str) -> Option<String> {
    arn.split(':').nth(4).map(str::to_owned)
}

/// Returns why the caller's keys are rejected: code and message.
pub(super) fn doubt(registry: &Registry, headers: &HeaderMap) -> Option<(&'static str, &'static str)> {
    let key = access_key(headers)?;
    if !key.starts_with("ASIA") {
        // A user's own keys: every client on this machine is the caller.
        return None;
    }
    let token = headers.get("x-amz-security-token").and_then(|token| token.to_str().ok());
    let sessions = registry.sessions();
    match sessions.known.get(&key) {
        Some(session) if Some(session.token.as_str()) == token => (SystemTime::now() >= session.ends)
            .then_some(("ExpiredTokenException", "The security token included in the request is expired")),
        _ => Some(("UnrecognizedClientException", "The security token included in the request is invalid.")),
    }
}

/// The signer of a request.
pub(super) fn caller(registry: &Registry, headers: &HeaderMap) -> String {
    let session = access_key(headers).and_then(|key| registry.sessions().known.get(&key).cloned());
    session.map_or_else(|| registry.user(), |session| session.arn)
}

/// Answers.
pub(super) async fn answer(registry: &Registry, exchange: &mut Exchange) -> Response {
    let path = exchange.uri.path().to_owned();
    match path.as_str() {
        "/" => sts(registry, exchange).await,
        "/credentials" => reply(StatusCode::OK, given(registry, "container").to_string()),
        "/federation/credentials" => sso(registry, exchange),
        path if path.starts_with("/oidc/") => oidc(exchange, path),
        path => instance(registry, exchange, path),
    }
}

/// Returns keys as the metadata services issue them.
fn given(registry: &Registry, name: &str) -> Value {
    let lifetime = Duration::from_secs(6 * 60 * 60);
    let (key, session) = new_session(registry, name, "metadata", lifetime);
    json!({
        "Code": "Success", "Type": "AWS-HMAC", "LastUpdated": utc(SystemTime::now()),
        "AccessKeyId": key, "SecretAccessKey": SECRET, "Token": session.token, "Expiration": utc(session.ends),
    })
}

/// The secret of every session. Only the presence of a signature is checked.
const SECRET: &str = "sandbox-secret-access-key-0123456789";

fn instance(registry: &Registry, exchange: &Exchange, path: &str) -> Response {
    const TOKEN: &str = "sandbox-metadata-token";
    if path == "/latest/api/token" && exchange.method == "PUT" {
        let mut response = reply(StatusCode::OK, TOKEN);
        set(&mut response, "x-aws-ec2-metadata-token-ttl-seconds", "21600");
        return response;
    }
    // The second version wants its token shown.
    if exchange.header("x-aws-ec2-metadata-token") != Some(TOKEN) {
        return reply(StatusCode::UNAUTHORIZED, "");
    }
    match path.trim_end_matches('/') {
        "/latest/meta-data/placement/region" => reply(StatusCode::OK, registry.region.clone()),
        "/latest/meta-data/iam/security-credentials" => reply(StatusCode::OK, "instance"),
        "/latest/meta-data/iam/security-credentials/instance" => {
            reply(StatusCode::OK, given(registry, "instance").to_string())
        }
        _ => reply(StatusCode::NOT_FOUND, ""),
    }
}

/// IAM Identity Center's portal (<https://docs.aws.amazon.com/singlesignon/latest/PortalAPIReference/API_GetRoleCredentials.html>).
fn sso(registry: &Registry, exchange: &Exchange) -> Response {
    if exchange.header("x-amz-sso_bearer_token") != Some("sso-token") {
        let mut response =
            reply(StatusCode::UNAUTHORIZED, json!({"message": "Session token not found or invalid"}).to_string());
        set(&mut response, "x-amzn-errortype", "UnauthorizedException");
        return response;
    }
    let role = query_value(exchange.uri.query(), "role_name").unwrap_or_default();
    let (key, session) = new_session(registry, &role, "sso", Duration::from_secs(3600));
    let ends = session.ends.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    let keys = json!({
        "accessKeyId": key, "secretAccessKey": SECRET, "sessionToken": session.token, "expiration": ends as u64,
    });
    reply(StatusCode::OK, json!({"roleCredentials": keys}).to_string())
}

/// GitHub's and Azure's endpoints.
fn oidc(exchange: &Exchange, path: &str) -> Response {
    let query = |name| query_value(exchange.uri.query(), name);
    if exchange.header(header::AUTHORIZATION) != Some("Bearer job-token") {
        return reply(StatusCode::UNAUTHORIZED, json!({"message": "the job's token is wrong"}).to_string());
    }
    let jwt = |issuer: &str, audience: &str| {
        let claims = json!({"iss": issuer, "sub": SUBJECT, "aud": audience});
        let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        format!("{}.{}.c2lnbmF0dXJl", part(&json!({"alg": "RS256"})), part(&claims))
    };
    let answer = match (path, exchange.method.as_str()) {
        ("/oidc/github", "GET") => {
            let audience = query("audience").unwrap_or_default();
            json!({"value": jwt("https://token.actions.githubusercontent.com", &audience)})
        }
        ("/oidc/azure", "POST") if query("serviceConnectionId").is_some() && query("api-version").is_some() => {
            json!({"oidcToken": jwt("https://vstoken.dev.azure.com/org", "api://AzureADTokenExchange")})
        }
        _ => return reply(StatusCode::NOT_FOUND, json!({"message": "no such token"}).to_string()),
    };
    reply(StatusCode::OK, answer.to_string())
}

fn new_session(registry: &Registry, role: &str, name: &str, lifetime: Duration) -> (String, Session) {
    let random = registry.uuid().replace('-', "").to_uppercase();
    let key = format!("ASIA{}", &random[..16]);
    let partition = registry.ecr_host().partition();
    let session = Session {
        token: format!("sandbox-session-token-{random}"),
        arn: format!("arn:{partition}:sts::{}:assumed-role/{role}/{name}", registry.account),
        ends: SystemTime::now() + lifetime,
    };
    registry.sessions().known.insert(key.clone(), session.clone());
    (key, session)
}

async fn sts(registry: &Registry, exchange: &mut Exchange) -> Response {
    let Ok(Some(body)) = exchange.whole(LARGEST_REQUEST).await else {
        return refuse(registry, "MalformedInput", "The request cannot be read");
    };
    let form = String::from_utf8_lossy(&body).replace('+', "%20");
    let field = |name: &str| query_value(Some(&form), name);
    let action = field("Action").unwrap_or_default();
    if action != "AssumeRoleWithWebIdentity" {
        if !exchange.header(header::AUTHORIZATION).is_some_and(|it| it.starts_with("AWS4-HMAC-SHA256 ")) {
            return refuse(registry, "MissingAuthenticationToken", "Request is missing Authentication Token");
        }
        if let Some((code, message)) = doubt(registry, &exchange.headers) {
            return refuse(registry, code.trim_end_matches("Exception"), message);
        }
    }
    let caller = caller(registry, &exchange.headers);
    if action == "GetCallerIdentity" {
        let account = &registry.account;
        let result = format!("<Arn>{caller}</Arn><UserId>AIDASANDBOX</UserId><Account>{account}</Account>");
        return succeed(registry, &action, &result);
    }
    let role = field("RoleArn").unwrap_or_default();
    let seconds: Option<u64> = field("DurationSeconds").and_then(|seconds| seconds.parse().ok());
    let assumed = Assumed {
        session_name: field("RoleSessionName").unwrap_or_default(),
        external_id: field("ExternalId"),
        seconds,
        signed_by: access_key(&exchange.headers),
        host: exchange.header(header::HOST).unwrap_or_default().to_owned(),
        role: role.clone(),
        action: action.clone(),
        access_key: String::new(),
    };
    let is_denied =
        registry.rules(|rules| rules.deny.iter().any(|denied| denied.strip_prefix("sts:") == Some(&action)));
    let wanted_id = registry.rules(|rules| rules.external_id.clone());
    match action.as_str() {
        "AssumeRole" if is_denied || wanted_id.is_some() && wanted_id != assumed.external_id => {
            let message = format!("User: {caller} is not authorized to perform: sts:AssumeRole on resource: {role}");
            return refuse(registry, "AccessDenied", &message);
        }
        "AssumeRoleWithWebIdentity" if is_denied => {
            return refuse(registry, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity");
        }
        "AssumeRoleWithWebIdentity" if field("WebIdentityToken").is_none_or(|it| it.split('.').count() != 3) => {
            let message =
                "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)";
            return refuse(registry, "InvalidIdentityToken", message);
        }
        "AssumeRole" | "AssumeRoleWithWebIdentity" => {}
        _ => return refuse(registry, "InvalidAction", &format!("Could not find operation {action}")),
    }
    // A role that assumes another gets an hour
    // (https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles.html#iam-term-role-chaining).
    let is_chained = action == "AssumeRole" && assumed.signed_by.as_ref().is_some_and(|key| key.starts_with("ASIA"));
    let most = if is_chained { 3600 } else { 43_200 };
    if seconds.is_some_and(|seconds| !(900..=most).contains(&seconds)) {
        let message =
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining";
        return refuse(registry, "ValidationError", message);
    }
    let lifetime =
        registry.rules(|rules| rules.session_lifetime).unwrap_or_else(|| Duration::from_secs(seconds.unwrap_or(3600)));
    let name = role.rsplit('/').next().unwrap_or_default().to_owned();
    // The session is in the account of the role.
    let of_role = account_of(&role).map(|account| registry.of_account(&account)).and_then(Result::ok);
    let (key, session) = new_session(of_role.as_ref().unwrap_or(registry), &name, &assumed.session_name, lifetime);
    registry.sessions().assumed.push(Assumed { access_key: key.clone(), ..assumed });
    let Session { token, arn, ends } = session;
    let result = format!(
        "<AssumedRoleUser><AssumedRoleId>AROASANDBOX:{name}</AssumedRoleId><Arn>{arn}</Arn></AssumedRoleUser><Credentials>\
         <AccessKeyId>{key}</AccessKeyId><SecretAccessKey>{SECRET}</SecretAccessKey><SessionToken>{token}</SessionToken>\
         <Expiration>{}</Expiration></Credentials>",
        utc(ends)
    );
    succeed(registry, &action, &result)
}

fn succeed(registry: &Registry, action: &str, result: &str) -> Response {
    let id = registry.uuid();
    let inner = format!(
        "<{action}Result>{result}</{action}Result><ResponseMetadata><RequestId>{id}</RequestId></ResponseMetadata>"
    );
    xml(StatusCode::OK, &format!("{action}Response"), &inner)
}

fn refuse(registry: &Registry, code: &str, message: &str) -> Response {
    let error = format!("<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>");
    let inner = format!("{error}<RequestId>{}</RequestId>", registry.uuid());
    xml(StatusCode::FORBIDDEN, "ErrorResponse", &inner)
}

fn xml(status: StatusCode, name: &str, inner: &str) -> Response {
    let text = format!("<{name} xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">{inner}</{name}>");
    let mut response = reply(status, text);
    set(&mut response, "content-type", "text/xml");
    response
}
