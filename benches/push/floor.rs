//! The least work of a push: compressing each layer, and hashing its uncompressed and compressed bytes, in a process that
//! does nothing else and discards the result.

use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;

use ecr_push::CompressionPolicy;
use ecr_push::internals::{Pool, compress, spec};

use crate::input::image;
use crate::measure::{Measured, measure};

/// The layers to compress.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Floor {
    /// Every layer, by the default policy.
    All,
    /// Every layer, with zstd.
    AllZstd,
    /// The last layer.
    Last,
    /// None.
    None,
}

/// Measures that work, and returns the number of compressed bytes, too.
pub(crate) fn floor(archive: &Path, floor: Floor, scratch: &Path) -> Result<(Measured, u64), String> {
    let size = scratch.join("floor");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("--floor").arg(archive).arg(format!("{floor:?}")).arg(&size);
    let measured = measure(&command, None, scratch)?;
    Ok((measured, std::fs::read_to_string(size).unwrap().parse().unwrap()))
}

/// Runs the measured process: `ARCHIVE FLOOR OUTPUT`.
pub(crate) fn child(arguments: &[String]) {
    let [archive, floor, output] = arguments else { panic!("{arguments:?}") };
    let image = image(Path::new(archive));
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(6);
    let pool = Pool::start(threads);
    let compression = if floor == "AllZstd" { CompressionPolicy::Zstd(None) } else { CompressionPolicy::default() };
    let mut compressed = 0;
    for manifest in image.manifests() {
        let skip = if floor == "Last" { manifest.layers.len() - 1 } else { 0 };
        for layer in &manifest.layers[skip..] {
            let spec = spec(manifest, layer, compression);
            compressed += compress(layer.bytes.reader(), layer.bytes.len(), spec, &pool, |_| ControlFlow::Continue(()))
                .unwrap()
                .size;
        }
    }
    std::fs::write(output, compressed.to_string()).unwrap();
}
