//! Images in the storage of a container engine. The engine's own program writes the archive into a pipe.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::child_processes::{ChildProcess, ChildProcesses};
use super::image_name::{NameParts, is_end_of, is_same_name};
use super::shell::quoted;
use crate::error::{Advice, Code, Error, Result, shown};
use crate::file;

/// The maximum size of what a program prints to stderr, and of a list of images, in bytes. The rest is ignored.
const MAX_STDERR: u64 = 64 << 10;
const MAX_NAMES: u64 = 4 << 20;

/// How long stderr is waited for after the end of the program: another process may have it open.
const STDERR_WAIT: Duration = Duration::from_secs(1);

/// The number of lines of stderr that an error quotes.
const MAX_LINES: usize = 3;

/// The number of digits of a whole ID.
const ID_DIGITS: usize = 64;

/// The number of similar names that an error lists.
const MAX_SIMILAR: usize = 5;

/// A program that stores images.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ContainerEngine {
    /// The Docker daemon that `docker` uses.
    Docker,
    /// The storage of `podman`.
    Podman,
}

impl ContainerEngine {
    /// Returns the name of the program.
    pub fn program(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }

    /// Returns the transport as skopeo writes it.
    fn transport(self) -> &'static str {
        match self {
            Self::Docker => "docker-daemon:",
            Self::Podman => "containers-storage:",
        }
    }

    /// Returns the arguments that save an image to stdout.
    fn save(self) -> &'static [&'static str] {
        match self {
            Self::Docker => &["save"],
            Self::Podman => &["save", "--quiet", "--format", "oci-archive"],
        }
    }

    /// Returns the kind of input, for messages.
    fn kind(self) -> &'static str {
        match self {
            Self::Docker => "the output of docker save",
            Self::Podman => "the output of podman save",
        }
    }

    /// Returns the command that shows whether the engine can be used at all.
    fn check(self) -> &'static str {
        match self {
            Self::Docker => "docker version",
            Self::Podman => "podman info",
        }
    }

    /// Returns advice if the program can list no images either. `stderr` is what it printed.
    fn unusable(self, stderr: &str) -> Advice {
        let is_denied = stderr.to_lowercase().contains("permission denied");
        match (self, is_denied) {
            (Self::Docker, true) => Advice::new(
                "This user may not open the daemon's socket. Add the user to the group that owns it, and log in again:",
            )
            .command("sudo usermod -aG docker \"$USER\""),
            (Self::Docker, false) => {
                Advice::new("Start the Docker daemon, or set DOCKER_HOST to its address. To check it:")
                    .command(self.check())
            }
            (Self::Podman, _) => {
                Advice::new("Run it as the user whose storage has the image. To check it:").command(self.check())
            }
        }
    }
}

/// An image in the storage of a container engine, by name or by ID.
///
/// ```
/// use ecr_push::{ContainerEngine, EngineImage, Source};
///
/// // As for `docker run`, the tag is latest if there is none.
/// let image = EngineImage::new(ContainerEngine::Docker, "app")?;
/// assert_eq!(Source::Engine(image).to_string(), "docker-daemon:app:latest");
/// # Ok::<(), ecr_push::Error>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EngineImage {
    engine: ContainerEngine,
    image: String,
}

impl EngineImage {
    /// Names an image: `NAME[:TAG]`, `NAME@DIGEST`, or an ID or its first digits.
    ///
    /// # Errors
    /// If it cannot be the name of an image.
    pub fn new(engine: ContainerEngine, image: &str) -> Result<Self> {
        let transport = engine.transport();
        // The program would read it as an option.
        if image.is_empty() || image.starts_with('-') {
            return Err(Error::usage(format!("{transport}{} does not name an image", shown(image)))
                .code(Code::ValueInvalid)
                .hint(format!("Write {transport}NAME:TAG or {transport}ID.")));
        }
        let last = image.rsplit('/').next().unwrap_or_default();
        let is_complete = last.contains([':', '@']) || is_id(image);
        // Without a tag, `docker save` writes every tag of the repository.
        let image = if is_complete { image.to_owned() } else { format!("{image}:latest") };
        Ok(Self { engine, image })
    }

    /// Returns the engine that has the image.
    pub fn engine(&self) -> ContainerEngine {
        self.engine
    }

    /// Returns the name or ID, as the engine gets it.
    pub fn image(&self) -> &str {
        &self.image
    }

    /// Starts to save the image. Also returns the kind of input, for messages.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub(super) fn save<'a>(&'a self, processes: &'a ChildProcesses) -> Result<(EngineStream<'a>, &'static str)> {
        let image = self.reference(processes);
        let stream = EngineStream::start(self, &image, processes).map_err(|error| self.not_started(error))?;
        Ok((stream, self.engine.kind()))
    }

    /// Returns the name or ID to save. `db` is the first digits of an ID and the name of a repository: as for `docker run`, the
    /// name comes first.
    fn reference(&self, processes: &ChildProcesses) -> String {
        let latest = format!("{}:latest", self.image);
        let is_name = || self.names(processes).is_some_and(|known| known.iter().any(|known| known.name == latest));
        if is_id(&self.image) && !self.image.starts_with("sha256:") && self.image.len() < ID_DIGITS && is_name() {
            latest
        } else {
            self.image.clone()
        }
    }

    /// Returns the command that saves the image, as an operand of a shell command.
    pub(super) fn operand(&self) -> String {
        quoted(&self.to_string())
    }

    fn not_started(&self, error: io::Error) -> Error {
        let program = self.engine.program();
        if error.kind() == io::ErrorKind::NotFound {
            return Error::input(format!(
                "cannot find the program {program}, which has the image {}",
                shown(&self.image)
            ))
            .code(Code::ArchiveUnreadable)
            .hint(format!(
                "Install {program}, or add its folder to PATH. An archive of the image can be pushed without it."
            ));
        }
        Error::input(format!("cannot start {program}")).code(Code::ArchiveUnreadable).because(error)
    }

    /// Returns the error of a program that failed. Whether the engine has the image is looked up, since the texts of the
    /// programs differ between versions.
    fn failed(&self, status: ExitStatus, stderr: &str, processes: &ChildProcesses) -> Error {
        let (program, image) = (self.engine.program(), shown(&self.image));
        let cause = last_lines(stderr).unwrap_or_else(|| format!("{program} save ended with {status}"));
        let unreadable = Error::input(format!("{program} cannot save the image {image}")).code(Code::ArchiveUnreadable);
        let advice = match self.names(processes) {
            Some(known) if known.iter().any(|known| known.is(&self.image)) => {
                Advice::new(format!("{program} has the image. To check it alone:"))
                    .command(format!("{program} save {} > image.tar", quoted(&self.image)))
            }
            Some(known) => {
                let all = format!("{program} images");
                let advice = match similar(&self.image, &known) {
                    names if names.is_empty() => Advice::new("To list all images:"),
                    names => Advice::new(format!("Similar names: {}. To list all images:", names.join(", "))),
                };
                return Error::input(format!("{program} has no image {image}"))
                    .code(Code::ImageNotFound)
                    .because(cause)
                    .hint(advice.command(all));
            }
            None => self.engine.unusable(stderr),
        };
        unreadable.because(cause).hint(advice)
    }

    /// Removes the image from the engine: a name alone, an ID with all of its names.
    ///
    /// # Errors
    /// If the program cannot be started, or fails.
    pub(crate) fn remove(&self) -> Result<()> {
        let program = self.engine.program();
        let mut command = Command::new(program);
        command.arg("rmi");
        if is_id(&self.image) {
            command.arg("--force");
        }
        let done = command.arg(&self.image).stdin(Stdio::null()).output().map_err(|error| self.not_started(error))?;
        if done.status.success() {
            return Ok(());
        }
        let stderr = String::from_utf8_lossy(&done.stderr);
        Err(Error::input(format!("{program} cannot remove the image {}", shown(&self.image)))
            .code(Code::ArchiveUnreadable)
            .because(last_lines(&stderr).unwrap_or_else(|| format!("{program} rmi ended with {}", done.status)))
            .hint("The image was pushed. Remove it by hand."))
    }

    /// Returns all images of the engine, if it can be used.
    fn names(&self, processes: &ChildProcesses) -> Option<Vec<KnownImage>> {
        let mut command = Command::new(self.engine.program());
        command.args(["images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let child = processes.start(&mut command).ok()?;
        let mut stdout = child.take(|child| child.stdout.take())?;
        let mut list = String::new();
        stdout.by_ref().take(MAX_NAMES).read_to_string(&mut list).ok()?;
        drop(stdout);
        let known = list.lines().filter_map(|line| line.split_once(' '));
        let known = known.map(|(name, id)| KnownImage { name: name.to_owned(), id: id.trim().to_owned() });
        child.wait().is_ok_and(|status| status.success()).then(|| known.collect())
    }
}

impl fmt::Display for EngineImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.engine.transport(), self.image)
    }
}

/// Returns the last lines that a program printed.
fn last_lines(stderr: &str) -> Option<String> {
    let lines: Vec<&str> = stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines[lines.len().saturating_sub(MAX_LINES)..].join(" ");
    (!last.is_empty()).then_some(last)
}

/// Returns whether the text is an ID or its first digits. A repository may have that name, too: the engine decides.
fn is_id(text: &str) -> bool {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    (1..=ID_DIGITS).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// An image that an engine lists.
struct KnownImage {
    name: String,
    id: String,
}

impl KnownImage {
    fn is(&self, image: &str) -> bool {
        let digits = |id: &str| id.strip_prefix("sha256:").unwrap_or(id).to_owned();
        is_same_name(&self.name, image)
            || is_end_of(&self.name, image)
            || is_id(image) && digits(&self.id).starts_with(&digits(image))
    }
}

/// Returns the names nearest to that of an image: the tags of its repository, or else of repositories with similar names.
fn similar(image: &str, known: &[KnownImage]) -> Vec<String> {
    let repository = |name: &str| NameParts::of(name).familiar_path().to_owned();
    let wanted = repository(image);
    let distance = |known: &&KnownImage| strsim::damerau_levenshtein(&repository(&known.name), &wanted);
    let named = known.iter().filter(|known| !known.name.contains("<none>"));
    let mut near: Vec<_> = named.map(|known| (distance(&known), &known.name)).collect();
    let limit = if near.iter().any(|(distance, _)| *distance == 0) { 0 } else { (wanted.len() / 3).max(1) };
    near.retain(|(distance, _)| *distance <= limit);
    near.sort_by_key(|(distance, name)| (*distance, strsim::damerau_levenshtein(name, image)));
    near.into_iter().take(MAX_SIMILAR).map(|(_, name)| shown(name)).collect()
}

/// The archive that an engine writes. Its end is an error unless the program has succeeded.
pub(super) struct EngineStream<'a> {
    image: &'a EngineImage,
    processes: &'a ChildProcesses,
    child: ChildProcess,
    /// `None` after its end.
    stdout: Option<File>,
    stderr: Receiver<String>,
    failure: Option<Error>,
}

impl<'a> EngineStream<'a> {
    fn start(image: &'a EngineImage, reference: &str, processes: &'a ChildProcesses) -> io::Result<Self> {
        let mut command = Command::new(image.engine.program());
        command.args(image.engine.save()).arg(reference);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = processes.start(&mut command)?;
        let stdout = child.take(|child| child.stdout.take()).map(file::child_output);
        let stderr = child.take(collect_stderr).ok_or_else(|| io::Error::other("its stderr cannot be read"))?;
        Ok(Self { image, processes, child, stdout, stderr, failure: None })
    }

    fn finish(&mut self) -> Result<()> {
        self.stdout = None;
        let status = self.child.wait().map_err(|error| self.image.not_started(error))?;
        if status.success() {
            return Ok(());
        }
        let stderr = self.stderr.recv_timeout(STDERR_WAIT).unwrap_or_default();
        Err(self.image.failed(status, &stderr, self.processes))
    }
}

impl Read for EngineStream<'_> {
    /// Reads the archive. The error of the program is the source of the [`io::Error`].
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stdout.as_mut().map_or(Ok(0), |stdout| stdout.read(buffer))?;
        if read == 0 && !buffer.is_empty() && self.stdout.is_some() {
            self.failure = self.finish().err();
        }
        match &self.failure {
            Some(error) => Err(io::Error::other(error.clone())),
            None => Ok(read),
        }
    }
}

/// Reads stderr on a thread, so that the program never waits for it.
fn collect_stderr(child: &mut Child) -> Option<Receiver<String>> {
    let mut stderr = child.stderr.take()?;
    let (sender, receiver) = channel();
    let read = move || {
        let mut bytes = Vec::new();
        let _read = stderr.by_ref().take(MAX_STDERR).read_to_end(&mut bytes);
        let _rest = io::copy(&mut stderr, &mut io::sink());
        let _unread = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    };
    std::thread::Builder::new().spawn(read).ok().map(|_thread| receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(text: &str) -> String {
        EngineImage::new(ContainerEngine::Docker, text).unwrap().image
    }

    #[test]
    fn a_name_without_a_tag_is_that_of_the_latest_image() {
        for (typed, saved) in [
            ("app", "app:latest"),
            ("localhost:5000/team/app", "localhost:5000/team/app:latest"),
            ("app:1.4", "app:1.4"),
            ("app@sha256:00", "app@sha256:00"),
            ("0a1b", "0a1b"),
            ("sha256:0a1b", "sha256:0a1b"),
            ("team/0a1b", "team/0a1b:latest"),
        ] {
            assert_eq!(image(typed), saved);
        }
        for wrong in ["", "-o/etc/passwd", "--help"] {
            assert!(EngineImage::new(ContainerEngine::Podman, wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_nearest_names_are_tags_of_the_repository_or_similar_repositories() {
        let known = ["app:1", "app:1.4", "apps:2", "team/app:3", "<none>:<none>", "other:1"];
        let known: Vec<_> =
            known.into_iter().map(|name| KnownImage { name: name.into(), id: "sha256:0a1b2c".into() }).collect();
        assert_eq!(similar("app:1.5", &known), ["app:1.4", "app:1"]);
        assert_eq!(similar("appp:2", &known), ["apps:2", "app:1", "app:1.4"]);
        assert!(similar("nothing:1", &known).is_empty());
        assert!(known[3].is("docker.io/team/app:3") && known[3].is("0a1b") && !known[3].is("0a1c"));
    }
}
