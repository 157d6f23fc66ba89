//! The image that `ecr-push demo` pushes.

use std::io;

use serde_json::json;

use crate::oci::DiffId;

/// The only file of each layer.
const LAYERS: [(&str, &str); 2] = [
    ("etc/issue", "This image was made by ecr-push demo.\n"),
    ("srv/index.html", "<title>Demo</title>\n<p>A small image with two layers.\n"),
];

/// Returns an archive of a small image, as `docker save` writes it. Its bytes are the same on each machine.
///
/// # Errors
/// If a name does not fit into a tar.
pub(crate) fn demo_archive() -> io::Result<Vec<u8>> {
    let layers = LAYERS.map(|(path, text)| tar_of(&[(path, text.as_bytes())]));
    let layers: Vec<Vec<u8>> = layers.into_iter().collect::<io::Result<_>>()?;
    let diff_ids: Vec<String> = layers.iter().map(|layer| DiffId::of(layer).to_string()).collect();
    let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
    let config = json!({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}).to_string();
    let names: Vec<String> = (1..=layers.len()).map(|number| format!("layer-{number}.tar")).collect();
    let manifest = json!([{"Config": "config.json", "RepoTags": ["demo/app:1"], "Layers": names}]).to_string();
    let mut files = vec![("config.json", config.as_bytes()), ("manifest.json", manifest.as_bytes())];
    files.extend(names.iter().map(String::as_str).zip(layers.iter().map(Vec::as_slice)));
    tar_of(&files)
}

fn tar_of(files: &[(&str, &[u8])]) -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, *bytes)?;
    }
    tar.into_inner()
}
