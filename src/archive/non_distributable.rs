//! Layers that are kept by reference, and how they become layers like others.

use oci_client::manifest::OciDescriptor;

use super::model::{Image, Manifest, NonDistributableLayer};
use super::shown;

impl Image {
    /// Makes ordinary layers of the foreign ones that the archive has, so that they are sent. Those that it lacks stay as
    /// they are.
    pub fn include_non_distributable_layers(&mut self) {
        self.content.manifests_mut().into_iter().for_each(Manifest::include_non_distributable_layers);
    }
}

impl Manifest {
    fn include_non_distributable_layers(&mut self) {
        let mut left = Vec::new();
        for mut foreign in self.non_distributable.drain(..) {
            match foreign.layer.take() {
                // Lowest first: of the layers below it only those that are left are not in the list.
                Some(layer) => self.layers.insert(foreign.at - left.len(), layer),
                None => left.push(foreign),
            }
        }
        self.non_distributable = left;
    }
}

impl NonDistributableLayer {
    /// What a person should know about it.
    pub fn note(&self) -> String {
        let OciDescriptor { digest, urls, .. } = &self.descriptor;
        let place = urls.iter().flatten().next().map_or_else(String::new, |url| shown(url));
        let short = digest.get(..19).unwrap_or(digest);
        let more = if self.layer.is_some() { "; --foreign-layers sends it" } else { ", and the archive lacks it" };
        format!("layer {short} is foreign and stays at {place}{more}")
    }
}
