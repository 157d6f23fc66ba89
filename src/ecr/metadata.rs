//! The client of EC2's metadata service.

use std::time::Duration;

use aws_config::imds;
use aws_config::provider_config::ProviderConfig;

/// The time limit for connecting and for the response. The service is on the host: where it exists, it is fast.
const METADATA_TIMEOUT: Duration = Duration::from_secs(1);

/// Builds a client that asks once and briefly, since the service does not exist outside of EC2.
pub(super) fn metadata(machine: &ProviderConfig) -> imds::Client {
    imds::Client::builder()
        .configure(machine)
        .max_attempts(1)
        .connect_timeout(METADATA_TIMEOUT)
        .read_timeout(METADATA_TIMEOUT)
        .build()
}
