//! Manifests that ECR will not read for a field that it does not know: which field of ours it is, and who writes it.
//!
//! Each was met by somebody; which of them ECR still refuses is not known (`sandbox::ManifestRules` has the same list).

use serde_json::Value;

use super::{Case, Meaning};
use crate::error::Kind;

/// A field that ECR was seen to refuse.
struct Trigger {
    /// Where it stands, for people.
    field: &'static str,
    /// Who puts it there, with the place where it was met.
    writer: &'static str,
    /// What to do.
    cure: &'static str,
    /// Whether a manifest has it.
    has: fn(&Value) -> bool,
}

const REPAIR: &str = "--repair takes it out";
const WRITER: &str = "have it written without";

const TRIGGERS: [Trigger; 8] = [
    Trigger {
        field: "`platform` in the descriptor of the config",
        writer: "Docker 25.0 and 26.0 write it (moby/moby#47661)",
        cure: REPAIR,
        has: |it| it["config"].get("platform").is_some(),
    },
    Trigger {
        field: "`annotations` in the descriptor of the config",
        writer: "converters to Nydus and eStargz write them (goharbor/acceleration-service#353)",
        cure: WRITER,
        has: |it| it["config"].get("annotations").is_some(),
    },
    Trigger {
        field: "`platform` in `subject`",
        writer: "nydusify writes it (dragonflyoss/nydus#1691)",
        cure: WRITER,
        has: |it| it["subject"].get("platform").is_some(),
    },
    Trigger {
        field: "`platform.features` in an entry of the index",
        writer: "`docker manifest annotate` and tools for images with CPU features write it \
                 (aws/containers-roadmap#2439)",
        cure: WRITER,
        has: |it| list(it, "manifests").any(|entry| entry["platform"].get("features").is_some()),
    },
    Trigger {
        field: "a media type with parameters (`;`)",
        writer: "sigstore bundles have them (sigstore/sigstore-js#1058)",
        cure: WRITER,
        has: |it| {
            let everywhere = descriptors(it).filter_map(|descriptor| descriptor["mediaType"].as_str());
            let own = [&it["mediaType"], &it["artifactType"]].into_iter().filter_map(Value::as_str);
            everywhere.chain(own).any(|media_type| media_type.contains(';'))
        },
    },
    Trigger {
        field: "an attestation in the style of OCI artifacts (`artifactType` with an empty config)",
        writer: "BuildKit writes it with `oci-artifact=true` (moby/buildkit#5747)",
        cure: "build with oci-artifact=false, or push with --no-attestations",
        has: |it| it.get("artifactType").is_some() && it["config"]["mediaType"] == "application/vnd.oci.empty.v1+json",
    },
    Trigger {
        field: "`subject` or `artifactType` in an index",
        writer: "tools that sign whole indexes write it (aws/containers-roadmap#2783)",
        cure: WRITER,
        has: |it| it.get("manifests").is_some() && (it.get("subject").is_some() || it.get("artifactType").is_some()),
    },
    Trigger {
        field: "`data` in a descriptor",
        writer: "writers that inline small blobs do it",
        cure: WRITER,
        has: |it| descriptors(it).any(|descriptor| descriptor.get("data").is_some()),
    },
];

fn list<'a>(manifest: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    manifest[key].as_array().into_iter().flatten()
}

fn descriptors(manifest: &Value) -> impl Iterator<Item = &Value> {
    let one = ["config", "subject"].into_iter().filter_map(|key| manifest.get(key));
    one.chain(list(manifest, "layers")).chain(list(manifest, "manifests"))
}

/// Says which field it is, as far as the manifest that was sent has one that is known.
pub(super) fn manifest(case: &Case<'_>) -> Option<Meaning> {
    let sent: Value = serde_json::from_slice(case.manifest).unwrap_or_default();
    let found: Vec<String> = TRIGGERS
        .iter()
        .filter(|trigger| (trigger.has)(&sent))
        .map(|Trigger { field, writer, cure, .. }| format!("{field}: {writer}; {cure}"))
        .collect();
    let known = if found.is_empty() {
        "None of those that are known to trigger it is in this one. Show what it has with `ecr-push inspect --output json`, \
         and have its writer leave out what the OCI specification does not name."
            .to_owned()
    } else {
        format!("This one has {}. The digest changes by that.", found.join("; and "))
    };
    let text = format!("ECR takes no manifest with fields that it does not know. {known}");
    case.of_kind(Kind::Refused, text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_trigger_is_found_by_itself() {
        let cases = [
            json!({"config": {"platform": {}}}),
            json!({"config": {"annotations": {}}}),
            json!({"subject": {"platform": {}}}),
            json!({"manifests": [{"platform": {"features": []}}]}),
            json!({"layers": [{"mediaType": "application/x; a=b"}]}),
            json!({"artifactType": "x", "config": {"mediaType": "application/vnd.oci.empty.v1+json"}}),
            json!({"manifests": [], "subject": {}}),
            json!({"layers": [{"data": "e30="}]}),
        ];
        for (n, case) in cases.iter().enumerate() {
            let found: Vec<_> = TRIGGERS.iter().enumerate().filter(|(_, it)| (it.has)(case)).map(|(n, _)| n).collect();
            assert_eq!(found, [n], "{case}");
        }
        for harmless in [json!({}), json!([]), json!({"config": 1, "layers": 2, "manifests": [3]}), Value::Null] {
            assert!(!TRIGGERS.iter().any(|it| (it.has)(&harmless)), "{harmless}");
        }
    }
}
