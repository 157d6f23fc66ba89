//! Credentials of an external process: `credential_process` of a profile
//! (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html>).
//!
//! The SDK's provider reads the output into memory without a limit, and leaves the process running after a timeout.

use std::fmt;
use std::process::Stdio;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_credential_types::provider::Result as Provided;
use aws_credential_types::provider::error::CredentialsError;
use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use super::endpoint::expiration;
use super::provides::provides;

/// The maximum size of the output in bytes. Credentials are some kilobytes.
const MAX_SIZE: u64 = 1 << 20;

/// Runs a process for credentials: a command line for the shell, which may contain secrets.
pub(super) struct CredentialProcess(pub(super) String);

impl CredentialProcess {
    async fn run(&self) -> Provided {
        let failed = |why: String| CredentialsError::provider_error(format!("credential_process: {why}"));
        let mut process = shell(&self.0);
        process.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = process.spawn().map_err(|why| failed(format!("it cannot be started: {why}")))?;
        let output = tokio::try_join!(read(child.stdout.take()), read(child.stderr.take()));
        let (stdout, stderr) = output.map_err(failed)?;
        let status = child.wait().await.map_err(|why| failed(why.to_string()))?;
        if !status.success() {
            let stderr = String::from_utf8_lossy(&stderr);
            return Err(failed(format!("the process ended with {status}. Stderr: {}", stderr.trim())));
        }
        credentials(&stdout).map_err(failed)
    }
}

provides!(CredentialProcess, run);

impl fmt::Debug for CredentialProcess {
    /// Formats it without the command, which may contain secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialProcess(***)")
    }
}

#[cfg(not(windows))]
fn shell(command: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]);
    shell
}

/// Starts `cmd.exe`, which does not parse quoted arguments like other programs: the command is between quotes, but not quoted
/// as an argument.
#[cfg(windows)]
fn shell(command: &str) -> Command {
    let mut shell = Command::new("cmd.exe");
    shell.arg("/C").raw_arg(format!("\"{command}\""));
    shell
}

async fn read(pipe: Option<impl AsyncRead + Unpin>) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(MAX_SIZE + 1).read_to_end(&mut bytes).await.map_err(|why| why.to_string())?;
    }
    if bytes.len() as u64 > MAX_SIZE {
        return Err(format!("it writes more than {MAX_SIZE} bytes"));
    }
    Ok(bytes)
}

/// Parses the output. Ignores the case of keys, as the SDK does. Errors do not quote it.
fn credentials(stdout: &[u8]) -> Result<Credentials, String> {
    let json: Map<String, Value> =
        serde_json::from_slice(stdout).map_err(|why| format!("its output is not a JSON object: {why}"))?;
    let value = |name: &str| json.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    let text = |name: &str| value(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    if value("Version").and_then(Value::as_u64) != Some(1) {
        return Err("its output is not of version 1".into());
    }
    let required = |name| text(name).ok_or_else(|| format!("its output has no {name}"));
    let (id, secret) = (required("AccessKeyId")?, required("SecretAccessKey")?);
    let expiry: Option<SystemTime> = expiration(text("Expiration"))?;
    Ok(Credentials::new(id, secret, text("SessionToken").map(str::to_owned), expiry, "process"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_is_parsed_as_documented() {
        let read = |text: &str| credentials(text.as_bytes()).map(|keys| keys.access_key_id().to_owned());
        let all =
            r#"{"Version": 1, "accesskeyid": "A", "SecretAccessKey": "s", "Expiration": "2999-01-01T00:00:00+00:00"}"#;
        assert_eq!(read(all).as_deref(), Ok("A"));
        for (text, why) in [
            ("", "not a JSON object"),
            ("[]", "not a JSON object"),
            (r#"{"Version": 2}"#, "version 1"),
            (r#"{"Version": 1, "AccessKeyId": "A"}"#, "no SecretAccessKey"),
            (r#"{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "s", "Expiration": "soon"}"#, "Expiration"),
        ] {
            assert!(read(text).unwrap_err().contains(why), "{text}");
        }
    }
}
