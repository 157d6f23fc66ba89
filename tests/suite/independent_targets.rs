//! Targets wait for each other as little as possible: a silent or slow one neither delays nor fails another.

use std::time::{Duration, Instant};

use ecr_push::sandbox::{Fault, Rules, Trouble};

use super::archive_builder;
use super::ecr::Ecr;
#[cfg(unix)]
use super::faults::interrupt;
use super::harness::{Running, SOON, wait_until};
use super::tcp_proxy::{TcpProxy, Way};

/// A registry other than ECR, and its target.
fn registry() -> (Ecr, String) {
    let registry = Ecr::with(&["team/app"], Rules { anonymous: true, ..Rules::default() });
    let target = format!("{}/team/app:1", registry.address());
    (registry, target)
}

/// An image of several layers, which take more than one chunk each.
fn archive(ecr: &Ecr) -> (String, usize) {
    let (archive, size) = (ecr.env.scratch("image.tar"), 7 << 20);
    let layer = |seed| archive_builder::tar_of("noise", &archive_builder::noise(seed, size));
    archive_builder::docker_save(&archive, &[layer(1), layer(2), layer(3)]);
    (archive, 3 * size)
}

/// Every request of a push: at whichever one target falls silent, the other is tagged, and Ctrl-C ends the push.
#[test]
fn a_silent_target_does_not_delay_another() {
    for silent_at in [
        "ecr:BatchGetImage",
        "ecr:BatchCheckLayerAvailability",
        "ecr:InitiateLayerUpload",
        "ecr:UploadLayerPart",
        "ecr:CompleteLayerUpload",
        "ecr:PutImage",
    ] {
        for targets_are_swapped in [false, true] {
            let ((good, target), (silent, other)) = (registry(), registry());
            let (archive, _) = archive(&good);
            silent.set_rules(|rules| rules.faults = vec![Fault::once(silent_at, Trouble::Stall).times(u32::MAX)]);
            let targets = if targets_are_swapped { [&other, &target] } else { [&target, &other] };
            let start = Instant::now();
            let running = Running::start(good.env.command(&[&archive, targets[0], targets[1]]));
            wait_until(silent_at, || good.image("team/app", "1").is_some());
            assert!(start.elapsed() < SOON, "{silent_at}: {:?}", start.elapsed());
            assert!(silent.image("team/app", "1").is_none());
            #[cfg(unix)]
            {
                let start = Instant::now();
                interrupt(running.id());
                let run = running.end();
                run.fails_with(130).stderr_has(&["1 of 2 targets"]);
                assert!(start.elapsed() < SOON, "{silent_at}: {:?}", start.elapsed());
            }
        }
    }
}

/// The same, where the registry is silent from the first connection on.
#[test]
fn a_target_that_never_answers_does_not_delay_another() {
    let (good, target) = registry();
    let (archive, _) = archive(&good);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let other = format!("{}/team/app:1", silent.local_addr().unwrap());
    let start = Instant::now();
    let mut running = Running::start(good.env.command(&[&archive, &other, &target, "--deadline", "20"]));
    wait_until("the other target is tagged", || good.image("team/app", "1").is_some());
    assert!(running.ended().is_none(), "the other target is tagged only at the deadline");
    let run = running.end();
    assert!(start.elapsed() < Duration::from_secs(20) + SOON, "{:?}", start.elapsed());
    run.fails_with(4).stderr_has(&["its deadline", "1 of 2 targets"]);
}

#[test]
fn a_slow_target_does_not_delay_another() {
    let ((good, target), (slow, _)) = (registry(), registry());
    let (archive, size) = archive(&good);
    // 64 KiB in 50 ms: 16 s for the layers.
    let line = TcpProxy::to(&slow.address().to_string(), Way::Slow(64 << 10, Duration::from_millis(50)));
    let running = Running::start(good.env.command(&[&archive, &line.target("team/app:1"), &target]));
    wait_until("the other target is tagged", || good.image("team/app", "1").is_some());
    assert!(line.carried() < size as u64 * 3 / 4, "{} of {size} bytes went to the slow target", line.carried());
    assert!(slow.image("team/app", "1").is_none());
    running.end().succeeds().stderr_has(&["3 of 3 layers uploaded"]);
    assert_eq!(good.image("team/app", "1").map(|it| it.0), slow.image("team/app", "1").map(|it| it.0));
}

#[cfg(target_os = "linux")]
#[test]
fn targets_that_are_ready_at_different_times_share_the_reading() {
    let ((good, target), (late, other)) = (registry(), registry());
    let (archive, size) = archive(&good);
    late.set_rules(|rules| {
        rules.faults = vec![Fault::once("ecr:BatchGetImage", Trouble::Delay(Duration::from_millis(300)))];
    });
    good.set_rules(|rules| rules.faults = vec![Fault::once("ecr:PutImage", Trouble::Stall)]);
    let running = Running::start(good.env.command(&[&archive, &target, &other]));
    wait_until("both have all layers", || good.count("ecr:PutImage") == 1 && late.image("team/app", "1").is_some());
    let io = std::fs::read_to_string(format!("/proc/{}/io", running.id())).unwrap();
    let read: usize = io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap();
    assert!((size..size * 3 / 2).contains(&read), "{read} bytes were read of an archive of {size}");
}

/// From a pipe, where layers have to be stored for the target that is behind.
#[test]
fn a_silent_target_does_not_delay_another_that_takes_from_a_pipe() {
    use std::io::Write as _;
    for silent_at in ["ecr:BatchGetImage", "ecr:UploadLayerPart"] {
        let ((good, target), (silent, other)) = (registry(), registry());
        let layer = |seed| archive_builder::tar_of("noise", &archive_builder::noise(seed, 7 << 20));
        let bytes = super::streaming::save(&[layer(1), layer(2), layer(3)]);
        silent.set_rules(|rules| rules.faults = vec![Fault::once(silent_at, Trouble::Stall).times(u32::MAX)]);
        let (reader, mut writer) = std::io::pipe().unwrap();
        let start = Instant::now();
        let running = Running::fed(good.env.command(&["-", &other, &target]), reader);
        std::thread::spawn(move || writer.write_all(&bytes).unwrap());
        wait_until(silent_at, || good.image("team/app", "1").is_some());
        assert!(start.elapsed() < SOON, "{silent_at}: {:?}", start.elapsed());
        #[cfg(unix)]
        {
            interrupt(running.id());
            running.end().fails_with(130);
        }
    }
}
