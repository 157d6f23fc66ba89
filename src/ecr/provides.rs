//! The SDK's trait for sources of credentials.

/// Implements the trait for a source by one of its asynchronous methods.
macro_rules! provides {
    ($source:ty, $method:ident) => {
        impl aws_credential_types::provider::ProvideCredentials for $source {
            fn provide_credentials<'a>(&'a self) -> aws_credential_types::provider::future::ProvideCredentials<'a>
            where
                Self: 'a,
            {
                aws_credential_types::provider::future::ProvideCredentials::new(self.$method())
            }
        }
    };
}

pub(super) use provides;
