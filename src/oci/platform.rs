//! Platforms of images.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::error::{Error, Result, shown};

/// An operating system and a processor architecture, `OS/ARCH[/VARIANT]`, in containerd's normal form, in which equivalent
/// platforms are equal: `linux/arm64` is `linux/arm64/v8`, and `linux/arm` is `linux/arm/v7`
/// (<https://github.com/containerd/platforms/blob/v1.0.0-rc.1/database.go>).
///
/// ```
/// use ecr_push::Platform;
///
/// let platform: Platform = "linux/arm64".parse()?;
/// assert!(platform.matches(&"linux/aarch64/v8".parse()?));
/// assert!(!platform.matches(&"linux/arm/v7".parse()?));
/// # Ok::<(), ecr_push::Error>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Platform {
    architecture: String,
    os: String,
    /// The variant. Empty if there is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    variant: String,
}

impl Platform {
    /// Returns whether content for this platform is content for `other`: both have the same normal form. This is the only
    /// comparison of platforms, for selection, reuse and mounts.
    pub fn matches(&self, other: &Self) -> bool {
        self == other
    }

    /// Creates the platform in its normal form. `None` without an operating system or an architecture, and if one of them is
    /// `unknown`, as in attestations.
    pub fn new(os: &str, architecture: &str, variant: &str) -> Option<Self> {
        let word = |text: &str| shown(text).to_ascii_lowercase();
        let (os, architecture, variant) = (word(os), word(architecture), word(variant));
        if os.is_empty() || architecture.is_empty() || os == "unknown" || architecture == "unknown" {
            return None;
        }
        let os = if os == "macos" { "darwin".to_owned() } else { os };
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("i386", _) => ("386", ""),
            ("amd64" | "x86_64" | "x86-64", variant) => ("amd64", if variant == "v1" { "" } else { variant }),
            ("arm64" | "aarch64", variant) => ("arm64", if matches!(variant, "8" | "v8") { "" } else { variant }),
            ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
            ("armel", _) | ("arm", "6") => ("arm", "v6"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "8") => ("arm", "v8"),
            other => other,
        };
        Some(Self { os, architecture: architecture.to_owned(), variant: variant.to_owned() })
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.trim().split('/').collect();
        let platform = match parts.as_slice() {
            [os, architecture] => Self::new(os, architecture, ""),
            [os, architecture, variant] if !variant.is_empty() => Self::new(os, architecture, variant),
            _ => None,
        };
        platform.ok_or_else(|| {
            Error::invalid(format!("{:?} is not a platform", shown(text)))
                .hint("Write OS/ARCH or OS/ARCH/VARIANT: linux/amd64, linux/arm64, linux/arm/v7.")
        })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}
