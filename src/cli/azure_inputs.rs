//! What an Azure Pipelines agent passes to a task's process: inputs, the data of service connections, and variables.

use std::collections::HashMap;
use std::ffi::OsString;

use super::unexpanded::reject_unexpanded;
use crate::error::{Code, Error, Result};

/// Environment variables.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The inputs of the task, and the variables of the pipeline.
pub(super) struct Inputs<'a>(Environment<'a>);

impl<'a> Inputs<'a> {
    /// Returns those of an environment.
    pub(super) fn of(environment: Environment<'a>) -> Self {
        Self(environment)
    }

    /// Returns a variable of the environment that is set and not blank.
    fn set(&self, name: &str) -> Option<String> {
        let value = (self.0)(name)?.to_string_lossy().trim().to_owned();
        (!value.is_empty()).then_some(value)
    }

    /// Returns an input, which may be empty. `None` if the agent passes none.
    pub(super) fn given(&self, name: &str) -> Result<Option<String>> {
        let Some(value) = (self.0)(&format!("INPUT_{}", name.to_uppercase())) else { return Ok(None) };
        let value = value.to_string_lossy().trim().to_owned();
        reject_unexpanded(&format!("the input {name}"), &value, self.0)?;
        Ok(Some(value))
    }

    /// Returns an input that is not empty.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>> {
        Ok(self.given(name)?.filter(|value| !value.is_empty()))
    }

    pub(super) fn required(&self, name: &str) -> Result<String> {
        self.text(name)?.ok_or_else(|| {
            Error::usage(format!("the input {name} is required"))
                .code(Code::ArgumentMissing)
                .hint(format!("Set {name} in the inputs of the task."))
        })
    }

    /// Returns whether an input is true. Any other text is false, as in the agent's library.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.set(&format!("INPUT_{}", name.to_uppercase())).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// Returns a variable of the pipeline by the name that the agent gives it, which is another one for a secret.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        self.set(name).or_else(|| self.set(&format!("SECRET_{name}")))
    }

    /// Returns a value of a service connection: of its JSON, else of the variable of its own.
    pub(super) fn of_connection(&self, id: &str, key: &str) -> Option<String> {
        let of_json = || {
            let json: serde_json::Value = serde_json::from_str(&self.set(&format!("ENDPOINT_AUTH_{id}"))?).ok()?;
            let parameters = json.get("parameters")?.as_object()?;
            let (_, value) = parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case(key))?;
            value.as_str().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        of_json().or_else(|| self.set(&format!("ENDPOINT_AUTH_PARAMETER_{id}_{}", key.to_uppercase())))
    }

    /// Returns whether the agent passes the data of a service connection.
    pub(super) fn has_connection(&self, id: &str) -> bool {
        self.set(&format!("ENDPOINT_AUTH_{id}")).is_some()
    }
}

/// The variables that replace those of the environment; `None` hides one.
pub(super) type Variables = HashMap<&'static str, Option<OsString>>;
