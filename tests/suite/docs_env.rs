//! An environment for the scripts of the documentation: a folder with the archives that they name, the program and small scripts
//! for other tools on the `PATH`, a mirror with the files of a release, and a fake AWS under its own names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ecr_push::sandbox::{Asks, Options, Rules, TokenService};
use serde_json::json;

use super::archive_builder;
use super::archive_contents::sha256;
use super::ecr::{Ecr, SECRET_KEY};
use super::fake_aws::{ACCESS_KEY, FakeAws};
use super::file_server::FileServer;
use super::harness::{Run, testdata, text};

/// The account and the region of the documentation.
const ACCOUNT: &str = "123456789012";
const REGION: &str = "eu-west-1";

/// Shell scripts that replace tools. `$SAVE`, `$OCI`, `$LAYOUT`, `$TARBALL` and `$SIGNED` are archives as the tools write them.
/// A call that the documentation does not have fails.
const FAKE_TOOLS: [(&str, &str); 13] = [
    (
        "docker",
        r#"case "$1 $2 $*" in
"save --output "*) cp "$SAVE" "$3" ;;
"save "*) cat "$SAVE" ;;
"build --tag "*" .") ;;
"buildx build "*"--output type=oci,dest=- .") cat "$OCI" ;;
"buildx build "*" --platform linux/"*" --output type=oci,dest="*".tar .") ;;
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
    (
        "curl",
        r#"case "$*" in
*" https://artifacts.example/releases/images.tar") cp "$IMAGES" images.tar ;;
*) exec "$(type -aP curl | grep -vxF "$0" | head -n 1)" "$@" ;;
esac"#,
    ),
    (
        "aws",
        r#"case "$*" in
"batch register-job-definition --cli-input-yaml file://"*.yaml) ;;
"batch submit-job --job-name "*" --job-queue "*" --job-definition "*" --array-properties size="*) ;;
*) exit 64 ;;
esac"#,
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
    // `image.nix` builds an archive, `stream.nix` a script that writes one.
    (
        "nix-build",
        r#"case "$*" in
image.nix) gzip --stdout "$SAVE" > built.tar.gz && echo "$PWD/built.tar.gz" ;;
stream.nix) printf '#!/bin/sh\nexec cat "%s"\n' "$SAVE" > stream && chmod +x stream && echo "$PWD/stream" ;;
*) exit 64 ;;
esac"#,
    ),
];

/// The program of a release: it counts its calls.
const PROGRAM: &str = r#"[ "$*" = --version ] || printf '%s\n' "$*" >> "$CALLS"
exec "$PROGRAM" "$@""#;

/// The mirror of the documentation, and the checksum of the program there.
const MIRROR: &str = concat!("https://artifacts.example/ecr-push/", env!("CARGO_PKG_VERSION"));
const CHECKSUM: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The folder, and the registries that its scripts reach.
pub(crate) struct DocsEnv {
    pub(crate) aws: FakeAws,
    /// A registry on this machine that requires no login.
    pub(crate) beside: Ecr,
    /// ECR Public, and a registry that is not Amazon's.
    _elsewhere: [Ecr; 2],
    mirror: FileServer,
    /// The folder with the program alone.
    installed: PathBuf,
    path: String,
    calls: PathBuf,
}

impl DocsEnv {
    /// Starts the registries, with an empty folder. The program is on the `PATH`.
    pub(crate) fn new() -> Self {
        let mut env = Self::without_program();
        env.path = format!("{}:{}", env.installed.display(), env.path);
        env
    }

    /// The same without the program, which scripts have to install.
    pub(crate) fn without_program() -> Self {
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
        // The fake AWS has one region. The token service of ECR Public is on this machine, so it requires a password instead.
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
            ("IMAGES", aws.ecr.env.scratch("images.tar")),
            ("CALLS", text(&calls)),
            ("PROGRAM", text(&super::harness::program())),
        ];
        let set: String = archives.iter().map(|(name, value)| format!("{name}='{value}'\n")).collect();
        for (name, does) in FAKE_TOOLS {
            executable(&tools.join(name), &format!("#!/bin/bash\nset -eu\n{set}{does}\n"));
        }
        let installed = PathBuf::from(aws.ecr.env.scratch("installed"));
        fs::create_dir(&installed).unwrap();
        executable(&installed.join("ecr-push"), &format!("#!/bin/bash\nset -eu\n{set}{PROGRAM}\n"));
        // A recipe names a CPU, which need not be that of this machine.
        let release = PathBuf::from(aws.ecr.env.scratch("release"));
        fs::create_dir(&release).unwrap();
        for cpu in ["x86_64", "aarch64"] {
            let name = format!("ecr-push-{}-{cpu}-unknown-linux-gnu", env!("CARGO_PKG_VERSION"));
            fs::copy(installed.join("ecr-push"), release.join(name)).unwrap();
        }
        let mirror = FileServer::start(release);
        let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
        Self { aws, beside, _elsewhere: [public, other], mirror, installed, path, calls }
    }

    /// Returns a text of the documentation with this environment's mirror and the checksum of the program there.
    pub(crate) fn localized(&self, text: &str) -> String {
        let checksum = sha256(&fs::read(self.program()).unwrap());
        text.replace(MIRROR, &self.mirror.url()).replace(CHECKSUM, checksum.trim_start_matches("sha256:"))
    }

    /// Changes the programs of the mirror.
    pub(crate) fn replace_mirrored(&self) {
        for file in fs::read_dir(self.aws.ecr.env.scratch("release")).unwrap() {
            fs::write(file.unwrap().path(), "#!/bin/sh\ntouch replaced\n").unwrap();
        }
    }

    /// Returns the folder with the program alone.
    pub(crate) fn installed(&self) -> String {
        text(&self.installed)
    }

    /// Returns the path of the program.
    pub(crate) fn program(&self) -> String {
        text(&self.installed.join("ecr-push"))
    }

    /// Returns the `PATH` of scripts.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Returns the folder in which scripts start.
    pub(crate) fn here(&self) -> PathBuf {
        self.aws.ecr.env.home().parent().unwrap().join("here")
    }

    /// Adds what the scripts expect: `image.tar`, the image of `.ci/dist`, `testdata`, and docker's login for ghcr.io.
    pub(crate) fn add_inputs(&self) {
        if self.here().join("image.tar").exists() {
            return;
        }
        fs::copy(testdata("docker-29-overlay2-save.tar"), self.here().join("image.tar")).unwrap();
        for architecture in ["amd64", "arm64"] {
            let archive = self.here().join(format!("{architecture}.tar"));
            let platform = json!({"os": "linux", "architecture": architecture});
            archive_builder::docker_save_with(archive.to_str().unwrap(), &platform);
        }
        fs::copy(testdata("docker-20.10-save-many.tar"), self.here().join("images.tar")).unwrap();
        fs::write(self.here().join("images.txt"), "# images\nlocalhost/fixture/app:v1\n").unwrap();
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

    /// Returns the command of a script: a shell that stops at the first failure, without credentials. What runs in the
    /// background ends with it, or the end of its output would never come.
    pub(crate) fn script(&self, script: &str) -> Command {
        let script = format!("trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}");
        let words = ["bash", "-e", "-o", "pipefail", "-c", &script].map(str::to_owned);
        self.words(&words)
    }

    /// Returns a command.
    pub(crate) fn words(&self, words: &[String]) -> Command {
        let program = self.aws.command(&[]);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env_clear().current_dir(self.here());
        command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("PATH", &self.path);
        command
    }

    /// Runs a command, which must succeed.
    #[track_caller]
    pub(crate) fn succeeds(&self, command: Command) -> Run {
        self.aws.finish(command).succeeds()
    }

    /// Returns how often the program was called so far.
    pub(crate) fn calls(&self) -> usize {
        fs::read_to_string(&self.calls).unwrap().lines().count()
    }
}

/// Returns the AWS keys of a user.
pub(crate) fn keys() -> [(String, String); 2] {
    [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)]
        .map(|(name, value)| (name.into(), value.into()))
}

fn executable(path: &Path, script: &str) {
    fs::write(path, script).unwrap();
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
}
