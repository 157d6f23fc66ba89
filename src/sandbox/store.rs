//! The state that both APIs share: repositories, their blobs, images and tags, upload sessions, and tokens.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, Hasher as _};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use axum::body::Bytes;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256};

use super::folder::Folder;
use super::repository::{Document, Image, Repo, Settings};
use super::rules::{Interrupted, Parts};
use super::upload::{Blob, Gathered, Incomplete, Upload};
use crate::error::Result;
use crate::oci::{Digest, Repository, Tag};

/// The state that both APIs share.
pub(super) struct Store {
    inner: Mutex<Inner>,
    folder: Option<Folder>,
    discard: bool,
    random: Random,
}

#[derive(Default)]
struct Inner {
    repositories: BTreeMap<Repository, Repo>,
    uploads: HashMap<String, Session>,
    /// The sessions that became blobs, of which repository.
    closed: HashMap<String, (Repository, Digest)>,
    /// When each password ends.
    tokens: HashMap<String, SystemTime>,
    bearers: HashMap<String, Bearer>,
}

/// A token of the token service.
#[derive(Clone, Debug)]
pub(super) struct Bearer {
    /// The actions that it allows: `team/app:pull`.
    pub(super) scopes: Vec<String>,
    ends: SystemTime,
}

impl Bearer {
    pub(super) fn is_alive(&self) -> bool {
        SystemTime::now() < self.ends
    }
}

/// An upload session, or what is known of it while a request is feeding it.
enum Session {
    Idle(Box<Upload>),
    Busy { repository: Repository, received: u64, fed: u64 },
}

impl Inner {
    /// How many bytes of blobs there are, with those of uploads. One in several repositories is there once, as in every
    /// store that goes by digest.
    fn used(&self) -> u64 {
        let blobs = self.repositories.values().flat_map(|repo| &repo.blobs);
        let blobs: HashMap<&Digest, u64> = blobs.map(|(digest, blob)| (digest, blob.size())).collect();
        let uploads = self.uploads.values().map(|session| match session {
            Session::Idle(upload) => upload.received(),
            Session::Busy { received, fed, .. } => received + fed,
        });
        blobs.into_values().chain(uploads).sum()
    }
}

/// What a password is worth.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Access {
    Granted,
    Expired,
    Unknown,
}

/// Why a session cannot be fed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum NoSession {
    Unknown,
    /// Another request is feeding it, and had this many bytes to go on from.
    Busy(u64),
}

impl Store {
    /// Opens the state, in memory or as it lies in a folder. With `discard` no large blob is stored from now on.
    pub(super) fn open(dir: Option<&Path>, discard: bool) -> Result<Self> {
        let mut inner = Inner::default();
        let mut folder = None;
        if let Some(dir) = dir {
            let (opened, repositories) = Folder::open(dir)?;
            inner.repositories = repositories;
            folder = Some(opened);
        }
        Ok(Self { inner: Mutex::new(inner), folder, discard, random: Random::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates a repository. Returns `false` if it exists already.
    pub(super) fn create(&self, name: &Repository, settings: Settings) -> io::Result<bool> {
        let mut inner = self.lock();
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

    pub(super) fn repositories(&self) -> Vec<Repository> {
        self.lock().repositories.keys().cloned().collect()
    }

    /// Reads a repository. `None` if it does not exist.
    pub(super) fn look<T>(&self, name: &Repository, look: impl FnOnce(&Repo) -> T) -> Option<T> {
        self.lock().repositories.get(name).map(look)
    }

    /// Changes the settings of a repository. `None` if it does not exist.
    pub(super) fn set(&self, name: &Repository, change: impl FnOnce(&mut Settings)) -> Option<io::Result<()>> {
        let mut inner = self.lock();
        let repo = inner.repositories.get_mut(name)?;
        change(&mut repo.settings);
        Some(self.folder.as_ref().map_or(Ok(()), |folder| folder.write_index(name, repo)))
    }

    /// Opens an upload session and returns its ID.
    pub(super) fn begin_upload(&self, name: &Repository) -> io::Result<String> {
        let id = self.random.uuid();
        let gathered = match &self.folder {
            Some(folder) => Gathered::File(folder.stage(&id)?),
            None => Gathered::Memory(Vec::new()),
        };
        let upload = Box::new(Upload::new(name.clone(), gathered, self.discard));
        self.lock().uploads.insert(id.clone(), Session::Idle(upload));
        Ok(id)
    }

    /// Borrows a session for one request, which has it for itself.
    pub(super) fn feed(&self, name: &Repository, id: &str, if_cut: Interrupted) -> Result<Feed<'_>, NoSession> {
        let mut inner = self.lock();
        let session = inner.uploads.get_mut(id).ok_or(NoSession::Unknown)?;
        let busy = match session {
            Session::Idle(upload) if upload.repository == *name => {
                Session::Busy { repository: name.clone(), received: upload.received(), fed: 0 }
            }
            Session::Busy { repository, received, .. } if repository == name => return Err(NoSession::Busy(*received)),
            _ => return Err(NoSession::Unknown),
        };
        match std::mem::replace(session, busy) {
            Session::Idle(upload) => Ok(Feed { store: self, id: id.to_owned(), upload: Some(upload), if_cut }),
            Session::Busy { .. } => Err(NoSession::Unknown),
        }
    }

    /// Removes a session. Returns `false` if it does not exist.
    pub(super) fn cancel_upload(&self, name: &Repository, id: &str) -> bool {
        let mut inner = self.lock();
        let is_here = inner.uploads.get(id).is_some_and(|session| match session {
            Session::Idle(upload) => upload.repository == *name,
            Session::Busy { repository, .. } => repository == name,
        });
        is_here && inner.uploads.remove(id).is_some()
    }

    /// The blob that a session became.
    pub(super) fn closed(&self, name: &Repository, id: &str) -> Option<Digest> {
        self.lock().closed.get(id).filter(|(repository, _)| repository == name).map(|(_, digest)| *digest)
    }

    /// Removes a layer that a manifest lists, as a lifecycle policy might between two requests.
    pub(super) fn lose_layer(&self, name: &Repository, manifest: &[u8]) {
        let document: Option<Document> = serde_json::from_slice(manifest).ok();
        let first = document.and_then(|document| document.layers?.first()?.digest.parse::<Digest>().ok());
        if let (Some(repo), Some(digest)) = (self.lock().repositories.get_mut(name), first) {
            repo.blobs.remove(&digest);
        }
    }

    /// Archives an image, as a lifecycle policy might. Returns `false` if it does not exist.
    pub(super) fn archive(&self, name: &Repository, reference: &str) -> bool {
        let mut inner = self.lock();
        let Some(repo) = inner.repositories.get_mut(name) else { return false };
        let Some(digest) = repo.any_image(reference).map(|(digest, _)| digest) else { return false };
        repo.archived.insert(digest);
        true
    }

    pub(super) fn open_uploads(&self) -> usize {
        self.lock().uploads.len()
    }

    /// Mounts a blob in another repository. Returns `false` if that is not possible.
    ///
    /// ECR mounts within the same encryption only, and only what a manifest of the source refers to
    /// (<https://github.com/aws/containers-roadmap/issues/2860>).
    pub(super) fn mount(&self, digest: &Digest, from: &Repository, to: &Repository) -> io::Result<bool> {
        let mut inner = self.lock();
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
    ) -> Option<Result<Digest, E>> {
        let mut inner = self.lock();
        let repo = inner.repositories.get_mut(name)?;
        let (digest, image) = match judge(repo) {
            Ok(judged) => judged,
            Err(refusal) => return Some(Err(refusal)),
        };
        let stored = self.keep_image(name, repo, tag, digest, image);
        Some(stored.map(|()| digest).map_err(E::from))
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
        repo.images.entry(digest).or_insert(image);
        repo.archived.remove(&digest);
        if let Some(tag) = tag {
            repo.tags.insert(tag.as_str().to_owned(), digest);
        }
        self.folder.as_ref().map_or(Ok(()), |folder| folder.write_index(name, repo))
    }

    /// Issues a token, `AWS:PASSWORD` in base64, and returns it with its expiry.
    pub(super) fn issue_token(&self, lifetime: Duration) -> (String, SystemTime) {
        let ends = SystemTime::now().checked_add(lifetime).unwrap_or_else(SystemTime::now);
        // ECR's own passwords are JSON of this form in base64, and as long: clients must not count on a short one.
        let password = BASE64_STANDARD.encode(
            serde_json::json!({
                "payload": BASE64_STANDARD.encode(self.random.bytes(640)),
                "datakey": BASE64_STANDARD.encode(self.random.bytes(184)),
                "version": "2",
                "type": "DATA_KEY",
                "expiration": epoch(ends) as u64,
            })
            .to_string(),
        );
        let token = BASE64_STANDARD.encode(format!("AWS:{password}"));
        self.lock().tokens.insert(password, ends);
        (token, ends)
    }

    /// What the value of an `Authorization` header is worth.
    pub(super) fn access(&self, authorization: &str) -> Access {
        let password = authorization
            .split_once(' ')
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
            .and_then(|(_, token)| BASE64_STANDARD.decode(token.trim()).ok())
            .and_then(|decoded| String::from_utf8(decoded).ok())
            .and_then(|decoded| decoded.strip_prefix("AWS:").map(str::to_owned));
        match password.and_then(|password| self.lock().tokens.get(&password).copied()) {
            Some(ends) if SystemTime::now() < ends => Access::Granted,
            Some(_) => Access::Expired,
            None => Access::Unknown,
        }
    }

    /// Issues a token of the token service.
    pub(super) fn issue_bearer(&self, scopes: Vec<String>, lifetime: Duration) -> String {
        let ends = SystemTime::now().checked_add(lifetime).unwrap_or_else(SystemTime::now);
        // Docker Hub's are as long.
        let token = BASE64_STANDARD.encode(self.random.bytes(1200)).replace(['+', '/', '='], "_");
        self.lock().bearers.insert(token.clone(), Bearer { scopes, ends });
        token
    }

    /// What a token of the token service is worth.
    pub(super) fn bearer(&self, token: &str) -> Option<Bearer> {
        self.lock().bearers.get(token).cloned()
    }

    /// Lets every token that was handed out so far end now.
    pub(super) fn expire_tokens(&self) {
        let now = SystemTime::now();
        let mut inner = self.lock();
        for ends in inner.tokens.values_mut() {
            *ends = now.min(*ends);
        }
        for bearer in inner.bearers.values_mut() {
            bearer.ends = now.min(bearer.ends);
        }
    }

    /// Returns the signature of a bucket URL, which cannot be forged.
    pub(super) fn sign(&self, text: &str) -> String {
        self.random.sign(text)
    }

    /// A fresh request ID.
    pub(super) fn request_id(&self) -> String {
        self.random.uuid()
    }
}

/// Seconds since 1970, as AWS writes times.
pub(super) fn epoch(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// A session that is locked by one request.
///
/// Whatever ends that request early, and be it that the client vanished and this was dropped, leaves the session cut.
pub(super) struct Feed<'a> {
    store: &'a Store,
    id: String,
    upload: Option<Box<Upload>>,
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
        let used = self.store.lock().used();
        if length > space.saturating_sub(used) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// Adds to the session, if it fits.
    pub(super) fn write(&mut self, bytes: Bytes, space: Option<u64>) -> io::Result<()> {
        let length = bytes.len() as u64;
        self.check_room(length, space)?;
        if let Some(Session::Busy { fed, .. }) = self.store.lock().uploads.get_mut(&self.id) {
            *fed += length;
        }
        self.upload()?.write(bytes)
    }

    /// Gives the session back as it is.
    pub(super) fn release(mut self) {
        if let Some(upload) = self.upload.take() {
            self.give_back(upload);
        }
    }

    /// Turns the session into a blob. Where that fails, the session stays open.
    pub(super) fn complete(mut self, digest: &Digest, parts: &Parts) -> io::Result<Result<(), Incomplete>> {
        let Some(upload) = self.upload.take() else { return Ok(Err(Incomplete::Empty)) };
        if let Err(incomplete) = upload.check(digest, parts) {
            self.give_back(upload);
            return Ok(Err(incomplete));
        }
        let name = upload.repository.clone();
        let mut inner = self.store.lock();
        inner.uploads.remove(&self.id);
        inner.closed.insert(self.id.clone(), (name.clone(), *digest));
        let Some(repo) = inner.repositories.get_mut(&name) else {
            return Err(io::Error::other("the repository is gone"));
        };
        if repo.blobs.contains_key(digest) && *parts != Parts::LastKept {
            return Ok(Ok(()));
        }
        let (bytes, size) = upload.into_bytes(parts);
        let blob = match (bytes, &self.store.folder) {
            (Gathered::Memory(pieces), _) => Blob::Memory(Arc::from(pieces), size),
            (Gathered::File(staged), Some(folder)) => Blob::File(folder.keep(staged, &name, digest)?, size),
            (Gathered::Discarded, _) => Blob::Discarded(size),
            (Gathered::File(_), None) => return Err(io::Error::other("there is no folder")),
        };
        repo.blobs.insert(*digest, blob);
        Ok(Ok(()))
    }

    fn give_back(&self, upload: Box<Upload>) {
        // A session that was cancelled meanwhile stays cancelled.
        if let Some(session) = self.store.lock().uploads.get_mut(&self.id) {
            *session = Session::Idle(upload);
        }
    }
}

impl Drop for Feed<'_> {
    fn drop(&mut self) {
        if let Some(mut upload) = self.upload.take() {
            upload.cut(self.if_cut);
            self.give_back(upload);
        }
    }
}

/// Bytes that nobody outside can guess: SHA-256 over what the standard library seeds its hash maps with.
struct Random {
    seed: [u8; 32],
    drawn: AtomicU64,
}

impl Random {
    fn new() -> Self {
        let mut hasher = Sha256::new();
        for _ in 0..8 {
            hasher.update(RandomState::new().build_hasher().finish().to_le_bytes());
        }
        hasher.update(
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos().to_le_bytes(),
        );
        Self { seed: hasher.finalize().into(), drawn: AtomicU64::new(0) }
    }

    fn draw(&self) -> [u8; 32] {
        let drawn = self.drawn.fetch_add(1, Ordering::Relaxed);
        Sha256::new().chain_update(self.seed).chain_update(drawn.to_le_bytes()).finalize().into()
    }

    fn bytes(&self, count: usize) -> Vec<u8> {
        std::iter::repeat_with(|| self.draw()).flatten().take(count).collect()
    }

    fn uuid(&self) -> String {
        let mut hex = Digest::from_hash(self.draw()).hex();
        hex.replace_range(12..13, "4");
        hex.replace_range(16..17, "a");
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32])
    }

    fn sign(&self, text: &str) -> String {
        let inner: [u8; 32] = Sha256::new().chain_update(self.seed).chain_update(text).finalize().into();
        Digest::from_hash(Sha256::new().chain_update(self.seed).chain_update(inner).finalize().into()).hex()
    }
}
