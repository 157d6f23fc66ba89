//! The arguments.

use crate::many;
use crate::rows::ROWS;
use crate::sink::Kind;

pub(crate) const USAGE: &str = "\
cargo bench --bench push -- [--quick] [--rows KEY,KEY] [--runs N] [--sinks sandbox,registry]

  --quick        a tenth of the bytes and images, two runs, nothing appended to benches/results.md: a check that it works
  --rows KEYS    only these: cold, zstd, second, again, changed, reuse-from, compressed, small, huge, huge-zstd,
                 delay, stdin, file, two-targets, stdin-two-targets, one-far, four-far, twenty-far, kept-far, one-busy,
                 four-busy, twenty-busy, kept-busy, cut-far,
                 bundle-60, bundle-60-again, bundle-60-unmounted, images-10000, lines-10000, join
  --runs N       runs of each row; 5
  --sinks KINDS  only these: sandbox, registry

Add --profile dist, before the --, to measure the shipped program. ECR_PUSH_PROGRAM names another program to measure.";

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
    let keys = || ROWS.iter().map(|row| row.key).chain(many::KEYS);
    let mut rows: Vec<String> = keys().map(str::to_owned).collect();
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
                if let Some(unknown) = rows.iter().find(|key| !keys().any(|known| known == **key)) {
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
