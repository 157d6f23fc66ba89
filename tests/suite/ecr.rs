//! A sandbox, and the program configured to use it as ECR.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::ops::Deref;
use std::process::Command;

use ecr_push::sandbox::{Fault, LogEntry, Options, Rules, Sandbox, Trouble};
use tokio::runtime::Runtime;

use super::harness::{Run, TestEnv, finish};

/// The registry's name in references: the sandbox's account and region.
pub(crate) const HOST: &str = "000000000000.dkr.ecr.us-east-1.amazonaws.com";

/// Never to be seen in anything the program writes.
pub(crate) const SECRET_KEY: &str = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY";

/// A sandbox with folders to run the program in.
pub(crate) struct Ecr {
    pub(crate) env: TestEnv,
    // Before the runtime, which must outlive it.
    sandbox: Sandbox,
    _runtime: Runtime,
}

impl Deref for Ecr {
    type Target = Sandbox;

    fn deref(&self) -> &Sandbox {
        &self.sandbox
    }
}

impl Ecr {
    /// A sandbox without a repository.
    pub(crate) fn empty() -> Self {
        Self::with(&[], Rules::default())
    }

    /// A sandbox with the repository `team/app`.
    pub(crate) fn new() -> Self {
        Self::with(&["team/app"], Rules::default())
    }

    /// A sandbox with the repository `team/app` where something goes wrong.
    pub(crate) fn faulty(faults: &[Fault]) -> Self {
        Self::with(&["team/app"], Rules { faults: faults.to_vec(), ..Rules::default() })
    }

    /// A sandbox with these repositories and rules.
    pub(crate) fn with(repositories: &[&str], rules: Rules) -> Self {
        Self::in_region("us-east-1", repositories, rules)
    }

    /// A sandbox that plays a region.
    pub(crate) fn in_region(region: &str, repositories: &[&str], rules: Rules) -> Self {
        let create = repositories.iter().map(|name| name.parse().unwrap()).collect();
        let region = region.to_owned();
        Self::started(Options { create, rules, region, any_account: false, any_region: false, ..Options::default() })
    }

    /// Any sandbox.
    pub(crate) fn started(options: Options) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let sandbox = runtime.block_on(Sandbox::start(options)).unwrap();
        Self { env: TestEnv::new(), sandbox, _runtime: runtime }
    }

    /// The program with these arguments, the sandbox for an ECR, and credentials.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.env.command(arguments);
        command.args(["--region", "us-east-1"]);
        command.env("AWS_ENDPOINT_URL_ECR", self.url()).env("ECR_PUSH_REGISTRY_ENDPOINT", self.url());
        // With -v it is asked who that is.
        command.env("AWS_ENDPOINT_URL_STS", self.url());
        command.env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE").env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        command
    }

    /// Runs the program with these arguments.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        self.finish(self.command(arguments))
    }

    /// Runs a command, and asserts that it writes no secret and leaves no session open.
    #[track_caller]
    pub(crate) fn finish(&self, command: Command) -> Run {
        let run = finish(command, || self.story());
        let run = run.output_has_none(&[SECRET_KEY, "QVdTO", "Basic ", "X-Amz-Signature"]);
        assert_eq!(self.open_uploads(), 0, "an upload session is left open");
        assert_eq!(self.leaked_credentials(), 0, "the bucket was shown credentials");
        run
    }

    /// The log as text.
    pub(crate) fn story(&self) -> String {
        let line = |e: LogEntry| {
            let range = e.content_range.unwrap_or_default();
            format!("{:3} {:6} {} [{}] {} bytes {range}\n", e.status, e.method, e.path, e.operation, e.body_bytes)
        };
        self.log().into_iter().map(line).collect()
    }

    /// The requests for an operation.
    pub(crate) fn asked(&self, operation: &str) -> Vec<LogEntry> {
        self.log().into_iter().filter(|entry| entry.operation == operation).collect()
    }

    /// How many requests there were for an operation.
    pub(crate) fn count(&self, operation: &str) -> usize {
        self.asked(operation).len()
    }

    /// The tags and digests under which manifests were put, in order.
    pub(crate) fn manifests_put(&self) -> Vec<String> {
        let reference = |entry: &LogEntry| entry.path.rsplit('/').next().unwrap().to_owned();
        self.asked("ecr:PutImage").iter().map(reference).collect()
    }

    /// Asserts that nothing was tagged in `team/app`, not even put.
    #[track_caller]
    pub(crate) fn has_no_image(&self, tag: &str) {
        assert!(self.image("team/app", tag).is_none(), "team/app:{tag} is there after a failure");
    }
}

/// Puts a manifest by hand into a sandbox that asks for no login, and returns the status.
pub(crate) fn put_manifest(ecr: &Ecr, repository: &str, tag: &str, media_type: &str, bytes: &str) -> u16 {
    let mut stream = TcpStream::connect(ecr.address()).unwrap();
    let head = format!("PUT /v2/{repository}/manifests/{tag} HTTP/1.1\r\nHost: {}\r\n", ecr.address());
    let length = bytes.len();
    let rest = format!("Content-Type: {media_type}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{bytes}");
    stream.write_all((head + &rest).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

/// A refusal of any status.
pub(crate) fn status(status: u16, code: &str, message: &str) -> Trouble {
    Trouble::Status { status, code: code.into(), message: message.into() }
}
