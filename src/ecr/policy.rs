//! IAM policies: the smallest policy that allows a push.
//!
//! The ECR user guide states which request requires which action ("IAM permissions for pushing an image"). A test denies
//! each action to a push into the sandbox, and so finds out which actions a push requires.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::json;

use crate::error::{Error, Result};
use crate::oci::Repository;

/// A registry in ARNs. Unknown parts are `*`.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Registry {
    /// The private registry of an account in a region.
    Private {
        /// `aws`, `aws-cn`.
        partition: String,
        /// The region.
        region: String,
        /// The account.
        account: String,
    },
    /// ECR Public.
    Public,
}

impl Registry {
    fn arn(&self, repository: &Repository) -> String {
        match self {
            Self::Private { partition, region, account } => {
                format!("arn:{partition}:ecr:{region}:{account}:repository/{repository}")
            }
            Self::Public => {
                // The first component is the registry's alias, which is not part of ARNs.
                let name = repository.as_str().split_once('/').map_or(repository.as_str(), |(_, name)| name);
                format!("arn:aws:ecr-public::*:repository/{name}")
            }
        }
    }

    /// Returns the ARN of a key, which may be an ARN already. The key of an alias is not known.
    fn key(&self, key: &str) -> String {
        match self {
            _ if key.starts_with("arn:") && key.contains(":key/") => key.to_owned(),
            Self::Private { partition, region, account } => {
                let id = if key.contains('/') { "*" } else { key };
                format!("arn:{partition}:kms:{region}:{account}:key/{id}")
            }
            Self::Public => "*".into(),
        }
    }
}

/// The operations of a push, by its options.
#[derive(Clone, Debug, Default)]
pub(crate) struct Needs {
    /// The repositories to push to.
    pub targets: Vec<(Registry, Repository)>,
    /// Whether images in them are read, for layers to reuse.
    pub reads_images: bool,
    /// Whether the images under existing tags are looked up.
    pub checks_tags: bool,
    /// Whether the newest tag of a pattern is looked up.
    pub patterns: bool,
    /// The settings with which repositories are created, if they are.
    pub create: Option<Creation>,
    /// Other repositories that layers are mounted from.
    pub sources: Vec<Source>,
    /// The profiles with which the registry has pushed images signed (AWS Signer).
    pub signing_profiles: Vec<String>,
}

/// A repository that layers are mounted from.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The registry.
    pub registry: Registry,
    /// The repository.
    pub repository: Repository,
    /// Whether an image in it is read.
    pub is_read: bool,
}

/// Settings of new repositories that require additional permissions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Creation {
    /// Whether there are resource tags.
    pub tags: bool,
    /// Whether there is a lifecycle policy.
    pub lifecycle_policy: bool,
    /// Whether there is a repository policy.
    pub repository_policy: bool,
    /// The ID or ARN of a customer managed key.
    pub kms_key: Option<String>,
}

/// One statement of a policy.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Statement {
    sid: &'static str,
    effect: &'static str,
    action: Vec<String>,
    resource: Vec<String>,
}

/// A policy that allows a push.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Policy {
    version: &'static str,
    statement: Vec<Statement>,
}

const PUSH: [&str; 5] =
    ["BatchCheckLayerAvailability", "CompleteLayerUpload", "InitiateLayerUpload", "PutImage", "UploadLayerPart"];

impl Needs {
    /// Returns the actions for lookups in private repositories.
    fn read_actions(&self) -> Vec<&'static str> {
        let mut actions = Vec::new();
        if self.reads_images {
            actions.extend(["BatchGetImage", "GetDownloadUrlForLayer"]);
        }
        if self.checks_tags {
            actions.push("BatchGetImage");
        }
        // Archived images can only be described.
        if self.checks_tags || self.patterns {
            actions.push("DescribeImages");
        }
        // For the tag mutability, and if nothing else is looked up, for the existence of the repository.
        actions.push("DescribeRepositories");
        actions
    }

    /// Returns the actions for creating private repositories.
    fn create_actions(&self) -> Vec<&'static str> {
        let Some(create) = &self.create else { return Vec::new() };
        let mut actions = vec!["CreateRepository"];
        if create.tags {
            actions.push("TagResource");
        }
        if create.lifecycle_policy {
            actions.push("PutLifecyclePolicy");
        }
        if create.repository_policy {
            actions.push("SetRepositoryPolicy");
        }
        actions
    }
}

impl Policy {
    /// Returns the smallest policy for a push. Without a target in ECR it has no statement.
    pub(crate) fn of(needs: &Needs) -> Self {
        let arns = |is_public: bool| -> Vec<String> {
            let targets = needs.targets.iter().filter(|(registry, _)| (*registry == Registry::Public) == is_public);
            targets.map(|(registry, repository)| registry.arn(repository)).collect()
        };
        let (private, public) = (arns(false), arns(true));
        let public_if_created = if needs.create.is_some() { public.clone() } else { Vec::new() };
        let everything = |is_wanted: bool| if is_wanted { vec!["*".to_owned()] } else { Vec::new() };
        let keys = needs.targets.iter().filter(|(registry, _)| *registry != Registry::Public);
        let keys = keys.filter_map(|(registry, _)| Some(registry.key(needs.create.as_ref()?.kms_key.as_deref()?)));
        let sources = |is_read: bool| {
            let sources = needs.sources.iter().filter(move |source| source.is_read == is_read);
            sources.map(|source| source.registry.arn(&source.repository)).collect()
        };
        let mut policy = Self { version: "2012-10-17", statement: Vec::new() };
        policy.allow("LogIn", "ecr", &["GetAuthorizationToken"], everything(!private.is_empty()));
        policy.allow("Push", "ecr", &[&PUSH[..], &needs.read_actions()].concat(), private.clone());
        policy.allow("Create", "ecr", &needs.create_actions(), private.clone());
        policy.allow("Encrypt", "kms", &["CreateGrant", "DescribeKey", "RetireGrant"], keys.collect());
        policy.allow("Mount", "ecr", &["BatchCheckLayerAvailability", "GetDownloadUrlForLayer"], sources(false));
        policy.allow("MountImage", "ecr", &["BatchGetImage", "GetDownloadUrlForLayer"], sources(true));
        let profiles = if private.is_empty() { Vec::new() } else { needs.signing_profiles.clone() };
        policy.allow("Sign", "signer", &["SignPayload"], profiles);
        policy.allow("LogInPublic", "ecr-public", &["GetAuthorizationToken"], everything(!public.is_empty()));
        policy.allow("BearPublic", "sts", &["GetServiceBearerToken"], everything(!public.is_empty()));
        policy.allow("PushPublic", "ecr-public", &PUSH, public);
        // Settings of new repositories do not apply to ECR Public.
        policy.allow("AliasPublic", "ecr-public", &["DescribeRegistries"], everything(!public_if_created.is_empty()));
        policy.allow("CreatePublic", "ecr-public", &["CreateRepository"], public_if_created);
        policy
    }

    /// Returns whether it has no statement.
    pub(crate) fn is_empty(&self) -> bool {
        self.statement.is_empty()
    }

    /// Adds a statement, unless it would allow nothing. Actions and resources are sorted and without duplicates.
    fn allow(&mut self, sid: &'static str, service: &str, actions: &[&str], resources: Vec<String>) {
        let action: BTreeSet<String> = actions.iter().map(|action| format!("{service}:{action}")).collect();
        let resource: BTreeSet<String> = resources.into_iter().collect();
        if !action.is_empty() && !resource.is_empty() {
            let (action, resource) = (action.into_iter().collect(), resource.into_iter().collect());
            self.statement.push(Statement { sid, effect: "Allow", action, resource });
        }
    }

    /// Formats it as JSON for IAM, with a line end.
    ///
    /// # Errors
    /// Fails if it cannot be serialized, which is a fault of this program.
    pub(crate) fn json(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self);
        Ok(text.map_err(|error| Error::internal("cannot write the policy as JSON").because(error))? + "\n")
    }

    /// Formats it for Terraform.
    pub(crate) fn terraform(&self) -> String {
        let mut text = "data \"aws_iam_policy_document\" \"ecr_push\" {\n".to_owned();
        for (n, Statement { sid, effect, action, resource }) in self.statement.iter().enumerate() {
            let gap = if n > 0 { "\n" } else { "" };
            text += &format!("{gap}  statement {{\n    sid    = {}\n    effect = {}\n", quoted(sid), quoted(effect));
            for (name, values) in [("actions", action), ("resources", resource)] {
                let lines: String = values.iter().map(|value| format!("      {},\n", quoted(value))).collect();
                text += &format!("\n    {name} = [\n{lines}    ]\n");
            }
            text += "  }\n";
        }
        text + "}\n"
    }
}

/// Quotes text for Terraform: as JSON, with `${` and `%{` escaped.
fn quoted(text: &str) -> String {
    json!(text).to_string().replace("${", "$${").replace("%{", "%%{")
}

/// Formats a statement of an IAM policy that allows actions on a resource, in one line.
pub(super) fn identity_statement(actions: &[&str], resource: &str) -> String {
    format!("{{\"Effect\":\"Allow\",\"Action\":{},\"Resource\":{}}}", one_or_many(actions), json!(resource))
}

/// Formats a statement of a repository's or key's policy that allows actions to a principal, in one line.
pub(super) fn resource_statement(actions: &[&str], principal: &str) -> String {
    let actions = one_or_many(actions);
    format!("{{\"Effect\":\"Allow\",\"Principal\":{{\"AWS\":{}}},\"Action\":{actions}}}", json!(principal))
}

fn one_or_many(values: &[&str]) -> serde_json::Value {
    if let [one] = values { json!(one) } else { json!(values) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(registry: Registry) -> Needs {
        Needs { targets: vec![(registry, "team/app".parse().unwrap())], ..Needs::default() }
    }

    fn china() -> Registry {
        let (partition, region) = ("aws-cn".into(), "cn-north-1".into());
        Registry::Private { partition, region, account: "123456789012".into() }
    }

    #[test]
    fn a_push_with_default_options_requires_at_most_eight_actions() {
        let policy = Policy::of(&Needs { reads_images: true, ..needs(china()) });
        let text = policy.json().unwrap();
        assert!(text.contains("\"arn:aws-cn:ecr:cn-north-1:123456789012:repository/team/app\""), "{text}");
        assert_eq!(policy.statement.iter().map(|it| it.sid).collect::<Vec<_>>(), ["LogIn", "Push"]);
        assert_eq!(policy.statement[1].action.len(), 8);
        assert_eq!(Policy::of(&needs(china())).statement[1].action.len(), 6);
    }

    #[test]
    fn a_key_is_named_by_its_arn() {
        for (key, arn) in [
            ("1234abcd", "arn:aws-cn:kms:cn-north-1:123456789012:key/1234abcd"),
            ("alias/team", "arn:aws-cn:kms:cn-north-1:123456789012:key/*"),
            ("arn:aws-cn:kms:cn-north-1:1:alias/team", "arn:aws-cn:kms:cn-north-1:123456789012:key/*"),
            ("arn:aws-cn:kms:cn-north-1:1:key/x", "arn:aws-cn:kms:cn-north-1:1:key/x"),
        ] {
            let create = Creation { kms_key: Some(key.into()), tags: true, ..Creation::default() };
            let policy = Policy::of(&Needs { create: Some(create), ..needs(china()) });
            let encrypt = policy.statement.iter().find(|it| it.sid == "Encrypt").unwrap();
            assert_eq!(encrypt.resource, [arn]);
            let create = policy.statement.iter().find(|it| it.sid == "Create").unwrap();
            assert_eq!(create.action, ["ecr:CreateRepository", "ecr:TagResource"]);
        }
    }

    #[test]
    fn ecr_public_has_another_service_and_a_bearer_token() {
        let text = Policy::of(&needs(Registry::Public)).json().unwrap();
        for part in ["ecr-public:GetAuthorizationToken", "sts:GetServiceBearerToken", "ecr-public::*:repository/app"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("\"ecr:") && !text.contains("BatchGetImage"), "{text}");
    }

    #[test]
    fn templates_of_terraform_are_escaped() {
        assert_eq!(quoted("a${b}%{c}\""), r#""a$${b}%%{c}\"""#);
        let text = Policy::of(&needs(china())).terraform();
        assert!(
            text.starts_with(
                "data \"aws_iam_policy_document\" \"ecr_push\" {\n  statement {\n    sid    = \"LogIn\"\n"
            )
        );
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    }
}
