//! Rejected signatures: a wrong clock, or a wrong key.

use std::time::{Duration, SystemTime};

use super::case::{Case, Meaning};
use crate::error::{Advice, Kind};

/// The difference between two clocks that AWS accepts (IAM user guide, "Elements of an AWS API request signature").
const ALLOWED: Duration = Duration::from_secs(5 * 60);

/// Advises when AWS states that the clock is wrong.
pub(super) fn skewed(case: &Case<'_>) -> Option<Meaning> {
    let clocks = case.error.date.map_or_else(String::new, |theirs| clocks(theirs, SystemTime::now()));
    let text = format!(
        "This machine's clock is wrong by more than five minutes.{clocks} Set it, in a container or a virtual machine on the \
         host, then run the same command again:"
    );
    case.advise_as(Kind::Permission, Advice::new(text).command("timedatectl set-ntp true"))
}

/// Advises on an invalid signature.
pub(super) fn signature(case: &Case<'_>) -> Option<Meaning> {
    let is_late =
        case.mentions(&["signature expired", "signature not yet current", "is now earlier than", "is now later"]);
    let is_off = case.error.date.is_some_and(|theirs| difference(theirs, SystemTime::now()).0 > ALLOWED);
    if is_late || is_off {
        return skewed(case);
    }
    let text = match case.error.date {
        Some(_) => {
            "The secret key does not match the access key; this machine's clock is right. Check AWS_SECRET_ACCESS_KEY for \
             missing or additional characters."
        }
        None => "The secret key does not match the access key, or this machine's clock is wrong.",
    };
    case.advise_as(Kind::Permission, text)
}

/// Returns the difference of two clocks, and whether ours is behind.
fn difference(theirs: SystemTime, ours: SystemTime) -> (Duration, bool) {
    match theirs.duration_since(ours) {
        Ok(behind) => (behind, true),
        Err(ahead) => (ahead.duration(), false),
    }
}

/// Formats both times.
fn clocks(theirs: SystemTime, ours: SystemTime) -> String {
    let (apart, is_behind) = difference(theirs, ours);
    let direction = if is_behind { "behind" } else { "ahead" };
    let minutes = (apart.as_secs() + 30) / 60;
    let (ours, theirs) = (httpdate::fmt_http_date(ours), httpdate::fmt_http_date(theirs));
    format!(" It shows {ours}, AWS's {theirs}: {minutes} minutes {direction}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_times_are_shown() {
        let ours = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let text = clocks(ours + Duration::from_secs(20 * 60), ours);
        assert_eq!(
            text,
            " It shows Sun, 06 Nov 1994 08:49:37 GMT, AWS's Sun, 06 Nov 1994 09:09:37 GMT: 20 minutes behind."
        );
        assert!(clocks(ours - Duration::from_secs(600), ours).ends_with("10 minutes ahead."));
    }
}
