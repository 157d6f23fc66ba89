//! The state of one registry, which both APIs share: repositories, their blobs, images and tags, and upload sessions.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::time::SystemTime;

use axum::body::Bytes;

use super::folder::Folder;
use super::repository::{Image, Repo, Settings};
use super::rules::{CreationTemplate, Interrupted, Parts};
use super::upload::{Blob, Gathered, Incomplete, Upload};
use crate::error::Result;
use crate::oci::{Digest, Repository, Tag};
use crate::sync::lock;

/// The maximum number of aliases: requests name them.
const ALIASES: usize = 1000;

/// The state of one registry, which both APIs share.
pub(super) struct Store {
    inner: Mutex<Inner>,
    folder: Option<Folder>,
    discard: bool,
}

#[derive(Default)]
struct Inner {
    repositories: BTreeMap<Repository, Repo>,
    uploads: HashMap<String, Session>,
    /// The sessions that became blobs, of which repository.
    closed: HashMap<String, (Repository, Digest)>,
    /// The aliases below which clients of ECR Public expect repositories, by their names without the alias.
    aliases: BTreeMap<String, String>,
    registry: RegistrySettings,
}

/// An upload session, or what is known of it while a request is feeding it.
enum Session {
    Idle(Box<Upload>),
    Busy { repository: Repository, received: u64, fed: u64 },
}

impl Session {
    fn repository(&self) -> &Repository {
        match self {
            Self::Idle(upload) => &upload.repository,
            Self::Busy { repository, .. } => repository,
        }
    }
}

/// The settings of a registry, until the sandbox stops.
#[derive(Debug, Default)]
pub(super) struct RegistrySettings {
    pub(super) policy: Option<String>,
    /// The account settings, by name.
    pub(super) settings: BTreeMap<String, String>,
    /// The creation templates, if the API changed them.
    pub(super) templates: Option<Vec<CreationTemplate>>,
}

impl Inner {
    /// How many bytes of blobs there are, with those of uploads. One in several repositories is there once, as in every
    /// store that goes by digest.
    fn used(&self) -> u64 {
        let blobs = self.repositories.values().flat_map(|repo| &repo.blobs);
        let blobs: HashMap<&Digest, u64> = blobs.map(|(digest, blob)| (digest, blob.size())).collect();
        let uploads = self.uploads.values().map(|session| match session {
            Session::Idle(upload) => upload.received,
            Session::Busy { received, fed, .. } => received + fed,
        });
        blobs.into_values().chain(uploads).sum()
    }
}

/// Why a session cannot be fed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum NoSession {
    Unknown,
    /// Another request is feeding it, and had this many bytes to go on from.
    Busy(u64),
}

impl Store {
    /// Opens the state: in memory, or in a folder. With `discard` no large blob is stored from now on.
    pub(super) fn open(dir: Option<&Path>, discard: bool) -> Result<Self> {
        let mut inner = Inner::default();
        let mut folder = None;
        if let Some(dir) = dir {
            let (opened, repositories) = Folder::open(dir)?;
            inner.repositories = repositories;
            folder = Some(opened);
        }
        Ok(Self { inner: Mutex::new(inner), folder, discard })
    }

    /// Creates a repository. Returns `false` if it exists already.
    pub(super) fn create(&self, name: &Repository, settings: Settings) -> io::Result<bool> {
        let mut inner = lock(&self.inner);
        if inner.repositories.contains_key(name) {
            return Ok(false);
        }
        let repo = Repo::new(settings);
        if let Some(folder) = &self.folder {
            folder.write_index(name, &repo)?;
        }
        inner.repositories.insert(name.clone(), repo);
        Ok(true)
    }

    /// Notes that a client of ECR Public expects a repository that does not exist: its alias becomes one of the account's.
    pub(super) fn expect(&self, name: &Repository) {
        let mut inner = lock(&self.inner);
        if let Some((alias, own)) = name.as_str().split_once('/')
            && inner.aliases.len() < ALIASES
            && !inner.repositories.contains_key(name)
        {
            inner.aliases.insert(own.to_owned(), alias.to_owned());
        }
    }

    /// Returns the alias below which a repository of ECR Public exists or is expected.
    pub(super) fn alias_of(&self, own: &str) -> Option<String> {
        let inner = lock(&self.inner);
        let is_own = |name: &&Repository| name.as_str().split_once('/').is_some_and(|(_, rest)| rest == own);
        let existing = inner.repositories.keys().find(is_own).and_then(|name| name.as_str().split_once('/'));
        inner.aliases.get(own).cloned().or_else(|| Some(existing?.0.to_owned()))
    }

    /// Returns the aliases below which clients of ECR Public expect repositories.
    pub(super) fn aliases(&self) -> BTreeSet<String> {
        lock(&self.inner).aliases.values().cloned().collect()
    }

    pub(super) fn repositories(&self) -> Vec<Repository> {
        lock(&self.inner).repositories.keys().cloned().collect()
    }

    /// Reads a repository. `None` if it does not exist.
    pub(super) fn look<T>(&self, name: &Repository, look: impl FnOnce(&Repo) -> T) -> Option<T> {
        lock(&self.inner).repositories.get(name).map(look)
    }

    /// Changes a repository. `None` if it does not exist.
    pub(super) fn change<T>(&self, name: &Repository, change: impl FnOnce(&mut Repo) -> T) -> Option<io::Result<T>> {
        let mut inner = lock(&self.inner);
        let repo = inner.repositories.get_mut(name)?;
        let changed = change(repo);
        let written = self.folder.as_ref().map_or(Ok(()), |folder| folder.write_index(name, repo));
        Some(written.map(|()| changed))
    }

    /// Removes a repository with all that is in it, if `may` allows it. `None` if it does not exist.
    pub(super) fn delete_repository(
        &self,
        name: &Repository,
        may: impl FnOnce(&Repo) -> bool,
    ) -> Option<io::Result<Option<Repo>>> {
        let mut inner = lock(&self.inner);
        if !may(inner.repositories.get(name)?) {
            return Some(Ok(None));
        }
        if let Some(Err(error)) = self.folder.as_ref().map(|folder| folder.remove(name)) {
            return Some(Err(error));
        }
        inner.uploads.retain(|_, session| session.repository() != name);
        inner.closed.retain(|_, (repository, _)| repository != name);
        Some(Ok(inner.repositories.remove(name)))
    }

    /// Records that images were pulled now.
    pub(super) fn record_pulls(&self, name: &Repository, digests: impl IntoIterator<Item = Digest>) {
        if let Some(repo) = lock(&self.inner).repositories.get_mut(name) {
            repo.pulled.extend(digests.into_iter().map(|digest| (digest, SystemTime::now())));
        }
    }

    /// Reads or changes what the registry has beside its repositories.
    pub(super) fn registry<T>(&self, look: impl FnOnce(&mut RegistrySettings) -> T) -> T {
        look(&mut lock(&self.inner).registry)
    }

    /// Opens an upload session with this ID.
    pub(super) fn begin_upload(&self, name: &Repository, id: &str) -> io::Result<()> {
        let gathered = match &self.folder {
            Some(folder) => Gathered::File(folder.stage(id)?),
            None => Gathered::Memory(Vec::new()),
        };
        let upload = Box::new(Upload::new(name.clone(), gathered, self.discard));
        lock(&self.inner).uploads.insert(id.to_owned(), Session::Idle(upload));
        Ok(())
    }

    /// Borrows a session for one request, which has it for itself.
    pub(super) fn feed(&self, name: &Repository, id: &str, if_cut: Interrupted) -> Result<Feed<'_>, NoSession> {
        let mut inner = lock(&self.inner);
        let session = inner.uploads.get_mut(id).ok_or(NoSession::Unknown)?;
        let busy = match session {
            Session::Idle(upload) if upload.repository == *name => {
                Session::Busy { repository: name.clone(), received: upload.received, fed: 0 }
            }
            Session::Busy { repository, received, .. } if repository == name => return Err(NoSession::Busy(*received)),
            _ => return Err(NoSession::Unknown),
        };
        match std::mem::replace(session, busy) {
            Session::Idle(upload) => {
                Ok(Feed { store: self, id: id.to_owned(), upload: Some(upload), is_in_part: false, if_cut })
            }
            Session::Busy { .. } => Err(NoSession::Unknown),
        }
    }

    /// Removes a session. Returns `false` if it does not exist.
    pub(super) fn cancel_upload(&self, name: &Repository, id: &str) -> bool {
        let mut inner = lock(&self.inner);
        let is_here = inner.uploads.get(id).is_some_and(|session| session.repository() == name);
        is_here && inner.uploads.remove(id).is_some()
    }

    /// The blob that a session became.
    pub(super) fn closed(&self, name: &Repository, id: &str) -> Option<Digest> {
        lock(&self.inner).closed.get(id).filter(|(repository, _)| repository == name).map(|(_, digest)| *digest)
    }

    pub(super) fn open_uploads(&self) -> usize {
        lock(&self.inner).uploads.len()
    }

    /// Mounts a blob in another repository. Returns `false` if that is not possible.
    ///
    /// ECR mounts within the same encryption only, and only what a manifest of the source refers to
    /// (<https://github.com/aws/containers-roadmap/issues/2860>).
    pub(super) fn mount(&self, digest: &Digest, from: &Repository, to: &Repository) -> io::Result<bool> {
        let mut inner = lock(&self.inner);
        let (Some(source), Some(target)) = (inner.repositories.get(from), inner.repositories.get(to)) else {
            return Ok(false);
        };
        let alike = source.settings.encryption == target.settings.encryption
            && source.settings.kms_key == target.settings.kms_key;
        let referenced = source.images.values().any(|image| image.facts.blobs.contains(digest));
        let Some(mut blob) = source.blobs.get(digest).cloned().filter(|_| alike && referenced) else {
            return Ok(false);
        };
        if let (Some(folder), Blob::File(path, size)) = (&self.folder, &blob) {
            blob = Blob::File(folder.link(path, to, digest)?, *size);
        }
        if let Some(target) = inner.repositories.get_mut(to) {
            target.blobs.insert(*digest, blob);
        }
        Ok(true)
    }

    /// Stores an image that was judged good, under a tag if there is one.
    ///
    /// `judge` sees the repository under the same lock, so that nothing changes between verdict and deed.
    pub(super) fn put_image<E: From<io::Error>>(
        &self,
        name: &Repository,
        tag: Option<&Tag>,
        judge: impl FnOnce(&Repo) -> Result<(Digest, Image), E>,
    ) -> Option<Result<(Digest, Image), E>> {
        let mut inner = lock(&self.inner);
        let repo = inner.repositories.get_mut(name)?;
        Some(judge(repo).and_then(|(digest, image)| {
            self.keep_image(name, repo, tag, digest, image.clone())?;
            Ok((digest, image))
        }))
    }

    fn keep_image(
        &self,
        name: &Repository,
        repo: &mut Repo,
        tag: Option<&Tag>,
        digest: Digest,
        image: Image,
    ) -> io::Result<()> {
        if let Some(folder) = &self.folder {
            folder.write_blob(name, &digest, &image.bytes)?;
        }
        if repo.settings.scan_on_push && image.facts.children.is_empty() {
            repo.scanned.insert(digest, SystemTime::now());
        }
        repo.images.entry(digest).or_insert(image);
        repo.archived.remove(&digest);
        if let Some(tag) = tag {
            repo.tags.insert(tag.as_str().to_owned(), digest);
        }
        self.folder.as_ref().map_or(Ok(()), |folder| folder.write_index(name, repo))
    }
}

/// Seconds since 1970, as AWS writes times.
pub(super) fn epoch(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// A session that is locked by one request, until this is dropped.
///
/// Whatever ends that request in the middle of a part, and be it that the client vanished, leaves the session cut.
pub(super) struct Feed<'a> {
    store: &'a Store,
    id: String,
    upload: Option<Box<Upload>>,
    is_in_part: bool,
    if_cut: Interrupted,
}

impl Feed<'_> {
    /// The session.
    pub(super) fn upload(&mut self) -> io::Result<&mut Upload> {
        self.upload.as_deref_mut().ok_or_else(|| io::Error::other("the upload session is gone"))
    }

    /// Fails if `length` more bytes do not fit into `space`.
    pub(super) fn check_room(&self, length: u64, space: Option<u64>) -> io::Result<()> {
        let Some(space) = space else { return Ok(()) };
        let used = lock(&self.store.inner).used();
        if length > space.saturating_sub(used) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// Adds to the session, if it fits.
    pub(super) fn write(&mut self, bytes: Bytes, space: Option<u64>) -> io::Result<()> {
        let length = bytes.len() as u64;
        self.check_room(length, space)?;
        if let Some(Session::Busy { fed, .. }) = lock(&self.store.inner).uploads.get_mut(&self.id) {
            *fed += length;
        }
        self.upload()?.write(bytes)
    }

    /// Begins a part.
    pub(super) fn begin_part(&mut self) {
        self.is_in_part = true;
    }

    /// Completes a part with `length` bytes.
    pub(super) fn end_part(&mut self, length: u64) -> io::Result<()> {
        self.is_in_part = false;
        self.upload()?.end_part(length);
        Ok(())
    }

    /// Turns the session into a blob. Where that fails, the session stays open.
    pub(super) fn complete(mut self, digest: &Digest, parts: &Parts) -> io::Result<Result<(), Incomplete>> {
        if let Err(incomplete) = self.upload()?.check(digest, parts) {
            return Ok(Err(incomplete));
        }
        let Some(upload) = self.upload.take() else { return Ok(Err(Incomplete::Empty)) };
        let name = upload.repository.clone();
        let mut inner = lock(&self.store.inner);
        inner.uploads.remove(&self.id);
        inner.closed.insert(self.id.clone(), (name.clone(), *digest));
        let Some(repo) = inner.repositories.get_mut(&name) else {
            return Err(io::Error::other("the repository is gone"));
        };
        if repo.blobs.contains_key(digest) && *parts != Parts::LastKept {
            return Ok(Ok(()));
        }
        let keep = |staged| match &self.store.folder {
            Some(folder) => folder.keep(staged, &name, digest),
            None => Err(io::Error::other("there is no folder")),
        };
        let blob = upload.into_blob(parts, keep)?;
        repo.blobs.insert(*digest, blob);
        Ok(Ok(()))
    }
}

impl Drop for Feed<'_> {
    fn drop(&mut self) {
        let Some(mut upload) = self.upload.take() else { return };
        if self.is_in_part {
            upload.cut(self.if_cut);
        }
        // A session that was cancelled meanwhile stays cancelled.
        if let Some(session) = lock(&self.store.inner).uploads.get_mut(&self.id) {
            *session = Session::Idle(upload);
        }
    }
}
