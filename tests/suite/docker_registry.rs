//! Second opinions: Debian's docker-registry, and skopeo to read back what is in it.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use serde_json::Value;
use tempfile::TempDir;

use super::archive_contents::sha256;
use super::harness::finish;
use super::stored_image::StoredImage;

/// Whether a program of other people's making is here, which is a Debian package of the same name. If not, that is put down.
pub(crate) fn second_opinion(program: &str) -> bool {
    is_installed(program, program)
}

/// Whether a program of a Debian package is here. If not, that is put down.
pub(crate) fn is_installed(program: &str, package: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let here = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if !here {
        not_run(&format!("{program} (not installed; apt-get install {package})"));
    }
    here
}

/// Records that something is not installed, so that the tests that need it are not taken for passed. In CI it is
/// a failure.
pub(crate) fn not_run(what: &str) {
    static MISSING: Mutex<Option<HashSet<String>>> = Mutex::new(None);
    let line = format!("NOT RUN: {what}");
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{line}");
    if MISSING.lock().unwrap().get_or_insert_default().insert(line.clone()) {
        match std::env::var_os("ECR_PUSH_NOT_RUN") {
            Some(list) => {
                let mut list = std::fs::OpenOptions::new().append(true).create(true).open(list).unwrap();
                writeln!(list, "{line}").unwrap();
            }
            // Past the test harness, which hides what passing tests print.
            None => std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap(),
        }
    }
}

/// A docker-registry with a storage of its own. It stops when it is dropped.
pub(crate) struct DockerRegistry {
    child: Child,
    address: String,
    storage: TempDir,
    secret: Option<&'static str>,
}

/// Starts a docker-registry, and returns it when it listens, with where.
fn serve(storage: &Path, address: &str, secret: Option<&str>) -> (Child, String) {
    let (settings, root) = (storage.join("settings.yml"), storage.join("data"));
    let secret = secret.map(|secret| format!(", secret: {secret}")).unwrap_or_default();
    let passwords = storage.join("htpasswd");
    let auth = if passwords.exists() {
        format!("auth: {{htpasswd: {{realm: \"its own, \\\"quoted\\\"\", path: {}}}}}\n", passwords.display())
    } else {
        String::new()
    };
    // Non-distributable layers are only accepted from configured addresses.
    let text = format!(
        "version: 0.1\nvalidation: {{manifests: {{urls: {{allow: ['^https://']}}}}}}\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{address}'{secret}}}\n{auth}",
        root.display()
    );
    std::fs::write(&settings, text).unwrap();
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(settings).env_clear().stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let said = |line: &str| line.split_once("listening on ").map(|(_, rest)| rest.to_owned());
    let rest = lines.by_ref().map_while(Result::ok).find_map(|line| said(&line));
    let rest = rest.expect("docker-registry says where it listens");
    let address = rest.split('"').next().unwrap().to_owned();
    // It continues to log, and must not find its pipe full or closed.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    (child, address)
}

impl DockerRegistry {
    /// Starts one, if it is installed, and skopeo beside it.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(None)
    }

    /// Starts one that signs the states of its uploads with a secret. Without one it makes one up at each start.
    pub(crate) fn start_with(secret: Option<&'static str>) -> Option<Self> {
        if !second_opinion("docker-registry") | !second_opinion("skopeo") {
            return None;
        }
        let storage = tempfile::tempdir().unwrap();
        let (child, address) = serve(storage.path(), "127.0.0.1:0", secret);
        Some(Self { child, address, storage, secret })
    }

    /// Starts one that wants the password of `bob`, which is `hunter2:and more`.
    pub(crate) fn start_for_bob() -> Option<Self> {
        if !second_opinion("docker-registry") {
            return None;
        }
        let storage = tempfile::tempdir().unwrap();
        let hashed = "bob:$2a$05$abcdefghijklmnopqrstuuowlIeniBW6naclN7bhGdDnBnYpWJQaG\n";
        std::fs::write(storage.path().join("htpasswd"), hashed).unwrap();
        let (child, address) = serve(storage.path(), "127.0.0.1:0", None);
        Some(Self { child, address, storage, secret: None })
    }

    /// Ends it without a warning.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again after it was killed: the same address, the same storage.
    pub(crate) fn start_again(&mut self) {
        (self.child, _) = serve(self.storage.path(), &self.address, self.secret);
    }

    /// `127.0.0.1:PORT/NAME`
    pub(crate) fn target(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// What `skopeo inspect --raw` shows: the bytes of a manifest.
    pub(crate) fn manifest(&self, name: &str) -> Option<Vec<u8>> {
        let source = format!("docker://{}", self.target(name));
        let mut command = skopeo(self.storage.path());
        command.args(["inspect", "--tls-verify=false", "--raw", &source]);
        let output = command.output().unwrap();
        output.status.success().then_some(output.stdout)
    }

    /// Everything that skopeo finds under a name, on all platforms.
    #[track_caller]
    pub(crate) fn read_back(&self, repository: &str, tag: &str) -> StoredImage<'static> {
        let root = self.manifest(&format!("{repository}:{tag}")).unwrap_or_else(|| panic!("there is no tag {tag}"));
        let folder = tempfile::tempdir_in(self.storage.path()).unwrap().keep();
        let view: Value = serde_json::from_slice(&root).unwrap();
        // An index is read child by child: skopeo 1.9 writes it again where it copies all of it.
        let children = view["manifests"].as_array().cloned().unwrap_or_default();
        let mut digests: Vec<_> = children.iter().map(|child| child["digest"].as_str().unwrap().to_owned()).collect();
        if digests.is_empty() {
            digests.push(sha256(&root));
        }
        for digest in digests {
            let source = format!("docker://{}", self.target(&format!("{repository}@{digest}")));
            let copy = tempfile::tempdir_in(self.storage.path()).unwrap();
            skopeo_copy(copy.path(), &["--src-tls-verify=false", "--preserve-digests", &source]);
            for file in std::fs::read_dir(copy.path().join("image")).unwrap() {
                let file = file.unwrap();
                let name = file.file_name().into_string().unwrap();
                let name = if name == "manifest.json" { format!("{}.{name}", &digest[7..]) } else { name };
                std::fs::rename(file.path(), folder.join(name)).unwrap();
            }
        }
        StoredImage::of_skopeo(root, folder)
    }

    /// The folder with a repository's upload sessions.
    fn uploads(&self, repository: &str) -> PathBuf {
        self.storage.path().join("data/docker/registry/v2/repositories").join(repository).join("_uploads")
    }

    /// How many upload sessions it has on its disk.
    pub(crate) fn open_uploads(&self, repository: &str) -> usize {
        std::fs::read_dir(self.uploads(repository)).map_or(0, |entries| entries.count())
    }

    /// How many bytes they have.
    pub(crate) fn bytes_of_uploads(&self, repository: &str) -> u64 {
        let sessions = std::fs::read_dir(self.uploads(repository)).into_iter().flatten().flatten();
        let data = sessions.map(|session| session.path().join("data"));
        data.filter_map(|file| std::fs::metadata(file).ok()).map(|file| file.len()).sum()
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn skopeo(folder: &Path) -> Command {
    let mut command = Command::new("skopeo");
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", folder);
    command.arg("--insecure-policy").arg("--tmpdir").arg(folder);
    command
}

/// Copies an image with skopeo into `FOLDER/image`, in skopeo's own form.
#[track_caller]
pub(crate) fn skopeo_copy(folder: &Path, source: &[&str]) {
    let mut command = skopeo(folder);
    command.args(["copy", "--quiet"]).args(source).arg(format!("dir:{}", folder.join("image").display()));
    let _run = finish(command, String::new).succeeds();
}
