//! Bad lines and sudden deaths, with a registry of other people's making at the other end.
//!
//! `ECR_PUSH_LONG=1` kills at more moments and sends more bytes.

use std::time::{Duration, Instant};

use ecr_push::internals::DEFAULT_CHUNK_SIZE;
use ecr_push::sandbox::{Interrupted, Rules};

use super::archive_builder;
use super::archive_contents::Source;
use super::docker_registry::DockerRegistry;
use super::ecr::Ecr;
use super::harness::{Run, Running, TestEnv, show, wait_until};
use super::stored_image::StoredImage;
use super::tcp_proxy::{TcpProxy, Way};

const MB: usize = 1_000_000;

pub(crate) fn long() -> bool {
    std::env::var_os("ECR_PUSH_LONG").is_some_and(|value| value == "1")
}

/// An OCI layout, whose layers are pushed unchanged: a large one and small ones.
fn layout(env: &TestEnv, large: usize) -> String {
    let path = env.scratch("layout");
    archive_builder::oci_layout(
        &path,
        &[archive_builder::noise(1, large), archive_builder::noise(2, 70_000), archive_builder::noise(3, 900)],
    );
    path
}

/// How many bytes the registry has of a large layer when a process is killed.
fn moments(large: usize) -> Vec<u64> {
    let count = if long() { 20 } else { 3 };
    let seed = archive_builder::noise(u64::from(std::process::id()), 8 * count);
    let random = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    // What has all arrived is an upload no more, so not quite up to the end.
    seed.chunks(8).map(|bytes| random(bytes) % (large as u64 * 9 / 10)).collect()
}

/// Waits for the moment at which the registry has so much of a layer, or the push ends.
fn wait_for(registry: &DockerRegistry, repository: &str, bytes: u64, running: &mut Running) {
    wait_until("so much has arrived", || registry.bytes_of_uploads(repository) >= bytes || running.ended().is_some());
}

#[test]
fn a_registry_that_is_killed_and_comes_again_gets_the_whole_image() {
    // With a secret of its own for each life, a registry knows the sessions of the life before no more.
    for secret in [Some("secret"), None] {
        let Some(mut registry) = DockerRegistry::start_with(secret) else { return };
        let env = TestEnv::new();
        let archive = layout(&env, 40 * MB);
        for (n, moment) in moments(40 * MB).into_iter().enumerate() {
            let repository = format!("killed/app{n}");
            let target = registry.target(&format!("{repository}:1"));
            let mut running = Running::start(env.command(&[&archive, &target, "--retries", "8"]));
            wait_for(&registry, &repository, moment, &mut running);
            registry.kill();
            registry.start_again();
            let run = running.end();
            show(&format!("killed when it had {moment} bytes, secret {secret:?}"));
            run.succeeds();
            registry.read_back(&repository, "1").is(&Source::read(&archive, 0));
        }
    }
}

#[test]
fn a_push_that_is_killed_tags_nothing_and_the_next_one_finishes() {
    let Some(registry) = DockerRegistry::start() else { return };
    let env = TestEnv::new();
    let archive = layout(&env, 40 * MB);
    for (n, moment) in moments(40 * MB).into_iter().enumerate() {
        let repository = format!("again/app{n}");
        let target = registry.target(&format!("{repository}:1"));
        let mut running = Running::start(env.command(&[&archive, &target]));
        wait_for(&registry, &repository, moment, &mut running);
        let had_ended = running.ended().is_some();
        // It is killed when it is dropped.
        drop(running);
        assert!(had_ended || registry.manifest(&format!("{repository}:1")).is_none(), "tagged at {moment} bytes");
        env.run(&[&archive, &target]).succeeds();
        registry.read_back(&repository, "1").is(&Source::read(&archive, 0));
    }
}

/// A push over a bad connection.
struct Carried {
    run: Run,
    proxy: TcpProxy,
    took: Duration,
}

impl Carried {
    fn new(run: impl FnOnce(&TcpProxy) -> Run, proxy: TcpProxy) -> Self {
        let started = Instant::now();
        let run = run(&proxy);
        let took = started.elapsed();
        show(&format!("{} bytes carried, {} breaks, {took:?}", proxy.carried(), proxy.breaks()));
        Self { run: run.succeeds(), proxy, took }
    }

    /// Asserts that no more than that went twice for each break.
    #[track_caller]
    fn cost(&self, large: usize, each: u64) {
        // The small layers, and the heads of the requests, with a token in each.
        let rest = 200_000 + 4_000 * (large as u64 / DEFAULT_CHUNK_SIZE);
        let (carried, breaks) = (self.proxy.carried(), self.proxy.breaks());
        let most = large as u64 + rest + breaks * each;
        assert!(carried <= most, "{carried} bytes, where {most} would do: {breaks} breaks");
    }
}

/// Pushes into a docker-registry over a bad line.
fn over(way: Way, large: usize, options: &[&str]) -> Option<Carried> {
    let registry = DockerRegistry::start()?;
    let env = TestEnv::new();
    let archive = layout(&env, large);
    let push = |proxy: &TcpProxy| {
        env.run(
            &[&[&archive, &proxy.target("team/app:1"), "--concurrency", "1", "--chunk-size", "5M"], options].concat(),
        )
    };
    let carried = Carried::new(push, TcpProxy::to(&registry.target("").replace('/', ""), way));
    registry.read_back("team/app", "1").is(&Source::read(&archive, 0));
    Some(carried)
}

/// Pushes into a sandbox that keeps its sessions over a bad line.
fn over_to_ecr(way: Way, large: usize, options: &[&str]) -> Carried {
    let rules = Rules { interrupted: Interrupted::Resumable, ..Rules::default() };
    let ecr = Ecr::with(&["team/app"], rules);
    let archive = layout(&ecr.env, large);
    let push = |proxy: &TcpProxy| {
        let mut command =
            ecr.command(&[&[&archive, "team/app:1", "--concurrency", "1", "--chunk-size", "5M"], options].concat());
        command.env("ECR_PUSH_REGISTRY_ENDPOINT", format!("http://{}", proxy.target("").replace('/', "")));
        ecr.finish(command)
    };
    let carried = Carried::new(push, TcpProxy::to(&ecr.address().to_string(), way));
    StoredImage::of_sandbox(&ecr, "team/app", "1").is(&Source::read(&archive, 0));
    carried
}

#[test]
fn a_line_that_is_cut_again_and_again_costs_a_chunk_each_time() {
    let (large, limit) = if long() { (1_000 * MB, 64 * MB) } else { (100 * MB, 24 * MB) };
    let carried = over_to_ecr(Way::CutAfter(limit as u64), large, &[]);
    // A client may have more than one connection, and not every one lives until it is cut.
    assert!(carried.proxy.breaks() >= (large / limit / 2) as u64, "{} breaks", carried.proxy.breaks());
    carried.cost(large, DEFAULT_CHUNK_SIZE);
    carried.run.stderr_has(&["; retry "]);
}

#[test]
fn cuts_on_the_way_to_a_registry_that_loses_its_sessions_cost_what_was_sent() {
    // docker-registry 2.8 counts the bytes of a part that was cut, and refuses the session for it from then on.
    let (large, limit) = if long() { (1_000 * MB, 64 * MB) } else { (100 * MB, 24 * MB) };
    let Some(carried) = over(Way::CutAfter(limit as u64), large, &[]) else { return };
    assert!(carried.proxy.breaks() >= 1);
    // That of both connections that a client has, and the part that finds out that the session is lost.
    carried.cost(large, 2 * limit as u64 + DEFAULT_CHUNK_SIZE);
    carried.run.stderr_has(&["; retry "]);
}

#[test]
fn a_registry_that_listens_a_second_later_gets_the_image() {
    let ecr = Ecr::new();
    let archive = layout(&ecr.env, 2 * MB);
    let proxy = TcpProxy::late(&ecr.address().to_string(), Way::Good, Duration::from_secs(1));
    let mut command = ecr.command(&[&archive, "team/app:1"]);
    command.env("ECR_PUSH_REGISTRY_ENDPOINT", format!("http://{}", proxy.target("").replace('/', "")));
    ecr.finish(command).succeeds().stderr_has(&["Connection refused", "; retry "]);
    StoredImage::of_sandbox(&ecr, "team/app", "1").is(&Source::read(&archive, 0));
}

#[test]
fn a_slow_line_is_never_cut() {
    let large = DEFAULT_CHUNK_SIZE as usize + 500_000;
    let way = Way::Slow(5_000, Duration::from_millis(5));
    let Some(carried) = over(way, large, &["--stall-timeout", "4"]) else { return };
    assert!(carried.took > Duration::from_secs(4), "the line was slower than the limit: {:?}", carried.took);
    carried.cost(large, 0);
    carried.run.output_has_none(&["; retry "]);
}

#[test]
fn a_connection_that_stalls_is_given_up_and_the_upload_continues_over_another() {
    let (large, at) = (40 * MB, 11 * MB as u64);
    let carried = over_to_ecr(Way::StandStill(at), large, &["--stall-timeout", "4"]);
    assert_eq!(carried.proxy.breaks(), 1);
    // The registry has not noticed and keeps the session for the connection that stands still: nothing is left of it. Two
    // parts go to find that out, since where a 416 leads to is tried once.
    carried.cost(large, at + 2 * DEFAULT_CHUNK_SIZE);
    carried.run.stderr_has(&["no data was transferred for 4 s", "; retry "]);
    let Some(carried) = over(Way::StandStill(at), large, &["--stall-timeout", "4"]) else { return };
    // The session is lost, and with it what was sent. One part goes to find that out.
    carried.cost(large, at + DEFAULT_CHUNK_SIZE);
    carried.run.stderr_has(&["no data was transferred for 4 s", "; retry "]);
}
