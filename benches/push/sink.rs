//! The registries: a sandbox in this process, or a docker-registry. Each starts empty.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use ecr_push::sandbox::{BlobMounting, Options, Rules, Sandbox};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::line::{Line, Proxy};

/// The target repositories: the first, or both.
pub(crate) const REPOSITORIES: [&str; 2] = ["bench/app", "bench/other"];

/// The kind of registry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// The sandbox of this program, in this process.
    Sandbox,
    /// Debian's docker-registry.
    Registry,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Registry => "docker-registry",
        }
    }
}

/// A registry, and the line to it, if there is one between.
pub(crate) struct Sink {
    registry: Registry,
    line: Option<Proxy>,
}

enum Registry {
    Sandbox { sandbox: Box<Sandbox>, password: String },
    Process { child: Child, address: String, storage: PathBuf },
}

/// The traffic of a sandbox.
#[derive(Clone, Copy, Default)]
pub(crate) struct Traffic {
    pub(crate) requests: u64,
    pub(crate) bytes: u64,
}

impl Sink {
    /// Starts a sandbox with these repositories.
    pub(crate) fn sandbox(repositories: impl IntoIterator<Item = String>, runtime: &Runtime) -> Self {
        Self { registry: runtime.block_on(sandbox(Duration::ZERO, repositories)), line: None }
    }

    /// Has a sandbox mount blobs from other repositories, as ECR does with the account setting `BLOB_MOUNTING`.
    pub(crate) fn mounting(self) -> Self {
        if let Registry::Sandbox { sandbox, .. } = &self.registry {
            sandbox.set_rules(|rules| rules.blob_mounting = BlobMounting::Enabled);
        }
        self
    }

    pub(crate) fn start(kind: Kind, delay: Duration, line: Option<Line>, runtime: &Runtime, work: &Path) -> Self {
        let registry = match kind {
            Kind::Sandbox => runtime.block_on(sandbox(delay, REPOSITORIES.map(str::to_owned))),
            Kind::Registry => process(work),
        };
        let line = line.map(|line| Proxy::start(line, registry.address().parse().unwrap(), runtime));
        Self { registry, line }
    }

    /// Returns `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> String {
        self.line.as_ref().map_or_else(|| self.registry.address(), Proxy::address)
    }

    /// Returns the login that it requires, as `NAME:PASSWORD`.
    pub(crate) fn login(&self) -> Option<&str> {
        match &self.registry {
            Registry::Sandbox { password, .. } => Some(password),
            Registry::Process { .. } => None,
        }
    }

    /// Returns its traffic so far, if it is a sandbox. Bytes are those of request bodies.
    pub(crate) fn traffic(&self) -> Option<Traffic> {
        let Registry::Sandbox { sandbox, .. } = &self.registry else { return None };
        let log = sandbox.log();
        Some(Traffic { requests: log.len() as u64, bytes: log.iter().map(|entry| entry.body_bytes).sum() })
    }

    /// Returns the total size of an image's layers in the registry.
    pub(crate) fn stored_bytes(&self, repository: &str, tag: &str) -> Option<u64> {
        let Registry::Sandbox { sandbox, .. } = &self.registry else { return None };
        let manifest: Value = serde_json::from_slice(&sandbox.image(repository, tag)?.1).ok()?;
        manifest["layers"].as_array()?.iter().map(|layer| layer["size"].as_u64()).sum()
    }
}

impl Registry {
    fn address(&self) -> String {
        match self {
            Self::Sandbox { sandbox, .. } => sandbox.address().to_string(),
            Self::Process { address, .. } => address.clone(),
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Self::Process { child, storage, .. } = self {
            child.kill().ok();
            child.wait().ok();
            std::fs::remove_dir_all(storage).ok();
        }
    }
}

async fn sandbox(delay: Duration, repositories: impl IntoIterator<Item = String>) -> Registry {
    let rules = Rules { delay, ..Rules::default() };
    let create = repositories.into_iter().map(|repository| repository.parse().unwrap()).collect();
    let sandbox = Sandbox::start(Options { discard: true, rules, create, ..Options::default() }).await.unwrap();
    let request = reqwest::Client::builder().no_proxy().build().unwrap().post(sandbox.url());
    let request = request
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken")
        .header("authorization", "AWS4-HMAC-SHA256 Credential=x, SignedHeaders=host, Signature=y");
    let response = request.body("{}").send().await.unwrap().bytes().await.unwrap();
    let response: Value = serde_json::from_slice(&response).unwrap();
    let token = response["authorizationData"][0]["authorizationToken"].as_str().unwrap();
    let login = base64::engine::general_purpose::STANDARD.decode(token).unwrap();
    Registry::Sandbox { sandbox: Box::new(sandbox), password: String::from_utf8(login).unwrap() }
}

fn process(work: &Path) -> Registry {
    let storage = tempfile::tempdir_in(work).unwrap().keep();
    let settings = storage.join("settings.yml");
    let text = format!(
        "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n",
        storage.join("data").display()
    );
    std::fs::write(&settings, text).unwrap();
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(settings).env_clear().stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let line = lines.find(|line| line.contains("listening on ")).expect("docker-registry logs its address");
    let address = line.split("listening on ").nth(1).unwrap().split('"').next().unwrap().to_owned();
    // Its log continues, and its pipe must not be full or closed.
    std::thread::spawn(move || lines.for_each(drop));
    Registry::Process { child, address, storage }
}
