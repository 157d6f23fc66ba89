//! Who answers instead of ECR: proxies that show pages, that want a login, that look into TLS.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use ecr_push::sandbox::{Fault, Trouble};

use super::ecr::Ecr;
use super::harness::{Run, testdata};
use super::tls::{Authority, Front};

const ARCHIVE: &str = "docker-20.10-save.tar";

#[test]
fn a_web_page_is_no_answer_of_ecr() {
    for (on, place) in [
        ("ecr:PutImage", "000000000000.dkr.ecr.us-east-1.amazonaws.com"),
        ("ecr:InitiateLayerUpload", "000000000000.dkr.ecr.us-east-1.amazonaws.com"),
        ("ecr:GetAuthorizationToken", ".amazonaws.com"),
    ] {
        let page = Trouble::Page { status: 403, title: "Access Denied: category FakeAws".into() };
        let ecr = Ecr::faulty(&[Fault::once(on, page).times(u32::MAX)]);
        let run = ecr
            .run(&[&testdata(ARCHIVE), "team/app:1", "--retries", "0"])
            .fails_with(3)
            .output_has_none(&["<html", "<title"]);
        let run = run.stderr_has(&[
            "HTTP 403: Access Denied: category FakeAws",
            "ECR sends no web pages: a proxy or a firewall",
        ]);
        run.stderr_has(&[&format!("NO_PROXY={place}")]);
    }
}

#[test]
fn a_page_that_says_not_now_may_be_that_of_aws_s_own_load_balancer() {
    let page = Trouble::Page { status: 503, title: "503 Service Temporarily Unavailable".into() };
    let ecr = Ecr::faulty(&[Fault::once("ecr:PutImage", page).times(u32::MAX)]);
    let run = ecr
        .run(&[&testdata(ARCHIVE), "team/app:1", "--retries", "1"])
        .fails_with(4)
        .output_has_none(&["proxy", "<html"]);
    run.stderr_has(&["HTTP 503: 503 Service Temporarily Unavailable", "; retry "]);
    assert_eq!(ecr.count("ecr:PutImage"), 2);
}

/// A proxy that answers whatever it is asked like that.
fn proxy(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    // It ends with the process: nothing waits for it.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _head = stream.read(&mut [0; 4096]);
            let _gone = stream.write_all(answer.as_bytes());
        }
    });
    address
}

#[test]
fn a_proxy_that_wants_a_login() {
    let wants = proxy("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let ecr = Ecr::new();
    let archive = testdata(ARCHIVE);
    // ECR's API is asked first; of another registry nothing but the registry.
    for target in ["team/app:1", "registry.test/app:1"] {
        let mut command = ecr.command(&[&archive, target, "--retries", "3"]);
        command.env_remove("AWS_ENDPOINT_URL_ECR").env_remove("ECR_PUSH_REGISTRY_ENDPOINT");
        command.env("HTTPS_PROXY", &wants).env("HTTP_PROXY", &wants);
        let run = ecr.finish(command).fails_with(3).stderr_has(&["HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT"]);
        run.output_has_none(&["; retry "]);
    }
}

#[test]
fn a_certificate_of_a_proxy_that_looks_into_tls() {
    let (ecr, authority) = (Ecr::new(), Authority::new("Zscaler Root CA"));
    let front = Front::of(ecr.address(), authority.issue(|_| {}));
    let mut command = ecr.command(&[&testdata(ARCHIVE), "team/app:1", "--retries", "0"]);
    command.env("AWS_ENDPOINT_URL_ECR", format!("https://{}", front.address));
    let run = ecr
        .finish(command)
        .fails_with(1)
        .stderr_has(&["cannot log in to Amazon ECR in us-east-1", "its issuer is not trusted"]);
    run.stderr_has(&[
        "hint: ECR's certificates are issued by Amazon. A proxy that inspects TLS",
        "Zscaler",
        "AWS_CA_BUNDLE",
    ]);
}

/// Pushes to ECR, whose API is asked first, and to another registry, over this proxy.
#[track_caller]
fn over(proxy: &str, code: i32, check: impl Fn(&str, Run) -> Run) {
    let ecr = Ecr::new();
    let archive = testdata(ARCHIVE);
    for (target, host) in [("team/app:1", "api.ecr.us-east-1.amazonaws.com"), ("registry.test/app:1", "registry.test")]
    {
        let mut command = ecr.command(&[&archive, target, "--retries", "1"]);
        command.env_remove("AWS_ENDPOINT_URL_ECR").env_remove("ECR_PUSH_REGISTRY_ENDPOINT");
        command.env("HTTPS_PROXY", proxy);
        check(host, ecr.finish(command).exits_with(code));
    }
}

#[test]
fn a_proxy_that_refuses_to_connect_is_named_with_its_status() {
    let refuses = proxy("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
    let name = refuses.trim_start_matches("http://").to_owned();
    over(&refuses, 3, |host, run| {
        let refused = format!("the proxy {name} refuses the connection to {host}:443: HTTP 403 Forbidden");
        run.stderr_has(&[&refused, &format!("export NO_PROXY={host}")]).output_has_none(&["; retry "])
    });
}

#[test]
fn a_proxy_that_cannot_be_reached_is_named_without_its_login() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for scheme in ["http", "https"] {
        over(&format!("{scheme}://bob:hunter2@{closed}"), 4, |host, run| {
            let because = format!("because: cannot connect to the proxy {closed} (HTTPS_PROXY): ");
            run.stderr_has(&[&because, &format!("export NO_PROXY={host}")])
                .output_has_none(&["bob", "hunter2", "no response from"])
        });
    }
    let ecr = Ecr::new();
    let mut command = ecr.env.command(&[&testdata(ARCHIVE), "registry.test/app:1", "--insecure", "--retries", "0"]);
    command.env("HTTP_PROXY", format!("http://bob:hunter2@{closed}"));
    let run = ecr.finish(command).fails_with(4).output_has_none(&["bob", "hunter2"]);
    run.stderr_has(&[&format!("because: cannot connect to the proxy {closed} (HTTP_PROXY): ")]);
}

#[test]
fn a_proxy_that_fails_to_connect_may_do_so_later() {
    let fails = proxy("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    over(&fails, 4, |host, run| run.stderr_has(&[&format!("to {host}:443: HTTP 502 Bad Gateway")]));
}

#[test]
fn a_socks_proxy_is_not_supported() {
    over("socks5://127.0.0.1:1080", 2, |_, run| {
        run.stderr_has(&["HTTPS_PROXY names a socks5 proxy", "hint: Use an HTTP proxy"]).output_has_none(&["; retry "])
    });
}

#[test]
fn a_proxy_that_requires_a_login_for_plain_http() {
    let wants = proxy("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let ecr = Ecr::new();
    let mut command = ecr.env.command(&[&testdata(ARCHIVE), "registry.test/app:1", "--insecure"]);
    command.env("HTTP_PROXY", wants);
    let run = ecr
        .finish(command)
        .fails_with(3)
        .stderr_has(&["the proxy rejects the connection to registry.test", "HTTP 407"]);
    run.stderr_has(&["HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT"]);
}

#[test]
fn exceptions_are_read_as_other_tools_read_them() {
    let refuses = proxy("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let ecr = Ecr::new();
    let archive = testdata(ARCHIVE);
    for (exceptions, is_direct) in [
        ("*.invalid", true),
        ("a.invalid:5000", true),
        ("*.invalid:5000", true),
        ("a.invalid:5001", false),
        ("*.b.invalid", false),
    ] {
        let target = "a.invalid:5000/app:1";
        let mut registry = ecr.env.command(&[&archive, target, "--retries", "0"]);
        registry.env("HTTPS_PROXY", &refuses).env("NO_PROXY", exceptions);
        let mut api = ecr.command(&[&archive, "team/app:1"]);
        api.env("AWS_ENDPOINT_URL_ECR", "https://a.invalid:5000").env("AWS_MAX_ATTEMPTS", "1");
        api.env("HTTPS_PROXY", &refuses).env("NO_PROXY", exceptions);
        for command in [registry, api] {
            // The name does not exist.
            let run = ecr.finish(command).exits_with(if is_direct { 4 } else { 3 });
            assert_eq!(run.stderr.contains("the proxy 127.0.0.1:"), !is_direct, "NO_PROXY={exceptions}");
        }
    }
}
