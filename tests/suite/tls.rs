//! Registries that speak TLS, with certificates of their own making, over good lines and bad ones.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ecr_push::internals::DEFAULT_CHUNK_SIZE;
use ecr_push::sandbox::{Interrupted, Rules};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::archive_builder;
use super::archive_contents::Source;
use super::ecr::Ecr;
use super::harness::{Run, TestEnv, show, testdata};
use super::stored_image::StoredImage;
use super::tcp_proxy::{TcpProxy, Way};

const ARCHIVE: &str = "docker-20.10-save.tar";
const MB: usize = 1_000_000;

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A file with its certificate.
    pub(crate) fn file(&self, env: &TestEnv) -> String {
        let path = env.scratch("ca.pem");
        std::fs::write(&path, self.0.pem()).unwrap();
        path
    }

    /// A certificate for an address on this machine, with its key.
    pub(crate) fn issue(&self, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::new(vec!["127.0.0.1".into(), "0.0.0.0".into()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().der().clone(), key.serialize_der())
    }
}

/// What is special about a certificate.
type Change = fn(&mut CertificateParams);

/// A certificate with its key.
pub(crate) type Identity = (CertificateDer<'static>, Vec<u8>);

/// What takes the TLS off before a registry. It is gone when it is dropped.
pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicU64>,
    _runtime: Runtime,
}

impl Front {
    pub(crate) fn of(registry: SocketAddr, identity: Identity) -> Self {
        Self::at((Ipv4Addr::LOCALHOST, 0).into(), registry, identity)
    }

    /// One that listens at a given address.
    pub(crate) fn at(address: SocketAddr, registry: SocketAddr, (certificate, key): Identity) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![certificate], PrivateKeyDer::Pkcs8(key.into())).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = runtime.block_on(TcpListener::bind(address)).unwrap();
        let (address, connections) = (listener.local_addr().unwrap(), Arc::<AtomicU64>::default());
        let counted = Arc::clone(&connections);
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut client) = acceptor.accept(client).await else { return };
                    let Ok(mut server) = TcpStream::connect(registry).await else { return };
                    tokio::io::copy_bidirectional(&mut client, &mut server).await.ok();
                });
            }
        });
        Self { address, connections, _runtime: runtime }
    }

    /// How many connections there were.
    fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }
}

/// A sandbox that keeps its sessions, behind TLS.
fn ecr_with(change: impl FnOnce(&mut CertificateParams)) -> (Ecr, Front, Authority) {
    let ecr = Ecr::with(&["team/app"], Rules { interrupted: Interrupted::Resumable, ..Rules::default() });
    let authority = Authority::new("a company's own");
    let front = Front::of(ecr.address(), authority.issue(change));
    (ecr, front, authority)
}

/// Pushes to where a registry is said to be.
#[track_caller]
fn push(ecr: &Ecr, at: &str, archive: &str, options: &[&str]) -> Run {
    let mut command =
        ecr.command(&[&[archive, "team/app:1", "--concurrency", "1", "--chunk-size", "5M"], options].concat());
    command.env("ECR_PUSH_REGISTRY_ENDPOINT", format!("http://{at}"));
    ecr.finish(command)
}

#[test]
fn a_push_over_tls() {
    let (ecr, front, authority) = ecr_with(|_| {});
    let (archive, file) = (testdata(ARCHIVE), authority.file(&ecr.env));
    let run = push(&ecr, &front.address.to_string(), &archive, &["--ca-file", &file]).succeeds();
    StoredImage::of_sandbox(&ecr, "team/app", "1").is(&Source::read(&archive, 0));
    run.output_has_none(&["; retry "]);
    assert!(front.connections() >= 1);
}

#[test]
fn a_ca_file_is_a_bundle_and_adds_to_the_certificates_of_the_machine() {
    let (ecr, front, authority) = ecr_with(|_| {});
    let (archive, bundle, other) = (testdata(ARCHIVE), ecr.env.scratch("bundle.pem"), Authority::new("another"));
    let text = format!("# ours\r\n{}\nand the other\n{}", other.0.pem(), authority.0.pem().replace('\n', "\r\n"));
    std::fs::write(&bundle, text).unwrap();
    push(&ecr, &front.address.to_string(), &archive, &["--ca-file", &bundle]).succeeds();
    // Addressed as no loopback address, it is asked over https without a word. That it wants a login shows that it is
    // trusted.
    let target = format!("0.0.0.0:{}/team/app:1", front.address.port());
    std::fs::write(&bundle, other.0.pem()).unwrap();
    let mut command = ecr.env.command(&[&archive, &target, "--ca-file", &bundle]);
    command.env("SSL_CERT_FILE", authority.file(&ecr.env));
    ecr.finish(command).fails_with(3).stderr_has(&["HTTP 401"]);
}

#[test]
fn an_untrusted_certificate_is_reported_at_once() {
    let (ecr, front, _) = ecr_with(|_| {});
    let archive = testdata(ARCHIVE);
    // One with the same name is still another.
    for name in ["another", "a company's own"] {
        let before = front.connections();
        let file = Authority::new(name).file(&ecr.env);
        let run = push(&ecr, &front.address.to_string(), &archive, &["--ca-file", &file]).fails_with(1).stdout_is("");
        let run = run.stderr_has(&["the certificate of 000000000000.dkr.ecr.us-east-1.amazonaws.com is not trusted"]);
        // Of another of the same name that is all there is to say.
        let issuer = if name == "another" {
            "its issuer \"a company's own\" is not trusted"
        } else {
            "its issuer is not trusted"
        };
        let run =
            run.stderr_has(&[issuer, "hint: ECR's certificates are issued by Amazon", "A proxy that inspects TLS"]);
        run.stderr_has(&["--ca-file"]).output_has_none(&["; retry ", "Other(", "[48"]);
        assert_eq!(front.connections() - before, 1, "it is not tried again");
    }
    let target = format!("0.0.0.0:{}", front.address.port());
    let run = ecr.finish(ecr.env.command(&[&archive, &format!("{target}/team/app:1")])).fails_with(1).stdout_is("");
    let run = run.stderr_has(&[&format!("the certificate of {target} is not trusted"), "hint: ", "--ca-file FILE"]);
    let run = run.stderr_has(&["its issuer \"a company's own\" is not trusted"]).output_has_none(&["Amazon's"]);
    run.output_has_none(&["; retry "]);
    assert!(ecr.log().iter().all(|entry| !entry.path.starts_with("/v2/")), "nothing was said to it");
}

#[test]
fn each_flaw_of_a_certificate_has_its_own_advice() {
    let expired = |params: &mut CertificateParams| params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let early = |params: &mut CertificateParams| params.not_before = rcgen::date_time_ymd(2999, 1, 1);
    let elsewhere = |params: &mut CertificateParams| {
        *params = CertificateParams::new(vec!["registry.corp".into()]).unwrap();
    };
    let ca = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    for (change, words, cure) in [
        (expired as Change, "expired", "renew"),
        (early, "not valid before", "clock"),
        (elsewhere, "only valid for DnsName(\"registry.corp\")", "a host name that the certificate is valid for"),
        (ca, "it is a CA certificate", "CA:FALSE"),
    ] {
        let (ecr, front, authority) = ecr_with(change);
        let file = authority.file(&ecr.env);
        let run = push(&ecr, &front.address.to_string(), &testdata(ARCHIVE), &["--ca-file", &file])
            .fails_with(1)
            .stdout_is("");
        let run = run.stderr_has(&["is not trusted", words, "hint: ", cure]);
        run.output_has_none(&["; retry ", "Other("]);
        assert_eq!(front.connections(), 1);
    }
}

#[test]
fn a_server_s_own_certificate_is_trusted_by_itself_while_it_is_valid_and_for_its_name() {
    // As `openssl req -x509` makes it: issued by itself, and a CA.
    let expired = |params: &mut CertificateParams| params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let elsewhere = |params: &mut CertificateParams| {
        *params = CertificateParams::new(vec!["registry.corp".into()]).unwrap();
    };
    for (change, code, words) in [
        ((|_| {}) as Change, 0, ""),
        (expired, 1, "it expired on Wed, 01 Jan 2020 00:00:00 GMT"),
        (elsewhere, 1, "only valid for DnsName(\"registry.corp\")"),
    ] {
        let ecr = Ecr::with(&["team/app"], Rules::default());
        let mut params = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
        change(&mut params);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let (key, file) = (KeyPair::generate().unwrap(), ecr.env.scratch("domain.crt"));
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(&file, certificate.pem()).unwrap();
        let front = Front::of(ecr.address(), (certificate.der().clone(), key.serialize_der()));
        let run = push(&ecr, &front.address.to_string(), &testdata(ARCHIVE), &["--ca-file", &file]).exits_with(code);
        run.stderr_has(&[words]).output_has_none(&["; retry "]);
        assert_eq!(ecr.image("team/app", "1").is_some(), code == 0);
    }
}

#[test]
fn plain_http_where_tls_is_wanted_and_tls_where_plain_http_is() {
    let (ecr, front, authority) = ecr_with(|_| {});
    let (archive, file) = (testdata(ARCHIVE), authority.file(&ecr.env));
    let run = push(&ecr, &ecr.address().to_string(), &archive, &["--ca-file", &file]).fails_with(1).stdout_is("");
    run.stderr_has(&["does not speak TLS", "hint: ", "--insecure"]).output_has_none(&["; retry "]);
    let run = push(&ecr, &front.address.to_string(), &archive, &["--retries", "0"]).fails_with(4).stdout_is("");
    run.stderr_has(&["no response from", "hint: ", "--ca-file"]);
    ecr.has_no_image("1");
}

#[test]
fn an_invalid_ca_file_is_reported_before_anything_is_read() {
    let (ecr, authority) = (Ecr::new(), Authority::new("a company's own"));
    let pem = authority.0.pem();
    let path = ecr.env.scratch("ca.pem");
    let middle = pem.len() / 2;
    for (text, words) in [
        (None, "cannot read the CA file"),
        (Some(String::new()), "contains no PEM certificate"),
        (Some(KeyPair::generate().unwrap().serialize_pem()), "contains no PEM certificate"),
        (Some(pem[..middle].to_owned()), "the line END CERTIFICATE is missing"),
        (Some(format!("{pem}{}", pem.replace("M", "*"))), "certificate 2 of the CA file"),
        (Some("-----BEGIN CERTIFICATE-----\nTm9uZSBhdCBhbGw=\n-----END CERTIFICATE-----\n".into()), "is invalid"),
    ] {
        if let Some(text) = &text {
            std::fs::write(&path, text).unwrap();
        }
        // There is no such archive, which would be found out next.
        let run = ecr.run(&["/nonexistent.tar", "team/app:1", "--ca-file", &path]).fails_with(2).stdout_is("");
        run.stderr_has(&["the CA file", &path, words, "hint: "]).output_has_none(&["nonexistent"]);
        assert!(ecr.log().is_empty());
    }
    ecr.run(&["/nonexistent.tar", "team/app:1", "--ca-file", "/"])
        .fails_with(2)
        .stderr_has(&["cannot read the CA file /"]);
}

#[test]
fn a_sandbox_of_our_own_needs_no_certificates() {
    let env = TestEnv::new();
    let file = Authority::new("a company's own").file(&env);
    env.run(&["--sandbox", &testdata(ARCHIVE), "app:1", "--ca-file", &file]).succeeds();
}

/// Pushes over TLS over a bad line, and asserts that no more than that went twice for each break.
fn over(way: Way, large: usize, least: u64, each: u64) -> (Run, TcpProxy) {
    let (ecr, front, authority) = ecr_with(|_| {});
    let proxy = TcpProxy::to(&front.address.to_string(), way);
    let (archive, file) = (ecr.env.scratch("layout"), authority.file(&ecr.env));
    archive_builder::oci_layout(&archive, &[archive_builder::noise(1, large), archive_builder::noise(2, 70_000)]);
    let run = push(&ecr, &proxy.target("").replace('/', ""), &archive, &["--ca-file", &file]);
    let (carried, breaks) = (proxy.carried(), proxy.breaks());
    show(&format!("{carried} bytes carried, {breaks} breaks"));
    let run = run.succeeds().stderr_has(&["; retry "]);
    StoredImage::of_sandbox(&ecr, "team/app", "1").is(&Source::read(&archive, 0));
    assert!(breaks >= least, "{breaks} breaks");
    // The small ones, the heads, handshakes, and 22 bytes to each record of 16 KiB.
    let most = (large + large / 500 + 200_000) as u64 + breaks * each;
    assert!(carried <= most, "{carried} bytes, where {most} would do: {breaks} breaks");
    (run, proxy)
}

#[test]
fn a_handshake_that_is_cut_is_tried_again() {
    let (run, proxy) = over(Way::CutTheFirst(3, 100), 2 * MB, 3, 0);
    assert_eq!(proxy.breaks(), 3);
    run.stderr_has(&["handshake"]);
}

#[test]
fn a_connection_that_is_cut_in_the_middle_of_a_record_costs_a_chunk() {
    // No multiple of a record, and no close_notify.
    drop(over(Way::CutAfter(15 * MB as u64 + 4711), 40 * MB, 2, DEFAULT_CHUNK_SIZE));
}

#[test]
fn garbage_in_place_of_a_record_is_answered_with_a_new_connection() {
    // The rest of the part is in flight, too, and one more is sent to find out where to continue.
    // Whether the alert about it is seen or the end of the connection is chance.
    drop(over(Way::Garble(9 * MB as u64 + 4711), 20 * MB, 1, 2 * DEFAULT_CHUNK_SIZE));
    // The answer to a part: it has arrived, which is only to be found out.
    let (run, _proxy) = over(Way::GarbleAnswer(15 * MB as u64), 40 * MB, 1, DEFAULT_CHUNK_SIZE);
    run.stderr_has(&["cannot decrypt peer's message"]);
}
