//! Texts about a push that several outputs share.

use crate::error::Error;
use crate::push::{Outcome, TargetOutcome};

/// Returns what goes to stdout: one reference a line, `HOST/REPOSITORY:TAG@sha256:...`.
pub(crate) fn references(outcome: &Outcome) -> String {
    outcome.targets.iter().flat_map(TargetOutcome::references).map(|reference| reference + "\n").collect()
}

/// Formats a time: `40 ms`, `3.2 s`, `2 min 5 s`.
pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        ..1.0 => format!("{:.0} ms", seconds * 1000.0),
        ..60.0 => format!("{seconds:.1} s"),
        _ => format!("{} min {} s", seconds as u64 / 60, seconds as u64 % 60),
    }
}

/// Returns an error for people: what failed, why, what to do.
pub(crate) fn error_text(error: &Error) -> String {
    let mut text = format!("error: {error}\n");
    let causes = error.causes();
    if !causes.is_empty() {
        text += &format!("  because: {}\n", causes.join(": "));
    }
    if let Some(hint) = error.advice() {
        text += &format!("  hint: {hint}\n");
    }
    text
}

/// Returns the errors of all targets, formatted by `format`. An error that several targets share is listed once.
pub(crate) fn error_texts(outcome: &Outcome, format: &dyn Fn(&Error) -> String) -> String {
    let mut texts: Vec<String> = Vec::new();
    for target in &outcome.targets {
        let Some(error) = &target.error else { continue };
        let text = format(error);
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    texts.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_formatted_for_people() {
        let times = [0.0214, 0.9994, 3.21, 59.9, 60.0, 754.9].map(duration);
        assert_eq!(times, ["21 ms", "999 ms", "3.2 s", "59.9 s", "1 min 0 s", "12 min 34 s"]);
    }
}
