//! Who we say we are: this program, its version, what it runs on, and in which CI system. Nothing of the user.

/// This program.
const NAME: &str = env!("CARGO_PKG_NAME");

/// Its version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The name of the CI system if there is none.
const NO_CI: &str = "none";

/// A user agent (RFC 9110, 10.1.5): `ecr-push/0.2.0 (linux; x86_64; github)`.
pub(super) fn user_agent(ci: Option<&str>) -> String {
    let (os, arch, ci) = (std::env::consts::OS, std::env::consts::ARCH, ci.unwrap_or(NO_CI));
    format!("{NAME}/{VERSION} ({os}; {arch}; {ci})")
}

/// The name of an application, as AWS's SDKs put it into theirs: `ecr-push-0.2.0-github`. They allow neither blanks nor
/// slashes, and ask for 50 characters at most (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-appid.html>).
pub(super) fn app_name(ci: Option<&str>) -> String {
    format!("{NAME}-{VERSION}-{}", ci.unwrap_or(NO_CI))
}
