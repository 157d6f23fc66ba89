//! What a push costs in things that can be counted, and are the same on every machine: requests, bytes sent, bytes
//! read. A change that adds one of them fails here; times are for `cargo bench --bench push`.

#![cfg(target_os = "linux")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ecr_push::sandbox::{BlobMounting, LogEntry, Rules};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use serde_json::{Value, json};

use super::archive_builder;
use super::archive_contents::sha256;
use super::ecr::Ecr;
use super::harness::{TestEnv, finish};
use super::shared_layers::save_with;

/// What may be read beside the layers: certificates, libraries, the archive's headers and documents. Every layer here
/// is larger, so that none can be read twice unnoticed.
const BESIDE: u64 = 1 << 20;

/// What a push has cost.
struct Cost {
    /// The bytes that the program read, from whatever.
    read: u64,
    /// The requests.
    log: Vec<LogEntry>,
}

impl Cost {
    /// Runs a push to its end.
    #[track_caller]
    fn of(ecr: &Ecr, arguments: &[&str]) -> Self {
        let before = ecr.log().len();
        let mut command = ecr.command(arguments);
        let errors = ecr.env.scratch("stderr");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(std::fs::File::create(&errors).unwrap());
        let mut child = Killed(command.spawn().unwrap());
        // It has ended and not yet gone: only now is the count complete, and soon it is gone.
        waitid(WaitId::Pid(Pid::from_child(&child.0)), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
        let io = std::fs::read_to_string(format!("/proc/{}/io", child.0.id())).unwrap();
        let read = io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap();
        let status = child.0.wait().unwrap();
        assert!(status.success(), "{}{}", std::fs::read_to_string(errors).unwrap(), ecr.story());
        Self { read, log: ecr.log().split_off(before) }
    }

    /// What was asked, in order.
    fn asked(&self) -> Vec<&str> {
        self.log.iter().map(|entry| entry.operation.as_str()).collect()
    }

    /// The same with equals together, where layers go side by side and the order is chance.
    fn asked_in_all(&self) -> Vec<(&str, usize)> {
        let mut counts: Vec<(&str, usize)> = Vec::new();
        for operation in self.asked() {
            match counts.iter_mut().find(|(known, _)| *known == operation) {
                Some((_, count)) => *count += 1,
                None => counts.push((operation, 1)),
            }
        }
        counts.sort_unstable();
        counts
    }

    /// The bytes that went to the registry, without AWS's own API.
    fn sent(&self) -> u64 {
        self.log.iter().filter(|entry| entry.path.starts_with("/v2/")).map(|entry| entry.body_bytes).sum()
    }

    /// Asserts that the layers were gone through once, or not at all.
    #[track_caller]
    fn has_read(&self, layers: u64) {
        let most = layers + BESIDE;
        assert!((layers..most).contains(&self.read), "{} bytes were read, {layers} of them layers", self.read);
    }
}

/// A program that does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Three layers: one goes in parts, one packs well, one is small.
fn layers() -> Vec<Vec<u8>> {
    let file = |name, bytes: &[u8]| archive_builder::tar_of(name, bytes);
    vec![
        file("base", &archive_builder::noise(1, 12 << 20)),
        file("packages", &archive_builder::prose(2, 6 << 20)),
        file("app", &archive_builder::noise(3, 3 << 19)),
    ]
}

/// How many bytes they have together.
fn bytes_of(layers: &[Vec<u8>]) -> u64 {
    let sizes: Vec<_> = layers.iter().map(|layer| layer.len() as u64).collect();
    assert!(sizes.iter().all(|size| *size > BESIDE));
    sizes.iter().sum()
}

/// The bytes of everything that a tag refers to, each blob once, and of its manifest.
fn bytes_under(ecr: &Ecr, tag: &str) -> u64 {
    let (_, bytes, _) = ecr.image("team/app", tag).unwrap();
    let manifest: Value = serde_json::from_slice(&bytes).unwrap();
    let layers = manifest["layers"].as_array().unwrap().iter();
    let sizes = layers.chain([&manifest["config"]]).map(|blob| blob["size"].as_u64().unwrap());
    sizes.sum::<u64>() + bytes.len() as u64
}

/// Writes an OCI layout whose layers are packed, as a folder.
fn packed_layout(path: &str, layers: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let diff_ids: Vec<_> = layers.iter().map(|layer| sha256(layer)).collect();
    let pack = |layer: &Vec<u8>| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(layer).unwrap();
        gzip.finish().unwrap()
    };
    let packed: Vec<_> = layers.iter().map(pack).collect();
    let blobs = format!("{path}/blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let blob = |kind: &str, bytes: &[u8]| {
        let digest = sha256(bytes);
        std::fs::write(format!("{blobs}/{}", digest.strip_prefix("sha256:").unwrap()), bytes).unwrap();
        json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest, "size": bytes.len()})
    };
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob("config.v1+json", &archive_builder::config(&diff_ids)),
        "layers": packed.iter().map(|layer| blob("layer.v1.tar+gzip", layer)).collect::<Vec<_>>(),
    });
    let index = json!({"schemaVersion": 2, "manifests": [blob("manifest.v1+json", manifest.to_string().as_bytes())]});
    std::fs::write(format!("{path}/index.json"), index.to_string()).unwrap();
    std::fs::write(format!("{path}/oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    packed
}

/// What a first push of three plain layers asks: three layers and a config, of which the large one has two parts before the
/// request that closes it. That none is known is known.
const FIRST: [(&str, usize); 6] = [
    ("ecr:BatchGetImage", 1),
    ("ecr:CompleteLayerUpload", 4),
    ("ecr:GetAuthorizationToken", 1),
    ("ecr:InitiateLayerUpload", 4),
    ("ecr:PutImage", 1),
    ("ecr:UploadLayerPart", 2),
];

/// What a push of layers that are there asks, under a tag that is new.
const LEAST: [&str; 4] =
    ["ecr:GetAuthorizationToken", "ecr:BatchGetImage", "ecr:BatchCheckLayerAvailability", "ecr:PutImage"];

#[test]
fn a_first_push_reads_every_layer_once_and_sends_every_blob_once() {
    let (ecr, layers) = (Ecr::new(), layers());
    let archive = ecr.env.scratch("image.tar");
    archive_builder::docker_save(&archive, &layers);
    let cost = Cost::of(&ecr, &[&archive, "team/app:1"]);
    assert_eq!(cost.asked_in_all(), FIRST, "{}", ecr.story());
    assert_eq!(cost.sent(), bytes_under(&ecr, "1"));
    cost.has_read(bytes_of(&layers));
}

#[test]
fn a_second_push_reads_no_layer_and_sends_the_manifest() {
    let (ecr, layers) = (Ecr::new(), layers());
    let archive = ecr.env.scratch("image.tar");
    archive_builder::docker_save(&archive, &layers);
    Cost::of(&ecr, &[&archive, "team/app:1"]).has_read(bytes_of(&layers));
    let cost = Cost::of(&ecr, &[&archive, "team/app:2"]);
    assert_eq!(cost.asked(), LEAST);
    assert_eq!(cost.sent(), ecr.image("team/app", "2").unwrap().1.len() as u64);
    cost.has_read(0);
    // On a machine that knows nothing, under the tag that is there.
    let cost = Cost::of(&ecr, &[&archive, "team/app:1", "--cache", &ecr.env.scratch("none.jsonl")]);
    assert_eq!(cost.asked(), LEAST[..2]);
    assert_eq!(cost.sent(), 0);
    cost.has_read(0);
}

#[test]
fn a_compressed_layout_is_read_once_and_the_second_time_not_at_all() {
    let ecr = Ecr::new();
    let layout = ecr.env.scratch("layout");
    let packed = packed_layout(&layout, &layers());
    let cost = Cost::of(&ecr, &[&layout, "team/app:1"]);
    let question = ("ecr:BatchCheckLayerAvailability", 1);
    assert_eq!(cost.asked_in_all(), [&[question], &FIRST[..]].concat(), "{}", ecr.story());
    assert_eq!(cost.sent(), bytes_under(&ecr, "1"));
    cost.has_read(bytes_of(&packed));
    // With a cache of its own: nothing of the first run is remembered.
    let cost = Cost::of(&ecr, &[&layout, "team/app:2", "--cache", &ecr.env.scratch("none.jsonl")]);
    assert_eq!(cost.asked(), LEAST);
    assert_eq!(cost.sent(), ecr.image("team/app", "2").unwrap().1.len() as u64);
    cost.has_read(0);
}

#[test]
fn a_mounted_layer_is_not_read() {
    let rules = Rules { blob_mounting: BlobMounting::Enabled, ..Rules::default() };
    let (ecr, layers) = (Ecr::with(&["team/base", "team/app"], rules), layers());
    let (archive, none) = (ecr.env.scratch("image.tar"), ecr.env.scratch("none.jsonl"));
    archive_builder::docker_save(&archive, &layers);
    Cost::of(&ecr, &[&archive, "team/base:1"]).has_read(bytes_of(&layers));
    // That the image is there is known before a layer is looked at.
    let beside = Cost::of(&ecr, &[&archive, "team/base:1", "--cache", &none]).read;
    let cost = Cost::of(&ecr, &[&archive, "team/app:1", "--mount-from", "team/base:1", "--cache", &none]);
    let asked = [
        ("ecr:BatchGetImage", 2),
        ("ecr:CompleteLayerUpload", 1),
        ("ecr:GetAuthorizationToken", 1),
        ("ecr:InitiateLayerUpload", 4),
        ("ecr:PutImage", 1),
    ];
    assert_eq!(cost.asked_in_all(), asked, "{}", ecr.story());
    let (_, manifest, _) = ecr.image("team/app", "1").unwrap();
    let view: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(cost.sent(), view["config"]["size"].as_u64().unwrap() + manifest.len() as u64);
    // Not even the first block of one.
    assert!(cost.read < beside + (64 << 10), "{} bytes were read where {beside} do", cost.read);
}

/// The sandbox of the benchmarks keeps its memory, and has the latency that it is given.
#[test]
fn a_sandbox_for_measuring_discards_and_is_far_away() {
    let env = TestEnv::new();
    let (dir, archive) = (env.scratch("images"), env.scratch("image.tar"));
    archive_builder::docker_save(&archive, &[archive_builder::tar_of("app", &archive_builder::noise(4, 3 << 19))]);
    let sandbox = ["sandbox", "--listen", "127.0.0.1:0", "--repository", "team/app", "--dir", &dir];
    let mut command = env.command(&[&sandbox[..], &["--discard", "--delay", "200"]].concat());
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut child = Killed(child);
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines().map_while(Result::ok);
    let url = lines.find_map(|line| Some(line.split_once("AWS_ENDPOINT_URL_ECR=")?.1.split(' ').next()?.to_owned()));
    let url = url.expect("the sandbox says where it is");
    let started = Instant::now();
    let mut push: Command = env.command(&[&archive, "team/app:1", "--region", "us-east-1"]);
    push.env("AWS_ENDPOINT_URL_ECR", &url).env("ECR_PUSH_REGISTRY_ENDPOINT", &url);
    push.env("AWS_ACCESS_KEY_ID", "sandbox").env("AWS_SECRET_ACCESS_KEY", "sandbox");
    let _run = finish(push, String::new).succeeds();
    // A session, its end and the manifest come one after the other.
    assert!(started.elapsed() >= Duration::from_millis(3 * 200), "{:?}", started.elapsed());
    let blobs = std::fs::read_dir(format!("{dir}/team/app/blobs/sha256")).unwrap();
    let sizes: Vec<_> = blobs.map(|blob| blob.unwrap().metadata().unwrap().len()).collect();
    assert!(!sizes.is_empty() && sizes.iter().all(|size| *size <= 1 << 20), "{sizes:?}");
}

#[test]
fn a_layer_that_images_share_is_read_once_though_each_repository_gets_a_copy() {
    let ecr = Ecr::with(&[], Rules { blob_mounting: BlobMounting::Disabled, ..Rules::default() });
    let shared = archive_builder::tar_of("base", &vec![7; 8 << 20]);
    let names: Vec<_> = (0..6).map(|n| format!("app-{n}:1")).collect();
    let archive = save_with(&ecr.env, &names, std::slice::from_ref(&shared));
    let push = |prefix: &str, folder: &str| {
        let options = ["--all-images", "--create-repository", "--temp-dir", folder];
        let cost = Cost::of(&ecr, &[&[archive.as_str(), prefix], &options[..]].concat());
        assert_eq!(cost.asked().iter().filter(|it| **it == "ecr:CompleteLayerUpload").count(), 3 * names.len());
        cost
    };
    // Temporary files of the system may be in memory, where none is written.
    push("one/", env!("CARGO_TARGET_TMPDIR")).has_read(shared.len() as u64);
    // Without a file it is compressed for each.
    push("other/", &ecr.env.scratch("missing")).has_read(6 * shared.len() as u64);
}

#[test]
fn a_layer_of_several_archives_is_read_twice_at_most() {
    let ecr = Ecr::with(&[], Rules { blob_mounting: BlobMounting::Disabled, ..Rules::default() });
    let shared = archive_builder::tar_of("base", &vec![7; 8 << 20]);
    let lines = (0..6).map(|n| {
        let archive = save_with(&ecr.env, &[format!("app-{n}:1")], std::slice::from_ref(&shared));
        let path = ecr.env.scratch(&format!("{n}.tar"));
        std::fs::rename(archive, &path).unwrap();
        format!("{path} copies/app-{n}:1\n")
    });
    let batch = ecr.env.scratch("batch.txt");
    let lines: String = lines.collect();
    std::fs::write(&batch, lines).unwrap();
    let cost = Cost::of(&ecr, &["batch", &batch, "--create-repository", "--temp-dir", env!("CARGO_TARGET_TMPDIR")]);
    // The first push may not know of the others yet.
    assert!(cost.read < 2 * shared.len() as u64 + BESIDE, "{} bytes were read", cost.read);
}

#[test]
fn a_layer_that_is_mounted_gets_no_temporary_file() {
    let ecr = Ecr::with(&[], Rules { blob_mounting: BlobMounting::Enabled, ..Rules::default() });
    let shared = archive_builder::tar_of("base", &archive_builder::noise(1, 8 << 20));
    let names: Vec<_> = (0..6).map(|n| format!("app-{n}:1")).collect();
    let archive = save_with(&ecr.env, &names, std::slice::from_ref(&shared));
    let options = ["--all-images", "--create-repository", "--temp-dir", env!("CARGO_TARGET_TMPDIR")];
    // Its bytes would be read back from the file.
    Cost::of(&ecr, &[&[archive.as_str(), "mounts/"], &options[..]].concat()).has_read(shared.len() as u64);
}
