//! Detection of unexpanded pipeline variables: Azure Pipelines leaves `$(NAME)` unchanged if the variable is not defined.

use crate::error::{Code, Error, Result};

/// Rejects a value that contains an unexpanded variable.
pub(super) fn reject_unexpanded(what: &str, value: &str) -> Result<()> {
    let Some((name, _)) = value.split_once("$(").and_then(|(_, rest)| rest.split_once(')')) else { return Ok(()) };
    Err(unexpanded(what, name))
}

/// Rejects a secret that consists of an unexpanded variable. A longer secret may contain such characters.
pub(super) fn reject_unexpanded_secret(what: &str, value: &str) -> Result<()> {
    let is_name = |name: &&str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    let name = value.trim().strip_prefix("$(").and_then(|rest| rest.strip_suffix(')')).filter(is_name);
    name.map_or(Ok(()), |name| Err(unexpanded(what, name)))
}

fn unexpanded(what: &str, name: &str) -> Error {
    Error::usage(format!("{what} contains $({name}): the pipeline variable {name} is not defined"))
        .code(Code::VariableUnexpanded)
        .hint("Define the variable in the pipeline, or correct its name.")
}
