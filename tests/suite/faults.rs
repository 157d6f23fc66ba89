//! What passes by itself is waited for; what breaks is sent again; what is interrupted is cleaned up.

use std::time::{Duration, Instant};

use ecr_push::sandbox::{Fault, Interrupted, Rules, Trouble};

use super::archive_builder;
use super::archive_contents::Source;
use super::ecr::{Ecr, status};
use super::harness::{Run, Running, TestEnv, report, show, testdata, wait_until};
use super::stored_image::StoredImage;

/// Every operation of a first push.
const OPERATIONS: [&str; 7] = [
    "ecr:GetAuthorizationToken",
    "ecr:DescribeRepositories",
    "ecr:BatchCheckLayerAvailability",
    "ecr:InitiateLayerUpload",
    "ecr:UploadLayerPart",
    "ecr:CompleteLayerUpload",
    "ecr:PutImage",
];

/// An archive with a layer of three chunks.
fn large(ecr: &Ecr) -> String {
    let archive = ecr.env.scratch("large.tar");
    archive_builder::docker_save(
        &archive,
        &[archive_builder::tar_of("noise", &archive_builder::noise(7, 17 << 20)), archive_builder::tar_of("a", b"a")],
    );
    archive
}

/// Asserts that a push succeeds.
#[track_caller]
fn arrives(ecr: &Ecr, archive: &str) -> Run {
    let run = ecr.run(&[archive, "team/app:1"]).succeeds();
    assert_eq!(run.digest(), ecr.image("team/app", "1").unwrap().0.to_string());
    StoredImage::of_sandbox(ecr, "team/app", "1").is(&Source::read(archive, 0));
    run
}

/// Everything goes wrong once, and the push succeeds.
#[track_caller]
fn survives(trouble: &Trouble) -> Run {
    let ecr = Ecr::faulty(&OPERATIONS.map(|operation| Fault::once(operation, trouble.clone())));
    let archive = large(&ecr);
    // The lookup of the tag would show whether the repository exists.
    let run = ecr.run(&[&archive, "team/app:1", "--reuse", "cache"]).succeeds();
    assert_eq!(run.digest(), ecr.image("team/app", "1").unwrap().0.to_string());
    StoredImage::of_sandbox(&ecr, "team/app", "1").is(&Source::read(&archive, 0));
    for operation in OPERATIONS {
        assert!(ecr.count(operation) >= 2, "{operation} was tried again");
    }
    run
}

#[test]
fn an_internal_error_of_any_operation_passes() {
    survives(&status(500, "INTERNAL", "we are sorry")).stderr_has(&["HTTP 500", "we are sorry", "; retry "]);
}

#[test]
fn a_throttle_of_any_operation_passes() {
    survives(&Trouble::Throttle { retry_after: None }).stderr_has(&["throttled by the registry; retry "]);
}

#[test]
fn a_connection_that_is_closed_at_any_operation_is_made_again() {
    survives(&Trouble::HangUp).stderr_has(&["; retry "]);
}

#[test]
fn a_pause_that_the_registry_asks_for_is_made() {
    let retry_after = Some(Duration::from_secs(2));
    let ecr = Ecr::faulty(&[Fault::once("ecr:PutImage", Trouble::Throttle { retry_after })]);
    let started = Instant::now();
    arrives(&ecr, &testdata("crane-tarball.tar")).stderr_has(&[" in 2.0 s"]);
    assert!(started.elapsed() >= Duration::from_secs(2));
}

#[test]
fn a_part_that_is_cut_is_sent_again_whatever_becomes_of_its_session() {
    for interrupted in [Interrupted::Spoiled, Interrupted::Resumable] {
        for (operation, part) in
            [("ecr:UploadLayerPart", 0), ("ecr:UploadLayerPart", 1), ("ecr:CompleteLayerUpload", 1)]
        {
            let cut = Fault::once(operation, Trouble::CutAfter(300_000)).after(part);
            let ecr = Ecr::with(&["team/app"], Rules { interrupted, faults: vec![cut], ..Rules::default() });
            let run = ecr.run(&[&large(&ecr), "team/app:1", "--concurrency", "1", "--chunk-size", "5M"]).succeeds();
            StoredImage::of_sandbox(&ecr, "team/app", "1").is(&Source::read(&ecr.env.scratch("large.tar"), 0));
            run.stderr_has(&["; retry "]);
        }
    }
}

#[test]
fn an_answer_that_gets_lost_costs_a_try() {
    for operation in ["ecr:UploadLayerPart", "ecr:CompleteLayerUpload", "ecr:PutImage"] {
        for interrupted in [Interrupted::Spoiled, Interrupted::Resumable] {
            let lost = Fault::once(operation, Trouble::CutAfter(u64::MAX));
            let ecr = Ecr::with(&["team/app"], Rules { interrupted, faults: vec![lost], ..Rules::default() });
            arrives(&ecr, &large(&ecr));
        }
    }
}

#[test]
fn a_session_whose_blob_another_client_uploaded_meanwhile_is_closed() {
    // The first client has to wait before it closes the session of the layer.
    let retry_after = Some(Duration::from_secs(3));
    let ecr = Ecr::faulty(&[
        Fault::once("ecr:CompleteLayerUpload", Trouble::Throttle { retry_after }),
        Fault::once("v2:CancelUpload", Trouble::Throttle { retry_after: None }).times(2),
    ]);
    let archive = ecr.env.scratch("layout");
    archive_builder::oci_layout(&archive, &[archive_builder::noise(1, 70_000)]);
    let running = Running::start(ecr.command(&[&archive, "team/app:1", "--concurrency", "1"]));
    wait_until("the first client waits", || ecr.asked("ecr:CompleteLayerUpload").iter().any(|it| it.status == 429));
    Running::start(ecr.command(&[&archive, "team/app:2"])).end().succeeds();
    running.end().succeeds().stderr_has(&[" in 3.0 s"]);
    assert_eq!((ecr.count("v2:CancelUpload"), ecr.open_uploads()), (3, 0), "{}", ecr.story());
}

#[test]
fn a_layer_is_not_sent_again_when_the_response_to_its_closing_request_is_lost() {
    for interrupted in [Interrupted::Spoiled, Interrupted::Resumable] {
        let lost = Fault::once("ecr:CompleteLayerUpload", Trouble::CutAnswer(0)).times(3);
        let ecr = Ecr::with(&["team/app"], Rules { interrupted, faults: vec![lost], ..Rules::default() });
        arrives(&ecr, &large(&ecr));
        assert_eq!(ecr.count("ecr:InitiateLayerUpload"), 3, "two layers and the config: {}", ecr.story());
        assert_eq!(ecr.count("ecr:CompleteLayerUpload"), 3);
    }
}

#[test]
fn a_token_that_expires_in_mid_push_is_renewed_once() {
    for operation in ["ecr:InitiateLayerUpload", "ecr:UploadLayerPart", "ecr:CompleteLayerUpload", "ecr:PutImage"] {
        let ecr = Ecr::faulty(&[Fault::once(operation, Trouble::ExpireTokens)]);
        arrives(&ecr, &large(&ecr)).output_has_none(&["; retry "]);
        assert_eq!(ecr.count("ecr:GetAuthorizationToken"), 2, "one renewal");
    }
}

#[test]
fn a_token_that_is_never_good_ends_the_push() {
    let ecr = Ecr::faulty(&[Fault::once("ecr:InitiateLayerUpload", Trouble::ExpireTokens).times(u32::MAX)]);
    let run =
        ecr.run(&[&testdata("crane-tarball.tar"), "team/app:1", "--concurrency", "1"]).fails_with(3).stdout_is("");
    run.stderr_has(&["Your authorization token has expired"]);
    assert!(ecr.count("ecr:GetAuthorizationToken") < 5, "it does not ask for ever");
}

#[cfg(unix)]
pub(crate) use on_unix::{interrupt, signal};

#[cfg(unix)]
mod on_unix {
    use std::process::Command;

    use super::super::harness::{Running, SOON, wait_until};
    use super::*;

    pub(crate) fn signal(name: &str, process: u32) {
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {process}")]).status().unwrap();
        assert!(sent.success());
    }

    /// Ctrl-C
    pub(crate) fn interrupt(process: u32) {
        signal("INT", process);
    }

    /// Pushes until an operation stalls, and sends a signal.
    #[track_caller]
    fn stopped_at(ecr: &Ecr, operation: &str, name: &str) {
        stopped_while_pushing(ecr, &large(ecr), operation, name);
    }

    fn stopped_while_pushing(ecr: &Ecr, archive: &str, operation: &str, name: &str) {
        // In small chunks, so that there is a second one.
        let running = Running::start(ecr.command(&[archive, "team/app:1", "--concurrency", "1", "--chunk-size", "5M"]));
        wait_until("the operation stalls", || ecr.asked(operation).iter().any(|entry| entry.status == 0));
        let asked = Instant::now();
        signal(name, running.id());
        let run = running.end();
        show(&ecr.story());
        run.fails_with(130).stdout_is("").stderr_has(&["interrupted: closing upload sessions", "error: interrupted"]);
        assert!(asked.elapsed() < SOON, "at {operation} it took {:?}", asked.elapsed());
        ecr.has_no_image("1");
        wait_until("no session is open", || ecr.open_uploads() == 0);
    }

    #[test]
    fn ctrl_c_during_an_upload_closes_it_and_tags_nothing() {
        for (operation, after) in [("ecr:UploadLayerPart", 1), ("ecr:CompleteLayerUpload", 0), ("ecr:PutImage", 0)] {
            let ecr = Ecr::faulty(&[Fault::once(operation, Trouble::Stall).after(after)]);
            stopped_at(&ecr, operation, "INT");
        }
    }

    #[test]
    fn so_does_a_polite_request_to_end() {
        let ecr = Ecr::faulty(&[Fault::once("ecr:UploadLayerPart", Trouble::Stall)]);
        stopped_at(&ecr, "ecr:UploadLayerPart", "TERM");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn so_does_a_terminal_that_hangs_up() {
        let ecr = Ecr::faulty(&[Fault::once("ecr:UploadLayerPart", Trouble::Stall)]);
        stopped_at(&ecr, "ecr:UploadLayerPart", "HUP");
    }

    #[test]
    fn ctrl_c_while_aws_does_not_answer() {
        for operation in ["ecr:GetAuthorizationToken", "ecr:BatchGetImage", "ecr:BatchCheckLayerAvailability"] {
            let ecr = Ecr::faulty(&[Fault::once(operation, Trouble::Stall)]);
            stopped_while_pushing(&ecr, &testdata("crane-tarball.tar"), operation, "INT");
        }
    }

    #[test]
    fn ctrl_c_while_waiting_for_the_next_try() {
        let retry_after = Some(Duration::from_secs(60));
        let ecr = Ecr::faulty(&[Fault::once("ecr:PutImage", Trouble::Throttle { retry_after })]);
        let running = Running::start(ecr.command(&[&testdata("crane-tarball.tar"), "team/app:1"]));
        wait_until("it is throttled", || ecr.asked("ecr:PutImage").iter().any(|entry| entry.status == 429));
        interrupt(running.id());
        running.end().fails_with(130).stdout_is("");
        ecr.has_no_image("1");
    }
}

#[test]
fn a_push_that_is_not_done_by_its_deadline_is_given_up_in_good_order() {
    let ecr = Ecr::faulty(&[Fault::once("ecr:UploadLayerPart", Trouble::Stall).times(u32::MAX)]);
    let archive = ecr.env.scratch("large.tar");
    archive_builder::docker_save(&archive, &[archive_builder::tar_of("noise", &archive_builder::noise(3, 11 << 20))]);
    let run = ecr.run(&[&archive, "team/app:1", "--deadline", "1"]).fails_with(4).stdout_is("");
    run.stderr_has(&["the push exceeded its deadline of 1 s", "hint: Run the same command again"]);
    ecr.has_no_image("1");
}

#[test]
fn a_rate_limit_is_obeyed() {
    let (ecr, written) = (Ecr::new(), TestEnv::new());
    let path = written.scratch("report.json");
    let archive = testdata("docker-29-overlay2-save.tar");
    // 252 KiB in four requests at 100 KiB a second.
    let _run = ecr.run(&[&archive, "team/app:1", "--limit-rate", "100K", "--report", &path]).succeeds();
    let seconds = report(&path)["seconds"].as_f64().unwrap();
    assert!(seconds > 1.9, "252 KiB took {seconds} s");
}
