//! Measures the rows: the registries, the arguments of each program, and the runs in turn.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;

use crate::floor::{Floor, floor};
use crate::input::{Input, Inputs, target};
use crate::many;
use crate::measure::{Measured, is_installed, measure};
use crate::options::Options;
use crate::rows::{Before, ROWS, Row};
use crate::sink::{Kind, REPOSITORIES, Sink, Traffic};

/// The error of a row that the measured program does not support.
pub(crate) const UNSUPPORTED: &str = "not supported";

/// A program that is measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Program {
    EcrPush,
    Skopeo,
}

impl Program {
    pub(crate) const ALL: [Self; 2] = [Self::EcrPush, Self::Skopeo];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::EcrPush => "ecr-push",
            Self::Skopeo => "skopeo",
        }
    }
}

/// The results of a program at a row and a sink.
#[derive(Clone, Default)]
pub(crate) struct Figures {
    pub(crate) measured: Vec<Measured>,
    /// The traffic of each run, if the sink is a sandbox.
    pub(crate) traffic: Vec<Traffic>,
    /// The sink's CPU seconds in each run, if it is in this process.
    pub(crate) sink_cpu: Vec<f64>,
    /// The total size of the compressed layers, if it is known.
    pub(crate) compressed: Option<u64>,
    /// Why there are no results, or not all.
    pub(crate) error: Option<String>,
}

/// The results of a row.
pub(crate) struct Outcome {
    pub(crate) row: &'static Row,
    pub(crate) figures: Vec<(Kind, Program, Figures)>,
    pub(crate) floor: Figures,
}

/// The state of a row at a sink with a program.
struct Lane {
    kind: Kind,
    program: Program,
    sink: Option<Sink>,
    home: PathBuf,
    figures: Figures,
}

struct Bench<'a> {
    options: &'a Options,
    inputs: Inputs,
    runtime: Runtime,
    help: String,
    work: PathBuf,
}

/// Measures the selected rows, and returns the results with descriptions of the archives.
pub(crate) fn run(options: &Options) -> (Vec<Outcome>, Vec<many::Outcome>, Vec<String>) {
    let work = target().join("bench-work");
    // A run that was killed may have left files.
    std::fs::remove_dir_all(&work).ok();
    std::fs::create_dir_all(&work).unwrap();
    let help = Command::new(program()).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let bench = Bench { options, inputs: Inputs::new(options.quick), runtime, help, work };
    let rows = ROWS.iter().filter(|row| options.rows.iter().any(|key| key == row.key));
    let outcomes: Vec<_> = rows.map(|row| bench.row(row)).collect();
    let many = many::run(options, &bench.inputs, &bench.runtime, &bench.work);
    std::fs::remove_dir_all(&bench.work).ok();
    let measured = outcomes.iter().filter(|outcome| outcome.figures.iter().any(|it| !it.2.measured.is_empty()));
    let mut inputs: Vec<Input> = Vec::new();
    for outcome in measured {
        // The changed archive differs in each run.
        let input = if outcome.row.input == Input::Changed { Input::Three } else { outcome.row.input };
        if !inputs.contains(&input) {
            inputs.push(input);
        }
    }
    let inputs = inputs.into_iter().map(|input| bench.inputs.describe(input)).collect();
    (outcomes, many, inputs)
}

impl Bench<'_> {
    fn row(&self, row: &'static Row) -> Outcome {
        let mut lanes: Vec<Lane> = Vec::new();
        for kind in self.options.sinks.iter().copied() {
            // A docker-registry cannot be delayed.
            let programs = Program::ALL.iter().copied().filter(|_| kind == Kind::Sandbox || row.delay == 0);
            lanes.extend(programs.map(|program| {
                let home = self.work.join(format!("home-{}-{}", kind.name(), program.name()));
                Lane { kind, program, sink: None, home, figures: Figures::default() }
            }));
        }
        let mut floor_figures = Figures::default();
        // Skopeo alone is nothing to compare.
        if !row.requires.is_empty() && !row.requires.iter().any(|word| self.help.contains(word)) {
            lanes.iter_mut().for_each(|lane| lane.figures.error = Some(UNSUPPORTED.into()));
        } else {
            for run in 0..self.options.runs {
                let archive =
                    if row.input == Input::Changed { self.inputs.change(run + 1) } else { self.inputs.get(row.input) };
                for lane in &mut lanes {
                    self.step(row, lane, &archive, run);
                }
                if row.floor != Floor::None && floor_figures.error.is_none() {
                    match floor(&archive, row.floor, &self.work) {
                        Ok((measured, compressed)) => {
                            floor_figures.measured.push(measured);
                            floor_figures.compressed = Some(compressed);
                        }
                        Err(why) => floor_figures.error = Some(why),
                    }
                }
            }
        }
        let figures = lanes.into_iter().map(|lane| (lane.kind, lane.program, lane.figures)).collect();
        Outcome { row, figures, floor: floor_figures }
    }

    /// Measures a lane again, unless it failed before.
    fn step(&self, row: &Row, lane: &mut Lane, archive: &Path, run: usize) {
        if lane.figures.error.is_some() {
            return;
        }
        match self.measure(row, lane, archive, run) {
            Ok(measured) => {
                let (kind, program) = (lane.kind.name(), lane.program.name());
                eprintln!("{}, {kind}, {program}: {:.2} s, {:.2} s of CPU", row.key, measured.wall, measured.cpu);
                lane.figures.measured.push(measured);
            }
            Err(why) => {
                eprintln!("{}, {}, {}: {why}", row.key, lane.kind.name(), lane.program.name());
                lane.figures.error = Some(why);
            }
        }
    }

    fn measure(&self, row: &Row, lane: &mut Lane, archive: &Path, run: usize) -> Result<Measured, String> {
        let missing = |program: &str| Err(format!("{program} is not installed"));
        if lane.program == Program::Skopeo && row.repositories.len() > 1 {
            return Err("it supports one target only".into());
        }
        if lane.program == Program::Skopeo && !is_installed("skopeo") {
            return missing("skopeo");
        }
        if lane.kind == Kind::Registry && !is_installed("docker-registry") {
            return missing("docker-registry");
        }
        let tag = if row.before == Before::Commit { format!("main-{}", run + 1) } else { "1".into() };
        if row.before == Before::Nothing || lane.sink.is_none() {
            // The old one is stopped first: two would share the disk.
            lane.sink = None;
            let delay = Duration::from_millis(row.delay);
            lane.sink = Some(Sink::start(lane.kind, delay, row.line, &self.runtime, &self.work));
            clear(&lane.home);
            if row.before != Before::Nothing {
                let tag = if row.before == Before::Commit { "main-0" } else { "1" };
                let first = self.inputs.get(Input::Three);
                let command = self.command(row, lane, &source(lane.program, Input::Three, &first, false), tag);
                measure(&command, None, &self.work)?;
            }
        }
        if row.before != Before::TagAndHome {
            clear(&lane.home);
        }
        let command = self.command(row, lane, &source(lane.program, row.input, archive, row.from_pipe), &tag);
        let sink = lane.sink.as_ref().unwrap();
        let (before, cpu) = (sink.traffic(), own_cpu());
        let measured = measure(&command, row.from_pipe.then_some(archive), &self.work)?;
        let cpu = own_cpu() - cpu;
        if let (Some(before), Some(after)) = (before, sink.traffic()) {
            let traffic = Traffic { requests: after.requests - before.requests, bytes: after.bytes - before.bytes };
            lane.figures.traffic.push(traffic);
            lane.figures.sink_cpu.push(cpu);
            for repository in row.repositories {
                let stored = sink.stored_bytes(repository, &tag);
                lane.figures.compressed = Some(stored.ok_or("it succeeded, but there is no image")?);
            }
        }
        Ok(measured)
    }

    fn command(&self, row: &Row, lane: &Lane, source: &str, tag: &str) -> Command {
        let sink = lane.sink.as_ref().unwrap();
        let address = sink.address();
        let mut command = match lane.program {
            Program::EcrPush if lane.kind == Kind::Sandbox => {
                let mut command = ecr_push(sink, &lane.home);
                command.arg(source);
                command.args(row.repositories.iter().map(|repository| format!("{repository}:{tag}")));
                command.args(row.arguments);
                command
            }
            Program::EcrPush => {
                let mut command = Command::new(program());
                command.arg(source);
                command.args(row.repositories.iter().map(|repository| format!("{address}/{repository}:{tag}")));
                command.args(row.arguments);
                command
            }
            Program::Skopeo => {
                let mut command = Command::new("skopeo");
                command.arg("--insecure-policy").arg("--tmpdir").arg(&lane.home);
                command.args(["copy", "--dest-tls-verify=false"]).args(row.skopeo_arguments);
                if let Some(login) = sink.login() {
                    command.args(["--dest-creds", login]);
                }
                command.arg(source).arg(format!("docker://{address}/{}:{tag}", REPOSITORIES[0]));
                // Then its cache is in the home folder, for root as well.
                command.env("_CONTAINERS_ROOTLESS_UID", "65534");
                command
            }
        };
        at_home(&mut command, &lane.home);
        command
    }
}

/// Returns the command of the measured program, which pushes to a sandbox as if it were ECR.
pub(crate) fn ecr_push(sink: &Sink, home: &Path) -> Command {
    let mut command = Command::new(program());
    let url = format!("http://{}", sink.address());
    command.args(["--region", "us-east-1"]);
    command.env("AWS_ENDPOINT_URL_ECR", &url).env("ECR_PUSH_REGISTRY_ENDPOINT", &url);
    command.env("AWS_ACCESS_KEY_ID", "sandbox").env("AWS_SECRET_ACCESS_KEY", "sandbox");
    command.env("AWS_EC2_METADATA_DISABLED", "true");
    command.env("AWS_CONFIG_FILE", "/dev/null").env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    at_home(&mut command, home);
    command
}

/// Gives a program its home folder.
pub(crate) fn at_home(command: &mut Command, home: &Path) {
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("HOME", home).env("TMPDIR", home);
}

/// Returns the measured program: this one, or the one that `ECR_PUSH_PROGRAM` names, such as an earlier version.
fn program() -> PathBuf {
    let program = std::env::var_os("ECR_PUSH_PROGRAM");
    program.map_or_else(|| env!("CARGO_BIN_EXE_ecr-push").into(), PathBuf::from)
}

/// Returns the argument for an archive.
fn source(program: Program, input: Input, archive: &Path, from_pipe: bool) -> String {
    match (program, input, from_pipe) {
        (Program::EcrPush, _, true) => "-".into(),
        (Program::EcrPush, ..) => archive.display().to_string(),
        (Program::Skopeo, _, true) => "docker-archive:/dev/stdin".into(),
        (Program::Skopeo, Input::Compressed | Input::OneCompressed, _) => format!("oci:{}", archive.display()),
        (Program::Skopeo, ..) => format!("docker-archive:{}", archive.display()),
    }
}

/// Empties a home folder.
pub(crate) fn clear(home: &Path) {
    std::fs::remove_dir_all(home).ok();
    std::fs::create_dir_all(home).unwrap();
}

/// Returns the CPU seconds of this process, which runs the sandboxes.
fn own_cpu() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
