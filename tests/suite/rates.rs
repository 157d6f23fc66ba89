//! ECR's limits of requests per second: manifests are paced, and what is throttled slows the run down.

use std::fs;
use std::time::{Duration, Instant};

use ecr_push::sandbox::{Fault, Rules, Trouble};

use super::ecr::Ecr;
use super::harness::testdata;

/// Writes a batch of so many pushes of one image, each to a tag of its own.
fn batch(ecr: &Ecr, pushes: usize) -> String {
    let path = ecr.env.scratch("pushes.txt");
    let archive = testdata("docker-20.10-save.tar");
    let lines: Vec<_> = (0..pushes).map(|n| format!("{archive} team/app:{n}\n")).collect();
    fs::write(&path, lines.concat()).unwrap();
    path
}

#[test]
fn manifests_are_put_at_the_stated_rate() {
    let ecr = Ecr::new();
    let pushes = batch(&ecr, 9);
    let start = Instant::now();
    ecr.run(&["batch", &pushes, "--put-rate", "4"]).succeeds();
    // Four at once, and four a second after them.
    assert!(start.elapsed() > Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(ecr.count("ecr:PutImage"), 9);
}

#[test]
fn a_registry_that_takes_one_request_at_a_time_gets_every_image() {
    let rules = Rules { most_at_once: Some(1), delay: Duration::from_millis(30), ..Rules::default() };
    let ecr = Ecr::with(&["team/app"], rules);
    ecr.run(&["batch", &batch(&ecr, 8)]).succeeds().stderr_has(&["8 images: 8 pushed, 0 already up to date, 0 failed"]);
    assert!(ecr.log().iter().any(|entry| entry.status == 429), "{}", ecr.story());
}

#[test]
fn at_ecr_s_rate_no_manifest_is_throttled_and_without_it_every_image_gets_there() {
    for (options, is_throttled) in [(&["--put-rate", "10"][..], false), (&[], true)] {
        let ecr = Ecr::with(&["team/app"], Rules { rates: true, ..Rules::default() });
        ecr.run(&[&["batch", &batch(&ecr, 24)], options].concat())
            .succeeds()
            .stderr_has(&["24 images: 24 pushed, 0 already up to date, 0 failed"]);
        let throttled = ecr.asked("ecr:PutImage").iter().filter(|entry| entry.status == 429).count();
        // Whether it is without a rate depends on the speed of the machine.
        assert!(throttled == 0 || is_throttled, "{throttled} manifests were throttled");
    }
}

#[test]
fn throttled_manifests_are_put_in_the_end() {
    let throttle = Trouble::Throttle { retry_after: None };
    let faults = (0..4).map(|n| Fault::once("ecr:PutImage", throttle.clone()).after(n * 4).times(2)).collect();
    let ecr = Ecr::with(&["team/app"], Rules { faults, ..Rules::default() });
    ecr.run(&["batch", &batch(&ecr, 8)]).succeeds();
    assert_eq!(ecr.count("ecr:PutImage"), 8 + 4 * 2);
}

#[test]
fn a_rate_of_nothing_is_an_error() {
    let ecr = Ecr::new();
    ecr.run(&["batch", &batch(&ecr, 1), "--put-rate", "0"])
        .fails_with(2)
        .stderr_has(&["--put-rate must be at least 1"]);
}
