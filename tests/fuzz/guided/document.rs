//! Manifests, indexes and image configs: any bytes are parsed without a panic, and an edit keeps every field.

#![no_main]

use ecr_push::Digest;
use ecr_push::internals::{OriginalManifest, parse_document};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// Returns whether a number is not an integer. `serde_json` rounds such numbers when it parses them; manifests have none.
fn has_float(json: &Value) -> bool {
    match json {
        Value::Number(number) => number.is_f64(),
        Value::Array(items) => items.iter().any(has_float),
        Value::Object(fields) => fields.values().any(has_float),
        _ => false,
    }
}

fuzz_target!(|bytes: &[u8]| {
    parse_document(bytes);
    let Some(json) = serde_json::from_slice::<Value>(bytes).ok().filter(|json| !has_float(json)) else { return };
    let digest = Digest::of(bytes);
    let original = OriginalManifest { bytes: bytes.to_vec().into(), digest, media_type: String::new(), subject: None };
    let edited = original.edit(|_| Some(())).expect("an edit that changes nothing");
    assert_eq!(serde_json::from_slice::<Value>(&edited.bytes).expect("JSON"), json);
    assert_eq!(edited.digest, Digest::of(&edited.bytes));
});
