//! Custom endpoints (`AWS_ENDPOINT_URL` and the like) together with a dual-stack or FIPS host.
//!
//! The SDK rejects this combination. Here the host decides which endpoint of AWS is used, and a custom endpoint is used
//! unchanged: it is that of a VPC, a proxy or an emulator, to which dual-stack and FIPS do not apply.

use aws_sdk_ecr::config::endpoint as private;
use aws_sdk_ecrpublic::config::endpoint as public;

/// Prefers a custom endpoint over the rules of the service.
#[derive(Debug, Default)]
pub(super) struct CustomFirst<T>(T);

impl private::ResolveEndpoint for CustomFirst<private::DefaultResolver> {
    fn resolve_endpoint<'a>(&'a self, params: &'a private::Params) -> private::EndpointFuture<'a> {
        match params.endpoint() {
            Some(url) => private::EndpointFuture::ready(Ok(private::Endpoint::builder().url(url.to_owned()).build())),
            None => private::ResolveEndpoint::resolve_endpoint(&self.0, params),
        }
    }
}

impl public::ResolveEndpoint for CustomFirst<public::DefaultResolver> {
    fn resolve_endpoint<'a>(&'a self, params: &'a public::Params) -> public::EndpointFuture<'a> {
        match params.endpoint() {
            Some(url) => public::EndpointFuture::ready(Ok(public::Endpoint::builder().url(url.to_owned()).build())),
            None => public::ResolveEndpoint::resolve_endpoint(&self.0, params),
        }
    }
}
