//! What is left of a push that was stopped half-way, and what the next one makes of it.

use std::path::PathBuf;

use ecr_push::registry::{CHUNK, WORTH};
use ecr_push::sandbox::{Interrupted, Parts, Rules, UploadStatus};

use super::bench::{Run, Running, finish, report, wait_until};
use super::build;
use super::ecr::Ecr;
use super::faults::interrupt;
use super::pushed::Pushed;
use super::source::Source;

const MIB: usize = 1 << 20;

/// A registry that keeps its sessions, and what is pushed into it: one large layer.
struct Stage {
    ecr: Ecr,
    archive: String,
    report: String,
}

impl Stage {
    fn with(rules: Rules, archive: impl FnOnce(&str)) -> Self {
        let ecr = Ecr::with(&["team/app"], rules);
        let (path, report) = (ecr.bench.scratch("archive"), ecr.bench.scratch("report.json"));
        archive(&path);
        Self { ecr, archive: path, report }
    }

    fn start(&self, options: &[&str]) -> Running {
        let arguments = [&[&self.archive[..], "team/app:1", "--chunk-size", "5M", "--report", &self.report], options];
        Running::start(self.ecr.command(&arguments.concat()))
    }

    /// How many bytes the registry has acknowledged.
    fn acknowledged(&self) -> u64 {
        self.ecr.asked("ecr:UploadLayerPart").iter().filter(|part| part.status < 300).map(|part| part.body_bytes).sum()
    }

    /// Starts a push and waits until so much of it was acknowledged. It goes so slowly that it is not done by then.
    fn half_way(&self, bytes: u64) -> Running {
        let mut running = self.start(&["--limit-rate", "40M"]);
        wait_until("so much has arrived", || self.acknowledged() >= bytes || running.ended().is_some());
        running
    }

    /// Kills a push, and waits until the registry has noticed.
    fn kill_half_way(&self) {
        self.half_way(WORTH + 2 * CHUNK).kill();
        wait_until("the registry has noticed", || self.ecr.requests_under_way() == 0);
    }

    fn entries(&self) -> Vec<PathBuf> {
        let folder = self.ecr.bench.home().join(".cache/ecr-push/layers.uploads");
        std::fs::read_dir(folder).map(|all| all.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
    }

    /// Runs to the end: the image is there, nothing is open, nothing remembered.
    fn finishes(&self) -> Run {
        let run = self.start(&[]).end().exits(0);
        Pushed::of_sandbox(&self.ecr, "team/app", "1").is(&Source::read(&self.archive, 0));
        assert_eq!((self.ecr.open_uploads(), self.entries()), (0, vec![]), "{}", self.ecr.story());
        run
    }

    /// The bytes of the large layer that the last run sent, and that it found.
    fn sent_and_found(&self) -> (u64, u64) {
        let layer = &report(&self.report)["targets"][0]["layers"][0];
        (layer["bytes_sent"].as_u64().unwrap(), layer["bytes_of_earlier_run"].as_u64().unwrap())
    }
}

fn keeps_sessions() -> Rules {
    Rules { interrupted: Interrupted::Resumable, ..Rules::default() }
}

/// An OCI layout, whose layers go as they lie.
fn as_it_lies(path: &str) {
    build::oci_layout(path, &[build::noise(1, 60 * MIB), build::noise(2, 900)]);
}

#[test]
fn a_push_that_was_killed_goes_on_where_it_was() {
    // Told how far it got, or not; as it lies, or packed on the way.
    let told = Rules { upload_status: UploadStatus::Told, ..keeps_sessions() };
    let packed = |path: &str| build::docker_save(path, &[build::tar_of("noise", &build::noise(4, 60 * MIB))]);
    let stages = [
        Stage::with(keeps_sessions(), as_it_lies),
        Stage::with(told, as_it_lies),
        Stage::with(keeps_sessions(), packed),
    ];
    for stage in stages {
        stage.kill_half_way();
        assert_eq!(stage.entries().len(), 1);
        assert_eq!(stage.ecr.open_uploads(), 1, "the registry keeps it");
        let run = stage.finishes().says(&["are there from an earlier run, which goes on"]);
        let (sent, found) = stage.sent_and_found();
        assert!(found >= WORTH + CHUNK && sent + found >= 60 * MIB as u64, "{sent} sent, {found} found");
        assert_eq!(stage.ecr.count("ecr:InitiateLayerUpload"), if run.stderr.contains("packed") { 2 } else { 3 });
        drop(run);
    }
}

#[test]
fn a_push_that_is_interrupted_leaves_open_what_the_next_one_goes_on_with_and_nothing_else() {
    let stage = Stage::with(keeps_sessions(), as_it_lies);
    let running = stage.half_way(WORTH + 2 * CHUNK);
    interrupt(running.id());
    drop(running.end().exits(130));
    assert_eq!((stage.ecr.open_uploads(), stage.entries().len()), (1, 1), "{}", stage.ecr.story());
    drop(stage.finishes());
    assert!(stage.sent_and_found().1 >= WORTH + CHUNK);

    let stage = Stage::with(keeps_sessions(), as_it_lies);
    let running = stage.half_way(CHUNK);
    interrupt(running.id());
    drop(running.end().exits(130));
    assert_eq!((stage.ecr.open_uploads(), stage.entries().len()), (0, 0), "so little is not worth it");
}

#[test]
fn a_full_disk_is_no_reason_to_begin_anew() {
    let rules = Rules { parts: Parts::Any, anonymous: true, space: Some(41 * MIB as u64), ..keeps_sessions() };
    let stage = Stage::with(Rules { upload_status: UploadStatus::Told, ..rules }, as_it_lies);
    let target = format!("{}/team/app:1", stage.ecr.address());
    let push = || {
        let arguments =
            [&stage.archive[..], &target, "--chunk-size", "5M", "--report", &stage.report, "--retries", "1"];
        finish(stage.ecr.bench.command(&arguments), || stage.ecr.story())
    };
    drop(push().exits(4).says(&["no space left on device"]));
    stage.ecr.has_no_image("1");
    assert_eq!((stage.ecr.open_uploads(), stage.entries().len()), (1, 1));
    stage.ecr.set_rules(|rules| rules.space = None);
    drop(push().exits(0));
    Pushed::of_sandbox(&stage.ecr, "team/app", "1").is(&Source::read(&stage.archive, 0));
    let (sent, found) = stage.sent_and_found();
    assert_eq!((sent + found, found), (60 * MIB as u64, 40 * MIB as u64));
    assert_eq!((stage.ecr.open_uploads(), stage.entries()), (0, vec![]));
}

#[test]
fn a_session_that_the_registry_has_lost_costs_no_more_than_beginning_anew() {
    let stage = Stage::with(Rules::default(), as_it_lies);
    stage.kill_half_way();
    // The strict kind: what was cut is spoiled, and only the next part finds that out.
    let run = stage.start(&[]).end().exits(0);
    Pushed::of_sandbox(&stage.ecr, "team/app", "1").is(&Source::read(&stage.archive, 0));
    assert_eq!((stage.sent_and_found(), stage.entries()), ((60 * MIB as u64, 0), vec![]));
    drop(run);
}

#[test]
fn another_archive_with_another_layer_has_nothing_to_do_with_it() {
    let stage = Stage::with(keeps_sessions(), as_it_lies);
    stage.kill_half_way();
    let other = stage.ecr.bench.scratch("other");
    build::oci_layout(&other, &[build::noise(7, 30 * MIB)]);
    let arguments = [&other[..], "team/app:2", "--chunk-size", "5M", "--report", &stage.report];
    let run = finish(stage.ecr.command(&arguments), || stage.ecr.story()).exits(0);
    assert_eq!(stage.sent_and_found(), (30 * MIB as u64, 0));
    assert_eq!((stage.ecr.open_uploads(), stage.entries().len()), (1, 1));
    drop((run, stage.finishes()));
}

#[test]
fn two_runs_at_once_share_no_session() {
    let stage = Stage::with(keeps_sessions(), as_it_lies);
    let first = stage.half_way(WORTH + CHUNK);
    let second = stage.start(&[]);
    let (second, first) = (second.end().exits(0), first.end().exits(0));
    assert_eq!(second.digests(), first.digests());
    drop((first.never_says(&["earlier run"]), second.never_says(&["earlier run"])));
    assert_eq!((stage.ecr.open_uploads(), stage.entries()), (0, vec![]), "{}", stage.ecr.story());
}
