//! Which blobs a repository has.

use futures_util::{StreamExt as _, TryStreamExt as _};

use super::connect::REQUESTS_AT_ONCE;
use super::plan::Blobs;
use super::session::TargetSession;
use crate::ecr::RepositoryLocation;
use crate::error::Result;
use crate::oci::Digest;
use crate::registry::{Client, Presence};

/// Asks which of these blobs the target's repository has. Where that is not allowed nothing is known, and all is sent.
///
/// # Errors
/// If the registry refuses, or does not answer.
pub(super) async fn ask(session: &TargetSession, digests: &[Digest]) -> Result<Blobs> {
    if digests.is_empty() {
        return Ok(Blobs::new());
    }
    let available = available(session, &session.client, digests).await.map_err(|error| session.explain(error))?;
    Ok(available.unwrap_or_else(|| {
        // A HEAD takes the same permission.
        session.note("ecr:BatchCheckLayerAvailability is not allowed, so existing layers are uploaded again".into());
        Blobs::new()
    }))
}

/// Asks which blobs a repository of this registry has: on ECR a hundred a call, elsewhere one by one. `None` if that is not
/// allowed.
///
/// # Errors
/// If the registry refuses, or does not answer.
pub(super) async fn available(session: &TargetSession, client: &Client, digests: &[Digest]) -> Result<Option<Blobs>> {
    if let Some((ecr, place)) = &session.ecr {
        let place = RepositoryLocation { host: place.host.clone(), repository: client.repository().clone() };
        return ecr.availability(&place, digests).await;
    }
    let asked = futures_util::stream::iter(digests.iter().copied())
        .map(|digest| async move { Ok((digest, client.presence(&digest).await?)) })
        .buffer_unordered(REQUESTS_AT_ONCE)
        .try_collect::<Vec<_>>();
    let available = asked.await?.into_iter().filter_map(|(digest, presence)| match presence {
        Presence::Present(size) => Some((digest, size)),
        Presence::Absent => None,
    });
    Ok(Some(available.collect()))
}
