//! The credentials of the Azure Pipelines task: of a service connection, else of the variables of the pipeline, else those that
//! every push finds.

use std::ffi::OsString;

use super::azure_inputs::{Inputs, Variables};
use super::credentials::{SESSION_SECONDS, TASK_VARIABLES};
use crate::error::{Code, Error, Result};

/// How credentials are passed on to a push.
pub(super) struct Credentials {
    /// Arguments.
    pub arguments: Vec<String>,
    /// Variables that replace those of the environment.
    pub variables: Variables,
    /// Notes about what is not used.
    pub notes: Vec<String>,
}

/// The lifetime of a role's credentials in seconds, unless a variable sets it.
const ROLE_SECONDS: &str = "900";

/// The connection of the job to Azure Pipelines.
const JOB: &str = "SYSTEMVSSCONNECTION";

/// Decides where credentials come from.
///
/// # Errors
/// If a service connection is incomplete.
pub(super) fn credentials(inputs: &Inputs<'_>) -> Result<Credentials> {
    let [id, secret, token, role, external_id, session_name, max_duration] = TASK_VARIABLES;
    let mut notes = Vec::new();
    let typed = inputs.variable(max_duration);
    let is_allowed = |text: &String| text.parse().is_ok_and(|seconds: u64| SESSION_SECONDS.contains(&seconds));
    if let Some(wrong) = typed.as_ref().filter(|text| !is_allowed(text)) {
        notes.push(format!("aws.rolecredential.maxduration is {wrong:?}, not 900 to 43200: {ROLE_SECONDS} is used"));
    }
    let duration = typed.filter(is_allowed).unwrap_or_else(|| ROLE_SECONDS.to_owned());
    let mut variables = Variables::new();
    let mut set = |name: &'static str, value: Option<String>| drop(variables.insert(name, value.map(OsString::from)));
    set(max_duration, Some(duration));
    set("AWS_REGION", inputs.variable("AWS_REGION"));
    let (connection, azure) = (inputs.text("awsCredentials")?, inputs.text("azureConnection")?);
    let Some(connection) = connection else {
        let [id, secret, token, role, external_id, session_name, _] =
            TASK_VARIABLES.map(|name| (name, inputs.variable(name)));
        let Some(azure) = azure else {
            [id, secret, token, role, external_id, session_name].into_iter().for_each(|(name, value)| set(name, value));
            return Ok(Credentials { arguments: Vec::new(), variables, notes });
        };
        let arn = inputs.text("roleArn")?.or(role.1).ok_or_else(|| without_role("azureConnection"))?;
        [id.0, secret.0, token.0, role.0].into_iter().for_each(|name| set(name, None));
        set(session_name.0, session_name.1);
        job_token(inputs, &mut set);
        return Ok(Credentials { arguments: by_oidc(&azure, &arn), variables, notes });
    };
    if azure.is_some() {
        return Err(Error::conflict("both awsCredentials and azureConnection are set").hint("Set only one of them."));
    }
    if !inputs.has_connection(&connection) {
        return Err(Error::usage(format!("the agent passes no service connection {connection}"))
            .code(Code::CredentialsMissing)
            .hint("Check that the connection exists, has the type AWS, and that this pipeline may use it."));
    }
    let value = |key| inputs.of_connection(&connection, key);
    let (key_id, key) = (value("username"), value("password"));
    let has_keys = key_id.is_some();
    if has_keys != key.is_some() {
        return Err(Error::usage("the service connection has only one of access key ID and secret access key")
            .code(Code::CredentialsMissing)
            .hint("Set both or neither."));
    }
    let arn = value("assumeRoleArn");
    set(external_id, value("externalId"));
    set(session_name, value("roleSessionName"));
    // The variables of the pipeline are not used, even where the connection has no value.
    set(id, key_id);
    set(secret, key);
    set(token, value("sessionToken"));
    if !has_keys && value("useOIDC").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        let arn = arn.ok_or_else(|| without_role("awsCredentials"))?;
        set(role, None);
        job_token(inputs, &mut set);
        return Ok(Credentials { arguments: by_oidc(&connection, &arn), variables, notes });
    }
    set(role, arn);
    Ok(Credentials { arguments: Vec::new(), variables, notes })
}

/// Returns the arguments for a role that is assumed with the OIDC token of a service connection.
fn by_oidc(connection: &str, arn: &str) -> Vec<String> {
    let options =
        ["--oidc=on".to_owned(), format!("--azure-service-connection={connection}"), format!("--role-arn={arn}")];
    options.into()
}

fn without_role(input: &str) -> Error {
    let hint = if input == "azureConnection" {
        "Set the input roleArn to the role that trusts the service connection."
    } else {
        "Set Role to Assume in the service connection."
    };
    Error::usage(format!("the service connection of {input} issues an OIDC token, but names no role to assume with it"))
        .code(Code::CredentialsMissing)
        .hint(hint)
}

/// Sets the address of the job's OIDC tokens, which older agents do not set, and the job's own token.
fn job_token(inputs: &Inputs<'_>, set: &mut impl FnMut(&'static str, Option<String>)) {
    let address = || {
        let value = |name: &str| inputs.variable(name);
        Some(format!(
            "{}/{}/_apis/distributedtask/hubs/{}/plans/{}/jobs/{}/oidctoken",
            value("SYSTEM_COLLECTIONURI")?.trim_end_matches('/'),
            value("SYSTEM_TEAMPROJECTID")?,
            value("SYSTEM_HOSTTYPE")?,
            value("SYSTEM_PLANID")?,
            value("SYSTEM_JOBID")?,
        ))
    };
    set("SYSTEM_OIDCREQUESTURI", inputs.variable("SYSTEM_OIDCREQUESTURI").or_else(address));
    let token = inputs.variable("SYSTEM_ACCESSTOKEN").or_else(|| inputs.of_connection(JOB, "AccessToken"));
    set("SYSTEM_ACCESSTOKEN", token);
}
