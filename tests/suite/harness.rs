//! Runs the program: a cleared environment, folders of its own, everything captured.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::schema;

/// How long anything may take before it counts as hanging.
const DEADLINE: Duration = Duration::from_secs(120);

/// Half of the shortest time limit of a request by default: what ends within it did not wait for one.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// The program under test: the one that was built, or that of `ECR_PUSH_PROGRAM`, such as an older release. The sandbox is
/// always that of the tests' own process.
pub(crate) fn program() -> PathBuf {
    other_program().unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_ecr-push")))
}

/// The program of `ECR_PUSH_PROGRAM`.
pub(crate) fn other_program() -> Option<PathBuf> {
    std::env::var_os("ECR_PUSH_PROGRAM").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// A file or folder of `testdata`.
pub(crate) fn testdata(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    assert!(path.exists(), "testdata has no {name}");
    text(&path)
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Asks until the answer is yes.
pub(crate) fn wait_until(what: &str, mut answer: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !answer() {
        assert!(Instant::now() < deadline, "timed out waiting until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The folders of one test. Gone with it.
pub(crate) struct TestEnv {
    root: TempDir,
}

impl TestEnv {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for folder in ["home", "tmp", "here", "scratch"] {
            std::fs::create_dir(root.path().join(folder)).unwrap();
        }
        Self { root }
    }

    /// The folder of all.
    pub(crate) fn folder(&self) -> String {
        text(self.root.path())
    }

    /// The program's home folder.
    pub(crate) fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    /// A path for the test's own files, which [`written`](Self::written) does not list.
    pub(crate) fn scratch(&self, name: &str) -> String {
        text(&self.root.path().join("scratch").join(name))
    }

    /// Every file that the program wrote into its home, its folder for temporary files or where it was started.
    pub(crate) fn written(&self) -> Vec<String> {
        let mut found = Vec::new();
        for folder in ["home", "tmp", "here"] {
            list(self.root.path(), &self.root.path().join(folder), &mut found);
        }
        found.sort();
        found
    }

    /// The program with these arguments, to be run by [`finish`].
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(arguments).env_clear().current_dir(self.root.path().join("here"));
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.home()).env("TMPDIR", self.root.path().join("tmp"));
        // No settings of the user, and no request for the metadata of this machine.
        command.env("AWS_EC2_METADATA_DISABLED", "true");
        command.env("AWS_CONFIG_FILE", "/dev/null").env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
        command
    }

    /// Runs the program.
    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        finish(self.command(arguments), String::new)
    }
}

/// What the secrets of all tests have in them: keys, the tokens of the sandbox and of its CIs, ECR's passwords (which are
/// JSON in base64) and logins made of them, signatures in URLs.
const SECRETS: [&str; 10] = [
    super::ecr::SECRET_KEY,
    "sandbox-secret",
    "sandbox-session-token",
    "job-token",
    "sso-token",
    "eyJwYXlsb2Fk",
    "QVdTOmV5",
    "eyJhbGci",
    "X-Amz-Signature",
    super::usage_errors::SECRET,
];

/// Asserts that no text of the program's holds a secret.
#[track_caller]
fn no_secret_in(what: &str, text: &str) {
    let found = SECRETS.iter().find(|secret| text.contains(**secret));
    assert!(found.is_none(), "{what} holds the secret {}:\n{text}", found.unwrap());
}

impl Drop for TestEnv {
    /// Whatever the program wrote in a test holds no secret: its cache, its journal, its reports and pages. Reports are as
    /// their schema says.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mut files = self.written();
        list(self.root.path(), &self.root.path().join("scratch"), &mut files);
        // What tests write for the program to read may well.
        let by_tests = |name: &str| {
            name.starts_with("scratch/") && !name.ends_with(".json") && !name.ends_with(".html")
                || name.contains(".aws/")
                || name.contains("config.json")
        };
        for name in files.iter().filter(|name| !by_tests(name)) {
            let Ok(bytes) = std::fs::read(self.root.path().join(name)) else { continue };
            if bytes.len() < 1 << 20 {
                let text = String::from_utf8_lossy(&bytes);
                no_secret_in(name, &text);
                schema::check(name, &text);
            }
        }
    }
}

fn list(root: &Path, folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list(root, &path, found);
        } else {
            found.push(text(path.strip_prefix(root).unwrap()));
        }
    }
}

/// Runs a command to its end. `log` returns what other parties saw meanwhile, to be shown if the test fails.
pub(crate) fn finish(command: Command, log: impl FnOnce() -> String) -> Run {
    let run = Running::start(command).end();
    show(&format!("--- log\n{}", log()));
    run
}

/// Prints to the test's captured output, which the test framework shows if the test fails.
#[expect(clippy::print_stderr, reason = "the test framework captures it")]
pub(crate) fn show(text: &str) {
    eprintln!("{text}");
}

/// The program while it runs. It is killed when this is dropped.
pub(crate) struct Running {
    child: Child,
    shown: String,
    arguments: String,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
}

impl Running {
    pub(crate) fn start(command: Command) -> Self {
        Self::fed(command, Stdio::null())
    }

    /// The program with something at its standard input.
    pub(crate) fn fed(mut command: Command, stdin: impl Into<Stdio>) -> Self {
        let shown = format!("{command:?}");
        let arguments: Vec<_> = command.get_args().map(|argument| argument.to_str().unwrap()).collect();
        let arguments = arguments.join(" ");
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {shown}: {error}"));
        let stdout = Some(collect(child.stdout.take().unwrap()));
        let stderr = Some(collect(child.stderr.take().unwrap()));
        Self { child, shown, arguments, stdout, stderr }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Ends it without a warning, waits until it is gone, and returns what it said on stderr.
    pub(crate) fn kill(mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.stderr.take().unwrap().join().unwrap()
    }

    /// Waits for the end.
    pub(crate) fn end(mut self) -> Run {
        let deadline = Instant::now() + DEADLINE;
        let mut ended = None;
        while ended.is_none() && Instant::now() < deadline {
            ended = self.ended();
            std::thread::sleep(Duration::from_millis(2));
        }
        if ended.is_none() {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
        let stdout = self.stdout.take().unwrap().join().unwrap();
        let stderr = self.stderr.take().unwrap().join().unwrap();
        let code = ended.and_then(|status| status.code());
        let shown = &self.shown;
        show(&format!("--- {shown}\n--- exit code {code:?}\n--- stdout\n{stdout}--- stderr\n{stderr}"));
        assert!(ended.is_some(), "the program hangs");
        no_secret_in("its output", &format!("{stdout}\n{stderr}"));
        schema::check("stdout", &stdout);
        Run { arguments: self.arguments.clone(), code, stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// What a run of the program ended with. The test framework shows it if the test fails.
pub(crate) struct Run {
    pub(crate) arguments: String,
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// Asserts exit code 0.
    #[track_caller]
    pub(crate) fn succeeds(self) -> Self {
        self.exits_with(0)
    }

    /// Asserts this exit code, which is not 0.
    #[track_caller]
    pub(crate) fn fails_with(self, code: i32) -> Self {
        assert_ne!(code, 0, "a failure has another exit code");
        self.exits_with(code)
    }

    /// Asserts this exit code, whichever it is.
    #[track_caller]
    pub(crate) fn exits_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "unexpected exit code");
        self
    }

    /// Asserts that stderr has all of these.
    #[track_caller]
    pub(crate) fn stderr_has(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "stderr does not have {part:?}");
        }
        self
    }

    /// Asserts that neither stderr nor stdout has any of these.
    #[track_caller]
    pub(crate) fn output_has_none(self, parts: &[&str]) -> Self {
        for part in parts {
            let is_there = [&self.stderr, &self.stdout].iter().any(|text| text.contains(part));
            assert!(!is_there, "the output has {part:?}");
        }
        self
    }

    /// The report on stdout.
    #[track_caller]
    pub(crate) fn report(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("stdout is no report: {error}"))
    }

    /// Asserts that stdout is exactly this.
    #[track_caller]
    pub(crate) fn stdout_is(self, stdout: &str) -> Self {
        assert_eq!(self.stdout, stdout, "unexpected stdout");
        self
    }

    /// The digests at the ends of the lines of stdout.
    #[track_caller]
    pub(crate) fn digests(&self) -> Vec<String> {
        let digest = |line: &str| line.split_once('@').map(|(_, digest)| digest.to_owned());
        let digests: Option<Vec<String>> = self.stdout.lines().map(digest).collect();
        digests.expect("every line of stdout ends with a digest")
    }

    /// The one digest of stdout.
    #[track_caller]
    pub(crate) fn digest(&self) -> String {
        let digests = self.digests();
        assert_eq!(digests.len(), 1, "stdout has one line");
        digests.into_iter().next().unwrap()
    }
}

/// A report, read back.
pub(crate) fn report(path: &str) -> Value {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("there is no report {path}: {error}"));
    schema::check(path, &String::from_utf8_lossy(&bytes));
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("the report {path} is no JSON: {error}"))
}
