//! Manifests that ECR rejects for a field that it does not know: which field of ours it is, and who writes it.

use super::{Case, Meaning};
use crate::error::Kind;
use crate::oci::StrictField;

/// Names the fields, as far as the manifest that was sent has any that are known.
pub(super) fn manifest(case: &Case<'_>) -> Option<Meaning> {
    let found = StrictField::find_all(case.manifest);
    let found: Vec<_> = found.iter().map(|it| format!("{}: {}; {}", it.field, it.writer, it.fix())).collect();
    let known = if found.is_empty() {
        "None of those that are known to trigger it is in this one. Show what it has with `ecr-push inspect --output json`, \
         and have its writer leave out what the OCI specification does not name."
            .to_owned()
    } else {
        format!("This one has {}. The digest changes by that.", found.join("; and "))
    };
    let text = format!("ECR takes no manifest with fields that it does not know. {known}");
    case.with_kind(Kind::Refused, text)
}
