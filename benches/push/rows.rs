//! What is measured.

use std::time::Duration;

use crate::floor::Floor;
use crate::input::Input;
use crate::line::Line;
use crate::sink::REPOSITORIES;

/// A line of 1 Gbit/s to a registry on another continent.
const FAR: Line = Line { rate: 125_000_000, round_trip: Duration::from_millis(160), cut_after: None };

/// A line of 500 Mbit/s to a registry that takes its time for a response, see [`BUSY`].
const NEARER: Line = Line { rate: 62_500_000, round_trip: Duration::from_millis(80), cut_after: None };

/// How long a busy registry takes for each response, in milliseconds.
const BUSY: u64 = 150;

/// One measurement.
pub(crate) struct Row {
    pub(crate) key: &'static str,
    pub(crate) title: &'static str,
    pub(crate) input: Input,
    pub(crate) floor: Floor,
    pub(crate) before: Before,
    /// Additional delay of each response, in milliseconds.
    pub(crate) delay: u64,
    /// The line to the registry, if there is one between.
    pub(crate) line: Option<Line>,
    /// Words of `--help`, one of which shows that the program supports it; empty if every program does.
    pub(crate) requires: &'static [&'static str],
    /// Additional arguments of this program.
    pub(crate) arguments: &'static [&'static str],
    /// Additional arguments of skopeo.
    pub(crate) skopeo_arguments: &'static [&'static str],
    /// Whether the archive is piped into the program.
    pub(crate) from_pipe: bool,
    /// The target repositories of one run. Programs with a single target are not measured with several.
    pub(crate) repositories: &'static [&'static str],
}

/// What the registry and the machine have before the measurement.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Before {
    /// Nothing.
    Nothing,
    /// The registry has the image of three layers, under the tag that is pushed again.
    Tag,
    /// The same, and the machine has what the program stored about it.
    TagAndHome,
    /// The registry has the image of three layers, under the tag of an earlier commit.
    Commit,
}

impl Row {
    /// Returns whether the floor compresses the same layers as the program.
    pub(crate) fn has_comparable_floor(&self) -> bool {
        matches!(self.floor, Floor::All | Floor::AllZstd)
    }
}

const fn row(key: &'static str, title: &'static str, input: Input, floor: Floor) -> Row {
    let before = Before::Nothing;
    let repositories = &["bench/app"];
    Row {
        key,
        title,
        input,
        floor,
        before,
        delay: 0,
        line: None,
        requires: &[],
        arguments: &[],
        skopeo_arguments: &[],
        from_pipe: false,
        repositories,
    }
}

/// A row through the line [`FAR`].
const fn far(key: &'static str, title: &'static str, input: Input) -> Row {
    Row { line: Some(FAR), ..row(key, title, input, Floor::All) }
}

/// A row through the line [`NEARER`] to a busy registry.
const fn busy(key: &'static str, title: &'static str, input: Input) -> Row {
    Row { line: Some(NEARER), delay: BUSY, ..row(key, title, input, Floor::All) }
}

pub(crate) const ROWS: [Row; 24] = [
    row("cold", "cold, gzip", Input::Three, Floor::All),
    Row {
        requires: &["--compression"],
        arguments: &["--compression", "zstd"],
        ..row("zstd", "cold, zstd (skopeo: gzip)", Input::Three, Floor::AllZstd)
    },
    Row { before: Before::Tag, ..row("second", "second push, fresh machine, tag exists", Input::Three, Floor::None) },
    Row { before: Before::TagAndHome, ..row("again", "second push, same machine", Input::Three, Floor::None) },
    Row {
        before: Before::Tag,
        ..row("changed", "one changed layer of three, fresh machine, tag exists", Input::Changed, Floor::Last)
    },
    Row {
        before: Before::Commit,
        requires: &["--reuse-from"],
        arguments: &["--reuse-from", "main-*"],
        ..row("reuse-from", "one changed layer of three, new tag, `--reuse-from`", Input::Changed, Floor::Last)
    },
    row("compressed", "compressed OCI layout", Input::Compressed, Floor::All),
    row("small", "40 small layers", Input::Forty, Floor::All),
    row("huge", "one layer of 4 GB", Input::Huge, Floor::All),
    Row {
        requires: &["--compression"],
        arguments: &["--compression", "zstd"],
        ..row("huge-zstd", "one layer of 4 GB, zstd (skopeo: gzip)", Input::Huge, Floor::AllZstd)
    },
    Row { delay: 50, ..row("delay", "20 small layers, 50 ms per response", Input::Twenty, Floor::All) },
    Row {
        requires: &["standard input", "stdin"],
        from_pipe: true,
        ..row("stdin", "standard input, save of Docker 25", Input::Modern, Floor::All)
    },
    row("file", "the same from a file", Input::Modern, Floor::All),
    Row { repositories: &REPOSITORIES, ..row("two-targets", "cold, gzip, two repositories", Input::Three, Floor::All) },
    Row {
        from_pipe: true,
        repositories: &REPOSITORIES,
        ..row("stdin-two-targets", "standard input, two repositories", Input::Modern, Floor::All)
    },
    far("one-far", "one layer of 200 MB, 1 Gbit/s, 160 ms", Input::One),
    far("four-far", "four layers of 50 MB, 1 Gbit/s, 160 ms", Input::Four),
    far("twenty-far", "20 layers of 5 MB, 1 Gbit/s, 160 ms", Input::TwentyEqual),
    far("kept-far", "one compressed layer of 150 MB, 1 Gbit/s, 160 ms", Input::OneCompressed),
    busy("one-busy", "one layer of 200 MB, 500 Mbit/s, 80 ms, 150 ms per response", Input::One),
    busy("four-busy", "four layers of 50 MB, 500 Mbit/s, 80 ms, 150 ms per response", Input::Four),
    busy("twenty-busy", "20 layers of 5 MB, 500 Mbit/s, 80 ms, 150 ms per response", Input::TwentyEqual),
    busy("kept-busy", "one compressed layer of 150 MB, 500 Mbit/s, 80 ms, 150 ms per response", Input::OneCompressed),
    Row {
        line: Some(Line { cut_after: Some(50_000_000), ..FAR }),
        skopeo_arguments: &["--retry-times", "3"],
        ..row("cut-far", "one layer of 200 MB, 1 Gbit/s, 160 ms, cut once after 50 MB", Input::One, Floor::All)
    },
];
