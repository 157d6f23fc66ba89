//! What a target has, and what becomes of each layer there.

use futures_util::{StreamExt as _, TryStreamExt as _};

use super::super::delivery::{missing, streamed_otherwise};
use super::super::outcome::label;
use super::super::{Event, Events, IfExists, Planned, Request, reasons};
use super::{Blobs, Destination, LayerState, QUESTIONS_AT_ONCE, State};
use crate::archive::{Image, Manifest};
use crate::error::Result;
use crate::oci::Digest;
use crate::push::plan::{self, Action, Key, Wanted};
use crate::registry::{self, Client, Presence};

impl Destination {
    /// Asks which blobs are there.
    pub(in crate::push) async fn look(&self, digests: &[Digest], events: &Events) -> Result<()> {
        if self.only_planned || digests.is_empty() {
            return Ok(());
        }
        match self.available(&self.client, digests).await.map_err(|error| self.advise(error))? {
            Some(available) => self.state().available.extend(available),
            // A HEAD takes the same right, so nothing is known, and all is sent.
            None => events(Event::Note(
                "ecr:BatchCheckLayerAvailability is not allowed, so layers that are there already are sent again"
                    .into(),
            )),
        }
        Ok(())
    }

    /// Asks which blobs a repository of this registry has: on ECR a hundred a call, elsewhere one by one. `None` if we may
    /// not ask.
    pub(in crate::push) async fn available(&self, client: &Client, digests: &[Digest]) -> Result<Option<Blobs>> {
        if let Some((ecr, place)) = &self.ecr {
            return ecr.availability(&place.host.account, client.repository(), digests).await;
        }
        let asked = futures_util::stream::iter(digests.iter().copied())
            .map(|digest| async move { Ok((digest, client.presence(&digest).await?)) })
            .buffer_unordered(QUESTIONS_AT_ONCE)
            .try_collect::<Vec<_>>();
        let available = asked.await?.into_iter().filter_map(|(digest, presence)| match presence {
            Presence::Present(size) => Some((digest, size)),
            Presence::Absent => None,
        });
        Ok(Some(available.collect()))
    }

    /// Finds out which layers are there, decides each layer's lot, and tells it.
    pub(in crate::push) async fn plan(
        &mut self,
        image: &Image,
        wanted: &[Wanted],
        request: &Request,
        events: &Events,
    ) -> Result<()> {
        if self.is_settled() && image.referrers.is_empty() {
            self.give_over();
            return Ok(());
        }
        let passed = std::mem::take(&mut self.state().layers);
        let (known, wanted): (Vec<Wanted>, Vec<Wanted>) =
            wanted.iter().cloned().partition(|wanted| passed.iter().any(|layer| layer.wanted.key == wanted.key));
        if let Some(wanted) = wanted.iter().find(|wanted| wanted.layer.bytes.is_consumed()) {
            return Err(streamed_otherwise(wanted));
        }
        // Where every digest is stated, other images have nothing to tell. What went by has been looked at.
        let is_open = !wanted.iter().all(Wanted::is_verbatim) && self.held.is_empty();
        let moves_for_sure = self.has_another(image, request);
        let looks =
            async { if is_open { self.look_at_images(request, Some(image), events).await } else { Vec::new() } };
        let rule = async { if moves_for_sure { self.whether_tags_move(events).await } else { None } };
        let (held, rule) = futures_util::future::join(looks, rule).await;
        self.held.extend(held);
        self.mutability = rule.or_else(|| self.mutability.take());
        let wanted = plan::with_held(&wanted, &plan::configs(image), &self.held);
        let covered = match self.has_all_of(image) {
            Some(_) if wanted.iter().all(Wanted::is_verbatim) => Some(plan::stated(image, &wanted)),
            _ => plan::covered(image, &wanted, &self.held),
        };
        match covered {
            Some(blobs) => self.state().available = blobs,
            None if known.is_empty() => self.look(&plan::questions(&image.manifests(), &wanted), events).await?,
            None => self.look(&plan::questions(&[], &wanted), events).await?,
        }
        let available = self.state().available.clone();
        for Manifest { config, .. } in image.manifests() {
            let what = format!("the config {}", config.digest.short());
            registry::check_blob_size(&self.client, &what, config.bytes.len() as u64)
                .map_err(|error| error.hint("An artifact without a config has `{}` for one: write it so."))?;
        }
        let decide = |wanted| (plan::action(&wanted, &available), wanted);
        let mut planned: Vec<(Action, Wanted)> = wanted.into_iter().map(decide).collect();
        // What this repository cannot store, no other one of the registry can have.
        for (_, wanted) in planned.iter().filter(|(action, _)| *action == Action::Upload) {
            self.can_store(wanted)?;
        }
        let stored = |key: &Key| {
            let planned = planned.iter().find(|(_, wanted)| wanted.key == *key).map(|(action, _)| action);
            let passed = passed.iter().find(|layer| layer.wanted.key == *key).and_then(|layer| layer.stored);
            match planned {
                Some(Action::Reuse(candidate)) => Some(candidate.stored),
                Some(Action::Mount(..) | Action::Upload) => None,
                None => passed,
            }
        };
        let root = self.root_of(image, &stored);
        self.judge_tags(image, root, request, events).await?;
        if self.is_settled() && image.referrers.is_empty() {
            self.give_over();
            return Ok(());
        }
        self.find_mounts(&mut planned, image, request, events).await;
        let is_missing = |(action, it): &&(Action, Wanted)| *action == Action::Upload && it.layer.bytes.is_missing();
        if let Some((_, wanted)) = planned.iter().find(is_missing) {
            return Err(missing(wanted));
        }
        let layers = planned.into_iter().map(|(action, wanted)| LayerState::new(action, wanted));
        let layers: Vec<LayerState> = layers.collect();
        layers.iter().for_each(|layer| self.tell(layer, &available, events));
        let passed = passed.into_iter().filter_map(|mut layer| {
            layer.wanted.settle(known.iter().find(|wanted| wanted.key == layer.wanted.key)?);
            Some(layer)
        });
        self.state().layers = passed.chain(layers).collect();
        Ok(())
    }

    /// Finds out what the repository holds, before anything is known of the image.
    pub(in crate::push) async fn look_ahead(&mut self, request: &Request, events: &Events) {
        if self.has_failed() {
            return;
        }
        let may_move = request.if_exists == IfExists::Overwrite && !self.there.is_empty();
        let rule = async { if may_move { self.whether_tags_move(events).await } else { None } };
        let (held, rule) = futures_util::future::join(self.look_at_images(request, None, events), rule).await;
        self.held = held;
        self.mutability = rule.or_else(|| self.mutability.take());
        if let Err(error) = self.judge_tags_ahead(request, events) {
            self.fail(error);
            return;
        }
        if self.is_settled() {
            self.give_over();
            return;
        }
        let mut held: Vec<Digest> = self.held.iter().flat_map(|held| &held.layers).map(|layer| layer.digest).collect();
        held.sort_unstable();
        held.dedup();
        if let Err(error) = self.look(&held, events).await {
            self.fail(error);
        }
    }

    /// Decides the lot of a layer that goes by, if it was not seen before.
    ///
    /// # Errors
    /// If it cannot be learned what is there, or if the layer belongs to an image that is not to be pushed.
    pub(in crate::push) async fn plan_passing(
        &self,
        wanted: &Wanted,
        request: &Request,
        events: &Events,
    ) -> Result<()> {
        if !self.takes_more() || self.state().layers.iter().any(|layer| layer.wanted.key == wanted.key) {
            return Ok(());
        }
        self.may_belong(wanted, request)?;
        let wanted = plan::with_held(std::slice::from_ref(wanted), &[], &self.held);
        let mut unknown = plan::questions(&[], &wanted);
        unknown.retain(|digest| !self.state().available.contains_key(digest));
        if !unknown.is_empty() {
            let found = self.available(&self.client, &unknown).await.map_err(|error| self.advise(error))?;
            self.state().available.extend(found.into_iter().flatten());
        }
        let available = self.state().available.clone();
        let layers = wanted.into_iter().map(|wanted| LayerState::new(plan::action(&wanted, &available), wanted));
        let layers: Vec<LayerState> = layers.collect();
        layers.iter().for_each(|layer| self.tell(layer, &available, events));
        self.state().layers.extend(layers);
        Ok(())
    }

    /// Tells a layer's lot, and why.
    fn tell(&self, layer: &LayerState, available: &Blobs, events: &Events) {
        events(self.planned(layer));
        events(Event::Detail(reasons::of_layer(&layer.wanted, &layer.action, available)));
    }

    /// How a layer's lot is told.
    pub(super) fn planned(&self, layer: &LayerState) -> Event {
        let LayerState { wanted, action, meter, .. } = layer;
        Event::Planned {
            target: self.name(),
            layer: label(wanted),
            bytes: wanted.layer.bytes.len(),
            action: Planned::of(action, wanted, meter),
        }
    }

    /// Asks again what is there, now that a manifest was refused for want of a blob: what is missing has to be sent.
    pub(in crate::push) async fn look_again(&self, image: &Image, events: &Events) -> Result<()> {
        let stored: Vec<Digest> = self.state().layers.iter().filter_map(|layer| Some(layer.stored?.digest)).collect();
        let configs = image.manifests().into_iter().map(|manifest| manifest.config.digest);
        let mut digests: Vec<Digest> = stored.into_iter().chain(configs).collect();
        digests.sort_unstable();
        digests.dedup();
        self.state().available.clear();
        self.look(&digests, events).await?;
        let mut state = self.state();
        let State { available, layers, .. } = &mut *state;
        for layer in
            layers.iter_mut().filter(|layer| layer.stored.is_some_and(|it| !available.contains_key(&it.digest)))
        {
            (layer.stored, layer.action) = (None, Action::Upload);
        }
        Ok(())
    }
}
