//! Fields of manifests and indexes that Amazon ECR rejects because it does not know them.
//!
//! Each was reported once; which of them ECR still rejects is not known.

use serde_json::Value;

/// A field that ECR was seen to reject.
#[derive(Debug)]
pub struct StrictField {
    /// Where it is, for messages.
    pub field: &'static str,
    /// Which tool writes it, with a report.
    pub writer: &'static str,
    has: fn(&Value) -> bool,
    fix: Fix,
}

/// What to do about a field.
#[derive(Debug)]
enum Fix {
    /// Nothing is lost without it.
    Remove(fn(&mut Value)),
    /// Only its writer can omit it: how, for messages.
    Writer(&'static str),
}

impl StrictField {
    /// Returns the fields that a manifest or an index has.
    pub fn find_all(bytes: &[u8]) -> Vec<&'static Self> {
        let json: Value = serde_json::from_slice(bytes).unwrap_or_default();
        FIELDS.iter().filter(|field| (field.has)(&json)).collect()
    }

    /// Returns whether a repair removes it.
    pub fn is_repairable(&self) -> bool {
        matches!(self.fix, Fix::Remove(_))
    }

    /// Returns whether an image without attestations does not have it.
    pub fn is_attestation(&self) -> bool {
        self.field == ATTESTATION
    }

    /// Returns how to get an image without it, for messages.
    pub fn fix(&self) -> &'static str {
        match self.fix {
            Fix::Remove(_) => "repair the manifest, which removes it",
            Fix::Writer(fix) => fix,
        }
    }

    /// Removes all fields from a manifest or an index that can be removed without loss.
    pub fn remove_all(json: &mut Value) {
        for field in &FIELDS {
            if let Fix::Remove(remove_field) = field.fix {
                remove_field(json);
            }
        }
    }
}

impl PartialEq for StrictField {
    fn eq(&self, other: &Self) -> bool {
        self.field == other.field
    }
}

impl Eq for StrictField {}

const ATTESTATION: &str = "an attestation as an OCI artifact (`artifactType` with an empty config)";

const WRITER: Fix = Fix::Writer("have the writer omit it");

const FIELDS: [StrictField; 8] = [
    StrictField {
        field: "`platform` in the descriptor of the config",
        writer: "Docker 25.0 and 26.0 write it (moby/moby#47661)",
        has: |it| it["config"].get("platform").is_some(),
        fix: Fix::Remove(|it| remove(it.get_mut("config"), "platform")),
    },
    StrictField {
        field: "`annotations` in the descriptor of the config",
        writer: "converters to Nydus and eStargz write them (goharbor/acceleration-service#353)",
        has: |it| it["config"].get("annotations").is_some(),
        fix: Fix::Remove(|it| remove(it.get_mut("config"), "annotations")),
    },
    StrictField {
        field: "`platform` in `subject`",
        writer: "nydusify writes it (dragonflyoss/nydus#1691)",
        has: |it| it["subject"].get("platform").is_some(),
        fix: Fix::Remove(|it| remove(it.get_mut("subject"), "platform")),
    },
    StrictField {
        field: "`platform.features` in an entry of the index",
        writer: "`docker manifest annotate` and tools for images with CPU features write it (aws/containers-roadmap#2439)",
        has: |it| list(it, "manifests").any(|entry| entry["platform"].get("features").is_some()),
        fix: Fix::Remove(|it| {
            let entries = it.get_mut("manifests").and_then(Value::as_array_mut).into_iter().flatten();
            entries.for_each(|entry| remove(entry.get_mut("platform"), "features"));
        }),
    },
    StrictField {
        field: "a media type with parameters (`;`)",
        writer: "sigstore bundles have them (sigstore/sigstore-js#1058)",
        has: |it| {
            let everywhere = descriptors(it).filter_map(|descriptor| descriptor["mediaType"].as_str());
            let own = [&it["mediaType"], &it["artifactType"]].into_iter().filter_map(Value::as_str);
            everywhere.chain(own).any(|media_type| media_type.contains(';'))
        },
        fix: WRITER,
    },
    StrictField {
        field: ATTESTATION,
        writer: "BuildKit writes it with `oci-artifact=true` (moby/buildkit#5747)",
        has: |it| it.get("artifactType").is_some() && it["config"]["mediaType"] == "application/vnd.oci.empty.v1+json",
        fix: Fix::Writer("build with oci-artifact=false, or push without attestations"),
    },
    StrictField {
        field: "`subject` or `artifactType` in an index",
        writer: "tools that sign whole indexes write it (aws/containers-roadmap#2783)",
        has: |it| it.get("manifests").is_some() && (it.get("subject").is_some() || it.get("artifactType").is_some()),
        fix: WRITER,
    },
    StrictField {
        field: "`data` in a descriptor",
        writer: "writers that inline small blobs write it",
        has: |it| descriptors(it).any(|descriptor| descriptor.get("data").is_some()),
        fix: Fix::Remove(|it| {
            ["config", "subject"].into_iter().for_each(|key| remove(it.get_mut(key), "data"));
            for key in ["layers", "manifests"] {
                let entries = it.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten();
                entries.for_each(|entry| remove(Some(entry), "data"));
            }
        }),
    },
];

fn remove(object: Option<&mut Value>, key: &str) {
    if let Some(object) = object.and_then(Value::as_object_mut) {
        object.remove(key);
    }
}

fn list<'a>(manifest: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    manifest[key].as_array().into_iter().flatten()
}

fn descriptors(manifest: &Value) -> impl Iterator<Item = &Value> {
    let one = ["config", "subject"].into_iter().filter_map(|key| manifest.get(key));
    one.chain(list(manifest, "layers")).chain(list(manifest, "manifests"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_field_is_found_and_removed_unless_that_loses_something() {
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
        for (n, case) in cases.into_iter().enumerate() {
            let found = |json: &Value| StrictField::find_all(json.to_string().as_bytes());
            assert_eq!(found(&case), [&FIELDS[n]], "{case}");
            let mut repaired = case.clone();
            StrictField::remove_all(&mut repaired);
            assert_eq!(found(&repaired).is_empty(), FIELDS[n].is_repairable(), "{case}");
        }
        for harmless in ["{}", "[]", r#"{"config": 1, "layers": 2, "manifests": [3]}"#, "null", ""] {
            assert_eq!(StrictField::find_all(harmless.as_bytes()), [] as [&StrictField; 0], "{harmless}");
        }
    }
}
