//! A look at images that the repository holds already, for layers that need neither be packed nor sent.

use std::time::Duration;

use bytes::Bytes;

use super::destination::Destination;
use super::tags::is_same;
use super::{Event, Events, Request, Reuse};
use crate::archive::Image;
use crate::error::{Code, Error, Kind, Result};
use crate::oci::{DiffId, Digest, Platform, TagPattern};
use crate::registry::RemoteManifest;
use crate::reuse::{self, RemoteImage};

/// How long a look may take. It saves time, or it is given up.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many plain bytes are packed before it is worth a look how that could have been saved.
const WORTH_A_WORD: u64 = 32 << 20;

impl Destination {
    /// Reads the images that may have layers of this one, as far as that is known yet. Of those that the tags point at one will
    /// do: the same image if it is among them, else the first.
    pub(super) async fn look_at_images(
        &self,
        request: &Request,
        image: Option<&Image>,
        events: &Events,
    ) -> Vec<RemoteImage> {
        let mut held = Vec::new();
        if self.only_planned {
            return held;
        }
        let why_not = match request.reuse {
            Reuse::Tag if self.there.is_empty() => Some("its tags are new"),
            Reuse::Tag => None,
            Reuse::Cache => Some("--reuse cache"),
            Reuse::Off => Some("--reuse off"),
        };
        let told = why_not.map(|why| format!("no image of {} is read for layers: {why}", self.name()));
        told.into_iter().for_each(|line| events(Event::Detail(line)));
        let same = self.there.iter().find(|(_, root)| image.is_some_and(|image| is_same(root, image)));
        if let Some((tag, root)) = same.or_else(|| self.there.first()).filter(|_| request.reuse == Reuse::Tag) {
            held.extend(self.take_up(tag.as_str(), root.clone(), image, events).await);
        }
        for pattern in &request.reuse_from {
            match in_time(self.newest(pattern)).await {
                Ok(Some((tag, root))) => held.extend(self.take_up(&tag, root, image, events).await),
                Ok(None) => events(Event::Note(format!("{} has no tag {pattern} to reuse layers from", self.name()))),
                Err(error) => self.does_without(&pattern.to_string(), &error, events),
            }
        }
        held
    }

    /// Finds out, while layers are sent, whether a look at the newest image would have saved that, and says so. Where it
    /// cannot be learned nothing is said.
    pub(super) async fn say_what_reuse_would_save(&self, request: &Request, image: &Image, events: &Events) {
        let packed = self.packed();
        let is_worth_it = packed.iter().map(|layer| layer.bytes.len()).sum::<u64>() >= WORTH_A_WORD;
        let is_wanted = request.reuse == Reuse::Tag && request.reuse_from.is_empty() && self.ecr.is_some();
        if !is_worth_it || !is_wanted || !self.there.is_empty() || self.has_no_image() {
            return;
        }
        let looking = in_time(async {
            let Some((tag, root)) = self.newest(&TagPattern::any()).await? else { return Ok(None) };
            let manifests = reuse::read_manifests(&self.client, root, Some(&platforms(image))).await?;
            Ok(Some((tag, reuse::read_images(&self.client, manifests, configs(image)).await?)))
        });
        let Ok(Some((tag, held))) = looking.await else { return };
        let has = |diff_id: DiffId| held.iter().flat_map(|held| &held.layers).any(|layer| layer.diff_id == diff_id);
        let count = packed.iter().filter(|layer| layer.diff_id.is_some_and(has)).count();
        if count > 0 {
            events(Event::Note(format!(
                "{}:{tag} has {count} of the layers that are packed and sent now: with --reuse-from {tag}, or a pattern for \
                 such tags, they are not even read",
                self.name()
            )));
        }
    }

    /// The image under a tag, or under the newest of those that match.
    async fn newest(&self, pattern: &TagPattern) -> Result<Option<(String, RemoteManifest)>> {
        let tag = match (pattern.tag(), &self.ecr) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some((ecr, place))) => {
                ecr.newest_tag(&place.host.account, self.client.repository(), pattern).await?
            }
            (None, None) => {
                let what = format!("{} does not say when a tag was pushed", self.client.name());
                return Err(Error::new(Kind::Refused, what).code(Code::TimedOut));
            }
        };
        let Some(tag) = tag else { return Ok(None) };
        Ok(self.client.manifest(&tag).await?.map(|root| (tag, root)))
    }

    /// Takes up what an image of the repository says about its layers.
    async fn take_up(
        &self,
        tag: &str,
        root: RemoteManifest,
        image: Option<&Image>,
        events: &Events,
    ) -> Vec<RemoteImage> {
        let read = in_time(async {
            let platforms = image.map(platforms);
            let manifests = reuse::read_manifests(&self.client, root, platforms.as_deref()).await?;
            let ours = image.map(configs);
            reuse::read_images(&self.client, manifests, |digest| ours.as_ref().and_then(|ours| ours(digest))).await
        });
        match read.await {
            Ok(held) => {
                let count = held.iter().map(|held| held.layers.len()).sum::<usize>();
                events(Event::Detail(format!(
                    "{}:{tag} is looked at; layers of it that are known: {count}",
                    self.name()
                )));
                held
            }
            Err(error) => {
                self.does_without(tag, &error, events);
                Vec::new()
            }
        }
    }

    fn does_without(&self, tag: &str, error: &Error, events: &Events) {
        events(Event::Note(format!("layers of {}:{tag} are not reused: {}", self.name(), said(error))));
    }
}

/// Returns the platforms of an image.
pub(super) fn platforms(image: &Image) -> Vec<Platform> {
    image.manifests().into_iter().filter_map(|manifest| manifest.config.platform.clone()).collect()
}

/// The configs of an image, which no registry has to be asked for.
pub(super) fn configs(image: &Image) -> impl Fn(&Digest) -> Option<Bytes> {
    let manifests = image.manifests();
    move |digest| {
        let same = manifests.iter().find(|manifest| manifest.config.digest == *digest);
        same.map(|manifest| manifest.config.bytes.clone())
    }
}

/// An error with what the registry said, in one line.
pub(super) fn said(error: &Error) -> String {
    error.service_error().map_or_else(|| error.to_string(), |answer| format!("{error}: {answer}"))
}

/// What comes of a look, unless it takes too long.
pub(super) async fn in_time<T>(looking: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| Error::new(Kind::Unavailable, format!("no answer within {} s", PATIENCE.as_secs()));
    tokio::time::timeout(PATIENCE, looking).await.map_err(late)?
}
