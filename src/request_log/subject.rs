//! What a request is about, and the IDs of targets and layers.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::oci::{Digest, LayerId};

/// Identifies a target by its position among the targets of a push, from 0.
pub type TargetId = usize;

/// An ID with a name for people. It is compared by the ID; it is displayed and serialized as the name.
#[derive(Clone, Debug)]
pub struct Named<Id> {
    /// The ID.
    pub id: Id,
    /// The name. A layer's is its shortened hash if one is known; a target's is `HOST/REPOSITORY` once the host is known.
    pub name: Arc<str>,
}

impl<Id> Named<Id> {
    /// Names an ID.
    pub fn new(id: Id, name: impl Into<Arc<str>>) -> Self {
        Self { id, name: name.into() }
    }
}

impl<Id: PartialEq> PartialEq for Named<Id> {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl<Id: Eq> Eq for Named<Id> {}

impl<Id> fmt::Display for Named<Id> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl<Id> Serialize for Named<Id> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name)
    }
}

/// What a request is about.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Subject {
    /// A layer on its way to a target.
    Layer {
        /// The target.
        target: TargetId,
        /// The layer.
        layer: Named<LayerId>,
    },
    /// An image config.
    Config(Digest),
    /// An operation of an AWS API, as policies name it: `ecr:GetAuthorizationToken`.
    Operation(String),
    /// A token of a registry's token service, with the scopes that are requested.
    RegistryToken(String),
    /// An OIDC token of this CI system.
    OidcToken(&'static str),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layer { layer, .. } => write!(f, "layer {layer}"),
            Self::Config(digest) => write!(f, "the config {}", digest.short()),
            Self::Operation(name) => f.write_str(name),
            Self::RegistryToken(scopes) => write!(f, "a token for {scopes}"),
            Self::OidcToken(ci) => write!(f, "{ci}' OIDC token"),
        }
    }
}

impl Serialize for Subject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
