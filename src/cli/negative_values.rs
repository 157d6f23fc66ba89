//! Values that begin with a hyphen and a digit: `--retries -1`. clap would read them as options.

use std::ffi::OsString;

use super::subcommand::takes_next_word;

/// Joins such a value to its option, so that the rule of the option judges it: `--retries=-1`.
pub(super) fn joined(arguments: Vec<OsString>) -> Vec<OsString> {
    let mut joined: Vec<OsString> = Vec::new();
    let mut words = arguments.into_iter();
    while let Some(word) = words.next() {
        match joined.last_mut() {
            Some(option) if is_negative(&word) && takes_next_word(&option.to_string_lossy()) => {
                option.push("=");
                option.push(word);
            }
            // What follows is no option.
            _ if word == "--" => {
                joined.push(word);
                joined.extend(words.by_ref());
            }
            _ => joined.push(word),
        }
    }
    joined
}

fn is_negative(word: &OsString) -> bool {
    matches!(word.as_encoded_bytes(), [b'-', b'0'..=b'9', ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negative_value_is_joined_to_its_option() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        for (typed, read) in [
            ("a b --retries -1 -q", "a b --retries=-1 -q"),
            ("a b --shard -1/4 --deadline -5s", "a b --shard=-1/4 --deadline=-5s"),
            ("a b -qt -1", "a b -qt=-1"),
            ("sandbox --latency -1 -- a --retries -1", "sandbox --latency=-1 -- a --retries -1"),
        ] {
            assert_eq!(joined(words(typed)), words(read));
        }
        for unchanged in ["a -1", "a b --dry-run -1", "a b --retries -x", "a b --retries=1 -1", "-1", "--tag -- -1"] {
            assert_eq!(joined(words(unchanged)), words(unchanged));
        }
    }
}
