//! The ECR API: its client, logins, and lookups of images and layers. The SDK retries.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use aws_sdk_ecr::Client;
use aws_sdk_ecr::config::endpoint::DefaultResolver;
use aws_sdk_ecr::config::interceptors::InterceptorContext;
use aws_sdk_ecr::config::retry::{ClassifyRetry, RetryAction};
use aws_sdk_ecr::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ecr::operation::create_repository::CreateRepositoryError;
use aws_sdk_ecr::primitives::DateTime;
use aws_sdk_ecr::types::{
    DescribeImagesFilter, ImageIdentifier, ImageStatus, ImageStatusFilter, LayerAvailability, TagStatus,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::access::Access;
use super::advice::RepositoryLocation;
use super::api_response::{self, OfAction};
use super::body::Unreadable;
use super::credentials::NoCredentials;
use super::custom_endpoint::CustomFirst;
use super::network::Network;
use super::settings::Settings;
use super::unreachable;
use crate::error::{Code, Error, Kind, Result, find_cause, root_cause};
use crate::oci::{Digest, EcrHost, Host, Tag, TagPattern};
use crate::proxy::ProxyError;
use crate::tls::TlsProblem;

/// The maximum number of digests in a call of BatchCheckLayerAvailability (ECR API reference).
const MAX_DIGESTS: usize = 100;

/// The time limit for asking STS who the caller is. The answer is only printed.
const CALLER_TIMEOUT: Duration = Duration::from_secs(2);

/// The maximum number of images in a page of DescribeImages (ECR API reference).
const MAX_IMAGES: i32 = 1000;

/// The ECR API of one region.
#[derive(Clone, Debug)]
pub(crate) struct Ecr {
    pub(super) client: Client,
    pub(super) settings: Settings,
    region: String,
    /// The caller's account, once a login has shown it.
    pub(super) account: Arc<OnceLock<String>>,
}

/// The result of GetAuthorizationToken.
pub(crate) struct AuthorizationToken {
    /// The base64 encoding of `AWS:password`, for a Basic header.
    pub basic: String,
    /// The caller's own account, from the proxy endpoint. Nothing else of that endpoint is used: it is the classic host of
    /// the caller's registry, whatever registry is pushed to.
    pub account: String,
    /// The remaining lifetime by this machine's clock, zero if it has passed. `None` if the response does not state it.
    pub lifetime: Option<Duration>,
}

impl AuthorizationToken {
    /// Creates a token from the fields of a response. `None` if they are not those of a token.
    pub(super) fn of(basic: String, expires_at: Option<DateTime>, account: String) -> Option<Self> {
        let is_token = STANDARD.decode(&basic).is_ok_and(|decoded| decoded.contains(&b':'));
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let end = expires_at.map(|at| Duration::from_secs(u64::try_from(at.secs()).unwrap_or_default()));
        is_token.then(|| Self { basic, account, lifetime: end.map(|end| end.saturating_sub(now)) })
    }
}

impl std::fmt::Debug for AuthorizationToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token(*** of {})", self.account)
    }
}

/// The layers that exist, with their sizes.
pub(super) type Availability = HashMap<Digest, Option<u64>>;

impl Ecr {
    /// Finds the region and loads the credentials. Does not call ECR yet.
    ///
    /// # Errors
    /// Fails if no region or no credentials can be found.
    pub(crate) async fn connect(
        access: &Access,
        network: &Network,
        region: Option<&str>,
        host: Option<&EcrHost>,
    ) -> Result<Self, NoCredentials> {
        let settings = Settings::of(access, network, region, host).await.map_err(NoCredentials::Unusable)?;
        settings.identity.load().await?;
        let config = aws_sdk_ecr::config::Builder::from(&settings.config).retry_classifier(HardQuotas);
        let config = config.endpoint_resolver(CustomFirst::<DefaultResolver>::default()).build();
        let region = settings.config.region().map(ToString::to_string).unwrap_or_default();
        Ok(Self { client: Client::from_conf(config), settings, region, account: Arc::default() })
    }

    /// Returns the scope of its logins, which other clients with the same scope share: the region and the kind of endpoint.
    pub(crate) fn login_scope(&self) -> (String, bool, bool) {
        let config = &self.settings.config;
        (self.region.clone(), config.use_fips().unwrap_or(false), config.use_dual_stack().unwrap_or(false))
    }

    /// Describes where the credentials and the region come from.
    pub(crate) async fn describe_origin(&self) -> String {
        let (origin, region, from) =
            (self.settings.identity.describe().await, &self.region, &self.settings.region_from);
        format!("credentials from {origin}; region {region} from {from}")
    }

    /// Returns the ARN of the caller, if STS responds in time.
    pub(crate) async fn caller_arn(&self) -> Option<String> {
        let sts = aws_sdk_sts::Client::new(&self.settings.config);
        let response = tokio::time::timeout(CALLER_TIMEOUT, sts.get_caller_identity().send()).await;
        response.ok()?.ok()?.arn
    }

    /// Returns the region.
    pub(crate) fn region(&self) -> &str {
        &self.region
    }

    /// Returns the host of the registry of `account` in this region.
    pub(crate) fn host(&self, account: &str) -> Host {
        Host::from_ecr(EcrHost {
            account: account.to_owned(),
            region: self.region.clone(),
            fips: self.settings.config.use_fips().unwrap_or(false),
            dual_stack: self.settings.config.use_dual_stack().unwrap_or(false),
        })
    }

    /// Gets a login for every registry of this region that the caller can access. It is valid for twelve hours.
    ///
    /// # Errors
    /// Fails without credentials, without the permission `ecr:GetAuthorizationToken`, and without a response.
    pub(crate) async fn token(&self) -> Result<AuthorizationToken> {
        let doing = format!("cannot log in to Amazon ECR in {}", self.region);
        // Before the call, whose time limit is short: a role may have to be assumed again.
        self.settings.identity.load().await.map_err(NoCredentials::into_error)?;
        let response = self.explained(self.client.get_authorization_token().send().await, &doing).await?;
        let unusable = || Error::new(Kind::Permission, format!("{doing}: the answer holds no usable token"));
        let data = response.authorization_data.unwrap_or_default().into_iter().next().ok_or_else(unusable)?;
        let basic = data.authorization_token.ok_or_else(unusable)?;
        let endpoint = data.proxy_endpoint.ok_or_else(unusable)?;
        let name = endpoint.trim_start_matches("https://").trim_start_matches("http://");
        let account: String = name.chars().take_while(char::is_ascii_digit).collect();
        if account.len() != 12 {
            return Err(unusable());
        }
        AuthorizationToken::of(basic, data.expires_at, account).ok_or_else(unusable)
    }

    /// Returns the tag that was pushed last among those that match a pattern.
    ///
    /// # Errors
    /// Fails without the permission `ecr:DescribeImages`, and without a response.
    pub(crate) async fn newest_tag(
        &self,
        location: &RepositoryLocation,
        pattern: &TagPattern,
    ) -> Result<Option<String>> {
        let (account, name) = location.account_and_name();
        let doing = format!("cannot look for tags {pattern} of {name}");
        let tagged = DescribeImagesFilter::builder().tag_status(TagStatus::Tagged).build();
        let call = self.client.describe_images().registry_id(account).repository_name(name);
        let mut pages = call.filter(tagged).max_results(MAX_IMAGES).into_paginator().send();
        let mut newest: Option<(DateTime, String)> = None;
        while let Some(page) = pages.next().await {
            let page = self.explained(page, &doing).await?;
            for image in page.image_details() {
                let tag = image.image_tags().iter().find(|tag| pattern.matches(tag));
                if let (Some(tag), Some(pushed)) = (tag, image.image_pushed_at())
                    && newest.as_ref().is_none_or(|(before, _)| before < pushed)
                {
                    newest = Some((*pushed, tag.clone()));
                }
            }
        }
        Ok(newest.map(|(_, tag)| tag))
    }

    /// Returns the digest and the media type of the image under a tag, if the image is archived: then the registry reports
    /// that it does not exist. `None` also without the permission.
    ///
    /// # Errors
    /// Fails without a response.
    pub(crate) async fn archived(&self, location: &RepositoryLocation, tag: &Tag) -> Result<Option<(Digest, String)>> {
        let (account, name) = location.account_and_name();
        // Without a filter, only active images are described.
        let filter = DescribeImagesFilter::builder().image_status(ImageStatusFilter::Any).build();
        let call = self.client.describe_images().registry_id(account).repository_name(name).filter(filter);
        let id = ImageIdentifier::builder().image_tag(tag.as_str()).build();
        let found = match call.image_ids(id).send().await {
            Err(error) if is_denied(error.code()) => return Ok(None),
            Err(error) if matches!(error.code(), Some("ImageNotFoundException" | "RepositoryNotFoundException")) => {
                return Ok(None);
            }
            sent => self.explained(sent, &format!("cannot look for the archived image {name}:{tag}")).await?,
        };
        let mut archived =
            found.image_details().iter().filter(|image| image.image_status() != Some(&ImageStatus::Active));
        Ok(archived.find_map(|image| {
            let media_type = image.image_manifest_media_type().unwrap_or_default().to_owned();
            Some((image.image_digest()?.parse().ok()?, media_type))
        }))
    }

    /// Returns which of these blobs exist in the repository, with concurrent calls. `None` without the permission.
    ///
    /// Layers that are `ARCHIVED` count as absent: it is not documented whether a manifest may reference them, and sending
    /// them again does no harm.
    ///
    /// # Errors
    /// Fails if the repository does not exist, and without a response.
    pub(crate) async fn availability(
        &self,
        location: &RepositoryLocation,
        digests: &[Digest],
    ) -> Result<Option<Availability>> {
        let calls = digests.chunks(MAX_DIGESTS).map(|some| self.availability_of(location, some));
        let responses = futures_util::future::try_join_all(calls).await?;
        Ok(responses.into_iter().collect::<Option<Vec<_>>>().map(|all| all.into_iter().flatten().collect()))
    }

    /// Returns which of these blobs exist, with one call. Blobs that the response lists as failures count as absent.
    async fn availability_of(&self, location: &RepositoryLocation, digests: &[Digest]) -> Result<Option<Availability>> {
        let (account, name) = location.account_and_name();
        let call = self.client.batch_check_layer_availability().registry_id(account).repository_name(name);
        let call = call.set_layer_digests(Some(digests.iter().map(ToString::to_string).collect()));
        let response = match call.send().await {
            Err(error) if is_denied(error.code()) => return Ok(None),
            sent => self.explained(sent, &format!("cannot ask for layers of the repository {name}")).await?,
        };
        let layers = response.layers.unwrap_or_default().into_iter().filter_map(|layer| {
            let digest = layer.layer_digest.as_deref()?.parse().ok()?;
            let size = layer.layer_size.and_then(|size| u64::try_from(size).ok());
            matches!(layer.layer_availability, Some(LayerAvailability::Available)).then_some((digest, size))
        });
        Ok(Some(layers.collect()))
    }

    /// Turns the failure of `doing` into an error with advice.
    pub(super) async fn explained<T, E>(&self, sent: Result<T, SdkError<E>>, doing: &str) -> Result<T>
    where
        E: OfAction + std::error::Error + Send + Sync + 'static,
    {
        match sent {
            Ok(response) => Ok(response),
            Err(error) => Err(self.explain(error, doing).await),
        }
    }

    /// Turns the failure of `doing` into an error with advice. Checks only now whether the credentials are the cause.
    pub(super) async fn explain<E>(&self, error: SdkError<E>, doing: &str) -> Error
    where
        E: OfAction + std::error::Error + Send + Sync + 'static,
    {
        let cut = |why: String| {
            let error = Error::new(Kind::Unavailable, doing).code(Code::ConnectionLost).because(why);
            error.hint("Run the same command again.")
        };
        match find_cause::<Unreadable>(&error) {
            Some(why @ Unreadable::TooLong(_)) => {
                let error = Error::new(Kind::Refused, doing).code(Code::ProtocolViolation).because(why.to_string());
                return error
                    .hint("AWS sends no such answer: check the proxy, and the endpoint if another one is set.");
            }
            Some(why @ Unreadable::Cut(_)) => return cut(format!("{why}: {}", root_cause(why))),
            None if api_response::is_cut(&error) => return cut("the answer broke off".into()),
            None => {}
        }
        if let Some(answer) = api_response::service_error(&error) {
            return Error::new(kind(&answer.code, answer.status.unwrap_or_default()), doing).with_service_error(answer);
        }
        if let Some(proxy) = find_cause::<ProxyError>(&error) {
            return proxy.explain(doing);
        }
        // The credentials may have expired since they were loaded.
        if let Err(why) = self.settings.identity.load().await {
            return why.into_error();
        }
        if let Some(problem) = TlsProblem::find(&error, false) {
            let what = format!("{doing}: the certificate of the ECR API in {} is not trusted", self.region);
            return Error::new(Kind::Refused, what).code(Code::TlsFailed).because(problem);
        }
        Error::new(Kind::Unavailable, format!("{doing}: no response from the ECR API in {}", self.region))
            .because(root_cause(&error))
            .hint(unreachable::advice(&self.region, "ecr.api"))
    }
}

/// Prevents retries after LimitExceededException, which the SDK takes for throttling: ECR sends it for quotas, and waiting does
/// not help.
#[derive(Debug)]
struct HardQuotas;

impl ClassifyRetry for HardQuotas {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let error = context.output_or_error().and_then(Result::err).and_then(|error| error.as_operation_error());
        let code = error.and_then(|error| error.downcast_ref::<CreateRepositoryError>()).and_then(|error| error.code());
        match code {
            Some("LimitExceededException") => RetryAction::RetryForbidden,
            _ => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "hard quotas"
    }
}

/// Returns whether an error code means a missing permission.
pub(super) fn is_denied(code: Option<&str>) -> bool {
    code.is_some_and(|code| code.starts_with("AccessDenied"))
}

/// Returns the kind of an error by its code, else by its status.
fn kind(code: &str, status: u16) -> Kind {
    let about_credentials = [
        "AccessDenied", "ExpiredToken", "IncompleteSignature", "InvalidClientTokenId", "InvalidSignature",
        "MissingAuthenticationToken", "NotAuthorized", "OptInRequired", "RequestExpired", "SignatureDoesNotMatch",
        "UnrecognizedClient",
    ];
    if about_credentials.iter().any(|start| code.starts_with(start)) {
        return Kind::Permission;
    }
    if code.starts_with("Throttl") || code == "TooManyRequestsException" || code == "ServerException" || status >= 500 {
        return Kind::Unavailable;
    }
    if status == 403 { Kind::Permission } else { Kind::Refused }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_follows_from_the_code_and_the_status() {
        for (code, status, kind_of) in [
            ("AccessDeniedException", 400, Kind::Permission),
            ("UnrecognizedClientException", 400, Kind::Permission),
            ("RepositoryNotFoundException", 400, Kind::Refused),
            ("LimitExceededException", 400, Kind::Refused),
            ("ThrottlingException", 400, Kind::Unavailable),
            ("TooManyRequestsException", 400, Kind::Unavailable),
            ("ServerException", 400, Kind::Unavailable),
            ("", 503, Kind::Unavailable),
            ("", 403, Kind::Permission),
            ("", 404, Kind::Refused),
        ] {
            assert_eq!(kind(code, status), kind_of, "{code}");
        }
        for (code, is_expected) in
            [("AccessDenied", true), ("AccessDeniedException", true), ("NotAuthorized", false), ("", false)]
        {
            assert_eq!(is_denied(Some(code)), is_expected, "{code}");
        }
    }

    #[test]
    fn an_expired_token_has_no_lifetime_left() {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let lifetime = |at| AuthorizationToken::of("QVdTOnB3".into(), at, String::new()).unwrap().lifetime;
        // moto's tokens expired in 2015.
        assert_eq!(lifetime(Some(DateTime::from_secs(1_420_070_400))), Some(Duration::ZERO));
        assert_eq!(lifetime(Some(DateTime::from_secs(-1))), Some(Duration::ZERO));
        let hours = lifetime(Some(DateTime::from_secs(i64::try_from(now).unwrap() + 12 * 3600))).unwrap();
        assert!((11 * 3600..=12 * 3600).contains(&hours.as_secs()), "{hours:?}");
        assert_eq!(lifetime(None), None);
        assert!(AuthorizationToken::of("bm8gY29sb24=".into(), None, String::new()).is_none());
        assert!(AuthorizationToken::of("no base64".into(), None, String::new()).is_none());
    }

    #[test]
    fn a_token_is_never_printed() {
        let token = AuthorizationToken { basic: "c2VjcmV0".into(), account: "123456789012".into(), lifetime: None };
        assert_eq!(format!("{token:?}"), "Token(*** of 123456789012)");
    }
}
