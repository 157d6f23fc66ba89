//! Fields of manifests and indexes that Amazon ECR rejects, since it does not know them.
//!
//! Each was met by somebody; which of them ECR still rejects is not known.

use serde_json::Value;

/// A field that ECR was seen to reject.
#[derive(Debug)]
pub struct StrictField {
    /// Where it is, in words.
    pub field: &'static str,
    /// Who writes it, with the place where it was met.
    pub writer: &'static str,
    has: fn(&Value) -> bool,
    cure: Cure,
}

/// What to do about a field.
#[derive(Debug)]
enum Cure {
    /// Nothing is lost without it.
    TakeOut(fn(&mut Value)),
    /// Only its writer can leave it out. In words, how.
    Writer(&'static str),
}

impl StrictField {
    /// Returns the fields that a manifest or an index has.
    pub fn find_all(bytes: &[u8]) -> Vec<&'static Self> {
        let json: Value = serde_json::from_slice(bytes).unwrap_or_default();
        FIELDS.iter().filter(|field| (field.has)(&json)).collect()
    }

    /// Returns whether a repair takes it out.
    pub fn is_repairable(&self) -> bool {
        matches!(self.cure, Cure::TakeOut(_))
    }

    /// Returns how to get an image without it, in words.
    pub fn fix(&self) -> &'static str {
        match self.cure {
            Cure::TakeOut(_) => "--repair takes it out",
            Cure::Writer(cure) => cure,
        }
    }

    /// Takes out of a manifest or an index what can be taken out without loss.
    pub fn remove_all(json: &mut Value) {
        for field in &FIELDS {
            if let Cure::TakeOut(take_out) = field.cure {
                take_out(json);
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

const WRITER: Cure = Cure::Writer("have it written without");

const FIELDS: [StrictField; 8] = [
    StrictField {
        field: "`platform` in the descriptor of the config",
        writer: "Docker 25.0 and 26.0 write it (moby/moby#47661)",
        has: |it| it["config"].get("platform").is_some(),
        cure: Cure::TakeOut(|it| remove(it.get_mut("config"), "platform")),
    },
    StrictField {
        field: "`annotations` in the descriptor of the config",
        writer: "converters to Nydus and eStargz write them (goharbor/acceleration-service#353)",
        has: |it| it["config"].get("annotations").is_some(),
        cure: Cure::TakeOut(|it| remove(it.get_mut("config"), "annotations")),
    },
    StrictField {
        field: "`platform` in `subject`",
        writer: "nydusify writes it (dragonflyoss/nydus#1691)",
        has: |it| it["subject"].get("platform").is_some(),
        cure: Cure::TakeOut(|it| remove(it.get_mut("subject"), "platform")),
    },
    StrictField {
        field: "`platform.features` in an entry of the index",
        writer: "`docker manifest annotate` and tools for images with CPU features write it (aws/containers-roadmap#2439)",
        has: |it| list(it, "manifests").any(|entry| entry["platform"].get("features").is_some()),
        cure: Cure::TakeOut(|it| {
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
        cure: WRITER,
    },
    StrictField {
        field: "an attestation in the style of OCI artifacts (`artifactType` with an empty config)",
        writer: "BuildKit writes it with `oci-artifact=true` (moby/buildkit#5747)",
        has: |it| it.get("artifactType").is_some() && it["config"]["mediaType"] == "application/vnd.oci.empty.v1+json",
        cure: Cure::Writer("build with oci-artifact=false, or push with --no-attestations"),
    },
    StrictField {
        field: "`subject` or `artifactType` in an index",
        writer: "tools that sign whole indexes write it (aws/containers-roadmap#2783)",
        has: |it| it.get("manifests").is_some() && (it.get("subject").is_some() || it.get("artifactType").is_some()),
        cure: WRITER,
    },
    StrictField {
        field: "`data` in a descriptor",
        writer: "writers that inline small blobs do it",
        has: |it| descriptors(it).any(|descriptor| descriptor.get("data").is_some()),
        cure: Cure::TakeOut(|it| {
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
    fn every_field_is_found_by_itself_and_taken_out_where_nothing_is_lost() {
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
