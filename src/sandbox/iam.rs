//! The caller's IAM policy, as far as a push needs it. A policy that IAM would not accept is rejected
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html>).

use std::collections::BTreeSet;

use serde::Deserialize;

use super::rules::Rules;
use crate::error::{Error, Result};

/// An IAM policy.
///
/// ```
/// use ecr_push::sandbox::{Options, Policy, Rules, Sandbox};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ecr_push::Result<()> {
/// let text = r#"{"Version": "2012-10-17", "Statement": [
///     {"Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*"},
///     {"Effect": "Allow", "Action": "ecr:*", "Resource": "arn:aws:ecr:*:*:repository/team/*"}
/// ]}"#;
/// let rules = Rules { policy: Some(Policy::of_json(text)?), ..Default::default() };
/// let create = vec!["team/app".parse()?, "other/app".parse()?];
/// let sandbox = Sandbox::start(Options { rules, create, ..Default::default() }).await?;
/// # use ecr_push::{CancellationToken, Kind, PushRequest, Pusher, Source};
/// # let mut options = ecr_push::Options::default();
/// # options.registries.access = sandbox.endpoint_override().into();
/// # let pusher = Pusher::builder().options(options).start().await?;
/// # let archive = Source::Path("testdata/docker-20.10-save.tar".into());
/// let request = PushRequest::new(archive, ["team/app:1".parse()?, "other/app:1".parse()?]);
/// let outcome = pusher.push(request, CancellationToken::new()).await;
/// let kinds = outcome.targets.iter().map(|target| target.error.as_ref().map(|error| error.kind()));
/// assert_eq!(kinds.collect::<Vec<_>>(), [None, Some(Kind::Permission)]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Policy {
    version: String,
    statement: Vec<Statement>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Statement {
    #[serde(default)]
    sid: String,
    effect: Effect,
    action: OneOrMany,
    resource: OneOrMany,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
enum Effect {
    Allow,
    Deny,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn iter(&self) -> impl Iterator<Item = &str> {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
        .iter()
        .map(String::as_str)
    }
}

impl Policy {
    /// Parses a policy document.
    ///
    /// # Errors
    /// Fails if IAM would not accept it.
    pub fn of_json(text: &str) -> Result<Self> {
        let bad = || Error::usage("the IAM policy is malformed");
        let policy: Self = serde_json::from_str(text).map_err(|error| bad().because(error))?;
        let mut sids = BTreeSet::new();
        for Statement { sid, action, resource, .. } in &policy.statement {
            let is_arn = |text: &str| text == "*" || text.starts_with("arn:") && text.split(':').count() >= 6;
            let is_action = |text: &str| text == "*" || text.split(':').count() == 2;
            if !sid.bytes().all(|byte| byte.is_ascii_alphanumeric()) || !sid.is_empty() && !sids.insert(sid) {
                return Err(bad().because(format!("the Sid {sid:?} is not one of its own, of letters and digits")));
            }
            if action.iter().next().is_none() || !action.iter().all(is_action) {
                return Err(bad().because("an Action is none"));
            }
            if resource.iter().next().is_none() || !resource.iter().all(is_arn) {
                return Err(bad().because("a Resource is no ARN"));
            }
        }
        if policy.version != "2012-10-17" || policy.statement.is_empty() {
            return Err(bad().because("it has another Version, or no Statement"));
        }
        Ok(policy)
    }

    fn has(&self, effect: Effect, action: &str, resource: &str) -> bool {
        self.statement.iter().filter(|statement| statement.effect == effect).any(|statement| {
            let (action, lower) = (action.to_ascii_lowercase(), |text: &str| text.to_ascii_lowercase());
            statement.action.iter().any(|pattern| matches(lower(pattern).as_bytes(), action.as_bytes()))
                && statement.resource.iter().any(|pattern| matches(pattern.as_bytes(), resource.as_bytes()))
        })
    }
}

/// Why `action` may not be done on `resource`, in IAM's words.
pub(super) fn denial(rules: &Rules, action: &str, resource: &str) -> Option<String> {
    let absent = format!("because no identity-based policy allows the {action} action");
    let has = |effect| rules.policy.as_ref().is_some_and(|policy| policy.has(effect, action, resource));
    if rules.deny.iter().any(|denied| denied == action || denied == "*") {
        return Some(rules.denied.clone().unwrap_or(absent));
    }
    if has(Effect::Deny) {
        return Some("with an explicit deny in an identity-based policy".into());
    }
    (rules.policy.is_some() && !has(Effect::Allow)).then_some(absent)
}

/// Returns whether a text matches a pattern: `*` matches any bytes, `?` one byte.
pub(super) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|skip| matches(rest, &text[skip..])),
        Some((byte, rest)) => {
            text.split_first().is_some_and(|(first, after)| (byte == first || *byte == b'?') && matches(rest, after))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(statement: &str) -> Result<Policy> {
        Policy::of_json(&format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#))
    }

    #[test]
    fn what_is_not_allowed_is_denied_and_a_deny_outweighs() {
        let allow = r#"{"Sid":"A","Effect":"Allow","Action":"ecr:Put*","Resource":["arn:aws:ecr:*:1:repository/a?"]}"#;
        let deny = r#"{"Effect":"Deny","Action":["ecr:putimage"],"Resource":"arn:aws:ecr:*:1:repository/ab"}"#;
        let rules = |text: &str| Rules { policy: Some(policy(text).unwrap()), ..Rules::default() };
        let on = |name: &str| format!("arn:aws:ecr:us-east-1:1:repository/{name}");
        let says = |rules: &Rules, name: &str| denial(rules, "ecr:PutImage", &on(name)).unwrap_or_default();
        assert_eq!(says(&rules(allow), "ab"), "");
        assert!(says(&rules(allow), "abc").contains("no identity-based policy allows"));
        assert!(says(&rules(&format!("{allow},{deny}")), "ab").contains("explicit deny"));
        assert_eq!(says(&rules(&format!("{allow},{deny}")), "ac"), "");
        assert!(denial(&rules(allow), "ecr:GetAuthorizationToken", "*").is_some());
        assert_eq!(denial(&Rules::default(), "ecr:PutImage", &on("x")), None);
    }

    #[test]
    fn what_iam_would_not_take_is_refused() {
        for bad in [
            "",
            r#"{"Effect":"Allow","Action":"ecr:PutImage"}"#,
            r#"{"Effect":"Maybe","Action":"ecr:PutImage","Resource":"*"}"#,
            r#"{"Effect":"Allow","Action":[],"Resource":"*"}"#,
            r#"{"Effect":"Allow","Action":"PutImage","Resource":"*"}"#,
            r#"{"Effect":"Allow","Action":"ecr:PutImage","Resource":"team/app"}"#,
            r#"{"Sid":"a b","Effect":"Allow","Action":"ecr:PutImage","Resource":"*"}"#,
            r#"{"Effect":"Allow","Action":"ecr:PutImage","Resource":"*","Color":"red"}"#,
        ] {
            assert!(policy(bad).is_err(), "{bad}");
        }
    }
}
