//! AWS configuration files: read once per run, and the profile that is selected in them.
//!
//! A profile that the user names must exist and be usable: no other source of credentials replaces it.

use std::ffi::OsString;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use aws_credential_types::Credentials;
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_runtime::env_config::section::{EnvConfigSections, Profile};
use aws_runtime::env_config::source;
use aws_types::os_shim_internal::{Env, Fs};
use futures_util::FutureExt as _;

use super::process::CredentialProcess;
use crate::error::{Advice, Code, Error, Kind, Result, one_line};
use crate::file;

/// The maximum size of a configuration file in bytes. Such files have some kilobytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The profile that is selected if none is named.
const DEFAULT: &str = "default";

/// A profile that an option or a variable names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NamedProfile {
    /// The profile's name.
    pub name: String,
    /// The option or the variable that names it.
    pub from: &'static str,
}

impl fmt::Display for NamedProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the profile {} ({})", self.name, self.from)
    }
}

/// The configuration files as they were read, and the selected profile.
#[derive(Clone, Debug, Default)]
pub struct Profiles {
    named: Option<NamedProfile>,
    files: Vec<ConfigFile>,
}

#[derive(Clone)]
struct ConfigFile {
    kind: EnvConfigFileKind,
    path: PathBuf,
    contents: Contents,
}

impl fmt::Debug for ConfigFile {
    /// Formats it without its contents, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConfigFile({})", self.path.display())
    }
}

#[derive(Clone)]
enum Contents {
    Text(String),
    /// The file does not exist, for this reason. AWS's tools treat it as empty.
    Missing(String),
    /// The file exists and cannot be read or parsed, for this reason.
    Unusable(String),
}

/// The selected profile, parsed.
pub(super) struct Selected {
    pub(super) named: Option<NamedProfile>,
    sections: EnvConfigSections,
    /// The sections of the credentials file only.
    credentials_file: EnvConfigSections,
    /// The contents of the files.
    texts: Vec<(EnvConfigFileKind, String)>,
}

impl fmt::Debug for Selected {
    /// Formats it without its settings, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Selected({})", self.described())
    }
}

impl Profiles {
    /// Reads the files that the environment names, or those in the home folder.
    pub fn read(named: Option<NamedProfile>, environment: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let home = environment(if cfg!(windows) { "USERPROFILE" } else { "HOME" }).map(PathBuf::from);
        let file = |kind, variable, name: &str| {
            let path = match environment(variable) {
                Some(path) => Some(from_home(Path::new(&path), home.as_deref())),
                None => home.as_ref().map(|home| home.join(".aws").join(name)),
            };
            path.map(|path| ConfigFile { kind, contents: read(&path, kind), path })
        };
        let files = [
            file(EnvConfigFileKind::Config, "AWS_CONFIG_FILE", "config"),
            file(EnvConfigFileKind::Credentials, "AWS_SHARED_CREDENTIALS_FILE", "credentials"),
        ];
        Self { named, files: files.into_iter().flatten().collect() }
    }

    /// Treats unusable files as empty, and returns a note for each. For callers whose identity does not come from a profile.
    pub fn ignore_unusable_files(&mut self) -> Vec<String> {
        let mut notes = Vec::new();
        for file in &mut self.files {
            if let Contents::Unusable(why) = &file.contents {
                notes.push(format!("the AWS configuration file {} is ignored: {why}", file.path.display()));
                file.contents = Contents::Missing(why.clone());
            }
        }
        notes
    }

    /// Returns the CA file that the selected profile names, with a description of that setting. Ignores errors, which are
    /// reported when credentials are needed.
    pub fn ca_bundle(&self) -> Option<(String, PathBuf)> {
        let selected = self.select().ok()?;
        let path = selected.get("ca_bundle").filter(|path| !path.is_empty())?;
        Some((format!("ca_bundle of {}", selected.described()), PathBuf::from(path)))
    }

    /// Returns whether the selected profile assumes a role with the credentials of another source.
    pub fn assumes_role(&self) -> bool {
        self.select().is_ok_and(|selected| selected.assumes_role())
    }

    /// Parses the files and checks that a named profile exists.
    ///
    /// # Errors
    /// Fails if a file cannot be read or parsed, or if no file defines the named profile.
    pub(super) fn select(&self) -> Result<Selected> {
        for file in &self.files {
            if let Contents::Unusable(why) = &file.contents {
                return Err(unusable(file, why.clone()));
            }
        }
        let texts: Vec<_> = self.files.iter().map(|file| (file.kind, file.text())).collect();
        let name = self.named.as_ref().map_or(DEFAULT, |named| &named.name);
        let invalid = |why| invalid(&self.described()).because(why);
        let sections = parse(&texts, name).map_err(invalid)?;
        if self.named.is_some() && sections.get_profile(name).is_none() {
            let files = self.files.iter().map(ConfigFile::to_string).collect::<Vec<_>>().join(", nor in ");
            let files = if files.is_empty() { "no configuration file was found".to_owned() } else { files };
            return Err(invalid(format!("it is not defined in {files}"))
                .hint(Advice::new("Correct the name. These profiles exist:").command("aws configure list-profiles")));
        }
        let own = texts.iter().filter(|(kind, _)| matches!(kind, EnvConfigFileKind::Credentials)).copied();
        Ok(Selected {
            named: self.named.clone(),
            sections,
            credentials_file: parse(&own.collect::<Vec<_>>(), name).map_err(invalid)?,
            texts: texts.iter().map(|(kind, text)| (*kind, (*text).to_owned())).collect(),
        })
    }

    fn described(&self) -> String {
        described(self.named.as_ref())
    }
}

impl ConfigFile {
    fn text(&self) -> &str {
        match &self.contents {
            Contents::Text(text) => text,
            Contents::Missing(_) | Contents::Unusable(_) => "",
        }
    }
}

impl fmt::Display for ConfigFile {
    /// Formats its path, and why it cannot be used.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        match &self.contents {
            Contents::Text(_) => Ok(()),
            Contents::Missing(why) | Contents::Unusable(why) => write!(f, " ({why})"),
        }
    }
}

impl Selected {
    /// Returns the profile's name.
    pub(super) fn name(&self) -> &str {
        self.sections.selected_profile()
    }

    /// Returns the profile with the option or variable that names it, for messages.
    pub(super) fn described(&self) -> String {
        described(self.named.as_ref())
    }

    /// Returns a setting of the profile.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.sections.get(key)
    }

    /// Returns the files for the SDK, which then does not read them itself.
    pub(super) fn files(&self) -> EnvConfigFiles {
        files(&self.texts.iter().map(|(kind, text)| (*kind, text.as_str())).collect::<Vec<_>>())
    }

    /// Returns the process that provides the credentials, if one does: that of the last profile in the chain of roles.
    pub(super) fn process(&self) -> Option<CredentialProcess> {
        let base = self.chain().pop()?;
        // The SDK prefers these to a process.
        let others = ["credential_source", "login_session", "web_identity_token_file"];
        let sso = ["sso_account_id", "sso_region", "sso_role_name", "sso_session", "sso_start_url"];
        let is_other = others.into_iter().chain(sso).any(|key| base.get(key).is_some());
        base.get("credential_process")
            .filter(|_| !is_other && !assumes_role(base))
            .map(|command| CredentialProcess(command.to_owned()))
    }

    /// Returns the files for the SDK, changed so that it gets the credentials of a process from the provider of this name.
    pub(super) fn files_with_source(&self, provider: &str) -> EnvConfigFiles {
        let base = self.chain().pop().map_or(DEFAULT, |base| base.name());
        let source = format!("[{base}]\ncredential_source = {provider}\n");
        let mut texts: Vec<_> = self.texts.iter().map(|(kind, text)| (*kind, text.as_str())).collect();
        texts.push((EnvConfigFileKind::Credentials, &source));
        files(&texts)
    }

    /// Returns whether the profile assumes a role with the credentials of another source.
    pub(super) fn assumes_role(&self) -> bool {
        self.sections.get_profile(self.name()).is_some_and(assumes_role)
    }

    /// Returns whether the profile has any setting for credentials.
    pub(super) fn sets_up_credentials(&self) -> bool {
        ["aws_access_key_id", "aws_secret_access_key", "credential_process", "credential_source", "login_session"]
            .into_iter()
            .chain(["role_arn", "source_profile", "sso_account_id", "sso_role_name", "web_identity_token_file"])
            .any(|key| self.get(key).is_some())
    }

    /// Returns the keys in the credentials file that take precedence over other settings of the same profile: the AWS CLI
    /// uses them before `login_session` and `credential_process` (botocore's `ProfileProviderBuilder.providers`), and the
    /// SDK does not.
    pub(super) fn keys_of_credentials_file(&self) -> Option<Credentials> {
        if ["role_arn", "sso_account_id", "sso_role_name"].into_iter().any(|key| self.get(key).is_some()) {
            return None;
        }
        let key = |name| self.credentials_file.get(name);
        let (id, secret) = (key("aws_access_key_id")?, key("aws_secret_access_key")?);
        Some(Credentials::new(id, secret, key("aws_session_token").map(str::to_owned), None, "credentials file"))
    }

    /// Returns the command of the AWS CLI that logs in, if the credentials come from a login. It names the profile with the
    /// settings of the login: the last one in the chain of roles.
    pub(super) fn log_in_command(&self) -> Option<String> {
        let base = self.chain().pop()?;
        let is_sso = ["sso_session", "sso_start_url", "sso_account_id"].into_iter().any(|key| base.get(key).is_some());
        let command = match base.get("login_session") {
            _ if is_sso => "aws sso login",
            Some(_) => "aws login",
            None => return None,
        };
        let option = if base.name() == self.name() { self.option() } else { option(base.name()) };
        Some(format!("{command}{option}"))
    }

    /// Checks that no MFA code has to be typed: `mfa_serial` makes the AWS CLI ask for one.
    ///
    /// # Errors
    /// Fails if a role in the chain requires a code.
    pub(super) fn check_no_code_needed(&self) -> Result<()> {
        let mut roles = self.chain().into_iter().filter(|profile| assumes_role(profile));
        let Some(profile) = roles.find(|profile| profile.get("mfa_serial").is_some()) else { return Ok(()) };
        let device = profile.get("mfa_serial").unwrap_or_default();
        let whose = if profile.name() == self.name() { "it" } else { "its source profile" };
        let command = format!(r#"eval "$(aws configure export-credentials --format env{})""#, self.option());
        Err(invalid(&self.described())
            .because(format!(
                "{whose} asks for a code of the MFA device {device} (mfa_serial), which a person must type"
            ))
            .hint(
                Advice::new(
                    "Get credentials with the AWS CLI, which asks for the code, and push without naming the profile:",
                )
                .command(command),
            ))
    }

    /// Returns the option of the AWS CLI for this profile, with a leading blank. Empty for the default profile.
    pub(super) fn option(&self) -> String {
        self.named.as_ref().map_or_else(String::new, |named| option(&named.name))
    }

    /// Returns the selected profile, followed by the source profiles of its roles.
    fn chain(&self) -> Vec<&Profile> {
        let mut chain: Vec<&Profile> = Vec::new();
        let mut next = self.sections.get_profile(self.name());
        while let Some(profile) = next.filter(|profile| chain.iter().all(|seen| seen.name() != profile.name())) {
            let has_keys = profile.get("aws_access_key_id").is_some();
            let is_last = !assumes_role(profile) || has_keys && !chain.is_empty();
            chain.push(profile);
            let source = profile.get("source_profile").filter(|_| !is_last);
            next = source.and_then(|name| self.sections.get_profile(name));
        }
        chain
    }
}

/// Creates the error about a profile that cannot be used.
pub(super) fn invalid(described: &str) -> Error {
    Error::new(Kind::Permission, format!("cannot use {described}")).code(Code::ProfileInvalid)
}

fn described(named: Option<&NamedProfile>) -> String {
    named.map_or_else(|| "the default profile".to_owned(), NamedProfile::to_string)
}

/// Formats the option for a profile, whose name is quoted if it contains blanks.
fn option(profile: &str) -> String {
    if profile.contains(char::is_whitespace) {
        format!(" --profile {profile:?}")
    } else {
        format!(" --profile {profile}")
    }
}

fn assumes_role(profile: &Profile) -> bool {
    profile.get("role_arn").is_some() && profile.get("web_identity_token_file").is_none()
}

fn unusable(file: &ConfigFile, why: String) -> Error {
    let what = format!("cannot use the AWS configuration file {}", file.path.display());
    let variable = match file.kind {
        EnvConfigFileKind::Credentials => "AWS_SHARED_CREDENTIALS_FILE",
        _ => "AWS_CONFIG_FILE",
    };
    Error::new(Kind::Permission, what)
        .code(Code::ProfileInvalid)
        .because(why)
        .hint(format!("Correct the file, or set {variable} to another one."))
}

/// Returns the files for the SDK, with an empty one: the SDK panics without any file.
fn files(texts: &[(EnvConfigFileKind, &str)]) -> EnvConfigFiles {
    let empty = EnvConfigFiles::builder().with_contents(EnvConfigFileKind::Config, "");
    texts.iter().fold(empty, |files, (kind, text)| files.with_contents(*kind, *text)).build()
}

/// Parses files as one configuration, or returns why that fails.
fn parse(texts: &[(EnvConfigFileKind, &str)], profile: &str) -> Result<EnvConfigSections, String> {
    let loaded = source::load(&Env::from_slice(&[]), &Fs::from_slice(&[]), &files(texts)).now_or_never();
    let mut source = loaded.transpose().map_err(|why| why.to_string())?.ok_or("it cannot be parsed")?;
    source.profile = profile.to_owned().into();
    EnvConfigSections::parse(source).map_err(|why| {
        // The message starts with a path, which is empty here.
        one_line(why.to_string().trim_start_matches("error parsing"), usize::MAX)
    })
}

/// Replaces `~` at the beginning of a path by the home folder.
fn from_home(path: &Path, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path.to_owned(),
    }
}

fn read(path: &Path, kind: EnvConfigFileKind) -> Contents {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => {
            return match error.kind() {
                ErrorKind::NotFound | ErrorKind::NotADirectory => Contents::Missing("no such file".into()),
                // The file may exist. For a user other than the owner of HOME, it counts as missing.
                ErrorKind::PermissionDenied => Contents::Missing("no permission to read it".into()),
                _ => Contents::Unusable(error.to_string()),
            };
        }
    };
    // The AWS CLI also ignores /dev/null and folders.
    if !metadata.is_file() {
        return Contents::Missing("not a regular file".into());
    }
    match file::read(path, MAX_FILE_BYTES).map(String::from_utf8) {
        Err(error) => Contents::Unusable(error.to_string()),
        Ok(Err(_)) => Contents::Unusable("it is not UTF-8 text".into()),
        Ok(Ok(text)) => checked(text, kind),
    }
}

/// Checks that a text can be parsed.
fn checked(text: String, kind: EnvConfigFileKind) -> Contents {
    match parse(&[(kind, &text)], DEFAULT) {
        Ok(_) => Contents::Text(text),
        Err(why) => Contents::Unusable(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(name: Option<&str>, config: &str, credentials: &str) -> Result<Selected> {
        let file =
            |kind, text: &str| ConfigFile { kind, path: "there".into(), contents: checked(text.to_owned(), kind) };
        let files = vec![file(EnvConfigFileKind::Config, config), file(EnvConfigFileKind::Credentials, credentials)];
        let named = name.map(|name| NamedProfile { name: name.to_owned(), from: "AWS_PROFILE" });
        Profiles { named, files }.select()
    }

    #[test]
    fn keys_in_the_credentials_file_take_precedence_over_a_process_but_not_over_a_role() {
        let keys = "[p]\naws_access_key_id = AKIA\naws_secret_access_key = s\n";
        let id = |config: &str| {
            let found = selected(Some("p"), config, keys).unwrap().keys_of_credentials_file();
            found.map(|keys| keys.access_key_id().to_owned())
        };
        assert_eq!(id("[profile p]\ncredential_process = x\n").as_deref(), Some("AKIA"));
        assert_eq!(id("[profile p]\nrole_arn = r\nsource_profile = p\n"), None);
        assert_eq!(id("[profile p]\nsso_account_id = 1\n"), None);
    }

    #[test]
    fn a_code_is_required_if_a_role_in_the_chain_requires_one() {
        let base = "[profile base]\naws_access_key_id = A\naws_secret_access_key = s\nmfa_serial = m\n";
        let asks =
            |text: &str| selected(Some("p"), &format!("{text}{base}"), "").unwrap().check_no_code_needed().is_err();
        assert!(!asks("[profile p]\nmfa_serial = m\n"), "no role is assumed");
        assert!(!asks("[profile p]\nrole_arn = r\nsource_profile = base\n"), "the base has keys");
        assert!(asks("[profile p]\nrole_arn = r\nsource_profile = base\nmfa_serial = m\n"));
        let chained = "[profile p]\nrole_arn = r\nsource_profile = q\n[profile q]\nrole_arn = r\nmfa_serial = m\n";
        assert!(asks(&format!("{chained}source_profile = base\n")));
        assert!(asks("[profile p]\nrole_arn = r\nsource_profile = p\nmfa_serial = m\n"), "a loop ends");
        let with_keys = chained.replace("[profile q]", "aws_access_key_id = A\n[profile q]");
        assert!(asks(&format!("{with_keys}source_profile = base\n")), "a role's own keys do not replace its source");
    }

    #[test]
    fn the_login_command_names_the_profile_with_the_settings_of_the_login() {
        let command = |text: &str| selected(Some("p"), text, "").unwrap().log_in_command();
        assert_eq!(command("[profile p]\nsso_session = s\n").as_deref(), Some("aws sso login --profile p"));
        let through = "[profile p]\nrole_arn = r\nsource_profile = q\n[profile q]\nlogin_session = arn\n";
        assert_eq!(command(through).as_deref(), Some("aws login --profile q"));
        assert_eq!(command("[profile p]\nregion = x\n"), None);
    }

    #[test]
    fn an_invalid_line_is_named_by_its_number_and_not_quoted() {
        let error = selected(None, "[default]\nregion = x\nSECRET\n", "").unwrap_err();
        assert_eq!(error.kind(), Kind::Permission);
        assert!(error.causes()[0].starts_with("on line 3: "), "{:?}", error.causes());
        assert!(!error.causes()[0].contains("SECRET"));
        let profile = selected(None, "[default]\naws_secret_access_key = SECRET\n", "").unwrap();
        assert!(!format!("{profile:?}").contains("SECRET"));
    }

    #[test]
    fn a_tilde_is_replaced_by_the_home_folder() {
        let home = Path::new("/home/u");
        assert_eq!(from_home(Path::new("~/x/config"), Some(home)), Path::new("/home/u/x/config"));
        assert_eq!(from_home(Path::new("~u/config"), Some(home)), Path::new("~u/config"));
        assert_eq!(from_home(Path::new("~/config"), None), Path::new("~/config"));
    }
}
