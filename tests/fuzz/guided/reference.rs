//! Targets and what they consist of: any text is parsed without a panic, and printed as it is parsed.

#![no_main]

use std::fmt::Display;
use std::str::FromStr;

use ecr_push::Platform;
use ecr_push::{Digest, Host, MountSource, Repository, Tag, TagFilter, TagPattern, Target};
use libfuzzer_sys::fuzz_target;

/// Parses a text. What is printed of the value is parsed as the same value.
fn check<T: FromStr + Display + PartialEq>(text: &str) {
    let Ok(value) = text.parse::<T>() else { return };
    let printed = value.to_string();
    assert!(printed.parse::<T>().is_ok_and(|again| again == value), "{text:?} is printed as {printed:?}");
}

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    check::<Target>(&text);
    check::<Host>(&text);
    check::<Repository>(&text);
    check::<Tag>(&text);
    // The words of a platform come from archives as well: control characters are escaped and long words are cut.
    if text.len() <= 200 && !text.contains(char::is_control) {
        check::<Platform>(&text);
    }
    check::<Digest>(&text);
    check::<MountSource>(&text);
    let _parsed = (text.parse::<TagPattern>(), text.parse::<TagFilter>());
    if let Ok((target, _)) = Target::with_docker_naming(&text) {
        assert!(target.repository.to_string().parse::<Repository>().is_ok(), "{text:?} is renamed to {target}");
    }
});
