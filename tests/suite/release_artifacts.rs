//! What is shipped: the static binary where there is nothing else, and the image of it.
//!
//! `tests/run.sh` builds the binary and names it in `ECR_PUSH_STATIC`.

#![cfg(target_os = "linux")]

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use ecr_push::sandbox::{Locations, Rules};
use rcgen::CertificateParams;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::UdpSocket;
use tokio::runtime::Runtime;

use super::archive_contents::{Source, plain, sha256};
use super::docker_registry::{DockerRegistry, not_run};
use super::ecr::{Ecr, HOST, SECRET_KEY};
use super::harness::{TestEnv, finish, testdata, text};
use super::stored_image::StoredImage;
use super::tls::{Authority, Front};

const API: &str = "api.ecr.us-east-1.amazonaws.com";
const CERTIFICATES: &str = "etc/ssl/certs/ca-certificates.crt";
const ARCHIVE: &str = "docker-29-overlay2-save.tar";

/// The static binary, if it was built.
pub(crate) fn shipped() -> Option<PathBuf> {
    let binary = std::env::var_os("ECR_PUSH_STATIC").map(PathBuf::from).filter(|path| path.is_file());
    if binary.is_none() {
        not_run("the static binary (not built; tests/run.sh builds it)");
    }
    binary
}

/// Whether a folder may be made the root.
fn may_change_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        not_run("the static binary in an empty root (not root; sudo tests/run.sh)");
    }
    is_root
}

/// A folder that is the root for a program.
struct Root(TempDir);

impl Root {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Puts a file there.
    fn put(&self, name: &str, bytes: &[u8]) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// The program there, with an empty environment.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("chroot");
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("PATH", path).arg(self.0.path()).arg("/ecr-push").args(arguments);
        command
    }
}

/// An address of this machine that no other test has.
fn own_address(test: u8) -> Ipv4Addr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, test, high, low)
}

/// A name server that knows names of AWS. It is gone when it is dropped.
struct NameServer {
    _runtime: Runtime,
}

impl NameServer {
    /// Starts one for which these names are this address.
    fn start(address: Ipv4Addr, names: &'static [&str]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let socket = runtime.block_on(UdpSocket::bind((address, 53))).unwrap();
        runtime.spawn(async move {
            let mut query = [0; 512];
            while let Ok((len, from)) = socket.recv_from(&mut query).await {
                let answer = answer(&query[..len], address, names);
                socket.send_to(&answer, from).await.ok();
            }
        });
        Self { _runtime: runtime }
    }
}

/// The answer to a question for one name (RFC 1035, 4.1).
fn answer(query: &[u8], address: Ipv4Addr, names: &[&str]) -> Vec<u8> {
    let mut labels = Vec::new();
    let mut at = 12;
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(str::from_utf8(&query[at + 1..end]).unwrap());
        at = end;
    }
    let name = labels.join(".");
    let is_known = names.contains(&name.as_str());
    // Type A; there is no other address.
    let found = u8::from(is_known && query[at + 1..at + 3] == [0, 1]);
    let code = if is_known { 0 } else { 3 };
    let head = [query[0], query[1], 0x81, 0x80 | code, 0, 1, 0, found, 0, 0, 0, 0];
    let mut answer = [&head[..], &query[12..at + 5]].concat();
    if found == 1 {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(address.octets());
    }
    answer
}

#[test]
fn the_binary_asks_for_no_loader_and_is_small() {
    let Some(binary) = shipped() else { return };
    let bytes = fs::read(binary).unwrap();
    assert!(bytes.len() <= 16_000_000, "it has {} bytes", bytes.len());
    let number =
        |at: usize, len: usize| bytes[at..at + len].iter().rev().fold(0, |sum, byte| sum << 8 | *byte as usize);
    assert_eq!(bytes[..6], *b"\x7fELF\x02\x01", "64 bits, the low byte first");
    // The program headers: where they begin, how long one is, how many there are.
    let (begin, len, count) = (number(32, 8), number(54, 2), number(56, 2));
    let types: Vec<usize> = (0..count).map(|n| number(begin + n * len, 4)).collect();
    assert!(types.contains(&1), "something is loaded");
    assert!(!types.contains(&3), "PT_INTERP names a loader");
}

#[test]
fn a_push_from_a_root_with_nothing_but_certificates() {
    let Some(binary) = shipped().filter(|_| may_change_root()) else { return };
    // Certificates and names as on any machine; but what glibc would take for a plugin is asked first, and is not there.
    let plugins = b"hosts: notthere [UNAVAIL=return] files dns\n";
    for way in ["etc/resolv.conf", "etc/hosts"] {
        // As ECR's own are, but without the name that the sandbox believes to have.
        let rules = Rules { locations: Locations::Path, ..Rules::default() };
        let ecr = Ecr::in_region("us-east-1", &["team/app"], rules);
        let authority = Authority::new("a company's own");
        let identity =
            authority.issue(|params| *params = CertificateParams::new(vec![HOST.to_owned(), API.to_owned()]).unwrap());
        let address = own_address(if way == "etc/hosts" { 53 } else { 54 });
        let _front = Front::at(SocketAddr::from((address, 443)), ecr.address(), identity);
        let root = Root::new();
        root.put("ecr-push", b"");
        fs::copy(&binary, root.0.path().join("ecr-push")).unwrap();
        root.put(CERTIFICATES, &fs::read(authority.file(&ecr.env)).unwrap());
        root.put("image.tar", &fs::read(testdata(ARCHIVE)).unwrap());
        root.put("etc/nsswitch.conf", plugins);
        let _names;
        if way == "etc/hosts" {
            root.put(way, format!("{address} {HOST} {API}\n").as_bytes());
        } else {
            root.put(way, format!("nameserver {address}\n").as_bytes());
            _names = NameServer::start(address, &[HOST, API]);
        }
        let mut command =
            root.command(&["image.tar", "team/app:1", "--region", "us-east-1", "--cache", "/layers.jsonl"]);
        command.env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE").env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        command.env("AWS_EC2_METADATA_DISABLED", "true");
        let run = ecr.finish(command).succeeds();
        let pushed = StoredImage::of_sandbox(&ecr, "team/app", "1");
        pushed.is(&Source::read(&testdata(ARCHIVE), 0));
        assert_eq!(run.stdout, format!("{HOST}/team/app:1@{}\n", pushed.digest()));
        assert!(root.0.path().join("layers.jsonl").is_file(), "the cache is written");
    }
}

/// The image that `.ci/image` makes.
fn image(binary: &Path, env: &TestEnv) -> String {
    image_with(binary, env, None)
}

/// The same with a shell, which a folder with busybox has.
fn image_with(binary: &Path, env: &TestEnv, busybox: Option<&Path>) -> String {
    let tar = env.scratch("ecr-push.oci.tar");
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/image"));
    command.arg(binary).arg(&tar).args(busybox);
    finish(command, String::new).succeeds();
    tar
}

/// The one layer of an image, plain.
fn layer(pushed: &StoredImage<'_>) -> Vec<u8> {
    let manifests = pushed.manifests();
    let layers = manifests[0]["layers"].as_array().unwrap();
    assert_eq!((manifests.len(), layers.len()), (1, 1));
    plain(&pushed.blob(&layers[0]))
}

#[test]
fn the_image_holds_the_binary_and_certificates_and_goes_where_others_go() {
    let Some(binary) = shipped() else { return };
    let ecr = Ecr::new();
    let tar = image(&binary, &ecr.env);
    let other = TestEnv::new();
    let again = fs::read(image(&binary, &other)).unwrap();
    assert_eq!(sha256(&fs::read(&tar).unwrap()), sha256(&again), "each time the same");
    let source = Source::read(&tar, 0);
    ecr.run(&[&tar, "team/app:1"]).succeeds();
    let pushed = StoredImage::of_sandbox(&ecr, "team/app", "1");
    pushed.is(&source);
    assert_eq!(pushed.platforms(), [if cfg!(target_arch = "x86_64") { "linux/amd64" } else { "linux/arm64" }]);

    let config: Value = serde_json::from_slice(&source.parts[0].config).unwrap();
    assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["/ecr-push"]));
    assert_eq!(config["config"]["User"], "65532:65532", "not root");
    let layer = layer(&pushed);
    let mut files = tar::Archive::new(&layer[..]);
    let entry = |entry: tar::Entry<'_, _>| {
        let header = entry.header();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
        format!("{:o} {}", header.mode().unwrap(), text(&entry.path().unwrap()))
    };
    let found: Vec<String> = files.entries().unwrap().map(|found| entry(found.unwrap())).collect();
    let expected =
        ["755 ecr-push", "755 etc/", "755 etc/ssl/", "755 etc/ssl/certs/", &format!("644 {CERTIFICATES}"), "1777 tmp/"];
    assert_eq!(found, expected);

    if may_change_root() {
        let root = Root::new();
        tar::Archive::new(&layer[..]).unpack(root.0.path()).unwrap();
        let version = concat!("ecr-push ", env!("CARGO_PKG_VERSION"), "\n");
        finish(root.command(&["--version"]), String::new).succeeds().stdout_is(version);
    }
}

#[test]
fn the_image_is_one_for_other_people_s_registries_and_tools() {
    let Some(binary) = shipped() else { return };
    let Some(registry) = DockerRegistry::start() else { return };
    let env = TestEnv::new();
    let tar = image(&binary, &env);
    let mut command = Command::new(&binary);
    command.args([&tar, &registry.target("tools/ecr-push:1")]).env_clear().env("HOME", env.home());
    finish(command, String::new).succeeds();
    registry.read_back("tools/ecr-push", "1").is(&Source::read(&tar, 0));
}

#[test]
fn the_image_with_a_shell_runs_scripts_of_ci_systems() {
    let Some(binary) = shipped() else { return };
    let Some(busybox) = std::env::var_os("ECR_PUSH_BUSYBOX").map(PathBuf::from) else {
        return not_run("the image with a shell (no busybox; tests/run.sh downloads it where there is apt-get)");
    };
    let ecr = Ecr::new();
    let tar = image_with(&binary, &ecr.env, Some(&busybox));
    let source = Source::read(&tar, 0);
    let config: Value = serde_json::from_slice(&source.parts[0].config).unwrap();
    // Jenkins runs `cat`, GitLab a shell.
    assert!(config["config"]["Entrypoint"].is_null() && config["config"]["Cmd"][0] == "sh");
    assert_eq!(config["config"]["User"], "65532:65532", "not root");
    ecr.run(&[&tar, "team/app:1"]).succeeds();
    if may_change_root() {
        let root = Root::new();
        tar::Archive::new(&layer(&StoredImage::of_sandbox(&ecr, "team/app", "1"))[..]).unpack(root.0.path()).unwrap();
        // As a container has it.
        root.put("etc/hosts", b"127.0.0.1 localhost\n");
        let mut command = Command::new("chroot");
        command.arg("--userspec=65532:65532").arg(root.0.path()).args(["/bin/sh", "-ec"]);
        command.arg(
            "echo text | cat; mkdir -p /tmp/build; cd /tmp/build; echo text | sha256sum; command -v wget; ecr-push demo",
        );
        let path = std::env::var_os("PATH").unwrap();
        // As the config has it, before the folders in which this machine has chroot.
        command.env_clear().env(
            "PATH",
            std::env::join_paths(["/bin".into()].into_iter().chain(std::env::split_paths(&path))).unwrap(),
        );
        assert!(finish(command, String::new).succeeds().stdout.contains("/demo/app:1@sha256:"));
    }
}
