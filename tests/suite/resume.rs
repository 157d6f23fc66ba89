//! What is left of a push that was stopped half-way, and what the next one makes of it.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;

use ecr_push::internals::{DEFAULT_CHUNK_SIZE, MIN_RESUMABLE_SIZE};
use ecr_push::sandbox::{BlobMounting, Fault, Interrupted, Parts, Rules, UploadStatus};
use serde_json::Value;

use super::archive_builder;
use super::archive_contents::Source;
use super::ecr::{Ecr, status};
use super::faults::interrupt;
use super::harness::{Run, Running, finish, report, wait_until};
use super::stored_image::StoredImage;

const MIB: usize = 1 << 20;

/// A registry that keeps its sessions, and what is pushed into it: one large layer.
struct Stage {
    ecr: Ecr,
    archive: String,
    report: String,
}

impl Stage {
    fn with(rules: Rules, archive: impl FnOnce(&str)) -> Self {
        let ecr = Ecr::with(&["team/app", "team/base"], rules);
        let (path, report) = (ecr.env.scratch("archive"), ecr.env.scratch("report.json"));
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
        self.half_way(MIN_RESUMABLE_SIZE + 2 * DEFAULT_CHUNK_SIZE).kill();
        wait_until("the registry has noticed", || self.ecr.requests_under_way() == 0);
    }

    fn entries(&self) -> Vec<PathBuf> {
        let folder = self.ecr.env.home().join(".cache/ecr-push/layers.uploads");
        std::fs::read_dir(folder).map(|all| all.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
    }

    /// Runs to the end: the image is there, nothing is open, nothing remembered.
    fn finishes(&self) -> Run {
        let run = self.start(&[]).end().succeeds();
        StoredImage::of_sandbox(&self.ecr, "team/app", "1").is(&Source::read(&self.archive, 0));
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

/// An OCI layout, whose layers are pushed unchanged.
fn unchanged(path: &str) {
    archive_builder::oci_layout(path, &[archive_builder::noise(1, 60 * MIB), archive_builder::noise(2, 900)]);
}

#[test]
fn a_push_that_was_killed_is_resumed() {
    // With the offset from the registry, or without; unchanged, or compressed during the upload.
    let reports_status = Rules { upload_status: UploadStatus::Reported, ..keeps_sessions() };
    let packed = |path: &str| {
        archive_builder::docker_save(path, &[archive_builder::tar_of("noise", &archive_builder::noise(4, 60 * MIB))]);
    };
    let stages = [
        Stage::with(keeps_sessions(), unchanged),
        Stage::with(reports_status, unchanged),
        Stage::with(keeps_sessions(), packed),
    ];
    for stage in stages {
        stage.kill_half_way();
        assert_eq!(stage.entries().len(), 1);
        assert_eq!(stage.ecr.open_uploads(), 1, "the registry keeps it");
        stage.finishes().stderr_has(&["resuming layer sha256:", " MiB already uploaded"]);
        let (sent, found) = stage.sent_and_found();
        assert!(
            found >= MIN_RESUMABLE_SIZE + DEFAULT_CHUNK_SIZE && sent + found >= 60 * MIB as u64,
            "{sent} sent, {found} found"
        );
        // The layer's, and the config's in both runs.
        assert_eq!(stage.ecr.count("ecr:InitiateLayerUpload"), 3);
    }
}

#[test]
fn an_interrupted_push_leaves_only_the_sessions_open_that_the_next_one_resumes() {
    let stage = Stage::with(keeps_sessions(), unchanged);
    let running = stage.half_way(MIN_RESUMABLE_SIZE + 2 * DEFAULT_CHUNK_SIZE);
    interrupt(running.id());
    running.end().fails_with(130);
    assert_eq!((stage.ecr.open_uploads(), stage.entries().len()), (1, 1), "{}", stage.ecr.story());
    stage.finishes();
    assert!(stage.sent_and_found().1 >= MIN_RESUMABLE_SIZE + DEFAULT_CHUNK_SIZE);

    let stage = Stage::with(keeps_sessions(), unchanged);
    let running = stage.half_way(DEFAULT_CHUNK_SIZE);
    interrupt(running.id());
    running.end().fails_with(130);
    assert_eq!((stage.ecr.open_uploads(), stage.entries().len()), (0, 0), "so little is not worth it");
}

#[test]
fn a_resume_costs_one_request_and_prints_one_line() {
    let reports_status = Rules { upload_status: UploadStatus::Reported, ..keeps_sessions() };
    let resumed = "resuming layer sha256:";
    let lost = ": cannot resume the upload; uploading all of it";
    // A session that ECR may have spoiled costs no more than one that it keeps.
    for (rules, says) in [(keeps_sessions(), resumed), (reports_status, resumed), (Rules::default(), lost)] {
        let stage = Stage::with(rules, unchanged);
        stage.kill_half_way();
        let before = stage.ecr.log().len();
        let run = stage.finishes().output_has_none(&["; retry ", "HTTP 416"]).stderr_has(&[says]);
        let lines = run.stderr.lines().filter(|line| line.contains("resum")).count();
        let log = stage.ecr.log();
        let asked = log[before..].iter().filter(|it| it.status == 416 || it.operation == "v2:UploadStatus").count();
        assert_eq!((lines, asked), (1, 1), "{says}: {}", stage.ecr.story());
    }
}

#[test]
fn a_full_disk_does_not_start_the_upload_again() {
    let rules = Rules { parts: Parts::Any, anonymous: true, space: Some(41 * MIB as u64), ..keeps_sessions() };
    let stage = Stage::with(Rules { upload_status: UploadStatus::Reported, ..rules }, unchanged);
    let target = format!("{}/team/app:1", stage.ecr.address());
    let push = || {
        let arguments =
            [&stage.archive[..], &target, "--chunk-size", "5M", "--report", &stage.report, "--retries", "1"];
        finish(stage.ecr.env.command(&arguments), || stage.ecr.story())
    };
    push().fails_with(4).stderr_has(&["no space left on device"]);
    stage.ecr.has_no_image("1");
    assert_eq!((stage.ecr.open_uploads(), stage.entries().len()), (1, 1));
    stage.ecr.set_rules(|rules| rules.space = None);
    push().succeeds();
    StoredImage::of_sandbox(&stage.ecr, "team/app", "1").is(&Source::read(&stage.archive, 0));
    let (sent, found) = stage.sent_and_found();
    assert_eq!((sent + found, found), (60 * MIB as u64, 40 * MIB as u64));
    assert_eq!((stage.ecr.open_uploads(), stage.entries()), (0, vec![]));
}

#[test]
fn a_session_that_the_registry_has_lost_costs_no_more_than_starting_again() {
    let stage = Stage::with(Rules::default(), unchanged);
    stage.kill_half_way();
    // The strict kind: what was cut is spoiled, and only the next part finds that out.
    stage.start(&["-v"]).end().succeeds().stderr_has(&[": cannot resume the upload; uploading all of it\n"]);
    StoredImage::of_sandbox(&stage.ecr, "team/app", "1").is(&Source::read(&stage.archive, 0));
    assert_eq!((stage.sent_and_found(), stage.entries()), ((60 * MIB as u64, 0), vec![]));
}

#[test]
fn another_archive_with_another_layer_has_nothing_to_do_with_it() {
    let stage = Stage::with(keeps_sessions(), unchanged);
    stage.kill_half_way();
    let other = stage.ecr.env.scratch("other");
    archive_builder::oci_layout(&other, &[archive_builder::noise(7, 30 * MIB)]);
    let arguments = [&other[..], "team/app:2", "--chunk-size", "5M", "--report", &stage.report];
    finish(stage.ecr.command(&arguments), || stage.ecr.story()).succeeds();
    assert_eq!(stage.sent_and_found(), (30 * MIB as u64, 0));
    assert_eq!((stage.ecr.open_uploads(), stage.entries().len()), (1, 1));
    stage.finishes();
}

#[test]
fn two_runs_at_once_share_no_session() {
    let stage = Stage::with(keeps_sessions(), unchanged);
    let first = stage.half_way(MIN_RESUMABLE_SIZE + DEFAULT_CHUNK_SIZE);
    let second = stage.start(&[]);
    let (second, first) = (second.end().succeeds(), first.end().succeeds());
    assert_eq!(second.digests(), first.digests());
    first.output_has_none(&["earlier run"]);
    second.output_has_none(&["earlier run"]);
    assert_eq!((stage.ecr.open_uploads(), stage.entries()), (0, vec![]), "{}", stage.ecr.story());
}

/// What an entry says.
fn read_entry(path: &PathBuf) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Changes one field of an entry.
fn change_entry(path: &PathBuf, what: &str, value: Value) {
    let mut entry = read_entry(path);
    entry[what] = value;
    std::fs::write(path, entry.to_string()).unwrap();
}

#[test]
fn what_a_broken_archive_left_there_is_not_gone_on_with_for_the_mended_one() {
    let stage = Stage::with(keeps_sessions(), unchanged);
    let right = archive_builder::noise(1, 60 * MIB);
    let digest = super::archive_contents::sha256(&right);
    let blob = format!("{}/blobs/sha256/{}", stage.archive, digest.strip_prefix("sha256:").unwrap());
    let mut wrong = right.clone();
    wrong[MIB] ^= 1;
    std::fs::write(&blob, wrong).unwrap();
    stage.kill_half_way();
    std::fs::write(&blob, right).unwrap();
    stage.finishes().stderr_has(&["resuming layer sha256:", " MiB already uploaded"]);
    assert_eq!(stage.sent_and_found(), (60 * MIB as u64, 0), "the registry sees it at the end, and all is sent again");
}

#[test]
fn entries_that_were_mixed_up_cost_no_more_than_starting_again() {
    for upload_status in [UploadStatus::Reported, UploadStatus::Unknown] {
        let rules = Rules { upload_status, ..keeps_sessions() };
        let small = |path: &str| archive_builder::oci_layout(path, &[archive_builder::noise(9, 24 * MIB)]).clear();
        let large = Stage::with(rules, unchanged);
        large.half_way(6 * DEFAULT_CHUNK_SIZE).kill();
        wait_until("the registry has noticed", || large.ecr.requests_under_way() == 0);
        let [of_large] = &large.entries()[..] else { panic!("one entry") };
        let (archive, layout) = (large.ecr.env.scratch("small"), large.archive.clone());
        small(&archive);
        let stage = Stage { archive, ..large };
        // So that it is killed between its last part and its closing request.
        let closing = Fault::once("ecr:CompleteLayerUpload", status(503, "UNAVAILABLE", "soon")).times(u32::MAX);
        stage.ecr.set_rules(|rules| rules.faults = vec![closing]);
        let running = stage.half_way(stage.acknowledged() + 4 * DEFAULT_CHUNK_SIZE);
        let is_written = |path: &PathBuf| std::fs::read(path).is_ok_and(|text| text.ends_with(b"}"));
        wait_until("both are remembered", || stage.entries().iter().filter(|path| is_written(path)).count() == 2);
        running.kill();
        stage.ecr.set_rules(|rules| rules.faults.clear());
        wait_until("the registry has noticed", || stage.ecr.requests_under_way() == 0);
        let entries = stage.entries();
        let of_small = entries.iter().find(|path| *path != of_large).unwrap();
        for what in ["location", "offset"] {
            let (one, other) = (read_entry(of_large)[what].clone(), read_entry(of_small)[what].clone());
            change_entry(of_large, what, other);
            change_entry(of_small, what, one);
        }
        // The session has more than there is of the layer; then it has other bytes.
        stage.start(&[]).end().succeeds();
        StoredImage::of_sandbox(&stage.ecr, "team/app", "1").is(&Source::read(&stage.archive, 0));
        assert_eq!(stage.sent_and_found(), (24 * MIB as u64, 0));
        let stage = Stage { archive: layout, ..stage };
        stage.start(&[]).end().succeeds();
        StoredImage::of_sandbox(&stage.ecr, "team/app", "1").is(&Source::read(&stage.archive, 0));
        assert_eq!((stage.sent_and_found(), stage.entries()), ((60 * MIB as u64, 0), vec![]));
    }
}

#[test]
fn an_entry_that_leads_elsewhere_is_shown_no_login() {
    let stage = Stage::with(keeps_sessions(), unchanged);
    stage.kill_half_way();
    let entry = stage.entries().pop().unwrap();
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = elsewhere.local_addr().unwrap();
    let asked = std::thread::spawn(move || {
        let mut heads = String::new();
        // The request for the offset, and the attempt to continue nevertheless.
        for _ in 0..2 {
            let (mut connection, _) = elsewhere.accept().unwrap();
            let mut head = [0; 4096];
            let len = connection.read(&mut head).unwrap();
            heads += &String::from_utf8_lossy(&head[..len]);
            connection.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
        }
        heads
    });
    change_entry(&entry, "location", format!("http://{address}/v2/team/app/blobs/uploads/1").into());
    stage.start(&[]).end().succeeds();
    StoredImage::of_sandbox(&stage.ecr, "team/app", "1").is(&Source::read(&stage.archive, 0));
    let heads = asked.join().unwrap().to_lowercase();
    assert!(heads.contains("/blobs/uploads/1") && !heads.contains("authorization"), "{heads}");
    assert_eq!((stage.sent_and_found(), stage.entries()), ((60 * MIB as u64, 0), vec![]));
}

#[test]
fn an_entry_that_leads_to_a_metadata_service_is_not_followed() {
    let stage = Stage::with(keeps_sessions(), unchanged);
    stage.kill_half_way();
    change_entry(&stage.entries()[0], "location", "http://169.254.169.254/latest/meta-data/".into());
    let run = stage.start(&["-v"]).end().succeeds().stderr_has(&[
        "\nresume store: interrupted uploads of earlier runs: 1\n",
        ": cannot resume the upload; uploading all of it\n",
    ]);
    run.output_has_none(&["resuming layer", "; retry "]);
    assert_eq!((stage.sent_and_found(), stage.entries()), ((60 * MIB as u64, 0), vec![]));
}

#[test]
fn where_nothing_can_be_remembered_no_session_is_left_open() {
    let stage = Stage::with(keeps_sessions(), unchanged);
    let folder = stage.ecr.env.home().join(".cache/ecr-push");
    std::fs::create_dir_all(&folder).unwrap();
    // A file where the folder of the entries would be.
    std::fs::write(folder.join("layers.uploads"), "").unwrap();
    let running = stage.half_way(MIN_RESUMABLE_SIZE + 2 * DEFAULT_CHUNK_SIZE);
    interrupt(running.id());
    running.end().fails_with(130);
    assert_eq!(stage.ecr.open_uploads(), 0, "{}", stage.ecr.story());
    stage.start(&[]).end().succeeds();
}

#[test]
fn a_session_of_an_earlier_run_that_is_refused_after_a_break_is_not_the_end() {
    let stage = Stage::with(keeps_sessions(), unchanged);
    stage.kill_half_way();
    let parts = [status(503, "UNAVAILABLE", "soon"), status(400, "BLOB_UPLOAD_INVALID", "no longer")];
    let faults = parts.map(|trouble| Fault::once("ecr:UploadLayerPart", trouble)).to_vec();
    stage.ecr.set_rules(|rules| rules.faults = faults);
    stage.finishes().stderr_has(&["HTTP 503"]);
    assert_eq!(stage.sent_and_found(), (60 * MIB as u64, 0));
}

#[test]
fn what_was_packed_is_not_gone_on_with_unchanged() {
    let layer = archive_builder::tar_of("noise", &archive_builder::noise(4, 60 * MIB));
    let stage = Stage::with(keeps_sessions(), |path| archive_builder::docker_save(path, std::slice::from_ref(&layer)));
    stage.kill_half_way();
    let layout = stage.ecr.env.scratch("layout");
    archive_builder::oci_layout(&layout, &[layer]);
    // The same layer by its diff_id, and other bytes.
    let stage = Stage { archive: layout, ..stage };
    stage.start(&[]).end().succeeds().output_has_none(&["earlier run"]);
    StoredImage::of_sandbox(&stage.ecr, "team/app", "1").is(&Source::read(&stage.archive, 0));
    assert_eq!((stage.ecr.open_uploads(), stage.entries().len()), (1, 1), "that session is somebody else's");
}

#[test]
fn the_session_of_an_earlier_run_is_closed_if_the_layer_is_mounted_and_resumed_if_not() {
    for mounting in [BlobMounting::Enabled, BlobMounting::Disabled] {
        let stage = Stage::with(keeps_sessions(), unchanged);
        stage.kill_half_way();
        finish(stage.ecr.command(&[&stage.archive, "team/base:1"]), || stage.ecr.story()).succeeds();
        stage.ecr.set_rules(|rules| rules.blob_mounting = mounting.clone());
        let run = stage.start(&["--mount-from", "team/base"]).end().succeeds();
        let goes_on = run.stderr.contains("MiB already uploaded");
        assert_eq!(goes_on, mounting == BlobMounting::Disabled);
        assert_eq!(
            stage.ecr.count("v2:CancelUpload"),
            1,
            "that of the earlier run, or that of the answer to the mount"
        );
        assert_eq!((stage.ecr.open_uploads(), stage.entries()), (0, vec![]), "{}", stage.ecr.story());
        let (sent, found) = stage.sent_and_found();
        if goes_on {
            assert!(
                found >= MIN_RESUMABLE_SIZE + DEFAULT_CHUNK_SIZE && sent + found >= 60 * MIB as u64,
                "{sent} sent, {found} found"
            );
        } else {
            assert_eq!((sent, found), (0, 0));
        }
        StoredImage::of_sandbox(&stage.ecr, "team/app", "1").is(&Source::read(&stage.archive, 0));
    }
}
