//! The templates by which ECR creates repositories.

use serde::Deserialize;
use serde_json::json;

use super::exception::{Exception, Outcome, Page};
use crate::sandbox::rules::CreationTemplate;
use crate::sandbox::server::Registry;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Describe {
    prefixes: Option<Vec<String>>,
    next_token: Option<String>,
    max_results: Option<usize>,
}

/// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_DescribeRepositoryCreationTemplates.html>. It knows no
/// registry but the caller's own.
pub(super) fn describe(registry: &Registry, request: Describe) -> Outcome {
    let page = Page::of(registry, request.max_results, request.next_token.as_deref())?;
    if request.prefixes.as_ref().is_some_and(|prefixes| prefixes.len() > 100) {
        return Err(Exception::parameter("prefixes", "Member must have length less than or equal to 100"));
    }
    let is_wanted = |template: &CreationTemplate| {
        request.prefixes.as_ref().is_none_or(|prefixes| prefixes.contains(&template.prefix))
    };
    let describe = |template: &CreationTemplate| {
        json!({
            "prefix": template.prefix, "appliedFor": template.applied_for,
            "imageTagMutability": if template.immutable { "IMMUTABLE" } else { "MUTABLE" },
        })
    };
    let templates = registry
        .rules(|rules| rules.templates.iter().filter(|template| is_wanted(template)).map(describe).collect::<Vec<_>>());
    let mut answer = page.cut("repositoryCreationTemplates", templates);
    answer["registryId"] = json!(registry.account);
    Ok(answer)
}
