//! Signatures that AWS does not take: a clock that is wrong, or a key.

use std::time::{Duration, SystemTime};

use super::{Case, Meaning};
use crate::error::Kind;

/// What AWS lets pass of a difference between two clocks (IAM user guide, "Elements of an AWS API request signature").
const ALLOWED: Duration = Duration::from_secs(5 * 60);

/// The clock is wrong, AWS says.
pub(super) fn off(case: &Case<'_>) -> Option<Meaning> {
    let clocks = case.answer.date.map_or_else(String::new, |theirs| clocks(theirs, SystemTime::now()));
    let text = format!(
        "This machine's clock is wrong, by more than the five minutes that AWS lets pass.{clocks} Set it (timedatectl \
         set-ntp true; in a container or a virtual machine: that of the host) and run again."
    );
    case.with_kind(Kind::Permission, text)
}

/// A signature that does not fit, for either reason.
pub(super) fn signature(case: &Case<'_>) -> Option<Meaning> {
    let is_late =
        case.says_any(&["signature expired", "signature not yet current", "is now earlier than", "is now later"]);
    let is_off = case.answer.date.is_some_and(|theirs| difference(theirs, SystemTime::now()).0 > ALLOWED);
    if is_late || is_off {
        return off(case);
    }
    let text = match case.answer.date {
        Some(_) => {
            "The secret key does not fit the access key: this machine's clock is right. Check AWS_SECRET_ACCESS_KEY \
                    for missing or further characters."
        }
        None => "The secret key does not fit the access key, or this machine's clock is wrong.",
    };
    case.with_kind(Kind::Permission, text)
}

/// How far apart they are, and whether ours is behind.
fn difference(theirs: SystemTime, ours: SystemTime) -> (Duration, bool) {
    match theirs.duration_since(ours) {
        Ok(behind) => (behind, true),
        Err(ahead) => (ahead.duration(), false),
    }
}

/// Both times.
fn clocks(theirs: SystemTime, ours: SystemTime) -> String {
    let (apart, is_behind) = difference(theirs, ours);
    let way = if is_behind { "behind" } else { "ahead" };
    let minutes = (apart.as_secs() + 30) / 60;
    let (ours, theirs) = (httpdate::fmt_http_date(ours), httpdate::fmt_http_date(theirs));
    format!(" It says {ours} where AWS says {theirs}: {minutes} minutes {way}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_times_are_told() {
        let ours = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let told = clocks(ours + Duration::from_secs(20 * 60), ours);
        assert_eq!(
            told,
            " It says Sun, 06 Nov 1994 08:49:37 GMT where AWS says Sun, 06 Nov 1994 09:09:37 GMT: 20 minutes behind."
        );
        assert!(clocks(ours - Duration::from_secs(600), ours).ends_with("10 minutes ahead."));
    }
}
