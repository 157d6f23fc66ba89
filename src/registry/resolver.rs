//! Name resolution: which name has no address, and which address may not be used.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::oci::is_link_local;

/// The time limit for establishing a connection.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A name that has no address.
#[derive(Debug)]
pub(super) struct Unresolved {
    name: String,
    why: String,
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot resolve {}: {}", self.name, self.why)
    }
}

impl StdError for Unresolved {}

/// A host that a registry refers to and that has a link-local address, as metadata services do.
#[derive(Debug)]
pub(super) struct LinkLocal {
    name: String,
}

impl fmt::Display for LinkLocal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has a link-local address, which belongs to a metadata service", self.name)
    }
}

impl StdError for LinkLocal {}

/// Resolves names with the machine's resolver, as reqwest does by default. Its errors say which name failed: the
/// registry's, its storage's or the proxy's.
pub(super) struct Resolver {
    /// A name, and the name to resolve instead.
    pub(super) instead: Option<(String, String)>,
    /// Names that the user chose, which may have any address. All others may have no link-local address.
    pub(super) chosen: Vec<String>,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let instead = self.instead.as_ref().filter(|(of, _)| of == name.as_str()).map(|(_, instead)| instead.clone());
        let is_chosen = self.chosen.iter().any(|chosen| chosen == name.as_str());
        let name = instead.unwrap_or_else(|| name.as_str().to_owned());
        Box::pin(async move {
            // Ends just before the limit for the connection, whose error does not say which name it was.
            let asked =
                tokio::time::timeout(CONNECT_TIMEOUT * 9 / 10, tokio::net::lookup_host((name.as_str(), 0))).await;
            let why = match asked {
                Ok(Ok(found)) => {
                    let found: Vec<_> = found.collect();
                    if !is_chosen && found.iter().any(|address| is_link_local(address.ip())) {
                        return Err(LinkLocal { name: name.clone() }.into());
                    }
                    return Ok(Box::new(found.into_iter()) as Addrs);
                }
                Ok(Err(error)) => error.to_string().replace("failed to lookup address information: ", ""),
                Err(_) => "no name server responds".into(),
            };
            Err(Unresolved { name: name.clone(), why }.into())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_can_be_resolved_as_another_name() {
        let instead = Some(("registry.invalid".into(), "127.0.0.1".into()));
        let names = Resolver { instead, chosen: vec!["chosen.invalid".into()] };
        let found = names.resolve("registry.invalid".parse().unwrap()).await.unwrap().next();
        assert!(found.is_some_and(|address| address.ip().is_loopback()));
        let error = names.resolve("storage.invalid".parse().unwrap()).await.err().unwrap();
        assert!(error.to_string().contains("storage.invalid"), "{error}");
    }

    #[tokio::test]
    async fn a_name_that_the_user_did_not_choose_has_no_link_local_address() {
        for (address, is_chosen, leads) in [
            ("127.0.0.1", false, true),
            ("169.254.169.254", false, false),
            ("::ffff:0.0.0.0", false, false),
            ("169.254.169.254", true, true),
        ] {
            let name = "storage.invalid";
            let chosen = if is_chosen { vec![name.to_owned()] } else { Vec::new() };
            let names = Resolver { instead: Some((name.into(), address.into())), chosen };
            let found = names.resolve(name.parse().unwrap()).await;
            assert_eq!(found.is_ok(), leads, "{address}");
        }
    }
}
