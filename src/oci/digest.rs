//! Digests and diff_ids: SHA-256 values with a meaning of their own.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

use super::quote::shorten;
use crate::error::{Error, Result};

/// Defines a SHA-256 value with a meaning of its own.
macro_rules! sha256_value {
    ($(#[$doc:meta])* $name:ident, $word:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Takes over a hash that was just computed.
            pub fn from_hash(hash: [u8; 32]) -> Self {
                Self(hash)
            }

            /// The bare hash.
            pub fn hash(&self) -> [u8; 32] {
                self.0
            }

            /// Hashes bytes that are small enough to be in memory.
            pub fn of(bytes: &[u8]) -> Self {
                Self(sha2::Sha256::digest(bytes).into())
            }

            /// The 64 lower-case hex digits, without `sha256:`.
            pub fn hex(&self) -> String {
                hex(&self.0)
            }

            /// `sha256:` and the first twelve digits, for people.
            pub fn short(&self) -> String {
                format!("sha256:{}", &self.hex()[..12])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "sha256:{}", self.hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                parse_sha256(text)
                    .map(Self)
                    .ok_or_else(|| Error::input(format!(concat!("{:?} is not a ", $word), shorten(text)))
                        .hint("Only sha256: and 64 lower-case hex digits are understood."))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

sha256_value! {
    /// SHA-256 of bytes that a registry stores: a packed layer, a config, a manifest.
    Digest, "digest"
}

sha256_value! {
    /// SHA-256 of a layer's uncompressed tar, as the image config lists it.
    DiffId, "diff_id"
}

fn hex(bytes: &[u8; 32]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles.map(|nibble| char::from(DIGITS[usize::from(nibble)])).collect()
}

fn parse_sha256(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_prefix("sha256:")?.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(hash)
}
