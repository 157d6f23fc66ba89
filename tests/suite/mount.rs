//! Layers that another repository of the registry has: linked, not sent.

use std::time::Duration;

use ecr_push::sandbox::{BlobMounting, Fault, LogEntry, Rules, Trouble};
use serde_json::{Value, json};

use super::archive_builder;
use super::archive_contents::Source;
use super::docker_registry::DockerRegistry;
use super::ecr::{Ecr, HOST};
use super::faults::interrupt;
use super::harness::{Run, Running, TestEnv, finish, report, testdata, wait_until};
use super::stored_image::StoredImage;
use super::tcp_proxy::{TcpProxy, Way};

const PLAIN: &str = "docker-20.10-save.tar";
const PACKED: &str = "crane-oci-layout";

/// A sandbox with three repositories, of which `team/base` has the archive's image under the tag `1`.
fn with_base(mounting: BlobMounting, archive: &str) -> Ecr {
    let rules = Rules { blob_mounting: mounting, ..Rules::default() };
    let ecr = Ecr::with(&["team/base", "team/app", "team/other"], rules);
    ecr.run(&[archive, "team/base:1"]).succeeds();
    ecr
}

/// What a push did that was watched.
struct Seen {
    run: Run,
    log: Vec<LogEntry>,
    report: Value,
}

impl Seen {
    /// Pushes, as if from another machine: with a cache that knows nothing.
    #[track_caller]
    fn of(ecr: &Ecr, arguments: &[&str]) -> Self {
        let cache = ecr.env.scratch("no-cache.jsonl");
        drop(std::fs::remove_file(&cache));
        Self::with_cache(ecr, &[arguments, &["--cache", &cache]].concat())
    }

    #[track_caller]
    fn with_cache(ecr: &Ecr, arguments: &[&str]) -> Self {
        let written = ecr.env.scratch("report.json");
        let before = ecr.log().len();
        let run = ecr.run(&[arguments, &["--report", &written]].concat()).succeeds();
        Self { run, log: ecr.log().split_off(before), report: report(&written) }
    }

    /// `action: reason` of each layer, largest first.
    fn layers(&self, target: usize) -> Vec<String> {
        let layers = self.report["targets"][target]["layers"].as_array().unwrap().iter();
        let text = |layer: &Value, key: &str| layer[key].as_str().unwrap().to_owned();
        layers.map(|layer| format!("{}: {}", text(layer, "action"), text(layer, "reason"))).collect()
    }

    fn count(&self, operation: &str) -> usize {
        self.log.iter().filter(|entry| entry.operation == operation).count()
    }

    /// The answers to requests that ask for a mount.
    fn mounts(&self) -> Vec<u16> {
        self.log.iter().filter(|entry| entry.path.contains("mount=")).map(|entry| entry.status).collect()
    }

    /// The bytes that went into upload sessions.
    fn sent(&self) -> u64 {
        let is_upload = |entry: &&LogEntry| entry.path.contains("/blobs/uploads/");
        self.log.iter().filter(is_upload).map(|entry| entry.body_bytes).sum()
    }
}

/// The bytes of the config, which is never mounted.
fn config_bytes(ecr: &Ecr, repository: &str) -> u64 {
    let manifest: Value = serde_json::from_slice(&ecr.image(repository, "1").unwrap().1).unwrap();
    manifest["config"]["size"].as_u64().unwrap()
}

#[test]
fn layers_with_stated_digests_are_linked_from_a_repository_that_has_them() {
    let archive = testdata(PACKED);
    let ecr = with_base(BlobMounting::Enabled, &archive);
    for (target, source, asked) in [("team/app", "team/base", 2), ("team/other", "team/base:1", 1)] {
        let seen = Seen::of(&ecr, &[&archive, &format!("{target}:1"), "--mount-from", source]);
        assert_eq!(seen.layers(0), ["mount: from team/base: exists in the repository"; 3]);
        assert_eq!(seen.mounts(), [201; 3]);
        assert_eq!(seen.count("ecr:InitiateLayerUpload"), 4, "the layers and the config");
        assert_eq!(seen.count("ecr:BatchCheckLayerAvailability"), asked);
        assert_eq!(seen.sent(), config_bytes(&ecr, target));
        let layers = seen.report["targets"][0]["layers"].as_array().unwrap();
        assert!(layers.iter().all(|layer| layer["bytes_sent"] == 0 && layer["size"].as_u64() > Some(0)));
        assert_eq!(seen.report["targets"][0]["bytes_sent"], 0);
        StoredImage::of_sandbox(&ecr, target, "1").is(&Source::read(&archive, 0));
        seen.run.stderr_has(&[
            "  mount: from team/base: ",
            "  mounted\n",
            "0 of 3 layers uploaded, 0 B sent; ",
            "3 mounted, 0 reused",
        ]);
    }
}

#[test]
fn no_config_has_more_facts_about_compressed_layers_than_the_manifest() {
    let ecr = Ecr::with(&["team/base", "team/app"], Rules { blob_mounting: BlobMounting::Enabled, ..Rules::default() });
    let [base, app] = ["base", "app"].map(|name| ecr.env.scratch(name));
    let layers =
        [archive_builder::noise(1, 300_000), archive_builder::noise(2, 200_000), archive_builder::noise(3, 900)];
    archive_builder::oci_layout(&base, &layers);
    archive_builder::oci_layout(&app, &layers[..2]);
    ecr.run(&[&base, "team/base:1"]).succeeds();
    let seen = Seen::of(&ecr, &[&app, "team/app:1", "--mount-from", "team/base:1"]);
    assert_eq!((seen.mounts(), seen.count("ecr:GetDownloadUrlForLayer")), (vec![201; 2], 0));
}

#[test]
fn an_uncompressed_layer_is_mounted_by_its_digest_in_a_named_image() {
    let archive = testdata(PLAIN);
    let ecr = with_base(BlobMounting::Enabled, &archive);
    let seen = Seen::of(&ecr, &[&archive, "team/app:1", "--mount-from", "team/base:1"]);
    assert_eq!(seen.layers(0), ["mount: from team/base: part of an image in the repository"; 3]);
    assert_eq!((seen.mounts(), seen.sent()), (vec![201; 3], config_bytes(&ecr, "team/app")));
    assert_eq!(ecr.image("team/app", "1").unwrap().0, ecr.image("team/base", "1").unwrap().0);
    // Where only some of the layers are there, its config is read, and the others are sent.
    let [before, after] = ["before.tar", "after.tar"].map(|name| ecr.env.scratch(name));
    let layer = |seed, len| archive_builder::tar_of("file", &archive_builder::noise(seed, len));
    archive_builder::docker_save(&before, &[layer(1, 300_000), layer(2, 200_000)]);
    archive_builder::docker_save(&after, &[layer(1, 300_000), layer(3, 100_000)]);
    ecr.run(&[&before, "team/base:2"]).succeeds();
    let seen = Seen::of(&ecr, &[&after, "team/app:2", "--mount-from", "team/base:2"]);
    assert_eq!(
        seen.layers(0),
        ["mount: from team/base: part of an image in the repository", "upload: new, compressed with gzip"]
    );
    StoredImage::of_sandbox(&ecr, "team/app", "2").is(&Source::read(&after, 0));
    seen.run.stderr_has(&["1 of 2 layers uploaded", "1 mounted, 0 reused"]);
}

#[test]
fn an_uncompressed_layer_in_the_local_cache_is_mounted_from_a_repository() {
    let archive = testdata(PLAIN);
    let ecr = with_base(BlobMounting::Enabled, &archive);
    let seen =
        Seen::with_cache(&ecr, &[&archive, "team/app:1", "--mount-from", "team/other", "--mount-from", "team/base"]);
    assert_eq!(seen.layers(0), ["mount: from team/base: exists in the repository, known from the layer cache"; 3]);
    assert_eq!(seen.mounts(), [201; 3], "what is missing in team/other is not tried there");
    let seen = Seen::of(&ecr, &[&archive, "team/other:1", "--mount-from", "team/base"]);
    assert_eq!((seen.mounts().len(), seen.layers(0)), (0, vec!["upload: new, compressed with gzip".into(); 3]));
    seen.run.stderr_has(&[&format!(
        "layers of {HOST}/team/base are not mounted: no digest is known before compression; team/base:TAG"
    )]);
}

#[test]
fn what_the_target_has_is_reused_and_no_other_repository_is_asked() {
    let archive = testdata(PACKED);
    let ecr = with_base(BlobMounting::Enabled, &archive);
    ecr.run(&[&archive, "team/app:1"]).succeeds();
    let seen = Seen::of(&ecr, &[&archive, "team/app:2", "--mount-from", "team/base", "--mount-from", "team/base:1"]);
    assert!(seen.layers(0).iter().all(|layer| layer.starts_with("reuse: ")));
    assert!(seen.log.iter().all(|entry| !entry.path.contains("team/base")));
    assert_eq!(seen.count("ecr:BatchCheckLayerAvailability"), 1);
}

#[test]
fn where_nothing_is_mounted_the_answer_is_the_upload_session() {
    for archive in [testdata(PLAIN), testdata(PACKED)] {
        let ecr = with_base(BlobMounting::Disabled, &archive);
        let seen = Seen::of(&ecr, &[&archive, "team/app:1", "--mount-from", "team/base:1"]);
        assert_eq!(seen.mounts(), [202; 3]);
        assert_eq!(seen.count("ecr:InitiateLayerUpload"), 4, "one a layer, and one for the config");
        assert_eq!(seen.count("v2:CancelUpload"), 0);
        assert!(seen.layers(0).iter().all(|layer| layer.starts_with("upload: ")), "{:?}", seen.layers(0));
        StoredImage::of_sandbox(&ecr, "team/app", "1").is(&Source::read(&archive, 0));
        let note = format!("note: layers of {HOST}/team/base are not mounted: ECR requires an upload");
        assert_eq!(seen.run.stderr.matches(&note).count(), 1, "said once");
        seen.run.stderr_has(&["3 of 3 layers uploaded", "BLOB_MOUNTING"]).output_has_none(&["reused"]);
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_closes_the_session_that_a_mount_has_opened() {
    let archive = testdata(PACKED);
    let ecr = with_base(BlobMounting::Disabled, &archive);
    let before = ecr.count("ecr:InitiateLayerUpload");
    let late = Trouble::Delay(Duration::from_millis(300));
    ecr.set_rules(|rules| rules.faults = vec![Fault::once("ecr:InitiateLayerUpload", late).times(u32::MAX)]);
    let running = Running::start(ecr.command(&[&archive, "team/app:1", "--mount-from", "team/base"]));
    wait_until("all four have been asked for", || ecr.count("ecr:InitiateLayerUpload") == before + 4);
    interrupt(running.id());
    running.end().fails_with(130);
    assert_eq!(ecr.open_uploads(), 0, "{}", ecr.story());
}

#[test]
fn a_registry_that_refuses_to_mount_gets_the_layers() {
    let archive = testdata(PACKED);
    for (status, code) in [
        (400, "UNSUPPORTED"),
        (401, "UNAUTHORIZED"),
        (403, "DENIED"),
        (404, "NAME_UNKNOWN"),
        (405, "UNSUPPORTED"),
        (503, "UNAVAILABLE"),
    ] {
        let ecr = with_base(BlobMounting::Refused { status, code: code.into() }, &archive);
        let seen = Seen::of(&ecr, &[&archive, "team/app:1", "--mount-from", "team/base", "--retries", "0"]);
        assert!(seen.layers(0).iter().all(|layer| layer.starts_with("upload: ")), "{status}");
        assert!(seen.mounts().iter().all(|answer| *answer == status));
        StoredImage::of_sandbox(&ecr, "team/app", "1").is(&Source::read(&archive, 0));
        let note = format!("layers of {HOST}/team/base are not mounted: HTTP {status} {code}: This registry mounts");
        assert_eq!(seen.run.stderr.matches(&note).count(), 1, "said once");
    }
}

#[test]
fn a_mount_source_that_cannot_be_read_costs_a_note() {
    let archive = testdata(PACKED);
    let asked = "ecr:BatchCheckLayerAvailability";
    let stalls = |on: &str| vec![Fault::once(on, Trouble::Stall).after(1)];
    for (source, deny, faults, why) in [
        ("team/absent", "", vec![], "RepositoryNotFoundException"),
        ("team/absent:1", "", vec![], "there is no such image"),
        ("team/base:2", "", vec![], "there is no such image"),
        ("team/other", "", vec![], "it has none of these layers"),
        ("team/base", asked, vec![], "ecr:BatchCheckLayerAvailability is not allowed there"),
        ("team/base", "", stalls(asked), "no answer within 2 s"),
        ("team/base:1", "", stalls("ecr:BatchGetImage"), "no answer within 2 s"),
    ] {
        let ecr = with_base(BlobMounting::Enabled, &archive);
        ecr.set_rules(|rules| {
            rules.deny = (!deny.is_empty()).then(|| deny.to_owned()).into_iter().collect();
            rules.faults = faults;
        });
        let seen = Seen::of(&ecr, &[&archive, "team/app:1", "--mount-from", source]);
        assert_eq!(seen.mounts(), [0; 0], "{source}");
        let note = format!("layers of {HOST}/{source} are not mounted: ");
        seen.run.stderr_has(&[&note, why, "3 of 3 layers uploaded"]);
    }
}

#[test]
fn a_dry_run_reports_what_would_be_mounted_and_mounts_nothing() {
    let archive = testdata(PACKED);
    let ecr = with_base(BlobMounting::Enabled, &archive);
    let seen = Seen::of(&ecr, &[&archive, "team/app:1", "--mount-from", "team/base", "--dry-run"]);
    assert_eq!(seen.layers(0), ["mount: from team/base: exists in the repository"; 3]);
    assert_eq!(seen.count("ecr:InitiateLayerUpload"), 0);
    let line = "  mount: from team/base: exists in the repository";
    let run =
        seen.run.stderr_has(&[line, "0 of 3 layers would be uploaded, 0 B of the archive; ", "3 mounted, 0 reused"]);
    run.stdout_is("");
}

#[test]
fn without_reuse_there_is_no_mount() {
    let ecr = Ecr::with(&["team/base", "team/app"], Rules { blob_mounting: BlobMounting::Enabled, ..Rules::default() });
    let layout = annotated(&ecr.env, &format!("containerd.io/distribution.source.{HOST}"), "team/base");
    ecr.run(&[&layout, "team/base:1"]).succeeds();
    let seen = Seen::of(&ecr, &[&layout, "team/app:1", "--mount-from", "team/base", "--reuse", "off"]);
    assert_eq!((seen.mounts(), seen.log.iter().any(|entry| entry.path.contains("team/base"))), (vec![], false));
    let seen = Seen::of(&ecr, &[&layout, "team/app:2", "--mount-from", "team/base", "--reuse", "cache"]);
    assert!(seen.layers(0).iter().all(|layer| layer.starts_with("reuse: ")), "the target comes first");
}

#[test]
fn every_target_mounts_for_itself() {
    let archive = testdata(PLAIN);
    let ecr = with_base(BlobMounting::Enabled, &archive);
    let targets = ["team/app:1", "team/base:2", "team/other:1"];
    let seen = Seen::of(&ecr, &[&[&archive[..]], &targets[..], &["--mount-from", "team/base:1"]].concat());
    let mounted = vec!["mount: from team/base: part of an image in the repository".to_owned(); 3];
    assert_eq!((seen.layers(0), seen.layers(2)), (mounted.clone(), mounted));
    assert!(seen.layers(1).iter().all(|layer| layer.starts_with("upload: ")), "a repository is nothing beside itself");
    for (target, tag) in [("team/app", "1"), ("team/base", "2"), ("team/other", "1")] {
        StoredImage::of_sandbox(&ecr, target, tag).is(&Source::read(&archive, 0));
    }
}

#[test]
fn one_registry_mounts_and_another_is_sent_the_same_layers() {
    let Some(registry) = DockerRegistry::start() else { return };
    let archive = testdata(PLAIN);
    let ecr = with_base(BlobMounting::Enabled, &archive);
    let there = registry.target("team/app:1");
    let seen = Seen::of(&ecr, &[&archive, "team/app:1", &there, "--mount-from", "team/base:1"]);
    assert_eq!(seen.layers(0), ["mount: from team/base: part of an image in the repository"; 3]);
    assert_eq!(seen.layers(1), ["upload: new, compressed with gzip"; 3]);
    assert_eq!(seen.sent(), config_bytes(&ecr, "team/app"));
    registry.read_back("team/app", "1").is(&Source::read(&archive, 0));
}

#[test]
fn a_mounted_layer_that_is_lost_is_sent_and_not_mounted_again() {
    let archive = testdata(PLAIN);
    let ecr = with_base(BlobMounting::Enabled, &archive);
    ecr.set_rules(|rules| {
        rules.immutable = true;
        rules.faults = vec![Fault::once("ecr:PutImage", Trouble::LoseLayer)];
    });
    let seen = Seen::of(&ecr, &[&archive, "team/app:1", "--mount-from", "team/base:1"]);
    assert_eq!(seen.mounts(), [201; 3]);
    assert_eq!(seen.count("ecr:InitiateLayerUpload"), 5, "and the config, and the layer that was lost");
    assert_eq!(seen.layers(0).iter().filter(|layer| layer.starts_with("upload: ")).count(), 1);
    StoredImage::of_sandbox(&ecr, "team/app", "1").is(&Source::read(&archive, 0));
    seen.run.stderr_has(&["does not have a layer any more"]);
}

/// An OCI layout whose image has an annotation where index.json names it.
fn annotated(env: &TestEnv, key: &str, value: &str) -> String {
    let layout = env.scratch("layout");
    archive_builder::oci_layout(&layout, &[archive_builder::noise(1, 400_000), archive_builder::noise(2, 900)]);
    let path = format!("{layout}/index.json");
    let mut index: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    index["manifests"][0]["annotations"] = json!({ key: value });
    std::fs::write(path, index.to_string()).unwrap();
    layout
}

#[test]
fn layers_are_mounted_from_the_origin_that_the_archive_states() {
    let of = |host: &str| format!("containerd.io/distribution.source.{host}");
    let elsewhere = HOST.replace("us-east-1", "eu-west-1");
    for (key, value, answers) in [
        (of(HOST), "team/app,../evil,team/base", vec![201; 2]),
        (of(HOST), "team/absent,team/base", vec![202; 2]),
        (of(HOST), "team/app", vec![]),
        (of(HOST), "TEAM/BASE", vec![]),
        (of(&elsewhere), "team/base", vec![]),
        (of("docker.io"), "team/base", vec![]),
    ] {
        let rules = Rules { blob_mounting: BlobMounting::Enabled, ..Rules::default() };
        let ecr = Ecr::with(&["team/base", "team/app"], rules);
        let layout = annotated(&ecr.env, &key, value);
        ecr.run(&[&layout, "team/base:1", "--reuse", "off"]).succeeds();
        let seen = Seen::of(&ecr, &[&layout, "team/app:1"]);
        assert_eq!(seen.mounts(), answers, "{key}: {value}");
        assert_eq!(seen.count("ecr:InitiateLayerUpload"), 3, "none is wasted");
        assert_eq!(seen.count("ecr:BatchCheckLayerAvailability"), 1, "none is looked for");
        let mounted = if answers == [201; 2] { 2 } else { 0 };
        let said = "mount: from team/base: the archive names this repository as its source";
        assert_eq!(seen.layers(0).iter().filter(|layer| *layer == said).count(), mounted);
        StoredImage::of_sandbox(&ecr, "team/app", "1").is(&Source::read(&layout, 0));
    }
}

#[test]
fn the_reference_registry_links_what_it_has() {
    let Some(registry) = DockerRegistry::start() else { return };
    for (n, (archive, source)) in [(PLAIN, "team/base0:1"), (PACKED, "team/base1")].into_iter().enumerate() {
        let (env, archive) = (TestEnv::new(), testdata(archive));
        let [base, app] = ["base", "app"].map(|name| format!("team/{name}{n}"));
        let _base = env.run(&[&archive, &registry.target(&format!("{base}:1"))]).succeeds();
        let line = TcpProxy::to(registry.target("").trim_end_matches('/'), Way::Good);
        let written = env.scratch("report.json");
        let cache = env.scratch("none.jsonl");
        let target = line.target(&format!("{app}:1"));
        let run = env.run(&[&archive, &target, "--mount-from", source, "--cache", &cache, "--report", &written]);
        run.succeeds().stderr_has(&["0 of 3 layers uploaded, 0 B sent; ", "3 mounted, 0 reused"]);
        let seen = report(&written);
        let layers = seen["targets"][0]["layers"].as_array().unwrap();
        assert!(layers.iter().all(|layer| layer["action"] == "mount" && layer["bytes_sent"] == 0), "{layers:?}");
        // Of some 250 KiB of layers.
        assert!(line.carried() < 16 << 10, "{} bytes went to the registry", line.carried());
        registry.read_back(&app, "1").is(&Source::read(&archive, 0));
        assert_eq!(registry.open_uploads(&app), 0);
    }
}

#[test]
fn the_reference_registry_opens_a_session_for_what_it_has_not() {
    let Some(registry) = DockerRegistry::start() else { return };
    let env = TestEnv::new();
    // containerd leaves the port out.
    let layout = annotated(&env, "containerd.io/distribution.source.127.0.0.1", "team/base");
    let [base, app, other] = ["base", "app", "other"].map(|name| format!("team/{name}"));
    let push = |name: &str| env.command(&[&layout, &registry.target(&format!("{name}:1"))]);
    let run = finish(push(&app), String::new).succeeds();
    run.stderr_has(&["team/base are not mounted: the registry requires an upload", "2 of 2 layers uploaded"]);
    finish(push(&base), String::new).succeeds().stderr_has(&["2 of 2 layers uploaded"]);
    finish(push(&other), String::new).succeeds().stderr_has(&["0 of 2 layers uploaded, 0 B sent; ", "2 mounted"]);
    for name in [app, other] {
        registry.read_back(&name, "1").is(&Source::read(&layout, 0));
        assert_eq!(registry.open_uploads(&name), 0);
    }
}
