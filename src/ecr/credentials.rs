//! How we come to AWS credentials and to a region.

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_ecr::config::{Credentials, SharedCredentialsProvider};
use aws_smithy_http_client::tls;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::reference::EcrHost;

/// Where credentials and settings come from.
#[derive(Clone, Debug, Default)]
pub enum Access {
    /// AWS's own chain: environment, profiles, web identity, container, EC2 metadata.
    #[default]
    Chain,
    /// An ECR on loopback: fixed credentials, and nothing of the user's settings or proxies.
    StandIn {
        /// `http://127.0.0.1:PORT`
        endpoint: String,
        /// The region that it plays.
        region: String,
    },
}

/// What the ECR client is built from. The region is the target host's, else the one asked for, else that of the chain.
pub(super) async fn settings(access: &Access, region: Option<&str>, host: Option<&EcrHost>) -> Result<SdkConfig> {
    let region = host.map(|host| host.region.as_str()).or(region);
    // Without limits of our own a call may hang for ever: the SDK has none on reading.
    let limits = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(5))
        .operation_attempt_timeout(Duration::from_secs(20))
        .operation_timeout(Duration::from_secs(60))
        .build();
    let config = match access {
        Access::Chain => {
            let mut loader = aws_config::defaults(BehaviorVersion::latest()).timeout_config(limits);
            if let Some(region) = region {
                loader = loader.region(Region::new(region.to_owned()));
            }
            if host.is_some_and(|host| host.fips) {
                loader = loader.use_fips(true);
            }
            if host.is_some_and(|host| host.dual_stack) {
                loader = loader.use_dual_stack(true);
            }
            loader.load().await
        }
        Access::StandIn { endpoint, region: own } => {
            let provider = tls::Provider::rustls(tls::rustls_provider::CryptoMode::AwsLc);
            // Plain http on loopback, so no certificates of the machine are needed.
            let context = tls::TlsContext::builder().with_trust_store(tls::TrustStore::empty()).build();
            let context = context.map_err(|error| Error::usage("cannot set up TLS").because(error))?;
            let http = aws_smithy_http_client::Builder::new().tls_provider(provider).tls_context(context).build_https();
            let credentials = Credentials::new("SANDBOX", "sandbox", None, None, "sandbox");
            SdkConfig::builder()
                .behavior_version(BehaviorVersion::latest())
                .sleep_impl(aws_sdk_ecr::config::SharedAsyncSleep::new(Sleep))
                .timeout_config(limits)
                .http_client(http)
                .endpoint_url(endpoint)
                .region(Region::new(region.map_or_else(|| own.clone(), str::to_owned)))
                .credentials_provider(SharedCredentialsProvider::new(credentials))
                .build()
        }
    };
    match config.region() {
        Some(_) => Ok(config),
        None => Err(Error::usage("no AWS region is known for a target without a host")
            .hint("Give --region eu-west-1, or set AWS_REGION, or name the host: ACCOUNT.dkr.ecr.REGION.amazonaws.com/REPO:TAG")),
    }
}

/// tokio's clock for the SDK, which finds it by itself only when it loads the user's settings.
#[derive(Debug)]
struct Sleep;

impl aws_sdk_ecr::config::AsyncSleep for Sleep {
    fn sleep(&self, duration: Duration) -> aws_sdk_ecr::config::Sleep {
        aws_sdk_ecr::config::Sleep::new(tokio::time::sleep(duration))
    }
}
