//! Manifests that ECR rejects because of an unknown field: which field it is, and which tool writes it.

use super::case::{Case, Meaning};
use crate::error::{Advice, Kind};
use crate::oci::StrictField;

/// Names the known fields in the manifest that was sent.
pub(super) fn manifest(case: &Case<'_>) -> Option<Meaning> {
    let found = StrictField::find_all(case.manifest);
    let found: Vec<_> = found.iter().map(|it| format!("{}: {}; {}", it.field, it.writer, it.fix())).collect();
    let text = "ECR rejects manifests with unknown fields.";
    let advice = if found.is_empty() {
        let text = format!(
            "{text} None of the known ones is in this manifest. Inspect it, and have its writer remove what the OCI \
             specification does not define:"
        );
        Advice::new(text).command("ecr-push inspect --output json ARCHIVE")
    } else {
        format!("{text} This one has {}. Removing them changes the digest.", found.join("; and ")).into()
    };
    case.advise_as(Kind::Refused, advice)
}
