//! Logins: the passwords and tokens that were issued, each for the registries of an account and region.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256};

use super::registries::RegistryId;
use super::store::epoch;
use crate::oci::Digest;
use crate::sync::lock;

/// The logins that were issued.
pub(super) struct Logins {
    issued: Mutex<Issued>,
    random: Random,
}

#[derive(Default)]
struct Issued {
    /// The passwords of ECR's API, each with the caller's own registry and its end.
    passwords: HashMap<String, (RegistryId, SystemTime)>,
    bearers: HashMap<String, Bearer>,
}

/// A token of the token service.
#[derive(Clone, Debug)]
pub(super) struct Bearer {
    /// The actions that it allows: `team/app:pull`.
    pub(super) scopes: Vec<String>,
    /// The registry of the login that it was issued for.
    pub(super) registry: Option<RegistryId>,
    ends: SystemTime,
}

impl Bearer {
    pub(super) fn is_alive(&self) -> bool {
        SystemTime::now() < self.ends
    }
}

/// The validity of a password.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Access {
    /// It is valid, and was issued to the owner of this registry.
    Granted(RegistryId),
    Expired,
    Unknown,
}

impl Logins {
    pub(super) fn new() -> Self {
        Self { issued: Mutex::default(), random: Random::new() }
    }

    /// Issues a token, `AWS:PASSWORD` in base64, and returns it with its expiry.
    pub(super) fn issue_token(&self, registry: RegistryId, lifetime: Duration) -> (String, SystemTime) {
        let ends = SystemTime::now().checked_add(lifetime).unwrap_or_else(SystemTime::now);
        // ECR's own passwords are JSON of this form in base64, and as long: clients must not count on a short one.
        let password = BASE64_STANDARD.encode(
            serde_json::json!({
                "payload": BASE64_STANDARD.encode(self.random.bytes(640)),
                "datakey": BASE64_STANDARD.encode(self.random.bytes(184)),
                "version": "2",
                "type": "DATA_KEY",
                "expiration": epoch(ends) as u64,
            })
            .to_string(),
        );
        let token = BASE64_STANDARD.encode(format!("AWS:{password}"));
        lock(&self.issued).passwords.insert(password, (registry, ends));
        (token, ends)
    }

    /// Checks the value of an `Authorization` header.
    pub(super) fn access(&self, authorization: &str) -> Access {
        let password = authorization
            .split_once(' ')
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
            .and_then(|(_, token)| BASE64_STANDARD.decode(token.trim()).ok())
            .and_then(|decoded| String::from_utf8(decoded).ok())
            .and_then(|decoded| decoded.strip_prefix("AWS:").map(str::to_owned));
        match password.and_then(|password| lock(&self.issued).passwords.get(&password).cloned()) {
            Some((registry, ends)) if SystemTime::now() < ends => Access::Granted(registry),
            Some(_) => Access::Expired,
            None => Access::Unknown,
        }
    }

    /// Issues a token of the token service.
    pub(super) fn issue_bearer(&self, scopes: Vec<String>, registry: Option<RegistryId>, lifetime: Duration) -> String {
        let ends = SystemTime::now().checked_add(lifetime).unwrap_or_else(SystemTime::now);
        // Docker Hub's are as long.
        let token = BASE64_STANDARD.encode(self.random.bytes(1200)).replace(['+', '/', '='], "_");
        lock(&self.issued).bearers.insert(token.clone(), Bearer { scopes, registry, ends });
        token
    }

    /// Returns a token of the token service.
    pub(super) fn bearer(&self, token: &str) -> Option<Bearer> {
        lock(&self.issued).bearers.get(token).cloned()
    }

    /// Lets all issued passwords and tokens expire now.
    pub(super) fn expire(&self) {
        let now = SystemTime::now();
        let mut issued = lock(&self.issued);
        let Issued { passwords, bearers } = &mut *issued;
        let ends = passwords.values_mut().map(|(_, ends)| ends);
        ends.chain(bearers.values_mut().map(|bearer| &mut bearer.ends)).for_each(|ends| *ends = now.min(*ends));
    }

    /// Returns the signature of a bucket URL, which cannot be forged.
    pub(super) fn sign(&self, text: &str) -> String {
        self.random.sign(text)
    }

    /// Returns a new unique ID, for a request or an upload session.
    pub(super) fn uuid(&self) -> String {
        self.random.uuid()
    }
}

/// Bytes that cannot be guessed from outside: SHA-256 over what the standard library seeds its hash maps with.
struct Random {
    seed: [u8; 32],
    drawn: AtomicU64,
}

impl Random {
    fn new() -> Self {
        let mut hasher = Sha256::new();
        for _ in 0..8 {
            hasher.update(RandomState::new().build_hasher().finish().to_le_bytes());
        }
        hasher.update(
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos().to_le_bytes(),
        );
        Self { seed: hasher.finalize().into(), drawn: AtomicU64::new(0) }
    }

    fn draw(&self) -> [u8; 32] {
        let drawn = self.drawn.fetch_add(1, Ordering::Relaxed);
        Sha256::new().chain_update(self.seed).chain_update(drawn.to_le_bytes()).finalize().into()
    }

    fn bytes(&self, count: usize) -> Vec<u8> {
        std::iter::repeat_with(|| self.draw()).flatten().take(count).collect()
    }

    fn uuid(&self) -> String {
        let mut hex = Digest::from_hash(self.draw()).hex();
        hex.replace_range(12..13, "4");
        hex.replace_range(16..17, "a");
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32])
    }

    fn sign(&self, text: &str) -> String {
        let inner: [u8; 32] = Sha256::new().chain_update(self.seed).chain_update(text).finalize().into();
        Digest::from_hash(Sha256::new().chain_update(self.seed).chain_update(inner).finalize().into()).hex()
    }
}
