//! The archive formats. To add one, add a file to `formats/`, and its `mod` line and row here.

use super::format::Format;

mod docker_archive;
mod oci_layout;
mod skopeo_dir;

/// The archive formats. The first one that matches is used.
pub(super) const FORMATS: [Format; 4] =
    [skopeo_dir::FORMAT, docker_archive::FORMAT, oci_layout::IN_A_FOLDER, oci_layout::IN_A_TAR];
