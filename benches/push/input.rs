//! Archives made of files of this machine, the same in each run: folders are walked in the order of their names.
//!
//! They are stored in `target/bench-input`, and built if they are missing.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use ecr_push::internals::{self, ByteSource, ChildProcesses, Image, Spool, open};
use ecr_push::{ImageSelector, Selection, Source};
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// An archive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Input {
    /// Three layers of uneven size: an operating system, packages, an app.
    Three,
    /// The same, with an app that [`Inputs::change`] changes.
    Changed,
    /// The same as an OCI layout with compressed layers.
    Compressed,
    /// The same as Docker 25 and later save it: files are named by their hash.
    Modern,
    /// One layer.
    Huge,
    /// 40 small layers.
    Forty,
    /// 20 small layers.
    Twenty,
    /// One layer of 200 MB.
    One,
    /// One layer of 500 MB as an OCI layout, compressed to some 150 MB.
    OneCompressed,
    /// Four layers of 50 MB.
    Four,
    /// 20 layers of 5 MB.
    TwentyEqual,
}

impl Input {
    fn name(self) -> &'static str {
        match self {
            Self::Three => "three.tar",
            Self::Changed => "changed.tar",
            Self::Compressed => "compressed",
            Self::Modern => "three-25.tar",
            Self::Huge => "huge.tar",
            Self::Forty => "forty.tar",
            Self::Twenty => "twenty.tar",
            Self::One => "one.tar",
            Self::OneCompressed => "one-compressed",
            Self::Four => "four.tar",
            Self::TwentyEqual => "twenty-equal.tar",
        }
    }
}

/// The folder of the archives.
pub(crate) struct Inputs {
    folder: PathBuf,
    scale: u64,
}

impl Inputs {
    pub(crate) fn new(quick: bool) -> Self {
        let folder = target().join("bench-input").join(if quick { "quick" } else { "full" });
        std::fs::create_dir_all(&folder).unwrap();
        Self { folder, scale: if quick { 100_000 } else { 1_000_000 } }
    }

    /// Returns the archive, built if it is missing, and in the page cache if it fits.
    pub(crate) fn get(&self, input: Input) -> PathBuf {
        let path = self.cached(input.name(), |path, _| self.build(input, path));
        let files = if path.is_dir() { files_of(&path.join("blobs/sha256")) } else { vec![path.clone()] };
        for file in files {
            io::copy(&mut File::open(file).unwrap(), &mut io::sink()).unwrap();
        }
        path
    }

    /// Returns a file or a folder, built if it is missing. A megabyte has so many bytes as `build` gets.
    pub(crate) fn cached(&self, name: &str, build: impl FnOnce(&Path, u64)) -> PathBuf {
        let path = self.folder.join(name);
        if !path.exists() {
            eprintln!("building {}", path.display());
            let new = self.folder.join(format!("{name}.new"));
            std::fs::remove_dir_all(&new).or_else(|_| std::fs::remove_file(&new)).ok();
            build(&new, self.scale);
            std::fs::rename(new, &path).unwrap();
        }
        path
    }

    fn build(&self, input: Input, path: &Path) {
        let mut rest = Files::of(&["/usr/share"]);
        match input {
            Input::Three => {
                let mut save = Save::new(File::create(path).unwrap(), Vec::new());
                save.layer(|layer| {
                    // A third each, as in a small distribution.
                    layer.fill(&mut Files::of(&["/usr/bin", "/usr/sbin"]), 65 * self.scale);
                    layer.fill(&mut Files::of(&["/usr/lib"]).without("python"), 130 * self.scale);
                    layer.fill(&mut rest, 190 * self.scale);
                });
                let packages = ["/usr/lib/python3", "/usr/lib/python3.11", "/usr/local/lib", "/usr/lib"];
                save.layer(|layer| layer.fill(&mut Files::of(&packages), 500 * self.scale));
                save.layer(|layer| self.app(layer, 0));
                save.finish();
            }
            Input::Changed => {
                std::fs::copy(self.get(Input::Three), path).unwrap();
            }
            Input::Compressed => write_layout(&self.get(Input::Three), path),
            Input::Modern => save_by_hash(&self.get(Input::Three), path),
            Input::Huge => self.save(path, 1, 4_000),
            Input::One => self.save(path, 1, 200),
            Input::OneCompressed => {
                let whole = path.with_extension("tar");
                self.save(&whole, 1, 500);
                write_layout(&whole, path);
                std::fs::remove_file(whole).unwrap();
            }
            Input::Four => self.save(path, 4, 50),
            Input::TwentyEqual => self.save(path, 20, 5),
            Input::Forty | Input::Twenty => {
                let mut save = Save::new(File::create(path).unwrap(), Vec::new());
                for number in 0..if input == Input::Forty { 40 } else { 20 } {
                    save.layer(|layer| layer.fill(&mut rest, 100_000 << (number % 5)));
                }
                save.finish();
            }
        }
    }

    /// Writes an archive of `count` layers of `size` MB each.
    fn save(&self, path: &Path, count: usize, size: u64) {
        let (mut files, mut save) = (Files::of(&["/usr"]), Save::new(File::create(path).unwrap(), Vec::new()));
        (0..count).for_each(|_| save.layer(|layer| layer.fill(&mut files, size * self.scale)));
        save.finish();
    }

    /// Writes the app: small files, one of which differs between versions.
    fn app(&self, layer: &mut Layer<'_>, version: usize) {
        layer.add("app/version", version.to_string().as_bytes());
        layer.fill(&mut Files::of(&["/usr/include", "/usr/share/doc", "/usr/share"]), 10 * self.scale);
    }

    /// Replaces the app of [`Input::Changed`]. The layers before it stay unchanged.
    pub(crate) fn change(&self, version: usize) -> PathBuf {
        let path = self.get(Input::Changed);
        // Not from the file itself: a run that was killed may have left it incomplete.
        let layers = layers(&self.get(Input::Three));
        let diff_ids = layers[..2].iter().map(|(_, diff_id)| diff_id.clone()).collect();
        let mut file = File::options().read(true).write(true).open(&path).unwrap();
        // Its header is one block.
        let start = layers[2].0.start() - 512;
        file.set_len(start).unwrap();
        file.seek(SeekFrom::End(0)).unwrap();
        let mut save = Save::new(file, diff_ids);
        save.layer(|layer| self.app(layer, version));
        save.finish();
        path
    }

    /// Describes an archive. The image ID shows whether two machines have the same files.
    pub(crate) fn describe(&self, input: Input) -> String {
        let image = image(&self.folder.join(input.name()));
        let layers: Vec<_> = image.manifests()[0].layers.iter().map(|layer| layer.bytes.len()).collect();
        let (count, bytes) = (layers.len(), layers.iter().sum::<u64>());
        format!("{}: {count} layers, {:.1} MB, {}", input.name(), bytes as f64 / 1e6, image.content.id().short())
    }
}

/// Returns the folder of build results. Everything except `benches/results.md` is written there.
pub(crate) fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().to_owned()
}

fn files_of(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Returns the image of an archive that can be read in place.
pub(crate) fn image(archive: &Path) -> Image {
    let spool = Spool {
        folder: Path::new("no temporary file is needed"),
        watch: &|_| ControlFlow::Continue(()),
        handler: None,
        processes: &ChildProcesses::default(),
    };
    open(&Source::Path(archive.to_owned()), &spool)
        .unwrap()
        .select(&ImageSelector::Only, &Selection::default())
        .unwrap()
}

/// Returns the layers of an archive, with their diff_ids.
fn layers(archive: &Path) -> Vec<(ByteSource, String)> {
    let image = image(archive);
    let manifests = image.manifests();
    let layer = |layer: &internals::Layer| (layer.bytes.clone(), layer.diff_id.unwrap().to_string());
    manifests[0].layers.iter().map(layer).collect()
}

/// The regular files below some folders, sorted; after the last one it starts again.
pub(crate) struct Files {
    roots: Vec<PathBuf>,
    without: Option<&'static str>,
    folders: Vec<PathBuf>,
    files: Vec<PathBuf>,
    round: usize,
}

impl Files {
    pub(crate) fn of(roots: &[&str]) -> Self {
        let roots: Vec<PathBuf> = roots.iter().rev().map(PathBuf::from).collect();
        Self { folders: roots.clone(), roots, without: None, files: Vec::new(), round: 0 }
    }

    /// Excludes folders whose name starts so.
    fn without(mut self, start: &'static str) -> Self {
        self.without = Some(start);
        self
    }

    /// Returns the next file, and its name in the archive.
    fn next(&mut self) -> (PathBuf, String) {
        loop {
            if let Some(file) = self.files.pop() {
                let name = format!("{}{}", ["", "again/"][self.round.min(1)], file.display());
                return (file, name.trim_start_matches('/').to_owned());
            }
            let Some(folder) = self.folders.pop() else {
                self.round += 1;
                assert!(self.round < 1000, "{:?} have no files", self.roots);
                self.folders.clone_from(&self.roots);
                continue;
            };
            let Ok(entries) = std::fs::read_dir(folder) else { continue };
            let mut entries: Vec<_> = entries.flatten().collect();
            // They are popped from the end.
            entries.sort_by_key(|entry| std::cmp::Reverse(entry.file_name()));
            for entry in entries {
                let name = entry.file_name();
                let is_excluded = self.without.is_some_and(|start| name.to_string_lossy().starts_with(start));
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() && !is_excluded => self.folders.push(entry.path()),
                    Ok(kind) if kind.is_file() => self.files.push(entry.path()),
                    _ => {}
                }
            }
        }
    }
}

/// Writes an archive as `docker save` did before version 25.
pub(crate) struct Save {
    out: BufWriter<File>,
    diff_ids: Vec<String>,
    pub(crate) architecture: String,
}

impl Save {
    /// Continues after layers with these diff_ids.
    pub(crate) fn new(file: File, diff_ids: Vec<String>) -> Self {
        Self { out: BufWriter::with_capacity(1 << 20, file), diff_ids, architecture: "amd64".into() }
    }

    fn name(number: usize) -> String {
        format!("{number:064x}/layer.tar")
    }

    pub(crate) fn layer(&mut self, fill: impl FnOnce(&mut Layer<'_>)) {
        let start = self.out.stream_position().unwrap();
        self.out.write_all(&[0; 512]).unwrap();
        let hashing = Hashing { to: &mut self.out, hash: Sha256::new(), len: 0 };
        let Hashing { len, hash, .. } = Layer::filled(hashing, fill);
        // A tar consists of whole blocks, so the next entry needs no padding. Now the size is known.
        let mut header = tar::Header::new_ustar();
        header.set_path(Self::name(self.diff_ids.len())).unwrap();
        header.set_size(len);
        header.set_mode(0o644);
        header.set_cksum();
        self.out.seek(SeekFrom::Start(start)).unwrap();
        self.out.write_all(header.as_bytes()).unwrap();
        self.out.seek(SeekFrom::End(0)).unwrap();
        self.diff_ids.push(digest(hash));
    }

    pub(crate) fn finish(self) {
        let all = (0..self.diff_ids.len()).collect();
        self.finish_images(&[("bench/app:1".to_owned(), all)]);
    }

    /// Adds images, each with its name and the numbers of its layers.
    pub(crate) fn finish_images(self, images: &[(String, Vec<usize>)]) {
        let Self { out, diff_ids, architecture } = self;
        let mut tar = tar::Builder::new(out);
        let mut list = Vec::new();
        for (name, layers) in images {
            let own: Vec<_> = layers.iter().map(|layer| diff_ids[*layer].clone()).collect();
            let config = config(&architecture, &own);
            let config_name = format!("{}.json", &sha256(&config)["sha256:".len()..]);
            add(&mut tar, &config_name, &config);
            let layers: Vec<_> = layers.iter().map(|layer| Self::name(*layer)).collect();
            list.push(json!({"Config": config_name, "RepoTags": [name], "Layers": layers}));
        }
        add(&mut tar, "manifest.json", json!(list).to_string().as_bytes());
        tar.into_inner().unwrap().flush().unwrap();
    }
}

type Out<'a> = Hashing<&'a mut BufWriter<File>>;

/// Writes a layer.
pub(crate) struct Layer<'a>(tar::Builder<Out<'a>>);

impl<'a> Layer<'a> {
    fn filled(to: Out<'a>, fill: impl FnOnce(&mut Layer<'_>)) -> Out<'a> {
        let mut layer = Self(tar::Builder::new(to));
        fill(&mut layer);
        layer.0.into_inner().unwrap()
    }

    pub(crate) fn add(&mut self, name: &str, bytes: &[u8]) {
        add(&mut self.0, name, bytes);
    }

    /// Adds files until the layer has `size` bytes.
    pub(crate) fn fill(&mut self, files: &mut Files, size: u64) {
        while self.0.get_ref().len < size {
            let (path, name) = files.next();
            let left = size - self.0.get_ref().len;
            let Ok(file) = File::open(path) else { continue };
            let mut bytes = Vec::new();
            // The last file is truncated where the layer is full.
            if file.take(left).read_to_end(&mut bytes).is_ok() && !bytes.is_empty() {
                self.add(&name, &bytes);
            }
        }
    }
}

pub(crate) fn add(tar: &mut tar::Builder<impl Write>, name: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, bytes).unwrap();
}

fn config(architecture: &str, diff_ids: &[String]) -> Vec<u8> {
    let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
    let config = json!({"architecture": architecture, "os": "linux", "config": {"Cmd": ["/app"]}, "rootfs": rootfs});
    config.to_string().into_bytes()
}

/// Writes an OCI layout with an archive's layers, compressed as by other tools: one gzip stream at level 6.
fn write_layout(archive: &Path, layout: &Path) {
    let blobs = layout.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let describe = |kind: &str, digest: &str, size: u64| {
        let media_type = format!("application/vnd.oci.image.{kind}");
        json!({"mediaType": media_type, "digest": digest, "size": size})
    };
    let blob = |kind: &str, bytes: &[u8]| {
        let digest = sha256(bytes);
        std::fs::write(blobs.join(&digest["sha256:".len()..]), bytes).unwrap();
        describe(kind, &digest, bytes.len() as u64)
    };
    let layers = layers(archive);
    let compress = |(number, (layer, _)): (usize, &(ByteSource, String))| -> Value {
        let path = blobs.join(format!("new-{number}"));
        let hashing = Hashing { to: File::create(&path).unwrap(), hash: Sha256::new(), len: 0 };
        let mut gzip = GzEncoder::new(hashing, flate2::Compression::new(6));
        let mut block = vec![0; 1 << 20];
        let mut position = 0;
        while position < layer.len() {
            let read = layer.read_at(position, &mut block).unwrap();
            gzip.write_all(&block[..read]).unwrap();
            position += read as u64;
        }
        let Hashing { hash, len, .. } = gzip.finish().unwrap();
        let digest = digest(hash);
        std::fs::rename(path, blobs.join(&digest["sha256:".len()..])).unwrap();
        describe("layer.v1.tar+gzip", &digest, len)
    };
    let compressed: Vec<_> = layers.iter().enumerate().map(compress).collect();
    let diff_ids: Vec<_> = layers.iter().map(|(_, diff_id)| diff_id.clone()).collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob("config.v1+json", &config("amd64", &diff_ids)),
        "layers": compressed,
    });
    let index = json!({"schemaVersion": 2, "manifests": [blob("manifest.v1+json", manifest.to_string().as_bytes())]});
    std::fs::write(layout.join("index.json"), index.to_string()).unwrap();
    std::fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

/// Writes an archive as Docker 25 and later do: blobs in the order of their names, then the documents.
fn save_by_hash(archive: &Path, path: &Path) {
    let mut tar = tar::Builder::new(BufWriter::with_capacity(1 << 20, File::create(path).unwrap()));
    let mut add = |name: &str, len: u64, bytes: &mut dyn io::Read| {
        let mut header = tar::Header::new_gnu();
        header.set_size(len);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes).unwrap();
    };
    let name = |digest: &str| format!("blobs/sha256/{}", &digest["sha256:".len()..]);
    let layers = layers(archive);
    let diff_ids: Vec<_> = layers.iter().map(|(_, diff_id)| diff_id.clone()).collect();
    let config = config("amd64", &diff_ids);
    let describe = |kind: &str, digest: &str, size: u64| json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest, "size": size});
    let descriptors: Vec<_> = layers.iter().map(|(bytes, id)| describe("layer.v1.tar", id, bytes.len())).collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": describe("config.v1+json", &sha256(&config), config.len() as u64),
        "layers": descriptors,
    });
    let manifest = manifest.to_string().into_bytes();
    let root = describe("manifest.v1+json", &sha256(&manifest), manifest.len() as u64);
    let small = |bytes: &Vec<u8>| (name(&sha256(bytes)), Some(bytes.clone()), None);
    let large = layers.iter().map(|(bytes, diff_id)| (name(diff_id), None, Some(bytes)));
    let mut blobs: Vec<_> = large.chain([small(&config), small(&manifest)]).collect();
    blobs.sort_by(|one, other| one.0.cmp(&other.0));
    for (name, small, large) in &blobs {
        match (small, large) {
            (Some(bytes), _) => add(name, bytes.len() as u64, &mut bytes.as_slice()),
            (None, Some(range)) => add(name, range.len(), &mut range.reader()),
            (None, None) => {}
        }
    }
    let names: Vec<_> = diff_ids.iter().map(|diff_id| name(diff_id)).collect();
    let list = json!([{"Config": name(&sha256(&config)), "RepoTags": ["bench:1"], "Layers": names}]);
    for (name, json) in [
        ("index.json", json!({"schemaVersion": 2, "manifests": [root]})),
        ("manifest.json", list),
        ("oci-layout", json!({"imageLayoutVersion": "1.0.0"})),
    ] {
        let text = json.to_string();
        add(name, text.len() as u64, &mut text.as_bytes());
    }
    tar.into_inner().unwrap().flush().unwrap();
}

/// A writer that hashes and counts the bytes on the way.
struct Hashing<W> {
    to: W,
    hash: Sha256,
    len: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write_all(bytes)?;
        self.hash.update(bytes);
        self.len += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn digest(hash: Sha256) -> String {
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    digest(Sha256::new_with_prefix(bytes))
}
