//! Rights that are missing: which, on what, in which of AWS's many policies, and the statement that gives it
//! (IAM user guide, "Troubleshoot access denied error messages").

use super::{Case, Meaning, RepositoryLocation};
use crate::ecr::policy::{line, line_of_resource};
use crate::error::{Advice, Kind};
use crate::oci::Host;

/// A sort of policy that can stand in the way.
struct Bound {
    /// What IAM calls it.
    said: &'static str,
    /// Where it lies.
    place: &'static str,
    /// Who can change it, and how it is found.
    who: &'static str,
}

const IDENTITY: &str = "identity-based policy";
const RESOURCE: &str = "resource-based policy";

const BOUNDS: [Bound; 7] = [
    Bound { said: IDENTITY, place: "the caller's IAM policy", who: "Whoever manages the caller's role or user can." },
    Bound {
        said: RESOURCE,
        place: "the repository's own policy",
        who: "See it with:\n  aws ecr get-repository-policy --repository-name",
    },
    Bound {
        said: "permissions boundary",
        place: "the permissions boundary of the caller",
        who: "Whoever manages the caller's role or user can, in its permissions boundary.",
    },
    Bound {
        said: "session policy",
        place: "the policy of the caller's session",
        who: "It was given when the role was taken on: look where the CI system or a script does that.",
    },
    Bound {
        said: "service control policy",
        place: "a service control policy",
        who: "Only who manages the AWS organization can change it.",
    },
    Bound {
        said: "resource control policy",
        place: "a resource control policy",
        who: "Only who manages the AWS organization can change it.",
    },
    Bound {
        said: "VPC endpoint policy",
        place: "the policy of the VPC endpoint",
        who: "See it with:\n  aws ec2 describe-vpc-endpoints",
    },
];

/// What IAM says of a denial.
struct Denial<'a> {
    user: Option<&'a str>,
    action: &'a str,
    resource: Option<&'a str>,
    bound: Option<&'static Bound>,
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
            bound: BOUNDS.iter().find(|bound| message.contains(bound.said)),
            is_explicit: message.contains("explicit deny"),
        })
    }
}

/// A denial in IAM's words.
pub(super) fn said(case: &Case<'_>) -> Option<Meaning> {
    let denial = Denial::of(&case.answer.message)?;
    let Denial { user, action, is_explicit, .. } = denial;
    let own = case.place.map(|RepositoryLocation { host, repository }| host.arn(repository));
    let resource = match (denial.resource, own) {
        (Some(resource), _) => resource.to_owned(),
        (None, Some(own)) if action != "ecr:GetAuthorizationToken" => own,
        _ => "*".to_owned(),
    };
    let bound = denial.bound.unwrap_or(&BOUNDS[0]);
    let (policy, who) = match case.place {
        _ if bound.said == RESOURCE && action.starts_with("kms:") => (
            "the key's own policy",
            format!("See it with:\n  aws kms get-key-policy --policy-name default --key-id {resource}"),
        ),
        Some(RepositoryLocation { host, repository }) if bound.said == RESOURCE => {
            (bound.place, format!("{} {repository} --region {}", bound.who, host.region))
        }
        _ => (bound.place, bound.who.to_owned()),
    };
    if is_explicit {
        let of = if denial.bound.is_some() { format!("of {policy}") } else { "somewhere".to_owned() };
        return case.with_kind(
            Kind::Permission,
            format!(
                "A Deny {of} forbids the action {action} on {resource}. No Allow outweighs it: it has to be taken out or \
                 narrowed there. {who}"
            ),
        );
    }
    let account = |arn: &str| arn.split(':').nth(4).filter(|account| account.len() == 12).map(str::to_owned);
    let (caller, owner) = (user.and_then(account), account(&resource));
    let statement = line(&[action], &resource);
    let principal = caller.as_deref().map_or_else(|| "*".to_owned(), |caller| principal(user, caller));
    let for_principal = line_of_resource(&[action], &principal);
    let text = match bound.said {
        RESOURCE => format!("Allow the action {action} in {policy}. {who}\n  {for_principal}"),
        IDENTITY => {
            let own = format!("Allow the action {action} on {resource} in {policy}:\n  {statement}");
            match (caller, owner) {
                (Some(caller), Some(owner)) if caller != owner && action.starts_with("ecr:") => format!(
                    "{own}\n  The repository is of account {owner} and the caller of {caller}, so the repository's own \
                     policy has to allow it, too:\n  {for_principal}"
                ),
                _ => own,
            }
        }
        _ => format!("Allow the action {action} on {resource} in {policy}, too. {who}\n  {statement}"),
    };
    case.with_kind(Kind::Permission, with_policy(text, action, &resource, case.place))
}

/// Adds the command that prints a policy for all that the push needs: who lacks one permission often lacks several.
fn with_policy(text: String, action: &str, resource: &str, place: Option<&RepositoryLocation>) -> Advice {
    let options = match action {
        "ecr:CreateRepository" | "ecr-public:CreateRepository" | "ecr-public:DescribeRegistries" => {
            "--create-repository ".to_owned()
        }
        "signer:SignPayload" => format!("--signing-profile {resource} "),
        _ => String::new(),
    };
    let target = place.map_or_else(
        || "TARGET".to_owned(),
        |RepositoryLocation { host, repository }| format!("{}/{repository}", Host::from_ecr(host.clone())),
    );
    let text = format!("{text}\n  This prints a policy with all that the push needs:");
    Advice::new(text).command(format!("ecr-push policy {options}{target}"))
}

/// The account, as a policy names it.
fn principal(user: Option<&str>, account: &str) -> String {
    let partition = user.and_then(|user| user.split(':').nth(1)).unwrap_or("aws");
    format!("arn:{partition}:iam::{account}:root")
}

/// A denial that does not say what is missing: what the request takes does.
pub(super) fn unsaid(case: &Case<'_>) -> Option<Meaning> {
    let own = case.place.map(|place| place.host.arn(&place.repository));
    let Some((actions, repository)) = case.needed() else {
        let own = own.filter(|_| case.answer.status == Some(403))?;
        return case.says(format!("The caller lacks a right on {own}, or the repository's own policy denies it."));
    };
    if case.answer.status == Some(401) {
        return None;
    }
    let resource = match (case.place, repository) {
        // That of another repository where layers are mounted from.
        (Some(place), Some(name)) => name.parse().map_or_else(|_| "*".to_owned(), |name| place.host.arn(&name)),
        (Some(place), None) if actions != ["ecr:GetAuthorizationToken"] => place.host.arn(&place.repository),
        _ => "*".to_owned(),
    };
    let statement = line(&actions, &resource);
    let text = format!(
        "The answer does not say what is missing. The request takes {} on {resource}, which is likely what the caller \
         lacks; if that is allowed, the repository's own policy or one of the organization denies it.\n  {statement}",
        actions.join(" and ")
    );
    let most_telling = actions.last().copied().unwrap_or_default();
    case.with_kind(Kind::Permission, with_policy(text, most_telling, &resource, case.place))
}
