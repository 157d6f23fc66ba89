//! The arguments.

use std::path::{Path, PathBuf};

use crate::rows::ROWS;

pub(crate) const USAGE: &str = "\
cargo bench --bench push -- [--quick] [--rows KEY,KEY] [--runs N] [--sinks sandbox,registry]

  --quick        a tenth of the bytes, two runs, nothing appended to benches/results.md: a check that it works
  --rows KEYS    only these: cold, zstd, second, again, changed, reuse-from, compressed, small, huge, huge-zstd,
                 delay, stdin, file, two-targets, stdin-two-targets
  --runs N       runs of each row; 5
  --sinks KINDS  only these: sandbox, registry

Add --profile dist, before the --, to measure the shipped program. ECR_PUSH_PROGRAM names another program to measure.";

/// The kind of registry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// The sandbox of this program, in this process.
    Sandbox,
    /// Debian's docker-registry.
    Registry,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Registry => "docker-registry",
        }
    }
}

/// The arguments.
pub(crate) struct Options {
    pub(crate) quick: bool,
    pub(crate) runs: usize,
    pub(crate) rows: Vec<String>,
    pub(crate) sinks: Vec<Kind>,
}

pub(crate) fn read(arguments: &[String]) -> Result<Options, String> {
    let mut arguments = arguments.iter();
    let (mut quick, mut runs) = (false, None);
    let mut rows: Vec<String> = ROWS.iter().map(|row| row.key.to_owned()).collect();
    let mut sinks = vec![Kind::Sandbox, Kind::Registry];
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            // Added by cargo.
            "--bench" => {}
            "--quick" => quick = true,
            "--runs" => {
                let count = value()?.parse().ok().filter(|count| *count > 0);
                runs = Some(count.ok_or("--runs needs a number, at least 1")?);
            }
            "--rows" => {
                rows = value()?.split(',').map(str::to_owned).collect();
                if let Some(unknown) = rows.iter().find(|key| !ROWS.iter().any(|row| row.key == **key)) {
                    return Err(format!("there is no row {unknown:?}"));
                }
            }
            "--sinks" => {
                let kind = |name: &str| match name {
                    "sandbox" => Ok(Kind::Sandbox),
                    "registry" => Ok(Kind::Registry),
                    _ => Err(format!("there is no sink {name:?}")),
                };
                sinks = value()?.split(',').map(kind).collect::<Result<_, _>>()?;
            }
            _ => return Err(format!("unknown argument {argument:?}")),
        }
    }
    Ok(Options { quick, runs: runs.unwrap_or(if quick { 2 } else { 5 }), rows, sinks })
}

/// Returns the folder of build results. Everything except `benches/results.md` is written there.
pub(crate) fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().to_owned()
}

/// Returns whether a program is in the `PATH`.
pub(crate) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
