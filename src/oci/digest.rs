//! Digests and diff_ids: SHA-256 values as separate types.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

use super::quote::shorten;
use crate::error::{Error, Result};

/// The digits of hexadecimal numbers.
const DIGITS: [u8; 16] = *b"0123456789abcdef";

/// Defines a type of SHA-256 values.
macro_rules! sha256_value {
    ($(#[$doc:meta])* $name:ident, $word:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Wraps a hash that was just computed.
            pub fn from_hash(hash: [u8; 32]) -> Self {
                Self(hash)
            }

            /// Returns the hash.
            pub fn hash(&self) -> [u8; 32] {
                self.0
            }

            /// Computes the hash of bytes in memory.
            pub fn of(bytes: &[u8]) -> Self {
                Self(sha2::Sha256::digest(bytes).into())
            }

            /// Returns the 64 lower-case hex digits, without `sha256:`.
            pub fn hex(&self) -> String {
                // Formatting took 7 % of the CPU time of a run of many tiny images.
                self.0.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
            }

            /// Returns `sha256:` and the first twelve digits, for messages.
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
    /// The SHA-256 of bytes that a registry stores: a compressed layer, a config, a manifest.
    ///
    /// ```
    /// use ecr_push::Digest;
    ///
    /// let digest: Digest = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a".parse()?;
    /// assert_eq!(digest, Digest::of(b"{}"));
    /// assert_eq!(digest.short(), "sha256:44136fa355b3");
    /// assert!("sha256:44136fa355b3".parse::<Digest>().is_err(), "all 64 digits are required");
    /// # Ok::<(), ecr_push::Error>(())
    /// ```
    Digest, "digest"
}

sha256_value! {
    /// The SHA-256 of a layer's uncompressed tar, which the image config lists.
    ///
    /// ```
    /// use ecr_push::DiffId;
    ///
    /// // The tar of an empty layer is two blocks of zeros.
    /// let diff_id = DiffId::of(&[0; 1024]);
    /// assert_eq!(diff_id.to_string(), "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef");
    /// ```
    DiffId, "diff_id"
}

fn parse_sha256(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_prefix("sha256:")?;
    if digits.len() != 64 || !digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut hash = [0; 32];
    for (n, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * n..2 * n + 2], 16).ok()?;
    }
    Some(hash)
}
