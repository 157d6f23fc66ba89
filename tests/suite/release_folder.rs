//! The files of a release, and nothing else: no clone and no cargo. Each way to install that `docs/install.md` shows leads to
//! `ecr-push demo`, and each command of `docs/trust/verify-a-release.md` accepts what was built and rejects what was changed.
//!
//! `tests/run.sh` builds the binary and names it in `ECR_PUSH_STATIC`. Another one does as well: `strip` makes a debug build small
//! enough. `.ci/run-all` builds a whole release and names its folder in `ECR_PUSH_RELEASE`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::archive_contents::sha256;
use super::docker_registry::{is_installed, not_run};
use super::file_server::FileServer;
use super::harness::{Run, finish, program, text};
use super::markdown::{Block, blocks, root};
use super::release_artifacts::shipped;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Returns the target that the release is for.
fn target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// Returns the folder of a whole release, if one was built.
fn whole() -> Option<PathBuf> {
    std::env::var_os("ECR_PUSH_RELEASE").map(PathBuf::from)
}

/// Returns Debian's name of this CPU.
fn debian() -> &'static str {
    if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" }
}

/// Calls `.ci/dist`.
fn dist(arguments: &[&str]) -> Run {
    let mut command = Command::new(root().join(".ci/dist"));
    command.args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.env("HOME", std::env::var_os("HOME").unwrap_or_default()).env("SOURCE_DATE_EPOCH", "1700000000");
    command.env("BUSYBOX", std::env::var_os("ECR_PUSH_BUSYBOX").unwrap_or_default());
    finish(command, String::new)
}

/// A folder with the files of a release, and one for what is installed.
struct Release {
    root: TempDir,
}

impl Release {
    /// Builds one, if its tools are here.
    fn new() -> Option<Self> {
        if let Some(whole) = whole() {
            let release = Self { root: tempfile::tempdir().unwrap() };
            let mut command = Command::new("cp");
            command.arg("-r").arg(whole).arg(release.folder());
            finish(command, String::new).succeeds();
            return Some(release);
        }
        let built = shipped()?;
        if !(is_installed("python3", "python3") && is_installed("dpkg-deb", "dpkg")) {
            return None;
        }
        let release = Self { root: tempfile::tempdir().unwrap() };
        let binary = release.root.path().join(format!("ecr-push-{VERSION}-{}", target()));
        fs::copy(built, &binary).unwrap();
        let beside = |suffix: &str| format!("{}{suffix}", binary.display());
        fs::write(beside(".NOTICES"), "Licenses of the components.\n").unwrap();
        fs::write(beside(".cdx.json"), "{\"bomFormat\": \"CycloneDX\"}\n").unwrap();
        dist(&["assemble", &text(&binary), &text(&release.folder())]).succeeds();
        dist(&["seal", &text(&release.folder())]).succeeds();
        Some(release)
    }

    fn folder(&self) -> PathBuf {
        self.root.path().join("release")
    }

    fn binary(&self) -> PathBuf {
        self.folder().join(format!("ecr-push-{VERSION}-{}", target()))
    }

    fn names(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.folder()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Runs a script of the documentation in the folder, as a user who has installed nothing before. What it installs goes
    /// below `place`.
    fn script(&self, script: &str, place: &Path) -> Run {
        let tools = place.join("tools");
        fs::create_dir_all(&tools).unwrap();
        let dpkg = format!("dpkg --root={} --log=/dev/null --force-not-root --force-bad-path \"$@\"", place.display());
        // The signature is made by the workflow of a release.
        let cosign = format!(
            "[[ \"$*\" == 'verify-blob --bundle SHA256SUMS.sigstore.json --certificate-identity {0}/.github/workflows/release.yml@refs/tags/v{VERSION} --certificate-oidc-issuer https://token.actions.githubusercontent.com '*SHA256SUMS ]]",
            env!("CARGO_PKG_REPOSITORY")
        );
        for (name, does) in
            [("sudo", "exec \"$@\""), ("dpkg", &format!("PATH=${{PATH#*:}} exec {dpkg}")), ("cosign", &cosign)]
        {
            let tool = tools.join(name);
            fs::write(&tool, format!("#!/bin/bash\n{does}\n")).unwrap();
            fs::set_permissions(tool, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let script = script.replace("x86_64-unknown-linux-gnu", &target()).replace("_amd64", &format!("_{}", debian()));
        let mut command = Command::new("bash");
        command.args(["-e", "-o", "pipefail", "-c", &script]).env_clear().current_dir(self.folder());
        let folders = [tools, place.join("venv/bin"), place.join("usr/bin"), place.join(".local/bin")];
        let path: Vec<String> = folders.iter().map(|folder| text(folder)).collect();
        command.env("PATH", format!("{}:{}", path.join(":"), std::env::var("PATH").unwrap()));
        command.env("HOME", place).env("TMPDIR", place);
        finish(command, String::new)
    }
}

/// Returns the scripts of a page.
fn scripts(path: &str) -> Vec<Block> {
    blocks().into_iter().filter(|block| block.path == path && block.language == "sh").collect()
}

/// Makes a place ready for a script: a virtual environment for `pip`, and an empty system for `dpkg`. Returns whether its
/// tools are here.
fn prepare(script: &str, place: &Path) -> bool {
    if script.contains("pip install") {
        let mut command = Command::new("python3");
        command.args(["-m", "venv"]).arg(place.join("venv"));
        if finish(command, String::new).code != Some(0) {
            not_run("the wheel (no virtual environment; apt-get install python3-venv)");
            return false;
        }
    }
    if script.contains("dpkg --install") {
        if !rustix::process::geteuid().is_root() {
            not_run("the Debian package (only root may install one; sudo tests/run.sh)");
            return false;
        }
        for folder in ["info", "updates"] {
            fs::create_dir_all(place.join("var/lib/dpkg").join(folder)).unwrap();
        }
        fs::write(place.join("var/lib/dpkg/status"), "").unwrap();
    }
    true
}

#[test]
fn every_file_of_a_release_installs_the_program_and_can_be_verified() {
    let Some(release) = Release::new() else { return };
    has_all_files(&release);
    each_way_of_the_page_leads_to_the_demo(&release);
    install_sh_takes_what_it_expects(&release);
    install_sh_needs_little(&release);
    cargo_binstall_finds_its_files(&release);
    what_was_changed_is_rejected(&release);
    if whole().is_some() {
        the_list_of_components_is_one(&release);
        the_extension_has_the_program(&release);
    }
}

fn has_all_files(release: &Release) {
    let name = format!("ecr-push-{VERSION}-{}", target());
    let names = release.names();
    let mut expected: BTreeSet<String> =
        ["", ".tar.gz", ".oci.tar", ".cdx.json"].iter().map(|end| format!("{name}{end}")).collect();
    if whole().is_some() || std::env::var_os("ECR_PUSH_BUSYBOX").is_some() {
        expected.insert(format!("{name}-debug.oci.tar"));
    }
    if whole().is_some() {
        expected.insert(format!("ecr-push-{VERSION}.vsix"));
    }
    expected.extend(["SHA256SUMS", "install.sh"].map(str::to_owned));
    expected.extend([format!("ecr-push_{VERSION}_{}.deb", debian()), format!("ecr-push-{VERSION}.intoto.json")]);
    let wheel = names.iter().find(|name| name.ends_with(".whl")).expect("there is a wheel");
    assert!(wheel.starts_with(&format!("ecr_push-{VERSION}-py3-none-manylinux_2_17_")), "{wheel}");
    expected.insert(wheel.clone());
    assert_eq!(names, expected);
    let sums = fs::read_to_string(release.folder().join("SHA256SUMS")).unwrap();
    let listed: BTreeSet<_> = sums.lines().map(|line| line.split_once("  ").unwrap().1.to_owned()).collect();
    assert_eq!(listed, names.iter().filter(|name| *name != "SHA256SUMS").cloned().collect());

    let statement = fs::read(release.folder().join(format!("ecr-push-{VERSION}.intoto.json"))).unwrap();
    let statement: Value = serde_json::from_slice(&statement).unwrap();
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    let subjects = statement["subject"].as_array().unwrap();
    assert_eq!(subjects.len(), names.len() - 2, "all but itself and SHA256SUMS");
    for subject in subjects {
        let file = fs::read(release.folder().join(subject["name"].as_str().unwrap())).unwrap();
        assert_eq!(format!("sha256:{}", subject["digest"]["sha256"].as_str().unwrap()), sha256(&file));
    }
}

fn each_way_of_the_page_leads_to_the_demo(release: &Release) {
    let ways: Vec<_> =
        scripts("docs/install.md").into_iter().filter(|block| block.text.contains("ecr-push demo\n")).collect();
    let all: String = ways.iter().map(|block| block.text).collect();
    for way in ["sha256sum --check", "pip install", "dpkg --install", "sh install.sh"] {
        assert!(all.contains(way), "{way}");
    }
    let digest = finish(demo(), String::new).succeeds().digest();
    for (number, block) in ways.into_iter().enumerate().filter(|(_, block)| !block.text.contains("https://")) {
        let place = release.root.path().join(format!("place-{number}"));
        fs::create_dir(&place).unwrap();
        if !prepare(block.text, &place) {
            continue;
        }
        let run = release.script(&format!("{}command -v ecr-push", block.text), &place).succeeds();
        assert!(run.stdout.contains(&format!("/demo/app:1@{digest}\n")), "{}", block.place());
        let installed = run.stdout.lines().last().unwrap();
        assert!(installed.starts_with(&text(&place)), "{}: {installed}", block.place());
        assert_eq!(sha256(&fs::read(installed).unwrap()), sha256(&fs::read(release.binary()).unwrap()));
    }
}

/// Returns the demo of the program under test.
fn demo() -> Command {
    let mut command = Command::new(program());
    command.arg("demo").env_clear();
    command
}

fn install_sh_takes_what_it_expects(release: &Release) {
    if !is_installed("curl", "curl") {
        return;
    }
    let place = release.root.path().join("from a mirror");
    fs::create_dir(&place).unwrap();
    let server = FileServer::start(release.folder());
    let url = server.url();
    release
        .script(&format!("sh install.sh --to \"$HOME/bin\" --from {url} && \"$HOME/bin/ecr-push\" demo"), &place)
        .succeeds();
    // A file with another content is not installed, and neither is one that is not there.
    let (changed, empty) = (FileServer::start(changed(release)), FileServer::start(place.clone()));
    for (from, reason) in [(changed.url(), "has the checksum"), (empty.url(), "cannot fetch")] {
        let run = release.script(&format!("sh install.sh --to \"$HOME/other\" --from {from}"), &place).fails_with(1);
        assert!(run.stderr.contains(reason), "{}", run.stderr);
        assert_eq!(fs::read_dir(place.join("other")).unwrap().count(), 0);
    }
    release.script("sh install.sh --nope x", &place).fails_with(1).stderr_has(&["unknown argument --nope"]);
}

/// A machine with wget and without curl, a folder that cannot be written, no folder at all, and a program that does not run.
fn install_sh_needs_little(release: &Release) {
    let place = release.root.path().join("a small machine");
    let bin = place.join("bin");
    fs::create_dir_all(&bin).unwrap();
    let found = |name: &str| {
        let path = std::env::var_os("PATH").unwrap();
        std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.exists())
    };
    let tools =
        ["sh", "chmod", "cp", "cut", "mkdir", "mktemp", "mv", "rm", "sed", "sha256sum", "touch", "uname", "wget"];
    for tool in tools {
        let Some(path) = found(tool) else { return not_run(&format!("install.sh without curl (no {tool})")) };
        std::os::unix::fs::symlink(path, bin.join(tool)).unwrap();
    }
    let run = |release: &Path, arguments: &[&str], home: Option<&Path>| {
        let mut command = Command::new(bin.join("sh"));
        command.arg(release.join("install.sh")).args(arguments).env_clear().env("PATH", &bin).current_dir(&place);
        command.envs(home.map(|home| ("HOME", home)));
        finish(command, String::new)
    };
    let server = FileServer::start(release.folder());
    let to = text(&place.join("to"));
    let url = format!("{}/", server.url());
    let done = run(&release.folder(), &["--from", &url, "--to", &to], None).succeeds();
    assert!(
        done.stdout.starts_with(&format!("Installed ecr-push {VERSION} as {to}/ecr-push\nAdd ")),
        "{}",
        done.stdout
    );

    let nowhere = text(&place.join("bin/sh/below a file"));
    let from = text(&release.folder());
    let refused = run(&release.folder(), &["--from", &from, "--to", &nowhere], None).fails_with(1);
    refused.stderr_has(&[&format!("error: cannot write to {nowhere}")]);
    let refused = run(&release.folder(), &["--from", &from], None).fails_with(1);
    refused.stderr_has(&["error: HOME is not set: use --to FOLDER"]);
    // A program with the right checksum that this machine cannot run replaces nothing.
    let other = place.join("other release");
    fs::create_dir(&other).unwrap();
    let name = format!("ecr-push-{VERSION}-{}", target());
    fs::write(other.join(&name), "#!/nowhere\n").unwrap();
    let script = fs::read_to_string(release.folder().join("install.sh")).unwrap();
    let digest = |bytes: &[u8]| sha256(bytes).trim_start_matches("sha256:").to_owned();
    let known = digest(&fs::read(release.binary()).unwrap());
    fs::write(other.join("install.sh"), script.replace(&known, &digest(b"#!/nowhere\n"))).unwrap();
    run(&other, &["--from", &text(&other), "--to", &to], None)
        .fails_with(1)
        .stderr_has(&[&format!("error: {name} does not run on this machine")]);
    let installed = fs::read(place.join("to/ecr-push")).unwrap();
    assert_eq!(digest(&installed), known, "the installed program is still there");
    assert_eq!(fs::read_dir(place.join("to")).unwrap().count(), 1);
}

/// Reads the SBOM.
fn the_list_of_components_is_one(release: &Release) {
    let file = fs::read_to_string(release.folder().join(format!("ecr-push-{VERSION}-{}.cdx.json", target()))).unwrap();
    let list: Value = serde_json::from_str(&file).unwrap();
    assert_eq!((&list["bomFormat"], &list["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    assert_eq!(
        (&list["metadata"]["component"]["name"], &list["metadata"]["component"]["version"]),
        (&"ecr-push".into(), &VERSION.into())
    );
    let components = list["components"].as_array().unwrap();
    for name in ["aws-lc-sys", "rustls", "tokio", "zstd-sys"] {
        let component = components.iter().find(|component| component["name"] == name);
        let component = component.unwrap_or_else(|| panic!("{name} is not listed"));
        assert!(component["version"].is_string() && component["purl"].is_string() && component["licenses"].is_array());
    }
    for test_only in ["criterion", "proptest"] {
        assert!(!components.iter().any(|component| component["name"] == test_only), "{test_only}");
    }
    let folder = text(root());
    assert!(!file.contains(&folder), "it names the folder of the build");
}

/// Reads the extension of Azure DevOps.
fn the_extension_has_the_program(release: &Release) {
    let place = release.root.path().join("extension");
    fs::create_dir(&place).unwrap();
    let script = format!("python3 -m zipfile -e ecr-push-{VERSION}.vsix '{}'", place.display());
    release.script(&script, &place).succeeds();
    let platform = if cfg!(target_arch = "x86_64") { "linux-x64" } else { "linux-arm64" };
    let program = fs::read(place.join(format!("EcrPush/bin/{platform}/ecr-push"))).unwrap();
    assert_eq!(sha256(&program), sha256(&fs::read(release.binary()).unwrap()));
    let manifest = fs::read_to_string(place.join("extension.vsixmanifest")).unwrap();
    assert!(manifest.contains("Microsoft.VisualStudio.Services"), "{manifest}");
}

/// Makes a copy of the release in which the last byte of each file is another one, and returns its folder.
fn changed(release: &Release) -> PathBuf {
    let folder = release.root.path().join("changed");
    if !folder.exists() {
        fs::create_dir(&folder).unwrap();
        for name in release.names().iter().filter(|name| *name != "SHA256SUMS") {
            let mut bytes = fs::read(release.folder().join(name)).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(folder.join(name), bytes).unwrap();
        }
        fs::copy(release.folder().join("SHA256SUMS"), folder.join("SHA256SUMS")).unwrap();
    }
    folder
}

fn cargo_binstall_finds_its_files(release: &Release) {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let fill = |template: &str| {
        [
            ("repo", env!("CARGO_PKG_REPOSITORY")),
            ("version", VERSION),
            ("target", &target()),
            ("bin", "ecr-push"),
            ("binary-ext", ""),
        ]
        .iter()
        .fold(template.to_owned(), |text, (name, value)| text.replace(&format!("{{ {name} }}"), value))
    };
    let values = |key: &str| -> Vec<String> {
        let lines = manifest.lines().filter_map(|line| line.strip_prefix(&format!("{key} = \""))?.strip_suffix('"'));
        lines.map(fill).collect()
    };
    let (urls, members) = (values("pkg-url"), values("bin-dir"));
    assert_eq!((urls.len(), members.len()), (3, 3));
    let release_url = format!("{}/releases/download/v{VERSION}/", env!("CARGO_PKG_REPOSITORY"));
    for (url, member) in urls.iter().zip(&members).filter(|(url, _)| url.contains(std::env::consts::ARCH)) {
        let archive = release.folder().join(url.strip_prefix(&release_url).expect("a file of the release"));
        let mut command = Command::new("tar");
        command.arg("-tzf").arg(archive);
        let listed = finish(command, String::new).succeeds().stdout;
        assert!(listed.lines().any(|line| line == member), "{member} is not in {url}");
    }
}

fn what_was_changed_is_rejected(release: &Release) {
    let page = scripts("docs/trust/verify-a-release.md");
    let place = release.root.path().join("verified");
    fs::create_dir(&place).unwrap();
    let mut artifacts = BTreeSet::new();
    // A check is a script that names one or more files. Those with a network, or with a clone, are not run here.
    let is_here = |block: &&Block| !block.text.contains(".vsix") || whole().is_some();
    for block in page.iter().filter(|block| !block.text.contains(".ci/")).filter(is_here) {
        if block.text.contains("skopeo ") && !is_installed("skopeo", "skopeo") {
            continue;
        }
        let path = text(release.binary().parent().unwrap());
        let with_program = format!("ecr-push() {{ {path}/ecr-push-{VERSION}-{} \"$@\"; }}\n{}", target(), block.text);
        release.script(&with_program, &place).succeeds();
        for name in release.names() {
            let generic = name
                .replace(&target(), "x86_64-unknown-linux-gnu")
                .replace(&format!("_{}.deb", debian()), "_amd64.deb");
            if block.text.contains(&generic) || name.ends_with(".whl") && block.text.contains(" ecr_push-") {
                artifacts.insert(name);
            }
        }
        if block.text.contains("sha256sum --check") {
            let run = release.script(&format!("cd '{}'\n{}", changed(release).display(), block.text), &place);
            assert_ne!(run.code, Some(0), "{} accepts a changed file", block.place());
        }
    }
    let named = |end: &str| artifacts.iter().any(|name| name.ends_with(end));
    let ends = ["-gnu", ".tar.gz", ".oci.tar", ".cdx.json", ".deb", ".whl", ".intoto.json", "install.sh", "SHA256SUMS"];
    for end in ends.into_iter().chain(whole().map(|_| ".vsix")) {
        assert!(named(end), "no command of the page verifies {end}");
    }
}
