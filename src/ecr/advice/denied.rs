//! Missing permissions: which action, on which resource, in which of AWS's policies, and the statement that allows it
//! (IAM user guide, "Troubleshoot access denied error messages").

use super::case::{Case, Meaning, RepositoryLocation};
use crate::ecr::policy::{identity_statement, resource_statement};
use crate::error::{Advice, Kind};
use crate::oci::Host;

/// A type of policy that can deny an action: its name in IAM's messages, which policy it is, who can change it or where it was
/// set, and the command that shows it.
struct PolicyType(&'static str, &'static str, &'static str, Option<&'static str>);

const IDENTITY: &str = "identity-based policy";
const RESOURCE: &str = "resource-based policy";

const CALLER: &str = " The administrator of the caller's role or user can change it.";
const SESSION: &str = " It was set when the role was assumed, by the CI system or a script.";
const ORGANIZATION: &str = " The administrator of the AWS organization can change it.";

const POLICY_TYPES: [PolicyType; 7] = [
    PolicyType(IDENTITY, "the caller's IAM policy", CALLER, None),
    PolicyType(RESOURCE, "the repository policy", "", None),
    PolicyType("permissions boundary", "the permissions boundary of the caller", CALLER, None),
    PolicyType("session policy", "the session policy of the caller", SESSION, None),
    PolicyType("service control policy", "a service control policy", ORGANIZATION, None),
    PolicyType("resource control policy", "a resource control policy", ORGANIZATION, None),
    PolicyType("VPC endpoint policy", "the policy of the VPC endpoint", "", Some("aws ec2 describe-vpc-endpoints")),
];

/// A denial that IAM states in a message.
struct Denial<'a> {
    user: Option<&'a str>,
    action: &'a str,
    resource: Option<&'a str>,
    policy: Option<&'static PolicyType>,
    is_explicit: bool,
}

impl<'a> Denial<'a> {
    fn of(message: &'a str) -> Option<Self> {
        let word_after = |words: &str| {
            let (_, rest) = message.split_once(words)?;
            let word = rest.split_whitespace().next()?;
            Some(word.trim_matches(|c: char| matches!(c, '"' | '\'' | ',' | '.' | ';'))).filter(|word| !word.is_empty())
        };
        Some(Self {
            user: word_after("User: "),
            action: word_after("not authorized to perform: ")?,
            resource: word_after("on resource: "),
            policy: POLICY_TYPES.iter().find(|PolicyType(name, ..)| message.contains(name)),
            is_explicit: message.contains("explicit deny"),
        })
    }
}

/// Advises on a denial that IAM states.
pub(super) fn stated(case: &Case<'_>) -> Option<Meaning> {
    let denial = Denial::of(&case.error.message)?;
    let Denial { user, action, is_explicit, .. } = denial;
    let own = case.location.map(|location| location.host.arn(&location.repository));
    let resource = match (denial.resource, own) {
        (Some(resource), _) => resource.to_owned(),
        (None, Some(own)) if action != "ecr:GetAuthorizationToken" => own,
        _ => "*".to_owned(),
    };
    let PolicyType(name, policy, owner, command) = denial.policy.unwrap_or(&POLICY_TYPES[0]);
    let (policy, show) = match case.location {
        _ if *name == RESOURCE && action.starts_with("kms:") => {
            let command = format!("aws kms get-key-policy --policy-name default --key-id {resource}");
            ("the key policy", Some(command))
        }
        Some(location) if *name == RESOURCE => {
            (*policy, Some(location.command("get-repository-policy", "--repository-name", "")))
        }
        _ => (*policy, command.map(str::to_owned)),
    };
    let with_command = |advice: Advice| match &show {
        Some(command) => advice.command(command.clone()),
        None => advice,
    };
    if is_explicit {
        let place = if denial.policy.is_some() { format!("in {policy}") } else { "in some policy".to_owned() };
        let text = format!(
            "A Deny {place} forbids the action {action} on {resource}, and no Allow overrides it: remove or narrow the Deny.\
             {owner}"
        );
        return case.advise_as(Kind::Permission, with_command(Advice::new(text)));
    }
    let account = |arn: &str| arn.split(':').nth(4).filter(|account| account.len() == 12).map(str::to_owned);
    let (caller, resource_owner) = (user.and_then(account), account(&resource));
    let statement = identity_statement(&[action], &resource);
    let principal = caller.as_deref().map_or_else(|| "*".to_owned(), |caller| principal(user, caller));
    let for_principal = resource_statement(&[action], &principal);
    let text = match *name {
        RESOURCE => format!("Allow the action {action} in {policy}:\n  {for_principal}"),
        IDENTITY => {
            let own = format!("Allow the action {action} on {resource} in {policy}:\n  {statement}");
            match (caller, resource_owner) {
                (Some(caller), Some(owner)) if caller != owner && action.starts_with("ecr:") => format!(
                    "{own}\n  The repository belongs to account {owner} and the caller to {caller}, so the repository policy \
                     must allow it, too:\n  {for_principal}"
                ),
                _ => own,
            }
        }
        _ => format!("Allow the action {action} on {resource} in {policy}, too.{owner}\n  {statement}"),
    };
    let text = format!("{text}\n  {}", if show.is_some() { SHOW_BOTH } else { SHOW_POLICY });
    let advice = with_command(Advice::new(text));
    case.advise_as(Kind::Permission, advice.command(policy_command(action, &resource, case.location)))
}

const SHOW_POLICY: &str = "Print a policy with all permissions of the push:";
const SHOW_BOTH: &str = "Show the present policy, and print a policy with all permissions of the push:";

/// Returns the command that prints a policy for the whole push: if one permission is missing, often several are.
fn policy_command(action: &str, resource: &str, location: Option<&RepositoryLocation>) -> String {
    let options = match action {
        "ecr:CreateRepository" | "ecr-public:CreateRepository" | "ecr-public:DescribeRegistries" => {
            "--create-repository ".to_owned()
        }
        "signer:SignPayload" => format!("--signing-profile {resource} "),
        _ => String::new(),
    };
    let target = location.map_or_else(
        || "TARGET".to_owned(),
        |RepositoryLocation { host, repository }| format!("{}/{repository}", Host::from_ecr(host.clone())),
    );
    format!("ecr-push policy {options}{target}")
}

/// Returns the account as a policy names it.
fn principal(user: Option<&str>, account: &str) -> String {
    let partition = user.and_then(|user| user.split(':').nth(1)).unwrap_or("aws");
    format!("arn:{partition}:iam::{account}:root")
}

/// Advises on a denial that does not state the missing permission: names what the request requires.
pub(super) fn unstated(case: &Case<'_>) -> Option<Meaning> {
    let own = case.location.map(|location| location.host.arn(&location.repository));
    let Some((actions, repository)) = case.needed() else {
        let own = own.filter(|_| case.error.status == Some(403))?;
        return case.advise(format!("The caller lacks a permission on {own}, or the repository policy denies it."));
    };
    if case.error.status == Some(401) {
        return None;
    }
    let resource = match (case.location, repository) {
        // Layers may be mounted from another repository.
        (Some(location), Some(name)) => name.parse().map_or_else(|_| "*".to_owned(), |name| location.host.arn(&name)),
        (Some(location), None) if actions != ["ecr:GetAuthorizationToken"] => location.host.arn(&location.repository),
        _ => "*".to_owned(),
    };
    let statement = identity_statement(&actions, &resource);
    let text = format!(
        "The response does not state the missing permission. The request requires {} on {resource}, which the caller likely \
         lacks; if it is allowed, the repository policy or a policy of the organization denies it.\n  {statement}\n  \
         {SHOW_POLICY}",
        actions.join(" and ")
    );
    let action = actions.last().copied().unwrap_or_default();
    case.advise_as(Kind::Permission, Advice::new(text).command(policy_command(action, &resource, case.location)))
}
