//! Non-distributable layers, which are not uploaded unless the user asks for it.

use oci_client::manifest::OciDescriptor;

use super::model::{Image, Manifest, NonDistributableLayer};
use crate::error::{Setting, shown};

impl Image {
    /// Turns the non-distributable layers that the archive contains into ordinary ones, so that they are uploaded.
    pub fn include_non_distributable_layers(&mut self) {
        self.content.manifests_mut().into_iter().for_each(Manifest::include_non_distributable_layers);
    }
}

impl Manifest {
    fn include_non_distributable_layers(&mut self) {
        let mut left = Vec::new();
        for mut omitted in self.non_distributable.drain(..) {
            match omitted.layer.take() {
                // Lowest first: of the layers below this one, only those in `left` are not in the list.
                Some(layer) => self.layers.insert(omitted.at - left.len(), layer),
                None => left.push(omitted),
            }
        }
        self.non_distributable = left;
    }
}

impl NonDistributableLayer {
    /// Returns the note for the user about the layer.
    pub fn note(&self) -> String {
        let OciDescriptor { digest, urls, .. } = &self.descriptor;
        let place = urls.iter().flatten().next().map_or_else(String::new, |url| shown(url));
        let short = digest.get(..19).unwrap_or(digest);
        let more = match self.layer {
            Some(_) => format!("{} uploads it", Setting::new("foreign-layers")),
            None => "the archive does not contain it".to_owned(),
        };
        format!("layer {short} is non-distributable and not uploaded: it stays at {place}; {more}")
    }
}
