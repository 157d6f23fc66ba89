//! The operations on scans. A scan is finished at once, and finds nothing unless the rules say what.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::call::{Call, present};
use super::exception::{Exception, Outcome};
use super::images::find_one;
use crate::sandbox::findings::Finding;
use crate::sandbox::store::epoch;

/// Returns the members of an image's details about its scan.
pub(super) fn summary(call: &Call<'_>, time: SystemTime) -> Value {
    let summary = with_counts(call, time, Map::new());
    json!({"imageScanStatus": complete(), "imageScanFindingsSummary": summary})
}

fn complete() -> Value {
    json!({"status": "COMPLETE", "description": "The scan was completed successfully."})
}

/// Adds the times of a scan, and how many findings there are of each severity.
fn with_counts(call: &Call<'_>, time: SystemTime, mut members: Map<String, Value>) -> Value {
    let mut counts = BTreeMap::new();
    for finding in findings_of(call) {
        *counts.entry(finding.severity).or_insert(0) += 1;
    }
    members.insert("findingSeverityCounts".into(), json!(counts));
    for key in ["imageScanCompletedAt", "vulnerabilitySourceUpdatedAt"] {
        members.insert(key.into(), json!(epoch(time)));
    }
    members.into()
}

fn findings_of(call: &Call<'_>) -> Vec<Finding> {
    call.registry
        .rules(|rules| rules.scan_findings.as_ref().map(|findings| findings.findings.clone()))
        .unwrap_or_default()
}

/// An image can be scanned once in 24 hours (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-scanning-basic.html>).
pub(super) fn start(call: &Call<'_>) -> Outcome {
    let name = call.name()?;
    let (id, (digest, is_index, is_archived, scanned)) = find_one(call, &name, |repo, digest, image| {
        (digest, !image.facts.children.is_empty(), repo.archived.contains(&digest), repo.scanned.get(&digest).copied())
    })?;
    if is_archived {
        let message = "The image is archived and cannot be scanned";
        return Err(Exception::new("ImageArchivedException", message));
    }
    if is_index {
        return Err(Exception::new("UnsupportedImageTypeException", "The image type is not supported for scanning"));
    }
    if scanned.and_then(|time| time.elapsed().ok()).is_some_and(|ago| ago.as_secs() < 24 * 60 * 60) {
        let message = "The scan quota per image has been exceeded. Wait and try again.";
        return Err(Exception::new("LimitExceededException", message));
    }
    call.change(&name, |repo| repo.scanned.insert(digest, SystemTime::now()))?;
    Ok(call.about(&name, json!({"imageId": id.to_json(), "imageScanStatus": {"status": "IN_PROGRESS"}})))
}

pub(super) fn findings(call: &Call<'_>) -> Outcome {
    let name = call.name()?;
    let (id, scanned) = find_one(call, &name, |repo, digest, _| repo.scanned.get(&digest).copied())?;
    let time = scanned.ok_or_else(|| {
        let (image, place) = (id.quoted(), call.place(&name));
        let message = format!("Image scan does not exist for the image with '{image}' in {place}");
        Exception::new("ScanNotFoundException", message)
    })?;
    let mut page = call.page(
        "findings",
        |finding| finding.to_string(),
        findings_of(call).iter().map(|finding| json!(finding)).collect(),
    )?;
    let next = page["nextToken"].take();
    let members = page["findings"].take();
    let findings = with_counts(call, time, Map::from_iter([("findings".to_owned(), members)]));
    let members = json!({
        "imageId": id.to_json(), "imageScanStatus": complete(), "imageScanFindings": findings, "nextToken": next,
    });
    Ok(present(call.about(&name, members)))
}

pub(super) fn configure(call: &Call<'_>) -> Outcome {
    let name = call.name()?;
    let on_push = call.input["imageScanningConfiguration"]["scanOnPush"].as_bool().unwrap_or_default();
    call.change(&name, |repo| repo.settings.scan_on_push = on_push)?;
    Ok(call.about(&name, json!({"imageScanningConfiguration": {"scanOnPush": on_push}})))
}

pub(super) fn registry(call: &Call<'_>) -> Outcome {
    Ok(json!({
        "registryId": call.registry.account, "scanningConfiguration": {"scanType": "BASIC", "rules": []},
    }))
}
