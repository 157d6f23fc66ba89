//! Logins that docker and podman keep: `config.json`, `auth.json`, and the helpers that these name.
//!
//! The crate `docker_credential` reads them, too. It waits for a helper as long as that likes, names none that is missing,
//! quotes what a failed one printed, which may be the secret, and knows none of podman's keys for parts of a registry.

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
use crate::error::{Advice, Code, Error, Kind, Result, is_exhausted};
use crate::file;
use crate::oci::{Host, Repository};

/// How long a helper may take. Some ask their user.
const PATIENCE: Duration = Duration::from_secs(60);

/// More than any such file has, or helper says.
const LARGEST: u64 = 4 << 20;

/// What Docker Hub is called in docker's own files.
const HUB: &str = "https://index.docker.io/v1/";

/// The names that Docker Hub goes by.
const HUBS: [&str; 4] = ["docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];

/// Where logins are kept. The first place that has one counts.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Keychain {
    /// The text of such a file, from a variable: `DOCKER_AUTH_CONFIG`, as GitLab's runner and docker read it.
    pub text: Option<String>,
    /// Where the files are, if they are.
    pub files: Vec<PathBuf>,
}

impl fmt::Debug for Keychain {
    /// Without the text, which holds logins.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keychain({:?})", self.files)
    }
}

/// What the variable is called.
const VARIABLE: &str = "DOCKER_AUTH_CONFIG";

/// A login that was found.
#[derive(Clone, Debug)]
pub struct StoredLogin {
    /// The login.
    pub login: Login,
    /// Where it is from, and for whom, for people.
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
struct ServiceError {
    username: String,
    secret: String,
}

impl Keychain {
    /// The login for all of these repositories of a registry, if there is one.
    ///
    /// # Errors
    /// If none is found and a file cannot be read, or a helper failed.
    pub async fn find(&self, host: &Host, repositories: &[Repository]) -> Result<Option<StoredLogin>> {
        let mut failure = None;
        let mut places: Vec<LoginSourceFile<'_>> = self.text.iter().map(|text| LoginSourceFile::Text(text)).collect();
        places.extend(self.files.iter().map(|path| LoginSourceFile::File(path)));
        for place in places {
            let (name, file) = match place {
                LoginSourceFile::Text(text) => (VARIABLE.to_owned(), parse(VARIABLE, text.as_bytes())),
                LoginSourceFile::File(path) => (path.display().to_string(), read(path).await),
            };
            let found = match file {
                Ok(Some(file)) => look(&file, &name, host, repositories).await,
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

/// Where logins are kept.
enum LoginSourceFile<'a> {
    Text(&'a str),
    File(&'a Path),
}

async fn look(file: &File, place: &str, host: &Host, repositories: &[Repository]) -> Result<Option<StoredLogin>> {
    // The helper for one registry, the file's own logins, the store for all registries: docker's order.
    let named = |key: &String, helper: &String| is_of(key, host) && !helper.is_empty();
    // Of several spellings docker's own, else the same one each time.
    let helpers = file.helpers.iter().filter(|(key, helper)| named(key, helper));
    let helper = helpers.min_by_key(|(key, _)| (key.as_str() != host.as_str(), key.as_str()));
    if let Some((key, helper)) = helper
        && let Some(found) = ask(helper, key, place).await?
    {
        return Ok(Some(found));
    }
    let entry = best(&file.auths, host, repositories);
    if let Some((key, entry)) = entry
        && let Some(login) = entry.login(key, place)?
    {
        let user = entry.user().map(|user| format!(" of {user}")).unwrap_or_default();
        return Ok(Some(StoredLogin { login, origin: format!("the login{user} in {place}") }));
    }
    if file.store.is_empty() {
        return Ok(None);
    }
    let key = entry.map_or_else(|| if is_hub(host.as_str()) { HUB } else { host.as_str() }, |(key, _)| key);
    ask(&file.store, key, place).await
}

async fn read(path: &Path) -> Result<Option<File>> {
    let place = path.display().to_string();
    match tokio::task::spawn_blocking({
        let path = path.to_owned();
        move || file::read(&path, LARGEST)
    })
    .await
    .unwrap_or_else(|died| Err(io::Error::other(died)))
    {
        Ok(bytes) => parse(&place, &bytes),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(unreadable(&place, error)),
    }
}

fn parse(place: &str, bytes: &[u8]) -> Result<Option<File>> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    serde_json::from_slice(bytes).map(Some).map_err(|error| {
        // Only where, since serde quotes values.
        let at = format!("line {}, column {}", error.line(), error.column());
        unreadable(place, io::Error::other(format!("it is not what docker or podman write, at {at}")))
            .hint("Correct it, or log in again with docker login or podman login.")
    })
}

fn unreadable(place: &str, error: io::Error) -> Error {
    Error::new(Kind::Permission, format!("cannot read the logins in {place}"))
        .because(error)
        .code(Code::CredentialsRejected)
}

/// The entry that fits best: of podman's keys, which may name a part of a registry, the longest that all repositories are
/// in; else one that names the registry in any of docker's ways.
fn best<'a>(auths: &'a HashMap<String, Entry>, host: &Host, all: &[Repository]) -> Option<(&'a str, &'a Entry)> {
    let covers = |key: &str| {
        let inside = key.strip_prefix(host.as_str()).and_then(|rest| rest.strip_prefix('/'));
        let has = |inside: &str, name: &str| {
            name.strip_prefix(inside).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        inside.is_some_and(|inside| !all.is_empty() && all.iter().all(|name| has(inside, name.as_str())))
    };
    let longest = auths.iter().filter(|(key, _)| covers(key)).max_by_key(|(key, _)| key.len());
    let exact = || auths.get_key_value(host.as_str());
    // Of several spellings the same one each time.
    let spelt = || auths.iter().filter(|(key, _)| is_of(key, host)).min_by_key(|(key, _)| key.as_str());
    longest.or_else(exact).or_else(spelt).map(|(key, entry)| (key.as_str(), entry))
}

/// Whether a key names the registry: by its host, or by a URL as docker once wrote them all.
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
    HUBS.contains(&name)
}

impl Entry {
    fn decoded(&self) -> Option<Result<(String, String), ()>> {
        let auth = self.auth.as_deref().filter(|auth| !auth.is_empty())?;
        let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        let engine = GeneralPurpose::new(&base64::alphabet::STANDARD, config);
        let text = engine.decode(auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let halves = text.and_then(|text| text.split_once(':').map(|(user, word)| (user.to_owned(), word.to_owned())));
        // docker of old padded with zeros, and still takes them off.
        Some(halves.map(|(user, word)| (user, word.trim_matches('\0').to_owned())).ok_or(()))
    }

    fn user(&self) -> Option<String> {
        let stated = self.username.clone().filter(|user| !user.is_empty());
        stated.or_else(|| self.decoded()?.ok().map(|(user, _)| user).filter(|user| !user.is_empty()))
    }

    /// The login, if the entry holds one. An empty entry stands for one in a store.
    fn login(&self, key: &str, place: &str) -> Result<Option<Login>> {
        if let Some(token) = self.identitytoken.as_ref().filter(|token| !token.is_empty()) {
            return Ok(Some(Login::IdentityToken(token.clone())));
        }
        match (self.decoded(), &self.username, &self.password) {
            (Some(Ok((user, password))), ..) => Ok(Some(Login::password(&user, &password))),
            (Some(Err(())), ..) => {
                let what = format!("the login for {key} in {place} is no user and password in base64");
                Err(Error::new(Kind::Permission, what)
                    .code(Code::CredentialsRejected)
                    .hint(format!("Log in anew:\n  docker login {key}")))
            }
            (None, Some(user), Some(password)) if !user.is_empty() => Ok(Some(Login::password(user, password))),
            _ => Ok(None),
        }
    }
}

/// Asks a helper (<https://github.com/docker/docker-credential-helpers>). `None`: it has no such login.
async fn ask(helper: &str, key: &str, place: &str) -> Result<Option<StoredLogin>> {
    let program = format!("docker-credential-{helper}");
    let is_name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if helper.is_empty() || !helper.chars().all(is_name) {
        return Err(failed(&program, key, place, "that is no name of a helper".into()));
    }
    interview(&program, key, place).await
}

/// Asks a program for the login that is kept under a key.
async fn interview(program: &str, key: &str, place: &str) -> Result<Option<StoredLogin>> {
    let fail = |why: String| failed(program, key, place, why);
    let output = match tokio::time::timeout(PATIENCE, run(program, key)).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            let what = format!("cannot get the login for {key}: {program}, which {place} names, is missing");
            let why = io::Error::other(format!("there is no program {program} on the PATH"));
            let hint = format!("Install {program}, or log in again without it: remove its name from {place}.");
            return Err(Error::new(Kind::Permission, what).because(why).code(Code::CredentialsMissing).hint(hint));
        }
        Ok(Err(error)) if is_exhausted(&error) => {
            let error = fail(error.to_string()).with_kind(Kind::Unavailable).code(Code::ResourcesExhausted);
            return Err(error.hint("Allow more processes (the container's pids limit, ulimit -u), or end others."));
        }
        Ok(Err(error)) => return Err(fail(error.to_string())),
        Err(_) => return Err(fail(format!("no answer within {} s", PATIENCE.as_secs()))),
    };
    if !output.status.success() {
        // Helpers tell their errors on stdout, and so might one that fails with the secret in hand.
        let said = String::from_utf8_lossy(&output.stdout);
        if said.contains("credentials not found") {
            return Ok(None);
        }
        let line = said.lines().next().unwrap_or_default();
        let line = line.chars().filter(|c| !c.is_control()).take(200).collect::<String>();
        // A single word may be the bare secret; a sentence is an error.
        let is_shown = line.split_whitespace().nth(1).is_some() && !said.contains(['{', '"']);
        return Err(fail(if is_shown { format!("{line} ({})", output.status) } else { output.status.to_string() }));
    }
    let answer: ServiceError =
        serde_json::from_slice(&output.stdout).map_err(|_| fail("its answer makes no sense".to_owned()))?;
    let (login, user) = match answer {
        ServiceError { secret, .. } if secret.is_empty() => return Ok(None),
        ServiceError { username, secret } if username == "<token>" => (Login::IdentityToken(secret), String::new()),
        ServiceError { username, secret } => (Login::password(&username, &secret), format!(" of {username}")),
    };
    Ok(Some(StoredLogin { login, origin: format!("the login{user} from {program}, which {place} names") }))
}

fn failed(program: &str, key: &str, place: &str, why: String) -> Error {
    let what = format!("cannot get the login for {key} from {program}, which {place} names");
    let hint = Advice::new("See what it answers:").command(format!("echo {key} | {program} get"));
    Error::new(Kind::Permission, what).because(io::Error::other(why)).code(Code::CredentialsRejected).hint(hint)
}

/// Runs a helper to its end. It is ended with us, and when nobody waits for it any more.
async fn run(program: &str, key: &str) -> io::Result<Output> {
    let mut command = Command::new(program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read it needs none.
        stdin.write_all(key.as_bytes()).await.ok();
    }
    let mut said = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(LARGEST).read_to_end(&mut said).await?;
    }
    Ok(Output { status: child.wait().await?, stdout: said, stderr: Vec::new() })
}

#[cfg(test)]
mod tests;
