//! All of AWS on this machine: a proxy that lets every name of the internet lead to one sandbox, over TLS.
//!
//! The program is given the proxy and its certificates as in a company's network, and nothing else. So it asks
//! the hosts that it would ask, and the proxy knows which.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::process::Command;
use std::sync::{Arc, Mutex};

use ecr_push::sandbox::{Locations, Options, Rules};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::ecr::{Ecr, SECRET_KEY};
use super::harness::{Run, finish};
use super::tls::Authority;

/// The sandbox's account.
pub(crate) const ACCOUNT: &str = "000000000000";
/// The user's own access key.
pub(crate) const ACCESS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";

/// AWS, with the proxy to it.
pub(crate) struct FakeAws {
    pub(crate) ecr: Ecr,
    proxy: SocketAddr,
    ca_file: String,
    asked: Arc<Mutex<BTreeSet<String>>>,
    _runtime: Runtime,
}

impl Deref for FakeAws {
    type Target = Ecr;

    fn deref(&self) -> &Ecr {
        &self.ecr
    }
}

impl FakeAws {
    /// A region with the repository `team/app`.
    pub(crate) fn of(region: &str) -> Self {
        Self::with(region, Rules::default())
    }

    pub(crate) fn with(region: &str, rules: Rules) -> Self {
        let create = vec!["team/app".parse().unwrap()];
        let region = region.to_owned();
        let only = Options { any_account: false, any_region: false, ..Options::default() };
        Self::around(Options { region, create, rules, ..only }, |_| None)
    }

    /// Around such a sandbox, except for names that lead elsewhere.
    pub(crate) fn around(
        options: Options,
        elsewhere: impl Fn(&str) -> Option<SocketAddr> + Copy + Send + 'static,
    ) -> Self {
        // As ECR's own are, but without the name that the sandbox believes to have.
        let rules = Rules { locations: Locations::Path, ..options.rules };
        let ecr = Ecr::started(Options { rules, ..options });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let authority = Arc::new(Authority::new("a company's own"));
        let ca_file = authority.file(&ecr.env);
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let (proxy, sandbox) = (listener.local_addr().unwrap(), ecr.address());
        let asked = Arc::<Mutex<BTreeSet<String>>>::default();
        let names = Arc::clone(&asked);
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let lead = move |name: &str| elsewhere(name).unwrap_or(sandbox);
                tokio::spawn(serve(client, lead, Arc::clone(&authority), Arc::clone(&names)));
            }
        });
        Self { ecr, proxy, ca_file, asked, _runtime: runtime }
    }

    /// The program in a company's network, without any credentials.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.ecr.env.command(arguments);
        command.env("HTTPS_PROXY", format!("http://{}", self.proxy)).env("AWS_CA_BUNDLE", &self.ca_file);
        command
    }

    /// The same, with a user's keys.
    pub(crate) fn command_of_user(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(arguments);
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        command
    }

    /// Runs a command, and asserts that it writes no secret.
    #[track_caller]
    pub(crate) fn finish(&self, command: Command) -> Run {
        let run = finish(command, || self.story());
        run.output_has_none(&[
            SECRET_KEY, "QVdTO", "Basic ", "job-token", "sandbox-secret", "sandbox-session-token", "eyJ",
        ])
    }

    /// The hosts that were asked for, sorted.
    pub(crate) fn hosts(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().cloned().collect()
    }

    /// The access keys that asked for a login.
    pub(crate) fn keys(&self) -> Vec<String> {
        let asked = self.asked("ecr:GetAuthorizationToken").into_iter();
        asked.map(|entry| entry.access_key.unwrap()).collect()
    }
}

async fn serve(
    client: TcpStream,
    lead: impl Fn(&str) -> SocketAddr,
    authority: Arc<Authority>,
    asked: Arc<Mutex<BTreeSet<String>>>,
) {
    let mut client = BufReader::new(client);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(1..) = client.read_until(b'\n', &mut head).await else { return };
    }
    let head = String::from_utf8(head).unwrap();
    let mut words = head.split(' ');
    let (method, to) = (words.next().unwrap(), words.next().unwrap());
    asked.lock().unwrap().insert(to.to_owned());
    let mut client = client.into_inner();
    let Some(name) = to.strip_suffix(":443").filter(|_| method == "CONNECT") else {
        client.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await.ok();
        return;
    };
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
    let (name, server) = (name.to_owned(), lead(name));
    let (certificate, key) = authority.issue(|params| *params = rcgen::CertificateParams::new(vec![name]).unwrap());
    let config = ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![certificate], PrivateKeyDer::Pkcs8(key.into())).unwrap();
    let Ok(mut client) = TlsAcceptor::from(Arc::new(config)).accept(client).await else { return };
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    tokio::io::copy_bidirectional(&mut client, &mut server).await.ok();
}
