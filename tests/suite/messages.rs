//! Messages that are true, said once, and name what is in effect.

use ecr_push::sandbox::{Fault, Rules, Trouble};

use super::bench::{Bench, testdata};
use super::ecr::{Ecr, status};

const ARCHIVE: &str = "docker-20.10-save.tar";
const OTHER: &str = "docker-29-overlay2-save.tar";

#[test]
fn a_push_of_what_is_there_announces_no_upload_and_no_manifest() {
    let (ecr, archive) = (Ecr::new(), testdata(ARCHIVE));
    drop(ecr.run(&[&archive, "team/app:1"]).exits(0).says(&["the manifest is next"]));
    let again = ecr.run(&[&archive, "team/app:1"]).exits(0).says(&["already there; nothing was sent"]);
    drop(again.never_says(&["layers uploaded", "the manifest is next"]));
}

#[test]
fn a_tag_is_not_said_to_move_before_the_registry_lets_it() {
    let deny = vec!["ecr:DescribeRepositories".into()];
    let ecr = Ecr::with(&["team/app"], Rules { immutable: true, deny, ..Rules::default() });
    drop(ecr.run(&[&testdata(ARCHIVE), "team/app:1"]).exits(0));
    let run = ecr.run(&[&testdata(OTHER), "team/app:1"]).exits(1).says(&["may move was not checked"]);
    drop(run.never_says(&["moves here", "moved here"]));
    // Where it may, that is said when it has.
    let ecr = Ecr::new();
    drop(ecr.run(&[&testdata(ARCHIVE), "team/app:1"]).exits(0));
    let planned = ecr.run(&[&testdata(OTHER), "team/app:1", "--dry-run"]).exits(0);
    drop(planned.says(&["team/app:1 would move from sha256:"]));
    drop(ecr.run(&[&testdata(OTHER), "team/app:1"]).exits(0).says(&["team/app:1 moved here from sha256:"]));
}

#[cfg(target_os = "linux")]
#[test]
fn a_cache_that_cannot_be_written_is_said_once() {
    let ecr = Ecr::new();
    let run = ecr.run(&[&testdata(ARCHIVE), "team/app:1", "--cache", "/proc/nonexistent/layers"]).exits(0);
    let run = run.says(&["note: layer cache disabled: cannot write /proc/nonexistent/layers: No such file"]);
    assert_eq!(run.stderr.matches("cache").count(), 2, "one line, with its option");
}

#[test]
fn a_replaced_endpoint_is_named_whenever_it_is_in_effect() {
    let ecr = Ecr::new();
    let here = ecr.url().replace("http://", "");
    let run = ecr.run(&[&testdata(ARCHIVE), "team/app:1"]).exits(0);
    drop(run.says(&[&format!("note: endpoints of AWS are replaced by {here} (AWS_ENDPOINT_URL_ECR, ")]));
    // It has no effect on a push to somebody else's registry.
    let nobody = super::errors_of_registries::closed_port();
    let run = ecr.run(&[&testdata(ARCHIVE), &format!("{nobody}/team/app:1"), "--retries", "0"]).exits(4);
    drop(run.never_says(&["are replaced"]));
}

#[test]
fn a_retry_has_its_count() {
    let busy = status(503, "ServiceUnavailable", "Please try again later");
    let ecr = Ecr::faulty(&[Fault::once("ecr:PutImage", busy).times(2)]);
    let run = ecr.run(&[&testdata(ARCHIVE), "team/app:1", "--retries", "3"]).exits(0);
    drop(run.says(&["Please try again later; retry 1 of 3 in ", "Please try again later; retry 2 of 3 in "]));
}

#[cfg(unix)]
#[test]
fn an_interruption_while_a_manifest_is_put_leaves_a_doubt_that_is_named() {
    use super::bench::{Running, wait_until};

    let ecr = Ecr::faulty(&[Fault::once("ecr:PutImage", Trouble::Stall).times(99)]);
    let running = Running::start(ecr.command(&[&testdata(ARCHIVE), "team/app:1"]));
    wait_until("the manifest is put", || ecr.count("ecr:PutImage") == 1);
    super::faults::interrupt(running.id());
    let doubt = "no answer came to the manifest 1 of 000000000000.dkr.ecr.us-east-1.amazonaws.com/team/app: \
                 the registry may have accepted it";
    drop(running.end().exits(130).says(&[doubt]));
    let ecr = Ecr::faulty(&[Fault::once("ecr:PutImage", Trouble::Stall).times(99)]);
    let run = ecr.run(&[&testdata(ARCHIVE), "team/app:1", "--deadline", "1500ms"]).exits(4);
    drop(run.says(&["its deadline", "the registry may have accepted it"]));
}

#[test]
fn an_empty_profile_is_answered_as_what_it_is() {
    let run = Bench::new().run(&[&testdata(ARCHIVE), "team/app:1", "--region", "us-east-1", "--profile", ""]).exits(2);
    drop(run.says(&["--profile is empty", "a shell variable may be unset"]).never_says(&["name the image"]));
}
