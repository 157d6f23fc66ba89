//! The credentials of docker and podman: `config.json`, `auth.json`, and the credential helpers that these name.
//!
//! The crate `docker_credential` reads them, too, but it waits for a helper without a limit, does not name a missing helper,
//! quotes the output of a failed one, which may be the secret, and does not support podman's keys for parts of a registry.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::GeneralPurposeConfig;
use base64::engine::{DecodePaddingMode, GeneralPurpose};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::credential_provider::Login;
use crate::error::{Advice, Code, Error, Kind, Result, is_exhausted, one_line};
use crate::file;
use crate::oci::{Host, Repository};

/// The time limit of a helper. Some ask their user.
const HELPER_TIMEOUT: Duration = Duration::from_secs(60);

/// The maximum size of such a file, and of the output of a helper, in bytes.
const MAX_SIZE: u64 = 4 << 20;

/// The key of Docker Hub in docker's own files.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// The host names of Docker Hub.
const DOCKER_HUB_NAMES: [&str; 4] = ["docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];

/// The sources of docker and podman credentials, in order. The first one with a login counts.
///
/// ```
/// # use ecr_push::sandbox::{self, Sandbox};
/// # use ecr_push::{CancellationToken, Options, PushRequest, Pusher, Source};
/// use ecr_push::{Keychain, Login};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ecr_push::Result<()> {
/// # let create = vec!["team/app".parse()?];
/// # let sandbox = Sandbox::start(sandbox::Options { create, ..Default::default() }).await?;
/// # let host = sandbox.address();
/// let Login::Basic(auth) = Login::password("AWS", &sandbox.token()) else { unreachable!() };
/// let text = format!(r#"{{"auths": {{"{host}": {{"auth": "{auth}"}}}}}}"#);
/// let mut options = Options::default();
/// options.registries.keychain = Keychain { text: Some(text), files: Vec::new() };
/// let pusher = Pusher::builder().options(options).start().await?;
/// let archive = Source::Path("testdata/docker-20.10-save.tar".into());
/// let request = PushRequest::new(archive, [format!("{host}/team/app:1").parse()?]);
/// pusher.push(request, CancellationToken::new()).await.into_result()?;
/// assert!(sandbox.image("team/app", "1").is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Keychain {
    /// The content of `DOCKER_AUTH_CONFIG`, which GitLab Runner and docker read.
    pub text: Option<String>,
    /// The paths of the files, which may not exist.
    pub files: Vec<PathBuf>,
}

impl fmt::Debug for Keychain {
    /// Formats it without the text, which contains credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keychain({:?})", self.files)
    }
}

/// The variable with the content of [`Keychain::text`].
const VARIABLE: &str = "DOCKER_AUTH_CONFIG";

/// A login of docker or podman.
#[derive(Clone, Debug)]
pub struct StoredLogin {
    /// The login.
    pub login: Login,
    /// Its source and its user, for messages.
    pub origin: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    auths: HashMap<String, Entry>,
    #[serde(rename = "credsStore")]
    store: String,
    #[serde(rename = "credHelpers")]
    helpers: HashMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperOutput {
    username: String,
    secret: String,
}

impl Keychain {
    /// Finds the login for all of these repositories of a registry.
    ///
    /// # Errors
    /// Fails if no login is found and a file cannot be read, or a helper failed.
    pub async fn find(&self, host: &Host, repositories: &[Repository]) -> Result<Option<StoredLogin>> {
        let mut failure = None;
        let mut sources: Vec<LoginFile<'_>> = self.text.iter().map(|text| LoginFile::Text(text)).collect();
        sources.extend(self.files.iter().map(|path| LoginFile::File(path)));
        for source in sources {
            let (name, file) = match source {
                LoginFile::Text(text) => (VARIABLE.to_owned(), parse(VARIABLE, text.as_bytes())),
                LoginFile::File(path) => (path.display().to_string(), read(path).await),
            };
            let found = match file {
                Ok(Some(file)) => find_in(&file, &name, host, repositories).await,
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            };
            match found {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                Err(error) => drop(failure.get_or_insert(error)),
            }
        }
        failure.map_or(Ok(None), Err)
    }
}

/// One source of credentials.
enum LoginFile<'a> {
    Text(&'a str),
    File(&'a Path),
}

async fn find_in(file: &File, source: &str, host: &Host, repositories: &[Repository]) -> Result<Option<StoredLogin>> {
    // The helper for this registry, the file's own logins, the store for all registries: docker's order.
    let named = |key: &String, helper: &String| is_of(key, host) && !helper.is_empty();
    // Of several spellings, docker's own counts, else always the same one.
    let helpers = file.helpers.iter().filter(|(key, helper)| named(key, helper));
    let helper = helpers.min_by_key(|(key, _)| (key.as_str() != host.as_str(), key.as_str()));
    if let Some((key, helper)) = helper
        && let Some(found) = ask_helper(helper, key, source).await?
    {
        return Ok(Some(found));
    }
    let entry = best_entry(&file.auths, host, repositories);
    if let Some((key, entry)) = entry
        && let Some(login) = entry.login(key, source)?
    {
        let user = entry.user().map(|user| format!(" of {user}")).unwrap_or_default();
        return Ok(Some(StoredLogin { login, origin: format!("the login{user} in {source}") }));
    }
    if file.store.is_empty() {
        return Ok(None);
    }
    let key = entry.map_or_else(|| if is_hub(host.as_str()) { DOCKER_HUB_KEY } else { host.as_str() }, |(key, _)| key);
    ask_helper(&file.store, key, source).await
}

async fn read(path: &Path) -> Result<Option<File>> {
    let source = path.display().to_string();
    match tokio::task::spawn_blocking({
        let path = path.to_owned();
        move || file::read(&path, MAX_SIZE)
    })
    .await
    .unwrap_or_else(|died| Err(io::Error::other(died)))
    {
        Ok(bytes) => parse(&source, &bytes),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(unreadable(&source, error)),
    }
}

fn parse(source: &str, bytes: &[u8]) -> Result<Option<File>> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    serde_json::from_slice(bytes).map(Some).map_err(|error| {
        // Only the position, since serde quotes values.
        let at = format!("line {}, column {}", error.line(), error.column());
        unreadable(source, io::Error::other(format!("it is not valid JSON of docker or podman at {at}")))
            .hint("Correct it, or log in again with docker login or podman login.")
    })
}

fn unreadable(source: &str, error: io::Error) -> Error {
    Error::new(Kind::Permission, format!("cannot read the credentials in {source}"))
        .because(error)
        .code(Code::CredentialsRejected)
}

/// Returns the best entry: the longest of podman's keys, which may name a part of a registry, that covers all repositories;
/// else one that names the registry in any of docker's forms.
fn best_entry<'a>(auths: &'a HashMap<String, Entry>, host: &Host, all: &[Repository]) -> Option<(&'a str, &'a Entry)> {
    let covers = |key: &str| {
        let inside = key.strip_prefix(host.as_str()).and_then(|rest| rest.strip_prefix('/'));
        let has = |inside: &str, name: &str| {
            name.strip_prefix(inside).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        inside.is_some_and(|inside| !all.is_empty() && all.iter().all(|name| has(inside, name.as_str())))
    };
    let longest = auths.iter().filter(|(key, _)| covers(key)).max_by_key(|(key, _)| key.len());
    let exact = || auths.get_key_value(host.as_str());
    // Of several spellings, always the same one counts.
    let spelled = || auths.iter().filter(|(key, _)| is_of(key, host)).min_by_key(|(key, _)| key.as_str());
    longest.or_else(exact).or_else(spelled).map(|(key, entry)| (key.as_str(), entry))
}

/// Returns whether a key names the registry: by its host, or by a URL as early versions of docker wrote.
fn is_of(key: &str, host: &Host) -> bool {
    let without_scheme = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let name = match without_scheme {
        Some(rest) => rest.split('/').next().unwrap_or_default(),
        None => key,
    };
    let plain = |name: &str| name.to_ascii_lowercase().trim_end_matches(":443").to_owned();
    plain(name) == plain(host.as_str()) || is_hub(name) && is_hub(host.as_str())
}

fn is_hub(name: &str) -> bool {
    DOCKER_HUB_NAMES.contains(&name)
}

impl Entry {
    fn decoded(&self) -> Option<Result<(String, String), ()>> {
        let auth = self.auth.as_deref().filter(|auth| !auth.is_empty())?;
        let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        let engine = GeneralPurpose::new(&base64::alphabet::STANDARD, config);
        let text = engine.decode(auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let halves = text.and_then(|text| text.split_once(':').map(|(user, word)| (user.to_owned(), word.to_owned())));
        // Early versions of docker padded with zeros; docker still removes them.
        Some(halves.map(|(user, word)| (user, word.trim_matches('\0').to_owned())).ok_or(()))
    }

    fn user(&self) -> Option<String> {
        let stated = self.username.clone().filter(|user| !user.is_empty());
        stated.or_else(|| self.decoded()?.ok().map(|(user, _)| user).filter(|user| !user.is_empty()))
    }

    /// Returns the login of the entry. An empty entry refers to a store.
    fn login(&self, key: &str, source: &str) -> Result<Option<Login>> {
        if let Some(token) = self.identitytoken.as_ref().filter(|token| !token.is_empty()) {
            return Ok(Some(Login::IdentityToken(token.clone())));
        }
        match (self.decoded(), &self.username, &self.password) {
            (Some(Ok((user, password))), ..) => Ok(Some(Login::password(&user, &password))),
            (Some(Err(())), ..) => {
                let what = format!("the login for {key} in {source} is not a base64-encoded user and password");
                Err(Error::new(Kind::Permission, what)
                    .code(Code::CredentialsRejected)
                    .hint(Advice::new("Log in again:").command(format!("docker login {key}"))))
            }
            (None, Some(user), Some(password)) if !user.is_empty() => Ok(Some(Login::password(user, password))),
            _ => Ok(None),
        }
    }
}

/// Asks a helper for the login under a key, after checking its name (<https://github.com/docker/docker-credential-helpers>). `None` if it has none.
async fn ask_helper(helper: &str, key: &str, source: &str) -> Result<Option<StoredLogin>> {
    let program = format!("docker-credential-{helper}");
    let is_name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if helper.is_empty() || !helper.chars().all(is_name) {
        return Err(failed(&program, key, source, "that is not a valid helper name".into()));
    }
    run_helper(&program, key, source).await
}

/// Runs a helper for the login under a key.
async fn run_helper(program: &str, key: &str, source: &str) -> Result<Option<StoredLogin>> {
    let fail = |why: String| failed(program, key, source, why);
    let output = match tokio::time::timeout(HELPER_TIMEOUT, run(program, key)).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            let what = format!("cannot get the login for {key}: {program}, which {source} names, is missing");
            let why = io::Error::other(format!("there is no program {program} on the PATH"));
            let hint = format!("Install {program}, or log in again without it: remove its name from {source}.");
            return Err(Error::new(Kind::Permission, what).because(why).code(Code::CredentialsMissing).hint(hint));
        }
        Ok(Err(error)) if is_exhausted(&error) => {
            let error = fail(error.to_string()).with_kind(Kind::Unavailable).code(Code::ResourcesExhausted);
            return Err(error.hint("Allow more processes (the container's pids limit, ulimit -u), or end others."));
        }
        Ok(Err(error)) => return Err(fail(error.to_string())),
        Err(_) => return Err(fail(format!("no response within {} s", HELPER_TIMEOUT.as_secs()))),
    };
    if !output.status.success() {
        // Helpers print their errors to stdout; one that fails late might print the secret.
        let stdout = String::from_utf8_lossy(&output.stdout);
        if stdout.contains("credentials not found") {
            return Ok(None);
        }
        let line = stdout.lines().next().unwrap_or_default();
        let line = one_line(line, 200);
        // A single word may be the bare secret; a sentence is an error.
        let is_shown = line.split_whitespace().nth(1).is_some() && !stdout.contains(['{', '"']);
        return Err(fail(if is_shown { format!("{line} ({})", output.status) } else { output.status.to_string() }));
    }
    let output: HelperOutput =
        serde_json::from_slice(&output.stdout).map_err(|_| fail("its output is invalid".to_owned()))?;
    let (login, user) = match output {
        HelperOutput { secret, .. } if secret.is_empty() => return Ok(None),
        HelperOutput { username, secret } if username == "<token>" => (Login::IdentityToken(secret), String::new()),
        HelperOutput { username, secret } => (Login::password(&username, &secret), format!(" of {username}")),
    };
    Ok(Some(StoredLogin { login, origin: format!("the login{user} from {program}, which {source} names") }))
}

fn failed(program: &str, key: &str, source: &str, why: String) -> Error {
    let what = format!("cannot get the login for {key} from {program}, which {source} names");
    let hint = Advice::new("Check its output:").command(format!("echo {key} | {program} get"));
    Error::new(Kind::Permission, what).because(io::Error::other(why)).code(Code::CredentialsRejected).hint(hint)
}

/// Runs a helper to its end, and kills it with this process or on cancellation.
async fn run(program: &str, key: &str) -> io::Result<Output> {
    let mut command = Command::new(program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper need not read its input.
        stdin.write_all(key.as_bytes()).await.ok();
    }
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_SIZE).read_to_end(&mut output).await?;
    }
    Ok(Output { status: child.wait().await?, stdout: output, stderr: Vec::new() })
}

#[cfg(test)]
mod tests;
