//! The results as a Markdown table.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use crate::many;
use crate::measure::Measured;
use crate::options::Options;
use crate::run::{Figures, Outcome, Program, UNSUPPORTED};
use crate::sink::Kind;

const COLUMNS: [&str; 14] = [
    "row", "sink", "program", "wall s", "CPU s", "CPU / wall", "peak MB", "sent MB", "requests", "read MB",
    "sink CPU s", "wall / skopeo", "wall / floor", "compressed / skopeo",
];

const MANY_COLUMNS: [&str; 8] =
    ["row", "program", "wall s", "CPU s", "peak MB", "requests", "requests / image", "wall / other"];

/// Prints the table, and appends it to earlier results.
pub(crate) fn publish(options: &Options, inputs: &[String], outcomes: &[Outcome], many: &[many::Outcome]) {
    let mut text = heading(options, inputs);
    if !outcomes.is_empty() {
        text += &line(&COLUMNS.map(str::to_owned));
        text += &line(&COLUMNS.map(|_| "---".to_owned()));
    }
    for outcome in outcomes {
        rows(outcome, &mut text);
    }
    if !many.is_empty() {
        text += &(line(&MANY_COLUMNS.map(str::to_owned)) + &line(&MANY_COLUMNS.map(|_| "---".to_owned())));
    }
    many.iter().for_each(|outcome| many_rows(outcome, &mut text));
    println!("{text}");
    if options.quick {
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results.md");
    let mut file = File::options().append(true).create(true).open(path).unwrap();
    writeln!(file, "{text}").unwrap();
}

/// Adds the rows of a measurement of many images: this program, and what it is compared with.
fn many_rows(outcome: &many::Outcome, text: &mut String) {
    let wall = |figures: &many::Figures| median(figures.measured.iter().map(|it| it.wall).collect());
    let other = wall(&outcome.figures[1]);
    for (at, figures) in outcome.figures.iter().enumerate() {
        let mut cells: [String; MANY_COLUMNS.len()] = Default::default();
        (cells[0], cells[1]) = (outcome.title.clone(), figures.program.into());
        if let (Some(median_wall), None) = (wall(figures), &figures.error) {
            let walls = || figures.measured.iter().map(|it| it.wall);
            let (least, most) = (walls().fold(f64::INFINITY, f64::min), walls().fold(0.0, f64::max));
            let of = |value: &dyn Fn(&Measured) -> f64| median(figures.measured.iter().map(value).collect());
            cells[2] = format!("{median_wall:.2} ({least:.2}–{most:.2})");
            cells[3] = of(&|it| it.cpu).map(|cpu| format!("{cpu:.2}")).unwrap_or_default();
            cells[4] = of(&|it| it.peak as f64).map(mega).unwrap_or_default();
            let requests = median(figures.requests.iter().map(|count| *count as f64).collect());
            cells[5] = requests.map(|count| format!("{count:.0}")).unwrap_or_default();
            cells[6] = requests.map(|count| format!("{:.1}", count / outcome.images as f64)).unwrap_or_default();
            cells[7] = other.filter(|_| at == 0).map(|other| format!("{:.3}", median_wall / other)).unwrap_or_default();
        } else {
            cells[2] = figures.error.clone().unwrap_or_default();
        }
        *text += &line(&cells);
    }
}

fn heading(options: &Options, inputs: &[String]) -> String {
    let Options { quick, runs, .. } = options;
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("an unknown CPU");
    let cpu = cpu.trim_start_matches(['\t', ' ', ':']);
    let program = Path::new(env!("CARGO_BIN_EXE_ecr-push"));
    let profile = program.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    let dirty =
        if output("git", &["status", "--porcelain", "src", "Cargo.lock"]).is_empty() { "" } else { ", changed" };
    format!(
        "## {date}, {commit}{dirty}\n\n\
         {cpu}, {cores} cores; profile {profile}, features {features}; {skopeo}; {registry}.\n\
         Medians of {runs} runs{quick}, minimum and maximum in brackets; MB are 10^6 bytes.\n\
         The floor is compression and both hashes alone: its CPU seconds divided by the cores.\n\
         Read are all bytes read from files and pipes.\n\n\
         {inputs}\n\n",
        date = httpdate::fmt_http_date(SystemTime::now()),
        commit = output("git", &["rev-parse", "--short=12", "HEAD"]),
        cores = cores(),
        features = if cfg!(feature = "sandbox") { "sandbox" } else { "none" },
        skopeo = output("skopeo", &["--version"]),
        registry = output("docker-registry", &["--version"]),
        quick = if *quick { " with a tenth of the bytes, as a check that it works" } else { "" },
        inputs = inputs.iter().map(|input| format!("- {input}")).collect::<Vec<_>>().join("\n"),
    )
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    output.map_or_else(|_| format!("no {program}"), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn cores() -> f64 {
    std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64)
}

fn rows(outcome: &Outcome, text: &mut String) {
    let title = outcome.row.title;
    let find = |kind, program| {
        let found = outcome.figures.iter().find(|(k, p, _)| (*k, *p) == (kind, program));
        found.map(|(_, _, figures)| figures).filter(|figures| figures.is_whole())
    };
    let floor_wall = outcome.floor.is_whole().then(|| outcome.floor.median(|it| it.cpu).0 / cores());
    for (kind, program, figures) in &outcome.figures {
        if let Some(why) = &figures.error {
            // One line for all programs and sinks.
            if why != UNSUPPORTED || (*kind, *program) == (outcome.figures[0].0, outcome.figures[0].1) {
                *text += &line(&cells(&[title, kind.name(), program.name(), why]));
            }
            continue;
        }
        let skopeo = find(*kind, Program::Skopeo).filter(|_| *program == Program::EcrPush);
        let (wall, least, most) = figures.median(|it| it.wall);
        let (cpu, ..) = figures.median(|it| it.cpu);
        let of = |other: Option<f64>| other.map_or_else(String::new, |other| format!("{:.2}", wall / other));
        let counted = |count: &dyn Fn(usize) -> f64| median((0..figures.traffic.len()).map(count).collect());
        let sent = counted(&|n| figures.traffic[n].bytes as f64);
        let requests = counted(&|n| figures.traffic[n].requests as f64);
        let sink = counted(&|n| figures.sink_cpu[n]);
        let compressed = figures.compressed.zip(skopeo.and_then(|skopeo| skopeo.compressed));
        *text += &line(&[
            title.into(),
            kind.name().into(),
            program.name().into(),
            format!("{wall:.2} ({least:.2}–{most:.2})"),
            format!("{cpu:.2}"),
            format!("{:.2}", cpu / wall),
            mega(figures.median(|it| it.peak as f64).0),
            sent.map(mega).unwrap_or_default(),
            requests.map(|count| format!("{count:.0}")).unwrap_or_default(),
            mega(figures.median(|it| it.read as f64).0),
            sink.map(|cpu| format!("{cpu:.2}")).unwrap_or_default(),
            of(skopeo.map(|skopeo| skopeo.median(|it| it.wall).0)),
            of(floor_wall),
            compressed.map(|(ours, theirs)| format!("{:.3}", ours as f64 / theirs as f64)).unwrap_or_default(),
        ]);
    }
    if let Some(why) = &outcome.floor.error {
        *text += &line(&cells(&[title, "none", "floor", why]));
    } else if let Some(wall) = floor_wall {
        let cpu = outcome.floor.median(|it| it.cpu).0;
        let read = outcome.floor.median(|it| it.read as f64).0;
        let mut cells = cells(&[title, "none", "floor", &format!("{wall:.2}"), &format!("{cpu:.2}")]);
        cells[9] = mega(read);
        *text += &line(&cells);
        // Of a changed image the floor compresses one layer, whose size is not known.
        let ours = find(Kind::Sandbox, Program::EcrPush).and_then(|figures| figures.compressed);
        if let (true, Some(ours), Some(floor)) = (outcome.row.has_comparable_floor(), ours, outcome.floor.compressed)
            && ours != floor
        {
            let why = format!("not comparable: it compresses to {floor} bytes, and the program to {ours}");
            *text += &line(&self::cells(&[title, "none", "floor", &why]));
        }
    }
}

impl Figures {
    fn is_whole(&self) -> bool {
        self.error.is_none() && !self.measured.is_empty()
    }

    /// Returns the median, the minimum and the maximum.
    fn median(&self, of: impl Fn(&Measured) -> f64) -> (f64, f64, f64) {
        let mut all: Vec<_> = self.measured.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        (median(all.clone()).unwrap(), all[0], all[all.len() - 1])
    }
}

fn median(mut all: Vec<f64>) -> Option<f64> {
    all.sort_by(f64::total_cmp);
    let (low, high) = (all.len().checked_sub(1)? / 2, all.len() / 2);
    Some((all[low] + all[high]) / 2.0)
}

fn mega(bytes: f64) -> String {
    format!("{:.1}", bytes / 1e6)
}

fn cells(first: &[&str]) -> [String; COLUMNS.len()] {
    std::array::from_fn(|n| first.get(n).copied().unwrap_or_default().to_owned())
}

fn line(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}
