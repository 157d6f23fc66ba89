//! What a registry sends with a rejection: the header with its challenges is the first line, its error is the rest.

#![no_main]

use ecr_push::internals::{parse_challenges, parse_error};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (header, body) = bytes.split_at(end);
    parse_challenges(header);
    for text in parse_error(body) {
        assert!(text.chars().count() <= 1000, "{} characters", text.chars().count());
        assert!(!text.contains(char::is_control), "{text:?}");
    }
});
