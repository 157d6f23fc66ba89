//! The archives that schedules push, each with what a push of it with no fault makes of it.

use std::collections::HashMap;

use ecr_push::Digest;
use ecr_push::sandbox::Sandbox;
use tokio_util::sync::CancellationToken;

use super::archive_builder;
use super::archive_contents::Source;
use super::fault_schedule::{CHUNK, Schedule};
use super::harness::TestEnv;
use super::schedules::{options, push, request, sandbox};
use super::stored_image::StoredImage;

/// An archive, and what a push of it with no fault makes of it.
pub(crate) struct Sample {
    pub(crate) path: String,
    pub(crate) digest: Digest,
    pub(crate) manifest: Vec<u8>,
    pub(crate) blobs: HashMap<Digest, Vec<u8>>,
    /// The one layer that takes more than one chunk.
    pub(crate) large: Option<Digest>,
    /// The archive states the digests of its layers, so that a pusher knows what to ask for.
    pub(crate) states_digests: bool,
}

/// The archives: small ones, and last one with a layer of three chunks.
pub(crate) struct Samples {
    all: Vec<[Sample; 2]>,
    env: TestEnv,
}

impl Samples {
    pub(crate) async fn make() -> Self {
        let env = TestEnv::new();
        let noise =
            |sizes: &[usize]| sizes.iter().map(|len| archive_builder::noise(*len as u64, *len)).collect::<Vec<_>>();
        let text = |n: u64| archive_builder::tar_of("text", &archive_builder::prose(n, 90_000 * n as usize));
        let made = |name: &str, write: &dyn Fn(&str)| {
            let path = env.scratch(name);
            write(&path);
            path
        };
        let names = [
            [
                made("unchanged", &|path| {
                    drop(archive_builder::oci_layout(path, &noise(&[300, 40_000, 700_000, 130_000])));
                }),
                made("unchanged-2", &|path| {
                    drop(archive_builder::oci_layout(path, &noise(&[40_000, 700_000, 99_000])));
                }),
            ],
            [
                made("image.tar", &|path| {
                    archive_builder::docker_save(
                        path,
                        &[text(1), archive_builder::tar_of("noise", &archive_builder::noise(5, 250_000)), text(3)],
                    );
                }),
                made("packed-2.tar", &|path| archive_builder::docker_save(path, &[text(3), text(2), text(1)])),
            ],
            [
                made("large", &|path| {
                    drop(archive_builder::oci_layout(path, &noise(&[5_000, (10 << 20) + 300_077, 100_000])));
                }),
                made("large-2", &|path| {
                    drop(archive_builder::oci_layout(path, &noise(&[(21 << 20) + 77, 100_000, 20_000])));
                }),
            ],
        ];
        let mut all = Vec::new();
        for [path, other] in names {
            all.push([Sample::of(path).await, Sample::of(other).await]);
        }
        Self { all, env }
    }

    /// What the pushers of a schedule push.
    pub(crate) fn of(&self, schedule: &Schedule) -> Vec<&Sample> {
        let [sample, other] = &self.all[schedule.sample];
        let second = if schedule.races_another() { other } else { sample };
        [sample, second].into_iter().take(schedule.pushers()).collect()
    }

    /// A path for a private file.
    pub(crate) fn scratch(&self, name: &str) -> String {
        self.env.scratch(name)
    }
}

impl Sample {
    async fn of(path: String) -> Self {
        let harmless = Schedule::harmless();
        let sandbox = sandbox(&harmless).await;
        let (request, options) = (request(&path, &harmless), options(&sandbox, &harmless));
        let outcome = push(request, options, |_| {}, CancellationToken::new()).await;
        assert!(outcome.error().is_none(), "{:?}", outcome.error());
        StoredImage::of_sandbox(&sandbox, "team/app", "1").is(&Source::read(&path, 0));
        let (digest, manifest, _) = sandbox.image("team/app", "1").unwrap();
        let view: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        let descriptors = view["layers"].as_array().unwrap().iter().chain([&view["config"]]);
        let digests = descriptors.map(|descriptor| descriptor["digest"].as_str().unwrap().parse().unwrap());
        let blobs: HashMap<Digest, Vec<u8>> =
            digests.map(|digest| (digest, sandbox.blob("team/app", &digest).unwrap())).collect();
        let large = blobs.iter().find(|(_, bytes)| bytes.len() as u64 > CHUNK);
        let large = large.map(|(digest, _)| *digest);
        let states_digests = !path.ends_with(".tar");
        Self { path, digest, manifest, large, blobs, states_digests }
    }

    /// How many bytes it is in a registry.
    pub(crate) fn size(&self) -> u64 {
        self.blobs.values().map(|bytes| bytes.len() as u64).sum()
    }

    /// Whether a repository has this blob as it should be.
    pub(crate) fn is_there(&self, sandbox: &Sandbox, repository: &str, digest: &Digest) -> bool {
        sandbox.blob(repository, digest).as_ref() == self.blobs.get(digest)
    }
}
