//! The schemas of what programs read: every report that any test makes is held against them.

use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::Value;

static REPORT: LazyLock<Validator> =
    LazyLock::new(|| validator(include_str!("../../src/output/report/report.schema.json")));
/// A line of several images.
static IMAGE_LINE: LazyLock<Validator> = LazyLock::new(|| definition("image_line"));
/// The line of all images.
static SUMMARY_LINE: LazyLock<Validator> = LazyLock::new(|| definition("summary_line"));
static INSPECTION: LazyLock<Validator> =
    LazyLock::new(|| validator(include_str!("../../src/output/report/inspect.schema.json")));

fn validator(schema: &str) -> Validator {
    jsonschema::draft202012::new(&serde_json::from_str(schema).unwrap()).unwrap()
}

/// Returns the validator of a definition in the schema of reports.
fn definition(name: &str) -> Validator {
    let mut schema: Value = serde_json::from_str(include_str!("../../src/output/report/report.schema.json")).unwrap();
    let own = schema["$defs"][name].clone();
    let fields = schema["properties"].take();
    // References lead to the fields of a report, which are moved away from the top.
    schema["$defs"]["report"] = serde_json::json!({"properties": fields});
    let text = schema.to_string().replace("#/properties/", "#/$defs/report/properties/");
    let mut schema: Value = serde_json::from_str(&text).unwrap();
    schema["required"] = own["required"].clone();
    schema["properties"] =
        serde_json::from_str(&own["properties"].to_string().replace("#/properties/", "#/$defs/report/properties/"))
            .unwrap();
    validator(&schema.to_string())
}

/// Holds each line of several images against its schema.
#[track_caller]
pub(crate) fn check_lines(lines: &str) {
    for line in lines.lines() {
        let json: Value = serde_json::from_str(line).unwrap();
        let schema = if json["kind"] == "summary" { &SUMMARY_LINE } else { &IMAGE_LINE };
        let faults: Vec<String> =
            schema.iter_errors(&json).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
        assert!(faults.is_empty(), "{}\n{line}", faults.join("\n"));
    }
}

/// Holds a text against the schema of what it is, if it is the program's.
#[track_caller]
pub(crate) fn check(what: &str, text: &str) {
    // Another program has schemas of its own.
    if super::harness::other_program().is_some() {
        return;
    }
    let Ok(json) = serde_json::from_str::<Value>(text) else { return };
    if json["tool"]["name"] != "ecr-push" {
        return;
    }
    if json.get("kind").is_some() {
        return check_lines(text);
    }
    let schema = if json.get("images").is_some() { &INSPECTION } else { &REPORT };
    let faults: Vec<String> =
        schema.iter_errors(&json).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
    assert!(faults.is_empty(), "{what} is not as its schema says:\n{}\n{text}", faults.join("\n"));
}

/// Every object of a schema with fields, by the path that leads to it.
fn objects<'a>(path: &str, schema: &'a Value, found: &mut Vec<(String, &'a Value)>) {
    if schema.get("type") == Some(&"object".into()) {
        found.push((path.to_owned(), schema));
    }
    let below: Vec<(String, &Value)> = match schema {
        Value::Object(fields) => fields.iter().map(|(name, field)| (format!("{path}/{name}"), field)).collect(),
        Value::Array(items) => items.iter().map(|item| (path.to_owned(), item)).collect(),
        _ => Vec::new(),
    };
    below.into_iter().for_each(|(path, schema)| objects(&path, schema, found));
}

#[test]
fn the_schemas_are_strict_and_every_field_has_a_description() {
    for schema in [
        include_str!("../../src/output/report/report.schema.json"),
        include_str!("../../src/output/report/inspect.schema.json"),
    ] {
        let schema: Value = serde_json::from_str(schema).unwrap();
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        assert!(jsonschema::draft202012::meta::is_valid(&schema));
        let mut found = Vec::new();
        objects("", &schema, &mut found);
        assert!(found.len() > 5);
        for (path, object) in found {
            assert_eq!(object["additionalProperties"], false, "{path}");
            let fields = object["properties"].as_object().unwrap();
            let required: Vec<&str> =
                object["required"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
            assert_eq!(required.len(), fields.len(), "{path}: each field is always there");
            for (name, field) in fields {
                assert!(required.contains(&name.as_str()), "{path}: {name}");
                let description = field["description"].as_str().unwrap_or_default();
                assert!(description.ends_with('.'), "{path}/{name} has no description");
            }
        }
    }
}
