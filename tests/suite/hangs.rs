//! Answers whose bodies stop, or never end: a push ends nevertheless, by its deadline and by Ctrl-C.

use ecr_push::sandbox::{Asks, Fault, Rules, TokenService, Trouble};

use super::ecr::Ecr;
#[cfg(unix)]
use super::faults::interrupt;
use super::harness::{Running, finish, testdata, wait_until};
use super::layout_builder::Layout;

const ARCHIVE: &str = "docker-20.10-save.tar";
const GET: &str = "ecr:BatchGetImage";
const PUT: &str = "ecr:PutImage";

/// Pushes until a deadline, and until Ctrl-C once `asked` holds. Either way the push ends.
fn ends(ecr: &Ecr, arguments: &[&str], asked: impl Fn() -> bool) {
    let run = finish(ecr.command(&[arguments, &["--deadline", "6"]].concat()), || ecr.story());
    assert!(matches!(run.code, Some(1 | 4)), "{:?}", run.code);
    run.stdout_is("");
    #[cfg(unix)]
    {
        let mut running = Running::start(ecr.command(arguments));
        wait_until("the answer stalls", || asked() || running.ended().is_some());
        interrupt(running.id());
        let run = running.end();
        assert!(matches!(run.code, Some(1 | 130)), "{:?}", run.code);
    }
}

/// How many manifests were read since the last one was put.
fn read_since_put(ecr: &Ecr) -> usize {
    ecr.log().iter().rev().take_while(|entry| entry.operation != PUT).filter(|entry| entry.operation == GET).count()
}

#[test]
fn what_an_immutable_tag_points_at() {
    let ecr = Ecr::with(&["team/app"], Rules { immutable: true, ..Rules::default() });
    ecr.run(&[&testdata("docker-20.10-save-by-id-untagged.tar"), "team/app:1"]).succeeds();
    ecr.set_rules(|rules| rules.faults = vec![Fault::once(GET, Trouble::StallBody).times(u32::MAX)]);
    let archive = testdata(ARCHIVE);
    let puts = ecr.count(PUT);
    ends(&ecr, &[&archive, "team/app:1"], || ecr.count(PUT) > puts + 1 && read_since_put(&ecr) > 0);
}

#[test]
fn a_list_of_referrers() {
    let ecr = Ecr::with(&["team/app"], Rules { no_referrers: true, ..Rules::default() });
    let layout = Layout::new(&ecr.env, "layout");
    let image = layout.image("linux/amd64");
    layout.artifact(&image, "application/spdx+json", "an SBOM");
    layout.finish(std::slice::from_ref(&image));
    // There is a list, so that its body can stall.
    ecr.run(&[&layout.path, "team/app:0", "--referrers"]).succeeds();
    ecr.set_rules(|rules| rules.faults = vec![Fault::once(GET, Trouble::StallBody).times(u32::MAX)]);
    let puts = ecr.count(PUT);
    ends(&ecr, &[&layout.path, "team/app:1", "--referrers"], || ecr.count(PUT) > puts + 2 && read_since_put(&ecr) > 0);
}

/// Every request whose answer has a body that is read, with what a push may come to.
#[test]
fn every_body_that_is_read() {
    let tokens = || Asks::Tokens(TokenService { anonymous: true, ..TokenService::default() });
    for (on, asks, codes) in [
        (GET, Asks::Ecr, &[0][..]),
        ("ecr:GetDownloadUrlForLayer", Asks::Ecr, &[0]),
        ("s3:GetObject", Asks::Ecr, &[0]),
        ("ecr:InitiateLayerUpload", Asks::Ecr, &[0]),
        ("ecr:CompleteLayerUpload", Asks::Ecr, &[0]),
        (PUT, Asks::Ecr, &[0]),
        // An endless token is refused, a stalled one waited for.
        ("v2:Token", tokens(), &[1, 4]),
    ] {
        for trouble in [Trouble::StallBody, Trouble::EndlessBody] {
            let is_ecr = asks == Asks::Ecr;
            let ecr = Ecr::with(&["team/app"], Rules { asks: asks.clone(), ..Rules::default() });
            if is_ecr {
                ecr.run(&[&testdata("docker-20.10-save-by-id-untagged.tar"), "team/app:1"]).succeeds();
            }
            ecr.set_rules(|rules| rules.faults = vec![Fault::once(on, trouble.clone()).times(u32::MAX)]);
            let target = if is_ecr { "team/app:1".to_owned() } else { format!("{}/team/app:1", ecr.address()) };
            let archive = testdata(ARCHIVE);
            let arguments = [&archive, &target, "--deadline", "8", "--cache", "/proc/none/cache"];
            let command = if is_ecr { ecr.command(&arguments) } else { ecr.env.command(&arguments) };
            let run = finish(command, || ecr.story());
            let code = run.code.unwrap();
            assert!(codes.contains(&code), "{on} {trouble:?}: {code}");
        }
    }
}
