//! Faults as text: `429:put-manifest:3`.

use std::str::FromStr;
use std::time::Duration;

use super::api::operation_names;
use super::faults::{Fault, Trouble};
use crate::error::{Error, Result};

/// What a fault does, in the order of the hint. `=` has a value.
const EFFECTS: &str = "a status such as 429 or 503, 429=DURATION (with Retry-After), delay=DURATION, cut=BYTES, \
                       cut-answer=BYTES, page=STATUS, stall, hang-up, reset, expire-tokens, lose-upload, lose-layer";

/// Other names of operations, as people name requests to a registry.
const ALIASES: [(&str, &str); 10] = [
    ("any", "*"),
    ("download", "s3:GetObject"),
    ("finish-upload", "ecr:CompleteLayerUpload"),
    ("get-blob", "ecr:GetDownloadUrlForLayer"),
    ("get-manifest", "ecr:BatchGetImage"),
    ("head-blob", "ecr:BatchCheckLayerAvailability"),
    ("list-tags", "ecr:ListImages"),
    ("put-manifest", "ecr:PutImage"),
    ("start-upload", "ecr:InitiateLayerUpload"),
    ("upload-part", "ecr:UploadLayerPart"),
];

impl FromStr for Fault {
    type Err = Error;

    /// Parses `EFFECT:OPERATION[:TIMES[:SKIP]]`. TIMES is 1 if it is not set, and `*` has no end.
    ///
    /// ```
    /// use ecr_push::sandbox::{Fault, Trouble};
    ///
    /// let fault: Fault = "429:put-manifest:3".parse()?;
    /// assert_eq!(fault, Fault::once("ecr:PutImage", Trouble::Throttle { retry_after: None }).times(3));
    /// assert!("429:put-coffee".parse::<Fault>().is_err());
    /// # Ok::<(), ecr_push::Error>(())
    /// ```
    fn from_str(text: &str) -> Result<Self> {
        let form = "Write EFFECT:OPERATION, EFFECT:OPERATION:TIMES or EFFECT:OPERATION:TIMES:SKIP: 429:put-manifest:3";
        let refuse = |why: String| Error::usage(format!("{text:?} is not a fault")).because(why);
        let fields: Vec<&str> = text.split(':').collect();
        let (effect, operation, counts) = match fields[..] {
            [effect, operation, ref counts @ ..] if counts.len() <= 2 => (effect, operation, counts),
            _ => return Err(refuse("it has two to four fields".into()).hint(form)),
        };
        let what = trouble(effect)
            .ok_or_else(|| refuse(format!("{effect:?} is not an effect")).hint(format!("Use one of: {EFFECTS}.")))?;
        let on = action(operation).ok_or_else(|| {
            let aliases = ALIASES.map(|(alias, _)| alias).join(", ");
            refuse(format!("there is no operation {operation:?}"))
                .hint(format!("Use one of {aliases}, or an operation as the AWS CLI names it: create-repository."))
        })?;
        let count = |at: usize, default: u32| match counts.get(at) {
            None => Ok(default),
            Some(&"*") if at == 0 => Ok(u32::MAX),
            Some(count) => count.parse().map_err(|_| refuse(format!("{count:?} is not a number")).hint(form)),
        };
        Ok(Self { on, skip: count(1, 0)?, times: count(0, 1)?, what })
    }
}

impl Fault {
    /// Parses one fault a line. Ignores empty lines, and what follows `#`.
    ///
    /// # Errors
    /// Fails at the first line that is not a fault.
    pub fn of_lines(text: &str) -> Result<Vec<Self>> {
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        lines.filter(|line| !line.is_empty()).map(str::parse).collect()
    }
}

/// Returns the IAM action of an operation.
fn action(name: &str) -> Option<String> {
    let alias = ALIASES.iter().find(|(alias, _)| *alias == name).map(|(_, action)| (*action).to_owned());
    alias.or_else(|| operation_names().find(|operation| kebab(operation) == name).map(|it| format!("ecr:{it}")))
}

/// Formats a name as the AWS CLI does: `put-image`.
fn kebab(name: &str) -> String {
    let mut kebab = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !kebab.is_empty() {
            kebab.push('-');
        }
        kebab.push(letter.to_ascii_lowercase());
    }
    kebab
}

fn trouble(effect: &str) -> Option<Trouble> {
    let (name, value) = effect.split_once('=').map_or((effect, None), |(name, value)| (name, Some(value)));
    let duration = || -> Option<Duration> { humantime::parse_duration(value?).ok() };
    let bytes = || value?.parse().ok();
    let status = |text: &str| text.parse().ok().filter(|status| (400..=599).contains(status));
    Some(match (name, value) {
        ("429", None) => Trouble::Throttle { retry_after: None },
        ("429", Some(_)) => Trouble::Throttle { retry_after: Some(duration()?) },
        ("delay", _) => Trouble::Delay(duration()?),
        ("cut", _) => Trouble::CutAfter(bytes()?),
        ("cut-answer", _) => Trouble::CutAnswer(bytes()?),
        ("page", _) => Trouble::Page { status: status(value?)?, title: "The proxy does not answer".into() },
        ("stall", None) => Trouble::Stall,
        ("hang-up", None) => Trouble::HangUp,
        ("reset", None) => Trouble::Reset,
        ("expire-tokens", None) => Trouble::ExpireTokens,
        ("lose-upload", None) => Trouble::ForgetUpload,
        ("lose-layer", None) => Trouble::LoseLayer,
        (text, None) => {
            let message = "a fault that was requested from the sandbox".into();
            Trouble::Status { status: status(text)?, code: String::new(), message }
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_an_effect_on_an_operation_so_many_times() {
        let throttle = |retry_after| Trouble::Throttle { retry_after };
        for (text, expected) in [
            ("429:put-manifest:3", Fault::once("ecr:PutImage", throttle(None)).times(3)),
            ("429=2s:put-image", Fault::once("ecr:PutImage", throttle(Some(Duration::from_secs(2))))),
            ("stall:any:*", Fault::once("*", Trouble::Stall).times(u32::MAX)),
            (
                "delay=50ms:get-blob:2:7",
                Fault::once("ecr:GetDownloadUrlForLayer", Trouble::Delay(Duration::from_millis(50))).times(2).after(7),
            ),
            ("cut=1000:upload-part", Fault::once("ecr:UploadLayerPart", Trouble::CutAfter(1000))),
            ("lose-upload:finish-upload", Fault::once("ecr:CompleteLayerUpload", Trouble::ForgetUpload)),
            ("expire-tokens:start-upload", Fault::once("ecr:InitiateLayerUpload", Trouble::ExpireTokens)),
            ("reset:get-authorization-token", Fault::once("ecr:GetAuthorizationToken", Trouble::Reset)),
        ] {
            assert_eq!(text.parse::<Fault>().unwrap(), expected, "{text}");
        }
        let lines = Fault::of_lines("# throttled\n429:put-manifest:3\n\n500:download # once\n").unwrap();
        assert_eq!(lines.iter().map(|fault| fault.on.as_str()).collect::<Vec<_>>(), ["ecr:PutImage", "s3:GetObject"]);
    }

    #[test]
    fn a_fault_that_is_none_is_refused_with_what_is_allowed() {
        for (text, why) in [
            ("429", "it has two to four fields"),
            ("429:put-image:1:2:3", "it has two to four fields"),
            ("200:put-image", "\"200\" is not an effect"),
            ("delay:put-image", "\"delay\" is not an effect"),
            ("stall=1s:put-image", "\"stall=1s\" is not an effect"),
            ("429:put-coffee", "there is no operation \"put-coffee\""),
            ("429:put-image:x", "\"x\" is not a number"),
            ("429:put-image:1:*", "\"*\" is not a number"),
        ] {
            let error = text.parse::<Fault>().unwrap_err();
            let shown = error.to_string();
            assert!(
                shown.contains("is not a fault") && error.causes().iter().any(|it| it.contains(why)),
                "{text}: {error:?}"
            );
            assert!(error.advice().is_some(), "{text}");
        }
    }
}
