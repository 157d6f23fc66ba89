//! Layers that other repositories of the registry have: found beforehand, and linked instead of sent.
//!
//! Only repositories that the user names are looked at, for which the rules of `held.rs` hold. Where the archive says that a
//! layer came from is tried without a look, since the question is the request that opens the upload otherwise.

use std::fmt::Display;
use std::ops::ControlFlow;

use super::destination::{Blobs, Destination};
use super::held::{configs, in_time, platforms, said};
use super::outcome::label;
use super::{Event, Events, Request, Reuse};
use crate::archive::Image;
use crate::error::{Error, Kind, Result};
use crate::oci::MountSource;
use crate::push::plan::{self, Action, Wanted};
use crate::registry::{Mount, OpenedUpload};
use crate::reuse::{self, RemoteImage};

impl Destination {
    /// Finds, for layers that would be sent, other repositories of the registry to mount them from.
    pub(super) async fn find_mounts(
        &self,
        planned: &mut [(Action, Wanted)],
        image: &Image,
        request: &Request,
        events: &Events,
    ) {
        if request.reuse == Reuse::Off {
            events(Event::Detail(format!("no mount at {}: --reuse off", self.host)));
            return;
        }
        let own = self.client.repository();
        for source in request.mount_from.iter().filter(|source| source.repository != *own) {
            let lacking = planned.iter().filter(|(action, _)| *action == Action::Upload);
            let lacking: Vec<Wanted> = lacking.map(|(_, wanted)| wanted.clone()).collect();
            if lacking.is_empty() {
                return;
            }
            let why = match in_time(self.stock(source, image, &lacking)).await {
                Ok((held, blobs)) => {
                    let mut found = false;
                    for (action, wanted) in planned.iter_mut().filter(|(action, _)| *action == Action::Upload) {
                        if let Some(mount) = plan::mount(wanted, image, &held, &blobs, &source.repository) {
                            (*action, found) = (mount, true);
                        }
                    }
                    match source.tag {
                        _ if found => continue,
                        None if !lacking.iter().all(Wanted::is_verbatim) => {
                            format!("none is known there; {source}:TAG would say which are those that are packed here")
                        }
                        _ => "it has none that is needed".to_owned(),
                    }
                }
                Err(error) => said(&error),
            };
            events(Event::Note(self.not_mounted(source, &why)));
        }
        for (action, wanted) in planned.iter_mut().filter(|(action, _)| *action == Action::Upload) {
            if let Some(mount) = plan::origin(wanted, &self.host, own) {
                *action = mount;
            }
        }
        let is_mount = |(action, _): &(Action, Wanted)| matches!(action, Action::Mount(..));
        if request.mount_from.is_empty() && !planned.iter().any(is_mount) {
            let why = "--mount-from names none, nor does the archive";
            events(Event::Detail(format!("no mount at {}: {why}", self.host)));
        }
    }

    /// What another repository has of these layers: what the image under the tag is made of, or else what it says when it is
    /// asked.
    async fn stock(
        &self,
        source: &MountSource,
        image: &Image,
        lacking: &[Wanted],
    ) -> Result<(Vec<RemoteImage>, Blobs)> {
        let client = self.client.for_pull(source.repository.clone(), self.cancel.clone());
        let Some(tag) = &source.tag else {
            let blobs = self.available(&client, &plan::questions(&[], lacking)).await?;
            let denied = || Error::new(Kind::Permission, "ecr:BatchCheckLayerAvailability is not allowed there");
            return Ok((Vec::new(), blobs.ok_or_else(denied)?));
        };
        let root = client.manifest(tag.as_str()).await?;
        let root = root.ok_or_else(|| Error::new(Kind::Refused, "there is no such image"))?;
        let manifests = reuse::read_manifests(&client, root, Some(&platforms(image))).await?;
        let blobs = manifests.iter().flat_map(reuse::layer_blobs).map(|(digest, size)| (digest, Some(size))).collect();
        // Where every digest is stated, the configs have nothing to tell.
        let held = match lacking.iter().all(Wanted::is_verbatim) {
            true => Vec::new(),
            false => reuse::read_images(&client, manifests, configs(image)).await?,
        };
        Ok((held, blobs))
    }

    /// Mounts a layer if that was the plan. If there is something to send all the same, this tells in which session, if one is
    /// open for it already.
    pub(super) async fn mount(&self, wanted: &Wanted, events: &Events) -> ControlFlow<(), Option<OpenedUpload>> {
        let Some((stored, from)) = self.mountable(&wanted.key) else { return ControlFlow::Continue(None) };
        let client = self.client.about(&format!("layer {}", label(wanted)));
        match client.mount(&stored.digest, &from, wanted.identity().as_deref()).await {
            Ok(Mount::Mounted) => {
                let _not_sent = self.arrived(&wanted.key, stored);
                events(Event::Mounted { target: self.name(), layer: label(wanted), bytes: stored.size });
                ControlFlow::Break(())
            }
            Ok(Mount::Open(opened)) => {
                let why = match self.ecr {
                    Some(_) => {
                        "ECR wants them sent; it mounts only with the account setting BLOB_MOUNTING, and where the caller \
                         has ecr:GetDownloadUrlForLayer"
                    }
                    None => "the registry wants them sent",
                };
                self.send_instead(&wanted.key, why, events);
                ControlFlow::Continue(Some(opened))
            }
            Ok(Mount::Refused(answer)) => {
                self.send_instead(&wanted.key, &answer.to_string(), events);
                ControlFlow::Continue(None)
            }
            Err(error) => {
                self.fail(self.reason(error).await);
                ControlFlow::Break(())
            }
        }
    }

    /// Opens the session of a layer that goes by, if what the registry answers may tell whether it will ever ask for the layer
    /// again.
    pub(super) async fn open_first(&self, wanted: &Wanted) -> ControlFlow<(), Option<OpenedUpload>> {
        let bytes = &wanted.layer.bytes;
        if !bytes.is_consumed() || !self.client.may_reject_chunks(bytes.len()) {
            return ControlFlow::Continue(None);
        }
        match self.client.open_upload(&format!("layer {}", label(wanted))).await {
            Ok(opened) => ControlFlow::Continue(Some(opened)),
            Err(error) => {
                self.fail(self.advise(error));
                ControlFlow::Break(())
            }
        }
    }

    /// Why layers of another repository are sent all the same, in a line.
    pub(super) fn not_mounted(&self, from: impl Display, why: &str) -> String {
        format!("layers of {}/{from} are not mounted: {why}", self.host)
    }
}
