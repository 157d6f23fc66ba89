//! Manifests that ECR rejects because of an unknown field: which field it is, and which tool writes it.

use super::case::{Case, Meaning};
use crate::error::{Advice, Kind};
use crate::oci::StrictField;

/// Names the known fields in the manifest that was sent.
pub(super) fn manifest(case: &Case<'_>) -> Option<Meaning> {
    let found = StrictField::find_all(case.manifest);
    let text = "ECR rejects manifests with unknown fields.";
    if found.is_empty() {
        let text = format!(
            "{text} None of the known ones is in this manifest. Inspect it, and have its writer omit what the OCI \
             specification does not define:"
        );
        return case.advise_as(Kind::Refused, Advice::new(text).command("ecr-push inspect --output json ARCHIVE"));
    }
    let fields: Vec<_> = found.iter().map(|it| format!("{}: {}; {}", it.field, it.writer, it.fix())).collect();
    let mut advice = Advice::new(format!("{text} This one has {}. That changes the digest", fields.join("; and ")));
    if found.iter().any(|it| it.is_repairable()) {
        advice = advice.setting("repair");
    }
    if found.iter().any(|it| it.is_attestation()) {
        advice = advice.setting("no-attestations");
    }
    case.advise_as(Kind::Refused, advice)
}
