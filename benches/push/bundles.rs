//! Archives of many images, made of files of this machine or of next to nothing, in `target/bench-input`.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::input::{Files, Inputs, Save, add, sha256};
use crate::many::repository;

/// The images of the large bundle, and the layers that all of them share.
pub(crate) const LARGE: usize = 60;
const BASES: usize = 5;

/// The layers of a tiny image, which all images share.
pub(crate) const TINY_LAYERS: usize = 40;

/// Returns the name of an image.
pub(crate) fn name(image: usize) -> String {
    format!("bench/app-{image}")
}

/// Returns a docker save of [`LARGE`] images, 1.5 GB: five base layers of 60 MB, and a layer of 20 MB for each image.
pub(crate) fn large(inputs: &Inputs) -> PathBuf {
    inputs.cached("bundle-60.tar", |path, scale| {
        let (mut files, mut save) = (Files::of(&["/usr"]), Save::new(File::create(path).unwrap(), Vec::new()));
        (0..BASES).for_each(|_| save.layer(|layer| layer.fill(&mut files, 60 * scale)));
        (0..LARGE).for_each(|image| {
            save.layer(|layer| {
                layer.add("image", image.to_string().as_bytes());
                layer.fill(&mut files, 20 * scale);
            });
        });
        let layers = |image| (0..BASES).chain([BASES + image]).collect();
        let images: Vec<_> = (0..LARGE).map(|image| (format!("{}:1", name(image)), layers(image))).collect();
        save.finish_images(&images);
    })
}

/// Returns an archive for a platform, of three layers with 300 MB.
pub(crate) fn for_platform(inputs: &Inputs, architecture: &str, folder: &str) -> PathBuf {
    inputs.cached(&format!("{architecture}.tar"), |path, scale| {
        let (mut files, mut save) = (Files::of(&[folder]), Save::new(File::create(path).unwrap(), Vec::new()));
        save.architecture = architecture.to_owned();
        (0..3).for_each(|_| save.layer(|layer| layer.fill(&mut files, 100 * scale)));
        save.finish();
    })
}

/// Returns the bytes of the layers of a tiny image.
pub(crate) fn tiny_layers() -> Vec<Vec<u8>> {
    let layer = |number: usize| {
        let mut tar = tar::Builder::new(Vec::new());
        add(&mut tar, "number", number.to_string().as_bytes());
        tar.into_inner().unwrap()
    };
    (0..TINY_LAYERS).map(layer).collect()
}

/// Returns the config of a tiny image, which differs from all others.
pub(crate) fn tiny_config(image: usize, diff_ids: &[String]) -> Vec<u8> {
    let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
    json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": [image.to_string()]}, "rootfs": rootfs})
        .to_string()
        .into_bytes()
}

/// Returns a docker save of so many tiny images.
pub(crate) fn tiny(inputs: &Inputs, images: usize) -> PathBuf {
    inputs.cached(&format!("tiny-{images}.tar"), |path, _| write_tiny(path, 0..images))
}

/// Returns a batch of so many lines, each with an archive of its own.
pub(crate) fn lines(inputs: &Inputs, images: usize) -> PathBuf {
    let folder = inputs.cached(&format!("lines-{images}"), |path, _| {
        std::fs::create_dir_all(path).unwrap();
        (0..images).for_each(|image| write_tiny(&path.join(format!("{image}.tar")), image..image + 1));
    });
    let batch = folder.join("batch.txt");
    let line = |image| format!("{} {}:1\n", folder.join(format!("{image}.tar")).display(), repository(image));
    std::fs::write(&batch, (0..images).map(line).collect::<String>()).unwrap();
    batch
}

fn write_tiny(path: &Path, images: std::ops::Range<usize>) {
    let mut tar = tar::Builder::new(BufWriter::with_capacity(1 << 20, File::create(path).unwrap()));
    let layers = tiny_layers();
    let diff_ids: Vec<String> = layers.iter().map(|layer| sha256(layer)).collect();
    // Short names: the list of 10,000 images must not exceed the limit for a document.
    let names: Vec<String> = (0..TINY_LAYERS).map(|number| format!("{number}.tar")).collect();
    layers.iter().zip(&names).for_each(|(layer, name)| add(&mut tar, name, layer));
    let mut list = Vec::new();
    for image in images {
        let config_name = format!("{image}.json");
        add(&mut tar, &config_name, &tiny_config(image, &diff_ids));
        list.push(json!({"Config": config_name, "RepoTags": [format!("{}:1", name(image))], "Layers": names}));
    }
    add(&mut tar, "manifest.json", json!(list).to_string().as_bytes());
    tar.into_inner().unwrap().flush().unwrap();
}
