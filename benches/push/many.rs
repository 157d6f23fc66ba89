//! Rows of many images: bundles, batches and joined archives. Each is measured in turn with what it replaces.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tokio::runtime::Runtime;

use crate::bare;
use crate::bundles::{self, LARGE, name};
use crate::input::Inputs;
use crate::measure::{Measured, is_installed, measure};
use crate::options::Options;
use crate::run::{at_home, clear, ecr_push};
use crate::sink::Sink;

/// The rows.
pub(crate) const KEYS: [&str; 6] =
    ["bundle-60", "bundle-60-again", "bundle-60-unmounted", "images-10000", "lines-10000", "join"];

/// The prefix of all repositories.
pub(crate) const PREFIX: &str = "many/";

/// Returns the repository of an image.
pub(crate) fn repository(image: usize) -> String {
    format!("{PREFIX}{}", name(image))
}

/// A process and the number of its requests, if that is known; or why it failed.
type Done = Result<(Measured, Option<u64>), String>;

/// The results of a row: of this program, and of what it is compared with.
pub(crate) struct Outcome {
    pub(crate) title: String,
    pub(crate) images: usize,
    pub(crate) figures: [Figures; 2],
}

/// The results of a program.
#[derive(Default)]
pub(crate) struct Figures {
    pub(crate) program: &'static str,
    pub(crate) measured: Vec<Measured>,
    pub(crate) requests: Vec<u64>,
    pub(crate) error: Option<String>,
}

impl Figures {
    fn of(program: &'static str) -> Self {
        Self { program, ..Self::default() }
    }

    fn add(&mut self, key: &str, done: Done) {
        match done {
            Ok((measured, requests)) => {
                let (wall, cpu, peak) = (measured.wall, measured.cpu, measured.peak as f64 / 1e6);
                eprintln!(
                    "{key}, {}: {wall:.2} s, {cpu:.2} s of CPU, {peak:.1} MB, {requests:?} requests",
                    self.program
                );
                self.measured.push(measured);
                self.requests.extend(requests);
            }
            Err(why) => {
                eprintln!("{key}, {}: {why}", self.program);
                self.error = Some(why);
            }
        }
    }
}

struct Many<'a> {
    options: &'a Options,
    inputs: &'a Inputs,
    runtime: &'a Runtime,
    work: &'a Path,
    home: PathBuf,
}

/// Measures the selected rows.
pub(crate) fn run(options: &Options, inputs: &Inputs, runtime: &Runtime, work: &Path) -> Vec<Outcome> {
    let many = Many { options, inputs, runtime, work, home: work.join("home-many") };
    let images = if options.quick { 1_000 } else { 10_000 };
    let rows = KEYS.into_iter().filter(|key| options.rows.iter().any(|row| row == key));
    let row = |key| match key {
        "bundle-60" => many.bundle(key, "bundle of 60 images, cold"),
        "bundle-60-again" => many.bundle(key, "the same again, fresh machine"),
        "bundle-60-unmounted" => many.bundle(key, "bundle of 60 images, cold, without mounts"),
        "images-10000" => {
            let archive = bundles::tiny(inputs, images).display().to_string();
            many.tiny(key, images, format!("{images} images of a bundle"), &[&archive, PREFIX, "--all-images"])
        }
        "lines-10000" => {
            let batch = bundles::lines(inputs, images).display().to_string();
            many.tiny(key, images, format!("{images} lines of a batch"), &["batch", &batch])
        }
        _ => many.join(key),
    };
    rows.map(row).collect()
}

impl Many<'_> {
    /// Measures this program, with what it requested according to its report.
    fn push(&self, sink: &Sink, arguments: &[&str]) -> Result<(Measured, Value), String> {
        let report = self.work.join("report.jsonl");
        let mut command = ecr_push(sink, &self.home);
        command.args(arguments).arg("--report").arg(&report);
        let measured = measure(&command, None, self.work)?;
        let text = std::fs::read_to_string(report).unwrap();
        // Of one image the report is one object on many lines.
        let json = serde_json::from_str(&text).or_else(|_| serde_json::from_str(text.lines().last().unwrap()));
        Ok((measured, json.unwrap()))
    }

    /// The bundle against a loop of skopeo, which copies one image at a time into repositories that exist.
    fn bundle(&self, key: &str, title: &str) -> Outcome {
        let archive = bundles::large(self.inputs).display().to_string();
        let mut figures = [Figures::of("ecr-push"), Figures::of("skopeo")];
        let sink = || match Sink::sandbox((0..LARGE).map(repository), self.runtime) {
            sink if key.ends_with("unmounted") => sink,
            sink => sink.mounting(),
        };
        let push = |sink: &Sink| {
            clear(&self.home);
            let (measured, report) = self.push(sink, &[&archive, PREFIX, "--all-images"])?;
            Ok((measured, report["requests"]["requests"].as_u64()))
        };
        let copy = |sink: &Sink| {
            clear(&self.home);
            if !is_installed("skopeo") {
                return Err("skopeo is not installed".to_owned());
            }
            let before = sink.traffic().unwrap().requests;
            let measured = measure(&self.loop_of_skopeo(sink, &archive), None, self.work)?;
            Ok((measured, Some(sink.traffic().unwrap().requests - before)))
        };
        let is_again = key.ends_with("again");
        let mut filled = [None, None];
        for _ in 0..self.options.runs {
            let each: [&dyn Fn(&Sink) -> Done; 2] = [&push, &copy];
            for (at, run) in each.into_iter().enumerate() {
                if figures[at].error.is_some() {
                    continue;
                }
                if !is_again {
                    figures[at].add(key, run(&sink()));
                    continue;
                }
                let sink = filled[at].get_or_insert_with(|| {
                    let sink = sink();
                    run(&sink).map(|_| sink)
                });
                let done = sink.as_ref().map_err(String::clone).and_then(run);
                figures[at].add(key, done);
            }
        }
        Outcome { title: title.to_owned(), images: LARGE, figures }
    }

    fn loop_of_skopeo(&self, sink: &Sink, archive: &str) -> Command {
        let copy = format!(
            "skopeo --insecure-policy --tmpdir {home} copy --quiet --dest-tls-verify=false --dest-creds {login} \
             docker-archive:{archive}:bench/app-$n:1 docker://{address}/{PREFIX}bench/app-$n:1",
            home = self.home.display(),
            login = sink.login().unwrap_or_default(),
            address = sink.address(),
        );
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("set -e; n=0; while [ $n -lt {LARGE} ]; do {copy}; n=$((n + 1)); done"));
        at_home(&mut command, &self.home);
        command.env("_CONTAINERS_ROOTLESS_UID", "65534");
        command
    }

    /// Tiny images against a client that sends the same requests and knows all answers.
    fn tiny(&self, key: &str, images: usize, title: String, arguments: &[&str]) -> Outcome {
        let mut figures = [Figures::of("ecr-push"), Figures::of("bare client")];
        for _ in 0..self.options.runs {
            clear(&self.home);
            let sink = Sink::sandbox([], self.runtime);
            match self.push(&sink, &[arguments, &["--create-repository", "--quiet"]].concat()) {
                Ok((measured, report)) => {
                    figures[0].add(key, Ok((measured, report["requests"]["requests"].as_u64())));
                    drop(sink);
                    let sink = Sink::sandbox([], self.runtime);
                    let done = bare::run(&sink, images, &report["requests"]["operations"], self.work);
                    figures[1].add(key, done.map(|(measured, requests)| (measured, Some(requests))));
                }
                Err(why) => figures[0].add(key, Err(why)),
            }
            if figures.iter().any(|figures| figures.error.is_some()) {
                break;
            }
        }
        Outcome { title, images, figures }
    }

    /// Two archives as one image, against two pushes one after the other.
    fn join(&self, key: &str) -> Outcome {
        let archive =
            |architecture, folder| bundles::for_platform(self.inputs, architecture, folder).display().to_string();
        let (amd, arm) = (archive("amd64", "/usr/lib"), archive("arm64", "/usr"));
        let mut figures = [Figures::of("ecr-push --join"), Figures::of("ecr-push, twice")];
        let requests = |report: &Value| report["requests"]["requests"].as_u64().unwrap();
        for _ in 0..self.options.runs {
            let fresh = || {
                clear(&self.home);
                Sink::sandbox(["bench/app".to_owned()], self.runtime)
            };
            let joined = self.push(&fresh(), &[&amd, "--join", &arm, "bench/app:1"]);
            figures[0].add(key, joined.map(|(measured, report)| (measured, Some(requests(&report)))));
            let sink = fresh();
            let both = self.push(&sink, &[&amd, "bench/app:amd64"]).and_then(|(one, first)| {
                let (other, second) = self.push(&sink, &[&arm, "bench/app:arm64"])?;
                let measured = Measured {
                    wall: one.wall + other.wall,
                    cpu: one.cpu + other.cpu,
                    peak: one.peak.max(other.peak),
                    read: one.read + other.read,
                    success: true,
                };
                Ok((measured, Some(requests(&first) + requests(&second))))
            });
            figures[1].add(key, both);
        }
        Outcome { title: "two archives of 300 MB joined".into(), images: 1, figures }
    }
}
