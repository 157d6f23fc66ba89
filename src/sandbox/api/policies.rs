//! The operations on a repository's policies.

use serde_json::{Map, Value, json};

use super::call::{Call, with};
use super::exception::{Exception, Outcome};
use crate::oci::Repository;
use crate::sandbox::repository::Settings;

/// Where a repository has a policy of a kind.
type Place = fn(&mut Settings) -> &mut Option<String>;

/// A kind of policy.
pub(super) struct Kind {
    name: &'static str,
    /// The member with its text.
    member: &'static str,
    exception: &'static str,
    place: Place,
    check: fn(&str) -> Result<(), Exception>,
    /// Other members of a response about one that exists.
    others: fn() -> Value,
}

pub(super) const LIFECYCLE: Kind = Kind {
    name: "Lifecycle policy",
    member: "lifecyclePolicyText",
    exception: "LifecyclePolicyNotFoundException",
    place: |settings| &mut settings.lifecycle_policy,
    check: check_lifecycle,
    // The sandbox stores lifecycle policies and expires no image.
    others: || json!({"lastEvaluatedAt": 0}),
};

pub(super) const REPOSITORY: Kind = Kind {
    name: "Repository policy",
    member: "policyText",
    exception: "RepositoryPolicyNotFoundException",
    place: |settings| &mut settings.repository_policy,
    check: |text| check_policy(text, "repository"),
    others: || json!({}),
};

impl Kind {
    pub(super) fn put(&self, call: &Call<'_>) -> Outcome {
        let (name, text) = (call.name()?, call.required(self.member));
        (self.check)(text)?;
        call.change(&name, |repo| *(self.place)(&mut repo.settings) = Some(text.to_owned()))?;
        Ok(call.about(&name, json!({self.member: text})))
    }

    pub(super) fn get(&self, call: &Call<'_>) -> Outcome {
        let name = call.name()?;
        let found = call.look(&name, |repo| (self.place)(&mut repo.settings.clone()).take())?;
        self.describe(call, &name, found)
    }

    pub(super) fn delete(&self, call: &Call<'_>) -> Outcome {
        let name = call.name()?;
        let found = call.change(&name, |repo| (self.place)(&mut repo.settings).take())?;
        self.describe(call, &name, found)
    }

    fn describe(&self, call: &Call<'_>, name: &Repository, found: Option<String>) -> Outcome {
        let absent = || format!("{} does not exist for {}", self.name, call.place(name));
        let text = found.ok_or_else(|| Exception::new(self.exception, absent()))?;
        Ok(call.about(name, with(json!({self.member: text}), (self.others)())))
    }
}

/// Checks the policy of a repository or of a registry, as far as its form goes: no principal is looked up.
pub(super) fn check_policy(text: &str, of: &str) -> Result<(), Exception> {
    let policy: Value = serde_json::from_str(text).unwrap_or_default();
    let statements = policy["Statement"].as_array().cloned().unwrap_or_else(|| vec![policy["Statement"].clone()]);
    let is_statement = |statement: &Value| {
        let is_one_of = |names: [&str; 2]| names.iter().any(|name| !statement[name].is_null());
        matches!(statement["Effect"].as_str(), Some("Allow" | "Deny"))
            && is_one_of(["Principal", "NotPrincipal"])
            && is_one_of(["Action", "NotAction"])
    };
    let is_policy = !statements.is_empty() && statements.iter().all(is_statement);
    let refuse = || Exception::parameter("PolicyText", &format!("Invalid {of} policy provided"));
    is_policy.then_some(()).ok_or_else(refuse)
}

/// The members of a rule, of its selection and of its action: those that are required, and others
/// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/lifecycle_policy_parameters.html>).
const RULE: [&[&str]; 2] = [&["action", "rulePriority", "selection"], &["description"]];
const SELECTION: [&[&str]; 2] =
    [&["countNumber", "countType", "tagStatus"], &["countUnit", "storageClass", "tagPatternList", "tagPrefixList"]];
const ACTION: [&[&str]; 2] = [&["type"], &["targetStorageClass"]];

/// Checks a lifecycle policy against the service's schema. The messages are those of ECR's JSON schema validator
/// (<https://github.com/cloudposse/terraform-aws-ecr/pull/132>).
fn check_lifecycle(text: &str) -> Result<(), Exception> {
    let refuse = |why: String| {
        let constraint = format!("Lifecycle policy validation failure: {why}");
        Err(Exception::parameter("LifecyclePolicyText", &constraint))
    };
    let Ok(policy) = serde_json::from_str::<Map<String, Value>>(text) else {
        return refuse("Could not map policyString into LifecyclePolicy.".to_owned());
    };
    let Some(rules) = policy.get("rules").and_then(Value::as_array) else {
        return refuse(r#"object has missing required properties (["rules"])"#.to_owned());
    };
    let mut priorities = Vec::new();
    for rule in rules {
        for (object, members) in [(rule, RULE), (&rule["selection"], SELECTION), (&rule["action"], ACTION)] {
            if let Err(why) = check_members(object, members) {
                return refuse(why);
            }
        }
        if let Err(why) = check_selection(&rule["selection"], &rule["action"]) {
            return refuse(why);
        }
        if rule["rulePriority"].as_u64().is_none_or(|priority| priority == 0) {
            return refuse("numeric instance is lower than the required minimum (minimum: 1)".to_owned());
        }
        if priorities.contains(&&rule["rulePriority"]) {
            return refuse("rulePriority must be unique across all rules".to_owned());
        }
        priorities.push(&rule["rulePriority"]);
    }
    Ok(())
}

fn check_members(object: &Value, [required, others]: [&[&str]; 2]) -> Result<(), String> {
    let Some(object) = object.as_object() else {
        return Err(r#"instance type does not match any allowed primitive type (allowed: ["object"])"#.to_owned());
    };
    let missing: Vec<&&str> = required.iter().filter(|member| !object.contains_key(**member)).collect();
    if !missing.is_empty() {
        return Err(format!("object has missing required properties ({})", json!(missing)));
    }
    let unknown: Vec<&String> =
        object.keys().filter(|key| !required.contains(&key.as_str()) && !others.contains(&key.as_str())).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(format!("object instance has properties which are not allowed by the schema: ({})", json!(unknown)))
}

fn check_selection(selection: &Value, action: &Value) -> Result<(), String> {
    let one_of = |value: &Value, allowed: &[&str]| match value.as_str() {
        Some(text) if allowed.contains(&text) => Ok(()),
        _ => Err(format!("instance value ({value}) not found in enum (possible values: {})", json!(allowed))),
    };
    one_of(&action["type"], &["expire", "transition"])?;
    one_of(&selection["tagStatus"], &["any", "tagged", "untagged"])?;
    let is_count = |value: &Value| value.as_u64().is_some_and(|count| count > 0);
    let is_list = |value: &Value| value.as_array().is_some_and(|list| list.iter().all(Value::is_string));
    let lists = ["tagPatternList", "tagPrefixList"].map(|list| is_list(&selection[list]));
    let is_tagged = selection["tagStatus"] == "tagged";
    let has_unit = match selection["countType"].as_str() {
        Some("imageCountMoreThan") => selection.get("countUnit").is_none(),
        Some("sinceImagePushed" | "sinceImagePulled" | "sinceImageTransitioned") => selection["countUnit"] == "days",
        _ => false,
    };
    if !has_unit || !is_count(&selection["countNumber"]) || is_tagged != (lists[0] || lists[1]) || lists == [true; 2] {
        return Err("instance failed to match exactly one schema (matched 0 out of 2)".to_owned());
    }
    Ok(())
}
