//! The registries of a sandbox: one for each account and region, opened when it is first used.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::repository::Settings;
use super::store::Store;
use crate::error::{Error, Result};
use crate::oci::{EcrHost, Host, Repository, is_region};
use crate::sync::lock;

/// The maximum number of registries: requests name them.
const LIMIT: usize = 10_000;

/// The account and the region of a registry.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct RegistryId {
    pub(super) account: String,
    pub(super) region: String,
}

impl RegistryId {
    /// Returns the host of the registry as ECR names it.
    pub(super) fn host(&self) -> Host {
        Host::from_ecr(self.ecr_host())
    }

    pub(super) fn ecr_host(&self) -> EcrHost {
        let Self { account, region } = self.clone();
        EcrHost { account, region, fips: false, dual_stack: false }
    }
}

/// Returns whether a text is the number of an account.
pub(super) fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The registries.
pub(super) struct Registries {
    /// The registry of requests that name no other.
    pub(super) home: RegistryId,
    /// Whether there are registries of other accounts.
    pub(super) any_account: bool,
    /// Whether there are registries in other regions.
    pub(super) any_region: bool,
    /// The folder of their images.
    pub(super) dir: Option<PathBuf>,
    /// Whether large blobs are discarded.
    pub(super) discard: bool,
    /// The repositories that each of them has from the start.
    pub(super) create: Vec<Repository>,
    pub(super) opened: Mutex<BTreeMap<RegistryId, Arc<Store>>>,
}

impl Registries {
    /// Returns the registry that a request names, as far as there is more than one.
    pub(super) fn find(&self, account: Option<&str>, region: Option<&str>) -> RegistryId {
        let account = account.filter(|account| self.any_account && is_account(account));
        let region = region.filter(|region| self.any_region && is_region(region));
        RegistryId {
            account: account.unwrap_or(&self.home.account).to_owned(),
            region: region.unwrap_or(&self.home.region).to_owned(),
        }
    }

    /// Opens a registry, unless it is open.
    ///
    /// # Errors
    /// Fails if its folder cannot be used, and if there are too many registries.
    pub(super) fn open(&self, id: &RegistryId) -> Result<Arc<Store>> {
        let mut opened = lock(&self.opened);
        if let Some(store) = opened.get(id) {
            return Ok(Arc::clone(store));
        }
        if opened.len() >= LIMIT {
            return Err(Error::usage(format!("the sandbox has {LIMIT} registries already")));
        }
        // That of the start is the folder itself, and others are in it.
        let folder = |dir: &PathBuf| if *id == self.home { dir.clone() } else { dir.join(id.host().as_str()) };
        let store = Arc::new(Store::open(self.dir.as_ref().map(folder).as_deref(), self.discard)?);
        for name in &self.create {
            let fail = |why: io::Error| Error::usage(format!("cannot create the repository {name}")).because(why);
            store.create(name, Settings::default()).map_err(fail)?;
        }
        opened.insert(id.clone(), Arc::clone(&store));
        Ok(store)
    }

    /// Returns all registries that are open.
    pub(super) fn all(&self) -> Vec<Arc<Store>> {
        lock(&self.opened).values().cloned().collect()
    }
}
