//! Answers to the PUT of a manifest that are not those of a registry which stored it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;

use ecr_push::sandbox::{Fault, Rules, Trouble};

use super::ecr::Ecr;
use super::harness::{TestEnv, testdata};

const ARCHIVE: &str = "crane-tarball.tar";
const PUT: &str = "ecr:PutImage";

/// Serves every connection with one function, which gets the request line. The server ends with the process.
pub(crate) fn server(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answer = std::sync::Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = std::sync::Arc::clone(&answer);
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                loop {
                    let (mut first, mut length) = (String::new(), 0);
                    if !reader.read_line(&mut first).is_ok_and(|read| read > 0) {
                        return;
                    }
                    let mut line = String::new();
                    while reader.read_line(&mut line).is_ok_and(|read| read > 0) && line.trim() != "" {
                        let lower = line.to_ascii_lowercase();
                        if let Some(value) = lower.strip_prefix("content-length:") {
                            length = value.trim().parse().unwrap();
                        }
                        line.clear();
                    }
                    let mut body = vec![0; length];
                    if reader.read_exact(&mut body).is_err()
                        || reader.get_mut().write_all(answer(first.trim()).as_bytes()).is_err()
                    {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// Asserts that a false success of PUT is rejected, with these words.
#[track_caller]
fn refused(trouble: Trouble, says: &[&str]) {
    let ecr = Ecr::faulty(&[Fault::once(PUT, trouble).times(u32::MAX)]);
    let run = ecr.run(&[&testdata(ARCHIVE), "team/app:1"]).fails_with(1).stdout_is("");
    let run = run.stderr_has(&["cannot put the manifest", "did not store it", "hint: "]).stderr_has(says);
    run.output_has_none(&["<html", "<title"]);
    ecr.has_no_image("1");
}

#[test]
fn a_web_page_with_status_200_is_no_success() {
    for status in [200, 201, 202] {
        let page = Trouble::Page { status, title: "Request Rejected".into() };
        refused(page, &[&format!("HTTP {status}: Request Rejected"), "a proxy or a firewall"]);
    }
}

#[test]
fn a_success_without_a_manifest_is_no_success() {
    for status in [200, 202] {
        let answer = Trouble::Answer { status, body: "{}".into() };
        refused(answer, &[&format!("HTTP {status}"), "no such manifest is there"]);
    }
}

#[test]
fn a_server_that_answers_200_to_everything_is_no_registry() {
    let address = server(|first| match first.starts_with("HEAD ") {
        true => "HTTP/1.1 200 OK\r\n\r\n".to_owned(),
        false => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_owned(),
    });
    let target = format!("{address}/team/app:1");
    let run =
        TestEnv::new().run(&[&testdata("crane-oci-layout"), &target, "--deadline", "60"]).fails_with(1).stdout_is("");
    run.stderr_has(&["did not store it (another manifest is there)", "HTTP 200", "hint: Check that the address"]);
}

#[test]
fn an_unconfirmed_manifest_is_read_back() {
    for (status, read_back) in [(200, true), (202, true), (201, false)] {
        let ecr = Ecr::faulty(&[Fault::once(PUT, Trouble::Unconfirmed(status)).times(u32::MAX)]);
        let run =
            ecr.run(&[&testdata(ARCHIVE), "team/app:1", "--reuse", "cache", "--if-exists", "overwrite"]).succeeds();
        assert_eq!(run.digest(), ecr.image("team/app", "1").unwrap().0.to_string());
        let log = ecr.log();
        let put = log.iter().position(|entry| entry.operation == PUT).unwrap();
        let after = log[put..].iter().filter(|entry| entry.operation == "ecr:BatchGetImage").count();
        assert_eq!(after, usize::from(read_back), "{status}: {}", ecr.story());
    }
}

#[test]
fn a_manifest_that_may_not_be_read_back_gets_a_note() {
    let faults = vec![Fault::once(PUT, Trouble::Unconfirmed(202)).times(u32::MAX)];
    let ecr = Ecr::with(&["team/app"], Rules { faults, deny: vec!["ecr:BatchGetImage".into()], ..Rules::default() });
    let run = ecr.run(&[&testdata(ARCHIVE), "team/app:1"]).succeeds();
    run.stderr_has(&["team/app:1 could not be read back: reading is denied"]);
    assert!(ecr.image("team/app", "1").is_some());
}
