//! Detection of unexpanded variables: Azure Pipelines leaves `$(NAME)` unchanged if the variable is not defined, Kubernetes
//! too, and a shell between single quotes.

use super::values::Environment;
use crate::error::{Code, Error, Result};

/// Rejects a value that contains an unexpanded variable.
pub(super) fn reject_unexpanded(what: &str, value: &str, environment: Environment<'_>) -> Result<()> {
    let Some((name, _)) = value.split_once("$(").and_then(|(_, rest)| rest.split_once(')')) else { return Ok(()) };
    Err(unexpanded(what, name, environment))
}

/// Rejects a secret that consists of an unexpanded variable. A longer secret may contain such characters.
pub(super) fn reject_unexpanded_secret(what: &str, value: &str, environment: Environment<'_>) -> Result<()> {
    let is_name = |name: &&str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    let name = value.trim().strip_prefix("$(").and_then(|rest| rest.strip_suffix(')')).filter(is_name);
    name.map_or(Ok(()), |name| Err(unexpanded(what, name, environment)))
}

fn unexpanded(what: &str, name: &str, environment: Environment<'_>) -> Error {
    // By its variable: `--ci` only decides on the output.
    let (why, hint) = if environment("TF_BUILD").is_some_and(|value| !value.is_empty()) {
        let why = format!("the pipeline variable {name} is not defined");
        (why, "Define the variable in Azure Pipelines, or correct its name.")
    } else {
        let why = "a variable was not expanded".to_owned();
        (why, "Define the variable, or correct its name. A shell expands no $(...) between single quotes.")
    };
    Error::usage(format!("{what} contains $({name}): {why}")).code(Code::VariableUnexpanded).hint(hint)
}
