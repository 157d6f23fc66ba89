//! A folder to run the documentation's scripts in: the program on the `PATH`, small scripts in place of other people's tools, the
//! archives that it names, and all of AWS under its own names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ecr_push::sandbox::{Asks, Options, Rules, TokenService};

use super::ecr::{Ecr, SECRET_KEY};
use super::fake_aws::{ACCESS_KEY, FakeAws};
use super::harness::{Run, testdata, text};

/// The documentation's account and region.
const ACCOUNT: &str = "123456789012";
const REGION: &str = "eu-west-1";

/// What a tool does that is not at hand: a shell script, with `$SAVE`, `$OCI`, `$LAYOUT`, `$TARBALL`, `$SIGNED` for
/// archives as it would write them. What a recipe does not ask of it, it refuses.
const STAND_INS: [(&str, &str); 13] = [
    (
        "docker",
        r#"case "$1 $2 $*" in
"save --output "*) cp "$SAVE" "$3" ;;
"save "*) cat "$SAVE" ;;
"build --tag "*" .") ;;
"buildx build "*"--output type=oci,dest=- .") cat "$OCI" ;;
"run --rm "*" -v $PWD:/work:ro "*"/tools/ecr-push:"*)
  while [[ $1 != */tools/ecr-push:* ]]; do shift; done
  shift && exec "$PROGRAM" "${@/#\/work/$PWD}" ;;
*) exit 64 ;;
esac"#,
    ),
    (
        "buildkite-agent",
        r#"case "$*" in
"--version") ;;
"meta-data set "*|"annotate "*) cat > /dev/null ;;
"oidc request-token --audience sts.amazonaws.com") echo eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln ;;
*) exit 64 ;;
esac"#,
    ),
    ("kubectl", r#"case "$*" in "set image deployment/app app="*"/team/app"*"@sha256:"*) ;; *) exit 64 ;; esac"#),
    (
        "executor",
        r#"case "$*" in *--no-push*--destination*) ;; *) exit 64 ;; esac
while [ $# -gt 0 ]; do
  case "$1" in --tar-path) cp "$TARBALL" "$2" ;; --tar-path=*) cp "$TARBALL" "${1#--tar-path=}" ;; esac
  shift
done"#,
    ),
    (
        "skopeo",
        r#"case "$*" in "copy --all docker://"*" oci-archive:"*) cp "$OCI" "${4#oci-archive:}" ;; *) exit 64 ;; esac"#,
    ),
    (
        "cosign",
        r#"case "$*" in
"save --dir "*"@sha256:"*) cp -r "$SIGNED" "$3" ;;
"verify --key "*"@sha256:"*) ;;
*) exit 64 ;;
esac"#,
    ),
    (
        "buildctl-daemonless.sh",
        r#"case "$*" in "build "*"--output type=oci,dest="*) cp "$OCI" "${*##*dest=}" ;; *) exit 64 ;; esac"#,
    ),
    // A server with the program and its checksum.
    (
        "curl",
        r#"for word; do
  case "$word" in
  https://artifacts.example/*/SHA256SUMS) sha256sum ecr-push-*-linux-gnu > SHA256SUMS ;;
  https://artifacts.example/*/ecr-push-*) cp "$PROGRAM" "${word##*/}" ;;
  -*) ;;
  *) exit 64 ;;
  esac
done"#,
    ),
    ("podman", r#"case "$*" in "save --format oci-archive "*) cat "$OCI" ;; *) exit 64 ;; esac"#),
    ("buildah", r#"case "$*" in "push "*" oci-archive:"*) cp "$OCI" "${3#oci-archive:}" ;; *) exit 64 ;; esac"#),
    // An oci_image is a folder of links.
    (
        "bazel",
        r#"[ "$*" = "build //app:image" ]
mkdir -p bazel-bin/app
cp -rs "$LAYOUT" bazel-bin/app/image"#,
    ),
    // The one builds an archive, the other a script that writes it.
    (
        "nix-build",
        r#"case "$*" in
image.nix) gzip --stdout "$SAVE" > built.tar.gz && echo "$PWD/built.tar.gz" ;;
stream.nix) printf '#!/bin/sh\nexec cat "%s"\n' "$SAVE" > stream && chmod +x stream && echo "$PWD/stream" ;;
*) exit 64 ;;
esac"#,
    ),
    ("ecr-push", r#"printf '%s\n' "$*" >> "$CALLS" && exec "$PROGRAM" "$@""#),
];

/// The folder and the machines around it.
pub(crate) struct DocsEnv {
    pub(crate) aws: FakeAws,
    /// A registry on this machine that asks nobody.
    pub(crate) beside: Ecr,
    /// ECR Public, and a registry that is not Amazon's.
    _elsewhere: [Ecr; 2],
    path: String,
    calls: PathBuf,
}

impl DocsEnv {
    /// An empty folder.
    pub(crate) fn new() -> Self {
        let sandbox = |region: &str, rules| Options {
            account: ACCOUNT.into(),
            region: region.into(),
            rules,
            create: ["team/app", "tools/ecr-push"].map(|name| name.parse().unwrap()).to_vec(),
            ..Options::default()
        };
        let users = vec!["bob:password-of-bob".to_owned()];
        let service = TokenService { realm: Some("https://ghcr.io/token".into()), users, ..TokenService::default() };
        let rules = Rules { asks: Asks::Tokens(service), ..Rules::default() };
        let other = Ecr::started(sandbox(REGION, rules));
        let beside = Ecr::started(sandbox(REGION, Rules { anonymous: true, ..Rules::default() }));
        // It has this one region. Its token service is on this machine, so it asks for a password instead.
        let public = Ecr::started(sandbox("us-east-1", Rules::default()));
        let (at_other, at_public) = (other.address(), public.address());
        let aws = FakeAws::around(sandbox(REGION, Rules::default()), move |name| match name {
            "ghcr.io" => Some(at_other),
            name if name == "public.ecr.aws" || name.contains(".us-east-1.") => Some(at_public),
            _ => None,
        });
        let tools = PathBuf::from(aws.ecr.env.scratch("tools"));
        let calls = PathBuf::from(aws.ecr.env.scratch("calls"));
        fs::create_dir(&tools).unwrap();
        fs::write(&calls, "").unwrap();
        let archives = [
            ("SAVE", testdata("docker-29-overlay2-save.tar")),
            ("OCI", testdata("podman-oci-archive.tar")),
            ("LAYOUT", testdata("crane-oci-layout")),
            ("TARBALL", testdata("crane-tarball.tar")),
            ("CALLS", text(&calls)),
            ("PROGRAM", text(&super::harness::program())),
        ];
        let set: String = archives.iter().map(|(name, value)| format!("{name}='{value}'\n")).collect();
        for (name, does) in STAND_INS {
            executable(&tools.join(name), &format!("#!/bin/bash\nset -eu\n{set}{does}\n"));
        }
        let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
        Self { aws, beside, _elsewhere: [public, other], path, calls }
    }

    /// Where scripts begin.
    pub(crate) fn here(&self) -> PathBuf {
        self.aws.ecr.env.home().parent().unwrap().join("here")
    }

    /// What the scripts expect: `image.tar`, the image that `.ci/dist` makes, this repository's `testdata`, and docker's
    /// login for ghcr.io.
    pub(crate) fn furnish(&self) {
        if self.here().join("image.tar").exists() {
            return;
        }
        fs::copy(testdata("docker-29-overlay2-save.tar"), self.here().join("image.tar")).unwrap();
        let dist = self.here().join("target/dist");
        fs::create_dir_all(&dist).unwrap();
        let image = concat!("ecr-push-", env!("CARGO_PKG_VERSION"), "-x86_64-unknown-linux-gnu.oci.tar");
        fs::copy(testdata("podman-oci-archive.tar"), dist.join(image)).unwrap();
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        std::os::unix::fs::symlink(repository.join("testdata"), self.here().join("testdata")).unwrap();
        let docker = self.aws.ecr.env.home().join(".docker");
        fs::create_dir(&docker).unwrap();
        let login = BASE64_STANDARD.encode("bob:password-of-bob");
        fs::write(docker.join("config.json"), format!(r#"{{"auths":{{"ghcr.io":{{"auth":"{login}"}}}}}}"#)).unwrap();
    }

    /// A script, as a shell that stops at what fails, in a network where nobody has credentials.
    pub(crate) fn script(&self, script: &str) -> Command {
        let words = ["bash", "-e", "-o", "pipefail", "-c", script].map(str::to_owned);
        self.words(&words)
    }

    /// The words of a command.
    pub(crate) fn words(&self, words: &[String]) -> Command {
        let program = self.aws.command(&[]);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env_clear().current_dir(self.here());
        command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("PATH", &self.path);
        command
    }

    /// Runs a command, which has to go well.
    #[track_caller]
    pub(crate) fn succeeds(&self, command: Command) -> Run {
        self.aws.finish(command).succeeds()
    }

    /// How often the program was called so far.
    pub(crate) fn calls(&self) -> usize {
        fs::read_to_string(&self.calls).unwrap().lines().count()
    }
}

/// A user's own keys.
pub(crate) fn keys() -> [(String, String); 2] {
    [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)]
        .map(|(name, value)| (name.into(), value.into()))
}

fn executable(path: &Path, script: &str) {
    fs::write(path, script).unwrap();
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
}
