//! Registry logins: the user name of the command line, and the files of docker and podman.

use std::path::PathBuf;

use super::values::Environment;
use crate::archive::Source;
use crate::error::{Error, Result};
use crate::oci::{Host, Target};
use crate::registry::Keychain;

/// Checks that `--username` applies to exactly one registry, and returns it.
pub(super) fn username(name: Option<String>, targets: &[Target], archives: &[&Source]) -> Result<Option<String>> {
    let Some(name) = name else { return Ok(None) };
    if archives.contains(&&Source::StandardInput) {
        return Err(Error::conflict("cannot read both the archive and the password from standard input")
            .hint("Push the archive from a file, or log in with docker login."));
    }
    // In the header, a colon separates the name from the password (RFC 7617).
    if name.is_empty() || name.contains(|c: char| c == ':' || c.is_control()) {
        return Err(Error::invalid("--username is empty, or contains a colon or a control character")
            .about_option("--username"));
    }
    let mut hosts: Vec<&Host> = targets.iter().filter_map(|target| target.host.as_ref()).collect();
    hosts.retain(|host| !host.is_amazon());
    hosts.sort_unstable_by_key(|host| host.as_str());
    hosts.dedup();
    match hosts[..] {
        [_] => Ok(Some(name)),
        [] => Err(Error::conflict("--username is for registries other than Amazon's, and no target is in one")
            .about_option("--username")
            .hint("ECR uses AWS credentials: leave out --username and --password-stdin.")),
        _ => {
            let names: Vec<&str> = hosts.iter().map(|host| host.as_str()).collect();
            Err(Error::conflict(format!(
                "--username is for one registry, but the targets are in several: {}",
                names.join(", ")
            ))
            .about_option("--username")
            .hint("Push to them one by one, or log in to each with docker login."))
        }
    }
}

/// Returns where docker and podman store logins, in order of precedence: files that variables name come first.
pub(super) fn keychain(environment: Environment<'_>) -> Keychain {
    let path = |name: &str| environment(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = path("HOME").or_else(|| path("USERPROFILE"));
    let at_home = |folder: &str| home.as_ref().map(|home| home.join(folder));
    let docker = path("DOCKER_CONFIG").or_else(|| at_home(".docker")).map(|folder| folder.join("config.json"));
    let podman = |folder: PathBuf| folder.join("containers").join("auth.json");
    let running = path("XDG_RUNTIME_DIR").map(podman);
    let lasting = path("XDG_CONFIG_HOME").or_else(|| at_home(".config")).map(podman);
    let text = environment("DOCKER_AUTH_CONFIG").and_then(|text| text.into_string().ok());
    Keychain {
        text: text.filter(|text| !text.trim().is_empty()),
        files: [path("REGISTRY_AUTH_FILE"), docker, running, lasting].into_iter().flatten().collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    #[test]
    fn logins_are_read_from_the_files_of_docker_and_podman() {
        let files = |variables: &[(&str, &str)]| {
            let keychain = keychain(&|name| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
            });
            keychain.files.iter().map(|file| file.to_str().unwrap().replace('\\', "/")).collect::<Vec<_>>()
        };
        assert_eq!(files(&[]), [""; 0]);
        assert_eq!(files(&[("HOME", "/h")]), ["/h/.docker/config.json", "/h/.config/containers/auth.json"]);
        assert_eq!(
            files(&[
                ("HOME", "/h"),
                ("DOCKER_CONFIG", "/d"),
                ("XDG_RUNTIME_DIR", "/r"),
                ("XDG_CONFIG_HOME", "/c"),
                ("REGISTRY_AUTH_FILE", "/a.json"),
            ]),
            ["/a.json", "/d/config.json", "/r/containers/auth.json", "/c/containers/auth.json"]
        );
    }

    #[test]
    fn a_user_name_applies_to_exactly_one_registry() {
        let check = |targets: &[&str], name: &str| {
            let targets: Vec<Target> = targets.iter().map(|target| target.parse().unwrap()).collect();
            username(Some(name.into()), &targets, &[&Source::Path("x".into())])
        };
        let ecr = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/a";
        assert_eq!(check(&["x.y/a", "x.y/b:2", ecr, "own"], "bob").unwrap(), Some("bob".into()));
        for (targets, name, part) in [
            (&["own", ecr, "public.ecr.aws/me/app"][..], "bob", "no target is in one"),
            (&["z.y/a", "x.y/b", "x.y/c"], "bob", "several: x.y, z.y"),
            (&["x.y/a"], "", "is empty, or contains a colon"),
            (&["x.y/a"], "a:b", "is empty, or contains a colon"),
        ] {
            let error = check(targets, name).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
            assert_eq!(error.kind().exit_code(), 2);
        }
    }
}
