//! Reads a case, and judges all that the reader says of it by other code.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ecr_push::internals::{
    Archive, ByteSource, Child, ChildProcesses, Compression, CompressionSpec, Content, Image, Layer, Manifest,
    OriginalManifest, Pool, Replacements, Role, Spool, StoredLayer, compose_index, compose_manifest, compress, open,
};
use ecr_push::{Digest, Error, GzipEncoder, ImageSelector, Kind, Platform, Platforms, Selection, Source};
use serde_json::Value;

use super::archive::hex;
use super::damage::{Case, Fate, Form};
use super::layers::{BOMB, unpack};

/// The longest sentence.
const SENTENCE: usize = 2000;

/// The longest advice: a list of images.
const ADVICE: usize = 100_000;

/// Manifests of a case whose layers are read, and images that are chosen. The rest is as the first are.
const SOME: usize = 12;

/// The most that is unpacked of a compressed archive.
const UNPACKED: u64 = 64 << 20;

/// What was found of a case that is in order.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) opened: bool,
    pub(crate) layers: u64,
    /// The manifests whose layers were read.
    manifests: usize,
    /// The bytes that the judge itself had in memory.
    pub(crate) judged: usize,
}

/// Why a case is not in order.
type Verdict<T> = Result<T, String>;

/// Reads and judges.
pub(crate) struct Judge {
    folder: PathBuf,
    pool: Pool,
}

fn ensure(is_true: bool, why: impl FnOnce() -> String) -> Verdict<()> {
    if is_true { Ok(()) } else { Err(why()) }
}

impl Judge {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), pool: Pool::start(1) }
    }

    pub(crate) fn judge(&mut self, case: &Case) -> Verdict<Seen> {
        let is_folder = matches!(case.form, Form::Folder(_));
        let path = self.folder.join(if is_folder { "folder" } else { "file" });
        match &case.form {
            Form::Tar { bytes, .. } => fs::write(&path, bytes).unwrap(),
            Form::Folder(files) => {
                fs::create_dir(&path).unwrap();
                for (name, bytes) in files {
                    let file = path.join(name);
                    // A file may be where another one wants a folder.
                    if fs::create_dir_all(file.parent().unwrap()).is_ok() {
                        File::create(file).and_then(|mut file| file.write_all(bytes)).ok();
                    }
                }
            }
        }
        let seen = self.read(&path, case);
        if is_folder {
            fs::remove_dir_all(&path).unwrap();
        }
        seen
    }

    fn read(&self, path: &Path, case: &Case) -> Verdict<Seen> {
        let opened = self.open(path);
        let mut seen = Seen::default();
        if let Some(whole) = &case.beginning_of
            && (opened.is_ok() || case.fate == Some(Fate::Opened))
        {
            let path = self.folder.join("whole");
            fs::write(&path, whole).unwrap();
            match (self.open(&path), &opened) {
                (Ok(whole), Ok(archive)) => {
                    let same = outline(&whole) == outline(archive);
                    ensure(same, || "it breaks off and is taken for another archive".into())?;
                }
                // What is not there can be missing because the end is.
                (Ok(whole), Err(error)) => {
                    let is_incomplete = !whole.unusable.is_empty() || whole.images.iter().any(is_partial);
                    ensure(is_incomplete, || format!("all is there, but: {error}"))?;
                }
                (Err(error), Ok(_)) => return Err(format!("the whole archive is refused: {error}")),
                (Err(_), Err(_)) => {}
            }
        }
        let archive = match opened {
            Ok(_) if case.fate == Some(Fate::Refused) => return Err("it breaks off and is taken".into()),
            Ok(archive) => archive,
            Err(error) => return refused(&error, &[Kind::Input, Kind::Interrupted]).map(|()| seen),
        };
        seen.opened = true;
        for note in &archive.notes {
            sentence(note)?;
        }
        self.choose(&archive)?;
        let tar = match &case.form {
            Form::Tar { bytes, outer: None } => Some(&bytes[..]),
            _ => None,
        };
        ensure(archive.images.iter().map(|image| depth(&image.content)).max() <= Some(10), || "it is too deep".into())?;
        let manifests: usize = archive.images.iter().map(|image| image.manifests().len()).sum();
        ensure(manifests <= 40_000, || format!("{manifests} manifests"))?;
        for image in archive.images.iter().take(SOME) {
            // The documents of many images are not in memory until one is selected.
            let mut image = image.clone();
            archive
                .load(&mut image)
                .map_err(|error| format!("documents that were read cannot be read again: {error}"))?;
            self.content(&image.content, tar, &mut seen)?;
        }
        Ok(seen)
    }

    fn open(&self, path: &Path) -> ecr_push::Result<Arc<Archive>> {
        let watch = |written| if written > UNPACKED { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        open(
            &Source::Path(path.to_owned()),
            &Spool { folder: &self.folder, watch: &watch, handler: None, processes: &ChildProcesses::default() },
        )
    }

    /// Every image can be chosen, by the option that the advice names.
    fn choose(&self, archive: &Archive) -> Verdict<()> {
        let only = archive.select(&ImageSelector::Only, &Selection::default());
        // For an incomplete index a platform has to be named, unless only attestations are missing.
        let error = match (&only, archive.images.as_slice()) {
            (Err(error), _) => error,
            (Ok(chosen), [image]) if archive.unusable.is_empty() => {
                let same = same(&chosen.content, &image.content) || is_partial(image);
                ensure(same, || "what is all there is not chosen as it is".into())?;
                return choose_platforms(archive, image);
            }
            (Ok(_), _) => return Err("one of several images is chosen".into()),
        };
        if let ([image], []) = (archive.images.as_slice(), archive.unusable.as_slice())
            && is_partial(image)
        {
            return refused(error, &[Kind::Input]);
        }
        refused(error, &[Kind::Usage])?;
        let advice = error.advice().map(ToString::to_string).unwrap_or_default();
        let options: Vec<_> = advice.lines().filter_map(|line| line.strip_prefix("  --image")).collect();
        let left = archive.images.len() - options.len().min(archive.images.len());
        let says = left == 0 || advice.contains(&format!("and {left} more"));
        ensure(says, || format!("{} options for {} images", options.len(), archive.images.len()))?;
        for (image, option) in archive.images.iter().zip(options).take(SOME) {
            let choice = match (option.strip_prefix("-id "), option.strip_prefix(' ')) {
                (Some(id), _) => ImageSelector::Id(word(id)),
                (_, Some(name)) => ImageSelector::Name(word(name)),
                _ => return Err(format!("no option: {option}")),
            };
            let is_word = !matches!(&choice, ImageSelector::Name(name) | ImageSelector::Id(name) if name.is_empty() && !option.contains('\''));
            ensure(is_word, || format!("an option without its value: {option}"))?;
            let chosen = match archive.select(&choice, &Selection::default()) {
                Ok(chosen) => chosen,
                Err(error) if is_partial(image) => {
                    refused(&error, &[Kind::Input])?;
                    continue;
                }
                Err(error) => return Err(format!("{choice:?} chooses nothing: {error}")),
            };
            let same = same(&chosen.content, &image.content);
            ensure(same, || format!("{choice:?} chooses another image"))?;
        }
        Ok(())
    }

    /// A manifest or an index, and all below: what is pushed if nothing is packed.
    fn content(&self, content: &Content, tar: Option<&[u8]>, seen: &mut Seen) -> Verdict<OriginalManifest> {
        let stated = match content {
            Content::Manifest(manifest) => self.manifest(manifest, tar, seen)?,
            Content::Index(index) => {
                checked(&index.original)?;
                if !is_json(&index.original.bytes) {
                    return Ok(index.original.clone());
                }
                let listed = descriptors(&index.original, "manifests")?;
                let mut children = Vec::new();
                if !index.absent().is_empty() {
                    for child in index.children.iter().take(SOME) {
                        self.content(&child.content, tar, seen)?;
                    }
                    return Ok(index.original.clone());
                }
                ensure(listed.len() == index.children.len(), || "another number of children".into())?;
                for (child, (digest, size)) in index.children.iter().zip(listed).take(SOME) {
                    let Some(stated) = child.content.original() else { return Err("a child without bytes".into()) };
                    let same = stated.digest.to_string() == digest && stated.bytes.len() as u64 == size;
                    ensure(same, || format!("a child is not what is listed: {digest}"))?;
                    children.push(self.content(&child.content, tar, seen)?);
                }
                if children.len() < index.children.len() {
                    return Ok(index.original.clone());
                }
                let became = |after: &[OriginalManifest]| -> Replacements {
                    let before = index.children.iter().filter_map(|child| Some(child.content.original()?.digest));
                    before.zip(after.iter().cloned()).collect()
                };
                let whole = compose_index(index, &became(&children)).map_err(|error| error.to_string())?;
                let mut others = children.clone();
                // An index may list a child twice, which then changes twice.
                let distinct: HashSet<_> = children.iter().map(|child| child.digest).collect();
                if let Some(first) = others.first_mut()
                    && distinct.len() == children.len()
                {
                    *first = OriginalManifest { digest: index.original.digest, ..first.clone() };
                }
                match compose_index(index, &became(&others)) {
                    Ok(changed) => {
                        let listed = descriptors(&changed, "manifests")?;
                        let put = others.iter().map(|child| (child.digest.to_string(), child.bytes.len() as u64));
                        ensure(put.eq(listed), || "the index lists other children".into())?;
                    }
                    Err(error) => refused(&error, &[Kind::Input])?,
                }
                whole
            }
        };
        let same =
            content.original().is_none_or(|before| before.bytes == stated.bytes && before.digest == stated.digest);
        ensure(same, || "what is unchanged has other bytes".into())?;
        Ok(stated)
    }

    fn manifest(&self, manifest: &Manifest, tar: Option<&[u8]>, seen: &mut Seen) -> Verdict<OriginalManifest> {
        let config = &manifest.config;
        ensure(config.bytes.len() <= 8 << 20, || format!("a config of {} bytes", config.bytes.len()))?;
        ensure(hex(&config.bytes) == config.digest.hex(), || "a config of another digest".into())?;
        config.platform.iter().try_for_each(|platform| sentence(&platform.to_string()))?;
        let json: Option<Value> = serde_json::from_slice(&config.bytes).ok();
        let diff_ids = json.as_ref().and_then(|json| json.pointer("/rootfs/diff_ids")).and_then(Value::as_array);
        if json.is_some() && manifest.layers.iter().any(|layer| layer.diff_id.is_some()) {
            let listed = diff_ids.into_iter().flatten().map(|id| id.as_str().unwrap_or_default().to_owned());
            let known = manifest.layers.iter().map(|layer| layer.diff_id.map(|id| id.to_string()).unwrap_or_default());
            ensure(known.eq(listed), || "other diff_ids than the config's".into())?;
        }
        if let Some(stated) = &manifest.original {
            checked(stated)?;
            if !is_json(&stated.bytes) {
                return Ok(stated.clone());
            }
            let json: Value = serde_json::from_slice(&stated.bytes).map_err(|error| error.to_string())?;
            let (digest, size) = (json["config"]["digest"].as_str(), json["config"]["size"].as_u64());
            let same = digest == Some(&config.digest.to_string()) && size == Some(config.bytes.len() as u64);
            ensure(same, || "another config than the manifest's".into())?;
            let listed = descriptors(stated, "layers")?;
            let found = manifest
                .layers
                .iter()
                .map(|it| (it.digest.map(|it| it.to_string()).unwrap_or_default(), it.bytes.len()));
            ensure(found.eq(listed), || "other layers than the manifest's".into())?;
        }
        if seen.manifests == SOME {
            return Ok(manifest.original.clone().unwrap_or_else(|| OriginalManifest {
                digest: config.digest,
                bytes: config.bytes.clone(),
                media_type: String::new(),
                subject: None,
            }));
        }
        seen.manifests += 1;
        let (mut unchanged, mut packed) = (Vec::new(), Vec::new());
        for layer in &manifest.layers {
            sentence(&layer.name)?;
            if layer.bytes.is_missing() {
                let is_there = tar.is_some_and(|tar| has_file(tar, &layer.name));
                ensure(!is_there, || format!("a layer that is there is missing: {}", layer.name))?;
                // A push takes it from the repository, as the manifest states it.
                let stored = layer.digest.map(|digest| (digest, layer.bytes.len(), layer.compression));
                let stored = stored.ok_or("a missing layer has no digest")?;
                unchanged.push(stored);
                packed.push(stored);
                continue;
            }
            if let Some(tar) = tar {
                let end = layer.bytes.start().checked_add(layer.bytes.len());
                ensure(end.is_some_and(|end| end <= tar.len() as u64), || "a layer behind the archive's end".into())?;
            }
            let (as_is, as_gzip) = self.layer(layer, seen)?;
            // One that is not what the manifest says fails the push; continue as if it were.
            unchanged.push((layer.digest.unwrap_or(as_is.0), as_is.1, as_is.2));
            packed.push(as_gzip.unwrap_or(as_is));
        }
        match compose_manifest(manifest, &packed) {
            Ok(made) => {
                checked(&made)?;
                let put = packed.iter().map(|(digest, size, _)| (digest.to_string(), *size));
                ensure(put.eq(descriptors(&made, "layers")?), || "the manifest lists other layers".into())?;
            }
            Err(error) => refused(&error, &[Kind::Input])?,
        }
        compose_manifest(manifest, &unchanged).map_err(|error| error.to_string())
    }

    /// Reads a layer unchanged, and compressed if it is uncompressed.
    fn layer(&self, layer: &Layer, seen: &mut Seen) -> Verdict<(StoredLayer, Option<StoredLayer>)> {
        let bytes = all(&layer.bytes)?;
        seen.layers += u64::from(!bytes.is_empty());
        let plain = unpack(&bytes);
        seen.judged = seen.judged.max(3 * (bytes.len() + plain.as_ref().map_or(BOMB, Vec::len)));
        ensure(layer.compression == Compression::of(&bytes), || "another packing".into())?;
        let recipe = CompressionSpec::Keep { compression: layer.compression, decompress: true };
        let digest = hex(&bytes);
        let stored = match (self.pack(&layer.bytes, recipe), &plain) {
            (Ok((found, stored, diff_id)), Some(plain)) => {
                ensure(found == bytes && stored.0.hex() == digest, || "a layer is not sent unchanged".into())?;
                ensure(diff_id.as_deref() == Some(&hex(plain)), || "another diff_id than the plain bytes'".into())?;
                // What a push compares.
                let matches = layer.digest.is_none_or(|stated| stated == stored.0)
                    && layer.diff_id.is_none_or(|stated| Some(stated.hex()) == diff_id);
                let true_ = layer.digest.is_none_or(|stated| stated.hex() == digest)
                    && layer.diff_id.is_none_or(|stated| stated.hex() == hex(plain));
                ensure(matches == true_, || "a layer is taken for another".into())?;
                stored
            }
            (Ok(_), None) => return Err(format!("a layer that cannot be unpacked is taken: {}", layer.name)),
            (Err(error), None) => {
                sentence(&error)?;
                let recipe = CompressionSpec::Keep { compression: layer.compression, decompress: false };
                self.pack(&layer.bytes, recipe)?.1
            }
            // Broken frames are broken to some of libzstd's ways of reading, and not to all.
            (Err(error), Some(_)) if layer.compression == Compression::Zstd => {
                sentence(&error)?;
                let recipe = CompressionSpec::Keep { compression: layer.compression, decompress: false };
                self.pack(&layer.bytes, recipe)?.1
            }
            (Err(error), Some(_)) => return Err(format!("a layer that can be unpacked is refused: {error}")),
        };
        if layer.compression != Compression::Uncompressed {
            return Ok((stored, None));
        }
        let (found, packed, diff_id) = self.pack(&layer.bytes, CompressionSpec::Gzip(GzipEncoder::default()))?;
        ensure(hex(&found) == packed.0.hex(), || "another digest than the packed bytes'".into())?;
        ensure(unpack(&found).as_ref() == Some(&bytes), || "the packed bytes are another layer".into())?;
        ensure(diff_id.as_deref() == Some(&digest), || "packed, another diff_id".into())?;
        Ok((stored, Some(packed)))
    }

    /// The bytes that are sent, what they are said to be, and the diff_id.
    fn pack(&self, range: &ByteSource, recipe: CompressionSpec) -> Verdict<(Vec<u8>, StoredLayer, Option<String>)> {
        let mut sent = Vec::new();
        let packed = compress(range.reader(), range.len(), recipe, &self.pool, |piece| {
            sent.extend_from_slice(&piece.bytes);
            ControlFlow::Continue(())
        });
        let packed = packed.map_err(|error| error.to_string())?;
        ensure(packed.size == sent.len() as u64, || "another size than was sent".into())?;
        Ok((sent, (packed.digest, packed.size, recipe.compression()), packed.diff_id.map(|id| id.hex())))
    }
}

fn all(range: &ByteSource) -> Verdict<Vec<u8>> {
    range.read_all(64 << 20).map_err(|error| format!("a layer cannot be read: {error}"))
}

/// Whether a tar's last entry of this name is an ordinary file.
fn has_file(tar: &[u8], name: &str) -> bool {
    let mut tar = tar::Archive::new(tar);
    let entries = tar.entries().into_iter().flatten().map_while(Result::ok);
    let named = entries.filter(|entry| entry.path().is_ok_and(|path| path.to_str() == Some(name)));
    named.last().is_some_and(|entry| entry.header().entry_type().is_file())
}

/// What an archive comes to, in words.
fn outline(archive: &Archive) -> String {
    let layers = |image: &Image| {
        let layers = image.manifests().into_iter().flat_map(|manifest| &manifest.layers);
        layers.map(|it| format!("{:?}", (&it.name, it.bytes.len(), it.diff_id, it.digest))).collect::<Vec<_>>()
    };
    let images = archive.images.iter();
    format!("{:?}", images.map(|image| (&image.names, image.content.id(), layers(image))).collect::<Vec<_>>())
}

/// Every platform of an archive's only image chooses the manifest for it, if there is one and not several.
fn choose_platforms(archive: &Archive, image: &Image) -> Verdict<()> {
    let images = images(&image.content);
    for platform in images.iter().filter_map(|(platform, _)| platform.clone()).take(SOME) {
        let part = Selection { platforms: Platforms::One(platform.clone()), ..Selection::default() };
        let fits: HashSet<_> =
            images.iter().filter(|(its, _)| its.as_ref() == Some(&platform)).map(|it| it.1).collect();
        match archive.select(&ImageSelector::Only, &part) {
            Ok(chosen) => {
                let is_it = fits.len() == 1 && fits.contains(&key(&chosen.content));
                ensure(is_it, || format!("{platform} chooses another image"))?;
            }
            Err(error) if fits.len() > 1 => refused(&error, &[Kind::Usage])?,
            Err(error) => return Err(format!("{platform} chooses nothing: {error}")),
        }
    }
    Ok(())
}

/// The manifests of images, each with its platform.
fn images(content: &Content) -> Vec<(Option<Platform>, Key)> {
    match content {
        Content::Manifest(manifest) => vec![(manifest.config.platform.clone(), key(content))],
        Content::Index(index) => {
            let of = |child: &Child| match (&child.role, &child.content) {
                (Role::Attestation(_), _) => Vec::new(),
                (Role::Image(_), index @ Content::Index(_)) => images(index),
                (Role::Image(platform), manifest) => vec![(platform.clone(), key(manifest))],
            };
            index.children.iter().flat_map(of).collect()
        }
    }
}

fn depth(content: &Content) -> usize {
    match content {
        Content::Manifest(_) => 0,
        Content::Index(index) => 1 + index.children.iter().map(|child| depth(&child.content)).max().unwrap_or(0),
    }
}

/// Whether it is an index that is not all there.
fn is_partial(image: &Image) -> bool {
    matches!(&image.content, Content::Index(index) if !index.absent().is_empty())
}

/// What only one content has: the digests of its config and its manifest, or of its index.
type Key = (Digest, Option<Digest>);

fn key(content: &Content) -> Key {
    (content.id(), content.original().map(|stated| stated.digest))
}

fn same(one: &Content, other: &Content) -> bool {
    key(one) == key(other)
}

/// The digest is that of the bytes, and they are no more than a registry takes.
fn checked(stated: &OriginalManifest) -> Verdict<()> {
    ensure(stated.bytes.len() <= 4 << 20, || format!("a manifest of {} bytes", stated.bytes.len()))?;
    ensure(hex(&stated.bytes) == stated.digest.hex(), || "a manifest of another digest".into())
}

/// Whether all of it is JSON that can be compared. The reader passes over what is wrong in fields that it does not know.
fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<Value>(bytes).is_ok()
}

/// The digests and sizes that a manifest or an index lists.
fn descriptors(stated: &OriginalManifest, list: &str) -> Verdict<Vec<(String, u64)>> {
    let json: Value = serde_json::from_slice(&stated.bytes).map_err(|error| error.to_string())?;
    let items = json.get(list).and_then(Value::as_array).into_iter().flatten();
    let items = items.map(|item| Some((item.get("digest")?.as_str()?.to_owned(), item.get("size")?.as_u64()?)));
    items.collect::<Option<_>>().ok_or_else(|| format!("{list} without digests and sizes"))
}

/// An error in words, of a kind that says who is at fault.
fn refused(error: &Error, kinds: &[Kind]) -> Verdict<()> {
    ensure(kinds.contains(&error.kind()), || format!("{:?}: {error}", error.kind()))?;
    sentence(&error.to_string())?;
    error.causes().iter().try_for_each(|cause| sentence(cause))?;
    let advice = error.advice().map(ToString::to_string).unwrap_or_default();
    ensure(advice.len() < ADVICE, || format!("an advice of {} bytes", advice.len()))?;
    advice.lines().try_for_each(|line| ensure(!line.contains(char::is_control), || format!("{line:?}")))
}

fn sentence(text: &str) -> Verdict<()> {
    ensure(text.len() < SENTENCE, || {
        format!("a sentence of {} bytes: {}", text.len(), text.chars().take(300).collect::<String>())
    })?;
    ensure(!text.contains(char::is_control), || format!("control characters: {text:?}"))
}

/// The first word, as a shell reads it.
fn word(line: &str) -> String {
    let Some(mut rest) = line.strip_prefix('\'') else { return line.split(' ').next().unwrap_or_default().into() };
    let mut word = String::new();
    while let Some((part, after)) = rest.split_once('\'') {
        word.push_str(part);
        let Some(after) = after.strip_prefix(r"\''") else { break };
        word.push('\'');
        rest = after;
    }
    word
}
