//! Image archives: their formats, and the images in them.
//!
//! [`open`] reads everything but the layers, whose bytes stay where they are. Nothing is extracted and nothing is written,
//! except for archives that cannot be read by position ([`Spool`]). Nothing that an archive states is trusted before it is
//! compared with its content. The digests and diff_ids of layers need a pass over them: the caller makes it, and
//! [`Layer::check`] compares.
//!
//! A format of archives is one file, which defines a `Format`, and one row of the table in `opener.rs`.

mod compose;
mod contents;
mod diagnose_bytes;
mod diagnose_files;
mod disk_space;
mod docker_archive;
mod document;
mod file_names;
mod files;
mod folder;
mod format;
mod image_name;
mod image_selector;
pub mod inspect;
mod layer_format;
mod layout;
mod layout_index;
mod model;
mod non_distributable;
mod oci_layout;
mod opener;
mod reencoding;
mod referrers;
mod repair;
mod root;
mod selection;
mod shell;
mod skopeo_dir;
mod source;
mod sparse;
mod spool;
mod streaming;
mod tar_index;
#[cfg(test)]
mod tests;

pub use compose::{Replacements, StoredLayer, compose_index, compose_manifest};
pub(crate) use compose::{check_manifest_size, unchanged};
pub use contents::{Archive, Unusable};
pub(crate) use disk_space::DiskSpace;
pub use image_selector::ImageSelector;
pub use model::{
    Absent, Child, Config, Content, Image, Index, Layer, Manifest, NonDistributableLayer, Origin, Provenance, Referrer,
    Role,
};
pub use opener::{list, open};
pub use repair::Flaw;
pub use selection::{Attestations, Completeness, Platforms, Selection};
pub use source::Source;
pub use spool::Spool;
pub use streaming::{HashOf, StreamedLayer};

pub use crate::error::shown;
