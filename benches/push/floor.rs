//! What no program can do without, as fast as this one can do it: packing a layer's bytes and hashing them plain and
//! packed, in a process that does nothing else and drops what comes out.

use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;

use ecr_push::CompressionPolicy;
use ecr_push::internals::{Pool, compress, spec};

use crate::input::image;
use crate::measure::{Measured, measure};

/// What is to be packed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Floor {
    /// Every layer, as it is usual.
    All,
    /// Every layer, with zstd.
    AllZstd,
    /// The last layer.
    Last,
    /// Nothing, or nothing that this can do.
    None,
}

/// Measures it, and tells how many bytes came out.
pub(crate) fn floor(archive: &Path, floor: Floor, scratch: &Path) -> Result<(Measured, u64), String> {
    let size = scratch.join("floor");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("--floor").arg(archive).arg(format!("{floor:?}")).arg(&size);
    let measured = measure(&command, None, scratch)?;
    Ok((measured, std::fs::read_to_string(size).unwrap().parse().unwrap()))
}

/// The other side: `ARCHIVE WHICH SIZE`.
pub(crate) fn child(arguments: &[String]) {
    let [archive, which, size] = arguments else { panic!("{arguments:?}") };
    let image = image(Path::new(archive));
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(6);
    let pool = Pool::start(threads);
    let compression = if which == "AllZstd" { CompressionPolicy::Zstd(None) } else { CompressionPolicy::Usual };
    let mut packed = 0;
    for manifest in image.manifests() {
        let skip = if which == "Last" { manifest.layers.len() - 1 } else { 0 };
        for layer in &manifest.layers[skip..] {
            let recipe = spec(manifest, layer, compression);
            packed += compress(layer.bytes.reader(), layer.bytes.len(), recipe, &pool, |_| ControlFlow::Continue(()))
                .unwrap()
                .size;
        }
    }
    std::fs::write(size, packed.to_string()).unwrap();
}
