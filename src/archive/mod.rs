//! Image archives: their formats, and the images in them.
//!
//! [`open`] reads everything except the layers, which are read in place later. Nothing is extracted and nothing is written,
//! unless an archive cannot be read by position ([`Spool`]). Nothing that an archive states is trusted before it is
//! compared with its content. The digests and diff_ids of layers are compared while the layers are pushed
//! ([`Layer::check`]).
//!
//! To add an archive format:
//!
//! 1. Write one file in `formats/` that defines a [`Format`](format::Format): its name, whether an archive has it, and its
//!    reader. The reader gets the named [`Files`](files::Files) of a tar or a folder and returns
//!    [`Contents`](contents::Contents). `formats/skopeo_dir.rs` is a short example. [`Layout`](layout::Layout) follows OCI
//!    descriptors, [`image_config`](document::image_config) parses configs, and [`detect`](layer_format::detect) finds out
//!    how a layer is compressed.
//! 2. Add its `mod` line and a row to the table in `formats.rs`.

mod child_processes;
mod compose;
mod contents;
#[cfg(feature = "sandbox")]
mod demo;
mod diagnose_bytes;
mod diagnose_files;
mod document;
mod engine;
mod file_names;
mod files;
mod format;
mod formats;
mod image_name;
mod image_selector;
pub(crate) mod inspect;
mod join;
mod layer_format;
mod layout;
mod layout_index;
mod model;
mod non_distributable;
mod opener;
mod reencoding;
mod referrers;
mod released;
mod repair;
mod selection;
mod shell;
mod source;
mod sparse;
mod spool;
mod streaming;
mod tar_index;
#[cfg(test)]
mod tests;

pub use child_processes::ChildProcesses;
pub(crate) use child_processes::EndOnDrop;
pub use compose::{Replacements, StoredLayer, compose_index, compose_manifest};
pub(crate) use compose::{check_manifest_size, unchanged};
pub use contents::Archive;
pub(crate) use contents::Unusable;
#[cfg(feature = "sandbox")]
pub(crate) use demo::demo_archive;
pub use engine::{ContainerEngine, EngineImage};
pub(crate) use image_name::NameParts;
pub use image_selector::ImageSelector;
pub(crate) use join::join;
#[cfg(test)]
pub(crate) use model::LayerFacts;
pub(crate) use model::{Absent, Config, Index, IndexOrigin, NonDistributableLayer, Origin, Provenance, Referrer};
pub use model::{Child, Content, Image, Layer, Manifest, Role};
pub(crate) use opener::list;
pub use opener::open;
pub(crate) use repair::Flaw;
pub(crate) use selection::Completeness;
pub use selection::{Attestations, Platforms, Selection};
pub use source::{OpenedArchive, Source};
pub(crate) use spool::DiskSpace;
pub use spool::Spool;
pub(crate) use streaming::StreamedLayer;

pub(crate) use crate::error::shown;
