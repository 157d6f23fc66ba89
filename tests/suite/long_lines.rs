//! Registries whose responses take long: large layers are streamed there, as long as nothing is lost by that.

use std::time::Duration;

use ecr_push::internals::{DEFAULT_CHUNK_SIZE, MIN_RESUMABLE_SIZE};
use ecr_push::sandbox::{Fault, Interrupted, Locations, LogEntry, Parts, Rules, Trouble, UploadStatus};

use super::archive_builder;
use super::archive_contents::Source;
use super::ecr::Ecr;
use super::faults::interrupt;
use super::harness::{Run, Running, report, wait_until};
use super::stored_image::StoredImage;
use super::tcp_proxy::{TcpProxy, Way};

const MIB: u64 = 1 << 20;

/// Long enough, however quick the machine is.
const LONG: Duration = Duration::from_millis(100);

const PART: &str = "ecr:UploadLayerPart";

fn status(status: u16, message: &str) -> Trouble {
    Trouble::Status { status, code: "UNKNOWN".into(), message: message.into() }
}

fn ecr(rules: Rules) -> Ecr {
    Ecr::with(&["team/app"], Rules { delay: LONG, ..rules })
}

/// The reference registry: recognized by its URLs, it reports what it has.
fn distribution() -> Rules {
    Rules {
        parts: Parts::Any,
        locations: Locations::Query,
        upload_status: UploadStatus::Reported,
        interrupted: Interrupted::Resumable,
        anonymous: true,
        ..Rules::default()
    }
}

/// An OCI layout with layers of these sizes, which are pushed unchanged.
fn layout(ecr: &Ecr, sizes: &[u64]) -> String {
    let layout = ecr.env.scratch("layout");
    let layers: Vec<_> = sizes.iter().map(|len| archive_builder::noise(*len, usize::try_from(*len).unwrap())).collect();
    archive_builder::oci_layout(&layout, &layers);
    layout
}

/// Pushes a layout, to ECR or, without a login, to any registry; the image is there afterwards.
fn arrives(registry: &Ecr, layout: &str, options: &[&str]) -> Run {
    let anyones = format!("{}/team/app:1", registry.address());
    let mut is_ecr = true;
    registry.set_rules(|rules| is_ecr = !rules.anonymous);
    let arguments = |target| [&[layout, target, "-v"], options].concat();
    let run = match is_ecr {
        true => registry.run(&arguments("team/app:1")),
        false => registry.finish(registry.env.command(&arguments(&anyones))),
    };
    let run = run.succeeds();
    StoredImage::of_sandbox(registry, "team/app", "1").is(&Source::read(layout, 0));
    run
}

/// The bytes of the parts that said where they belong, and of those that did not.
fn patches(registry: &Ecr) -> (Vec<u64>, Vec<u64>) {
    let bytes = |entries: Vec<LogEntry>| entries.into_iter().map(|entry| entry.body_bytes).collect();
    let (ranged, whole) = registry.asked(PART).into_iter().partition(|entry| entry.content_range.is_some());
    (bytes(ranged), bytes(whole))
}

#[test]
fn a_large_layer_is_one_request_and_it_is_said_why() {
    for rules in [Rules::default(), distribution(), Rules { anonymous: true, parts: Parts::Any, ..Rules::default() }] {
        let registry = ecr(rules);
        let layout = layout(&registry, &[20 * MIB, 19 * MIB, 900]);
        let run = arrives(&registry, &layout, &[]);
        let (ranged, mut whole) = patches(&registry);
        whole.sort_unstable();
        assert_eq!((ranged, whole), (vec![], vec![19 * MIB, 20 * MIB]), "{}", registry.story());
        // Three layers and the config. Where the digest is known afterwards, the closing request is empty.
        let closings: Vec<_> = registry.asked("ecr:CompleteLayerUpload").iter().map(|put| put.body_bytes).collect();
        assert_eq!((closings.len(), closings.iter().filter(|bytes| **bytes == 0).count()), (4, 2));
        let why = " are streamed: responses take ";
        assert_eq!(run.stderr.matches(why).count(), 1, "{}", run.stderr);
    }
}

#[test]
fn a_storage_close_by_does_not_make_the_line_to_the_registry_short() {
    let registry = ecr(Rules::default());
    let archives = [900, 16 << 20].map(|len| {
        let archive = registry.env.scratch(&len.to_string());
        let layer = archive_builder::tar_of("noise", &archive_builder::noise(1, len));
        archive_builder::docker_save(&archive, &[layer]);
        archive
    });
    registry.run(&[&archives[0], "team/app:0"]).succeeds();
    // The config of the image that is there is read from the bucket.
    let run = registry.run(&[&archives[1], "team/app:1", "--reuse-from", "0", "-v"]).succeeds();
    run.stderr_has(&["streamed: responses take 1"]);
    assert!(registry.count("s3:GetObject") > 0, "{}", registry.story());
    assert_eq!(patches(&registry).1.len(), 1, "{}", registry.story());
}

#[test]
fn a_stream_that_is_cut_goes_on_in_chunks() {
    let cut = |rules: Rules| ecr(Rules { faults: vec![Fault::once(PART, Trouble::CutAfter(8 * MIB))], ..rules });
    // ECR may keep the session or not, and does not say what it has: another one is opened.
    for interrupted in [Interrupted::Spoiled, Interrupted::Resumable] {
        let registry = cut(Rules { interrupted, ..Rules::default() });
        let layout = layout(&registry, &[24 * MIB]);
        arrives(&registry, &layout, &[]).stderr_has(&["the stream broke; continuing in chunks"]);
        let (ranged, whole) = patches(&registry);
        assert_eq!((ranged.len(), whole), (2, vec![8 * MIB]), "{}", registry.story());
    }
    // Another registry says what it has, and nothing is sent twice, wherever the stream is cut.
    for sent in [8 * MIB, MIB + 1, 23 * MIB] {
        let registry = ecr(Rules { faults: vec![Fault::once(PART, Trouble::CutAfter(sent))], ..distribution() });
        let layout = layout(&registry, &[40 * MIB]);
        arrives(&registry, &layout, &[]);
        let (ranged, whole) = patches(&registry);
        let closing = registry.asked("ecr:CompleteLayerUpload").iter().map(|put| put.body_bytes).max().unwrap();
        let again = ranged.iter().sum::<u64>() + closing;
        assert_eq!((again, whole), (40 * MIB - sent, vec![sent]), "{}", registry.story());
    }
}

#[test]
fn after_a_break_no_other_layer_is_streamed() {
    // Proxies end long requests with a response of their own.
    for break_ in [Trouble::CutAfter(8 * MIB), status(504, "Gateway Timeout"), status(416, "the body is too large")] {
        let registry = ecr(Rules { faults: vec![Fault::once(PART, break_)], ..Rules::default() });
        let layout = layout(&registry, &[24 * MIB, 23 * MIB, 22 * MIB]);
        arrives(&registry, &layout, &["--concurrency", "1"]);
        assert_eq!(patches(&registry).1.len(), 1, "{}", registry.story());
    }
}

#[test]
fn a_stream_that_a_proxy_rejects_is_sent_in_chunks() {
    for rejection in [
        Trouble::Page { status: 403, title: "Blocked".into() },
        status(422, "Unprocessable"),
        Trouble::Page { status: 413, title: "Request Entity Too Large".into() },
    ] {
        let registry = ecr(Rules { faults: vec![Fault::once(PART, rejection)], ..Rules::default() });
        let layout = layout(&registry, &[16 * MIB, 15 * MIB]);
        arrives(&registry, &layout, &["--concurrency", "1"]).stderr_has(&["does not accept a stream"]);
        assert_eq!(patches(&registry).1.len(), 1, "{}", registry.story());
    }
    // A denial by the registry is final.
    let denied = Trouble::Status { status: 403, code: "DENIED".into(), message: "not authorized".into() };
    let registry = ecr(Rules { faults: vec![Fault::once(PART, denied)], ..Rules::default() });
    let layout = layout(&registry, &[16 * MIB]);
    registry.run(&[&layout, "team/app:1"]).stderr_has(&["not authorized"]);
    assert_eq!(patches(&registry).1.len(), 1, "{}", registry.story());
}

#[test]
fn a_registry_that_accepts_no_stream_gets_chunks() {
    let registry = ecr(Rules { anonymous: true, parts: Parts::AtMost(13 * MIB), ..Rules::default() });
    let layout = layout(&registry, &[40 * MIB, 39 * MIB]);
    arrives(&registry, &layout, &["--concurrency", "1"]).stderr_has(&["does not accept a stream"]);
    let (ranged, whole) = patches(&registry);
    assert_eq!(whole.len(), 1, "the second layer does not try again: {}", registry.story());
    assert!(ranged.len() >= 6, "{}", registry.story());
}

#[test]
fn chunks_of_a_size_that_was_asked_for_are_sent() {
    let registry = ecr(Rules::default());
    let layout = layout(&registry, &[16 * MIB]);
    arrives(&registry, &layout, &["--chunk-size", "5M"]).output_has_none(&["streamed:"]);
    assert_eq!(patches(&registry).1, [0; 0]);
}

#[test]
fn a_line_that_chunks_use_as_well_gets_chunks() {
    // It is known in advance how slow it is.
    let registry = ecr(Rules::default());
    let layout = layout(&registry, &[12 * MIB]);
    arrives(&registry, &layout, &["--limit-rate", "8M"]).output_has_none(&["streamed:"]);
    assert_eq!(patches(&registry).1, [0; 0]);
}

#[test]
fn a_stream_that_turns_out_to_be_slow_is_ended_and_chunks_are_sent() {
    let registry = ecr(Rules::default());
    let layout = layout(&registry, &[72 * MIB]);
    // The chunks would take most of a minute, and need not in a test.
    let way = Way::SlowUntilClosed(32 << 10, Duration::from_millis(20), MIB);
    let slow = TcpProxy::to(&registry.address().to_string(), way);
    let mut command = registry.command(&[&layout, "team/app:1", "-v"]);
    command.env("ECR_PUSH_REGISTRY_ENDPOINT", format!("http://{}", slow.target("")));
    let run = registry.finish(command).succeeds();
    // On a busy machine it is so slow that another reason comes first.
    run.stderr_has(&["sending chunks instead of a stream: ", "1 of 1 layer uploaded"]).output_has_none(&["retry"]);
    StoredImage::of_sandbox(&registry, "team/app", "1").is(&Source::read(&layout, 0));
    let (ranged, whole) = patches(&registry);
    assert_eq!((ranged.len(), whole.len()), (7, 1), "{}", registry.story());
    assert!(whole[0] < 72 * MIB, "{}", registry.story());
}

#[cfg(target_os = "linux")]
#[test]
fn a_layer_of_a_pipe_is_streamed_only_from_a_temporary_file() {
    let layers = [archive_builder::tar_of("noise", &archive_builder::noise(1, 16 << 20))];
    // ECR may lose an interrupted upload, so layers are in temporary files; the reference registry needs none.
    for (rules, streams) in [(Rules::default(), 1), (distribution(), 0)] {
        let registry = ecr(rules);
        let (reader, mut writer) = std::io::pipe().unwrap();
        let bytes = super::streaming::save(&layers);
        std::thread::spawn(move || std::io::Write::write_all(&mut writer, &bytes));
        let target = format!("{}/team/app:1", registry.address());
        let command = match streams {
            1 => registry.command(&["-", "team/app:1"]),
            _ => registry.env.command(&["-", &target]),
        };
        Running::fed(command, reader).end().succeeds();
        let (ranged, whole) = patches(&registry);
        assert_eq!((whole.len(), ranged.is_empty()), (streams, streams == 1), "{}", registry.story());
    }
}

/// A layer that is pushed slowly enough to be stopped on the way, but not so slowly that chunks would do.
struct Stage {
    ecr: Ecr,
    layout: String,
    report: String,
}

impl Stage {
    fn with(rules: Rules) -> Self {
        let ecr = ecr(rules);
        let (layout, report) = (layout(&ecr, &[60 * MIB]), ecr.env.scratch("report.json"));
        Self { ecr, layout, report }
    }

    fn start(&self, options: &[&str]) -> Running {
        let anyones = format!("{}/team/app:1", self.ecr.address());
        let mut is_ecr = true;
        self.ecr.set_rules(|rules| is_ecr = !rules.anonymous);
        let arguments = |target| [&[&self.layout[..], target, "--report", &self.report], options].concat();
        Running::start(match is_ecr {
            true => self.ecr.command(&arguments("team/app:1")),
            false => self.ecr.env.command(&arguments(&anyones)),
        })
    }

    /// Starts a push and waits until so much has arrived of it.
    fn half_way(&self, bytes: u64) -> Running {
        let arrived = || self.ecr.asked(PART).iter().map(|part| part.body_bytes).sum::<u64>();
        let before = arrived();
        let running = self.start(&["--limit-rate", "30M"]);
        wait_until("so much has arrived", || arrived() - before >= bytes);
        running
    }

    fn has_noticed(&self) {
        wait_until("the registry has noticed", || self.ecr.requests_under_way() == 0);
    }

    fn entries(&self) -> usize {
        std::fs::read_dir(self.ecr.env.home().join(".cache/ecr-push/layers.uploads")).map_or(0, Iterator::count)
    }

    fn finishes(&self) -> Run {
        let run = self.start(&[]).end().succeeds();
        StoredImage::of_sandbox(&self.ecr, "team/app", "1").is(&Source::read(&self.layout, 0));
        assert_eq!((self.ecr.open_uploads(), self.entries()), (0, 0), "{}", self.ecr.story());
        run
    }
}

#[cfg(unix)]
#[test]
fn a_layer_is_streamed_once_and_the_next_run_sends_chunks_that_can_be_resumed() {
    let stage = Stage::with(Rules { interrupted: Interrupted::Resumable, ..Rules::default() });
    let running = stage.half_way(8 * MIB);
    assert_eq!(patches(&stage.ecr).1.len(), 1);
    interrupt(running.id());
    running.end().fails_with(130);
    stage.has_noticed();
    assert_eq!((stage.ecr.open_uploads(), stage.entries()), (0, 1), "{}", stage.ecr.story());

    stage.half_way(MIN_RESUMABLE_SIZE + 4 * DEFAULT_CHUNK_SIZE).kill();
    stage.has_noticed();
    assert_eq!((patches(&stage.ecr).1.len(), stage.entries()), (1, 1), "{}", stage.ecr.story());
    stage.finishes();
    let found = report(&stage.report)["targets"][0]["layers"][0]["bytes_of_earlier_run"].as_u64().unwrap();
    assert!(found >= MIN_RESUMABLE_SIZE, "{found}");
    assert_eq!(patches(&stage.ecr).1.len(), 1, "{}", stage.ecr.story());
}

#[test]
fn the_session_of_a_stream_that_was_killed_is_closed_or_resumed() {
    for (rules, resumes) in [(Rules::default(), false), (distribution(), true)] {
        let stage = Stage::with(rules);
        stage.half_way(8 * MIB).kill();
        stage.has_noticed();
        assert_eq!((stage.ecr.open_uploads(), stage.entries()), (1, 1), "{}", stage.ecr.story());
        stage.finishes();
        let found = report(&stage.report)["targets"][0]["layers"][0]["bytes_of_earlier_run"].as_u64().unwrap();
        assert_eq!(found >= 8 * MIB, resumes, "{found}: {}", stage.ecr.story());
        assert_eq!(patches(&stage.ecr).1.len(), 1, "{}", stage.ecr.story());
    }
}

#[cfg(unix)]
#[test]
fn a_stream_that_ctrl_c_interrupts_is_resumed_where_the_registry_reports_its_offset() {
    let stage = Stage::with(distribution());
    let running = stage.half_way(8 * MIB);
    interrupt(running.id());
    running.end().fails_with(130);
    stage.has_noticed();
    assert_eq!((stage.ecr.open_uploads(), stage.entries()), (1, 1), "{}", stage.ecr.story());
    stage.finishes();
    let found = report(&stage.report)["targets"][0]["layers"][0]["bytes_of_earlier_run"].as_u64().unwrap();
    assert!(found >= 8 * MIB, "{found}: {}", stage.ecr.story());
}

#[test]
fn the_session_of_a_stream_is_given_up_if_its_offset_is_not_known() {
    let stage = Stage::with(distribution());
    stage.half_way(8 * MIB).kill();
    stage.has_noticed();
    stage.ecr.set_rules(|rules| rules.faults.push(Fault::once("v2:UploadStatus", status(502, "Bad Gateway"))));
    stage.finishes().output_has_none(&["resum"]);
    let (ranged, whole) = patches(&stage.ecr);
    let closing = stage.ecr.asked("ecr:CompleteLayerUpload").iter().map(|put| put.body_bytes).max().unwrap();
    assert_eq!((ranged.iter().sum::<u64>() + closing, whole.len()), (60 * MIB, 1), "{}", stage.ecr.story());
}

#[test]
fn a_layer_that_was_streamed_once_is_not_streamed_again_whatever_happens_to_its_chunks() {
    let stage = Stage::with(Rules { interrupted: Interrupted::Resumable, ..Rules::default() });
    stage.half_way(8 * MIB).kill();
    stage.has_noticed();
    stage.half_way(MIN_RESUMABLE_SIZE + 4 * DEFAULT_CHUNK_SIZE).kill();
    stage.has_noticed();
    stage.ecr.set_rules(|rules| rules.faults.push(Fault::once(PART, Trouble::ForgetUpload)));
    stage.finishes();
    assert_eq!(patches(&stage.ecr).1.len(), 1, "{}", stage.ecr.story());
}
