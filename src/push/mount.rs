//! Layers that other repositories of the registry have: found beforehand, and linked instead of sent.
//!
//! Only repositories that the user names are read, for which the rules of `remote.rs` hold. Where the archive says that a
//! layer came from is tried without a lookup, since the question is the request that opens the upload otherwise.

use std::fmt::Display;

use tracing::debug;

use super::availability::available;
use super::options::Reuse;
use super::plan::{self, Blobs, LayerAction, PlannedLayer};
use super::remote::{configs, platforms};
use super::run_blobs::Mounting;
use super::session::TargetSession;
use super::time_limit::{described, in_time};
use crate::archive::Image;
use crate::error::{Error, Kind, Result};
use crate::oci::MountSource;
use crate::reuse::{self, RemoteImage};

/// Finds, for layers that would be sent, other repositories of the registry to mount them from.
pub(super) async fn find_mounts(session: &TargetSession, planned: &mut [(PlannedLayer, LayerAction)], image: &Image) {
    let options = session.options();
    if options.layers.reuse == Reuse::Off {
        debug!("no mount at {}: layer reuse is off", session.host);
        return;
    }
    let own = session.client.repository();
    for source in options.layers.mount_from.iter().filter(|source| source.repository != *own) {
        let missing: Vec<PlannedLayer> = to_send(planned).map(|(layer, _)| layer.clone()).collect();
        if missing.is_empty() {
            return;
        }
        let why = match in_time(look_up(session, source, image, &missing)).await {
            Ok((images, blobs)) => {
                let mut found = false;
                for (layer, action) in to_send(planned) {
                    if let Some(mount) = plan::mount(layer, image, &images, &blobs, &source.repository) {
                        (*action, found) = (mount, true);
                    }
                }
                match source.tag {
                    _ if found => continue,
                    None if !missing.iter().all(PlannedLayer::is_verbatim) => {
                        format!(
                            "no digest is known before compression; {source}:TAG would name an image to compare with"
                        )
                    }
                    _ => "it has none of these layers".to_owned(),
                }
            }
            Err(error) => described(&error),
        };
        session.note(not_mounted(session, source, &why));
    }
    for (layer, action) in to_send(planned) {
        if let Some(mount) = plan::origin(layer, &session.host, own) {
            *action = mount;
        }
    }
    let is_mount = |(_, action): &(PlannedLayer, LayerAction)| matches!(action, LayerAction::Mount(..));
    if options.layers.mount_from.is_empty() && !planned.iter().any(is_mount) {
        debug!("no mount at {}: neither the options nor the archive name a repository to mount from", session.host);
    }
}

fn to_send(planned: &mut [(PlannedLayer, LayerAction)]) -> impl Iterator<Item = (&mut PlannedLayer, &mut LayerAction)> {
    planned.iter_mut().filter(|(_, action)| *action == LayerAction::Upload).map(|(layer, action)| (layer, action))
}

/// Returns what another repository has of these layers: what the image under the tag is made of, or else what it says when it
/// is asked.
async fn look_up(
    session: &TargetSession,
    source: &MountSource,
    image: &Image,
    missing: &[PlannedLayer],
) -> Result<(Vec<RemoteImage>, Blobs)> {
    let client = session.client.for_pull(source.repository.clone(), session.stop.clone());
    let Some(tag) = &source.tag else {
        let blobs = available(session, &client, &plan::questions(&[], missing)).await?;
        let denied = || Error::new(Kind::Permission, "ecr:BatchCheckLayerAvailability is not allowed there");
        return Ok((Vec::new(), blobs.ok_or_else(denied)?));
    };
    let root = client.manifest(tag.as_str()).await?;
    let root = root.ok_or_else(|| Error::new(Kind::Refused, "there is no such image"))?;
    let manifests = reuse::read_manifests(&client, root, Some(&platforms(image))).await?;
    let blobs = manifests.iter().flat_map(reuse::layer_blobs).map(|(digest, size)| (digest, Some(size))).collect();
    // Where every digest is stated, the configs have nothing to tell.
    let images = match missing.iter().all(PlannedLayer::is_verbatim) {
        true => Vec::new(),
        false => reuse::read_images(&client, manifests, configs(image)).await?,
    };
    Ok((images, blobs))
}

/// Returns whether the registry mounts blobs, as far as ECR's settings of the account state it.
pub(super) async fn blob_mounting(session: &TargetSession) -> Mounting {
    let Some((ecr, place)) = session.ecr.as_ref().filter(|_| session.options().layers.reuse != Reuse::Off) else {
        return Mounting::Unknown;
    };
    match in_time(ecr.blob_mounting(&place.host)).await {
        Ok(Some(true)) => Mounting::Works,
        Ok(Some(false)) => Mounting::Off,
        Ok(None) => Mounting::Unknown,
        Err(error) => {
            debug!("whether {} mounts blobs is not known: {}", session.host, described(&error));
            Mounting::Unknown
        }
    }
}

/// Returns why layers of another repository are sent all the same, in a line.
pub(super) fn not_mounted(session: &TargetSession, from: impl Display, why: &str) -> String {
    format!("layers of {}/{from} are not mounted: {why}", session.host)
}
