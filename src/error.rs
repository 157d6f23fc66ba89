//! Errors: what failed, why, and what to do about it.
//!
//! Every module returns an [`Error`]. Its text states what the program was doing to which thing; its causes and its
//! [`Advice`] are separate. Its [`Kind`] alone decides the exit code; its [`Code`] is the stable name of the failure.
//! Nothing here prints. No error contains a secret or a signed URL.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

mod advice;
mod code;

pub use advice::{Advice, Setting};
pub use code::Code;

/// A failure, with its causes and advice.
///
/// Cheap to clone, since one broken layer fails every target that needs it.
///
/// Prints an error as the command line does:
///
/// ```
/// # use ecr_push::sandbox::{self, Sandbox};
/// # use ecr_push::{CancellationToken, Options, PushRequest, Pusher, Source};
/// use ecr_push::{Code, Kind};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ecr_push::Result<()> {
/// # let sandbox = Sandbox::start(sandbox::Options::default()).await?;
/// # let mut options = Options::default();
/// # options.registries.access = sandbox.endpoint_override().into();
/// # let pusher = Pusher::builder().options(options).start().await?;
/// # let archive = Source::Path("testdata/docker-20.10-save.tar".into());
/// # let request = PushRequest::new(archive, ["team/app:1.4".parse()?]);
/// let outcome = pusher.push(request, CancellationToken::new()).await;
/// let error = outcome.error().expect("the repository does not exist");
/// eprintln!("error: {error}");
/// error.causes().iter().for_each(|cause| eprintln!("because: {cause}"));
/// error.advice().iter().for_each(|advice| eprintln!("hint: {advice}"));
/// assert_eq!(error.kind(), Kind::Refused);
/// assert_eq!(error.kind().exit_code(), 1);
/// assert_eq!(error.stable_code(), Code::RepositoryNotFound);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Error(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    kind: Kind,
    code: Option<Code>,
    /// The options that it is about, with their dashes.
    options: Vec<String>,
    what: String,
    advice: Option<Advice>,
    service_error: Option<ServiceError>,
    unanswered_request: Option<String>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// Classifies a failure by what a pipeline should do next. It decides the exit code.
///
/// ```
/// use ecr_push::{Error, Kind};
///
/// let errors = [Error::new(Kind::Unavailable, "no response"), Error::new(Kind::Permission, "access denied")];
/// // A rerun does not fix both.
/// let decides = Error::most_severe(&errors).map(|error| error.kind());
/// assert_eq!(decides, Some(Kind::Permission));
/// assert_eq!(decides.map(Kind::exit_code), Some(3));
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Kind {
    /// Ctrl-C, a signal, or a caller that cancelled. A rerun resumes.
    Interrupted,
    /// The archive is damaged, incomplete, or not an archive. A rerun does not help.
    Input,
    /// A fault of this program. A rerun does not help.
    Internal,
    /// Credentials are missing or invalid, or a permission is missing.
    Permission,
    /// The registry rejects the push for a reason that a rerun does not change.
    Refused,
    /// The network or the service failed for now. A rerun resumes.
    Unavailable,
    /// The command line is wrong.
    Usage,
}

impl Kind {
    /// Returns the name, the exit code, the rank among several failures, and the code of a failure that has no more precise one.
    fn facts(self) -> (&'static str, u8, u8, Code) {
        match self {
            Self::Unavailable => ("unavailable", 4, 0, Code::Unavailable),
            Self::Interrupted => ("interrupted", 130, 1, Code::Interrupted),
            Self::Permission => ("permission", 3, 2, Code::PermissionDenied),
            Self::Usage => ("usage", 2, 3, Code::Usage),
            Self::Refused => ("refused", 1, 4, Code::Rejected),
            Self::Input => ("input", 1, 5, Code::ArchiveInvalid),
            Self::Internal => ("internal", 1, 6, Code::Internal),
        }
    }

    /// Returns the name that reports use.
    pub fn name(self) -> &'static str {
        self.facts().0
    }

    /// Returns the process exit code. It is a stable part of the command line.
    pub fn exit_code(self) -> u8 {
        self.facts().1
    }

    /// Ranks the kinds of several failures of one run. A failure that a rerun cannot fix outranks one that it can.
    fn severity(self) -> u8 {
        self.facts().2
    }
}

/// The error response of a service, in its own words.
///
/// ```
/// # use ecr_push::sandbox::{self, Sandbox};
/// # use ecr_push::{CancellationToken, Options, PushRequest, Pusher, Source};
/// use ecr_push::sandbox::{Fault, Trouble};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ecr_push::Result<()> {
/// # let create = vec!["team/app".parse()?];
/// # let sandbox = Sandbox::start(sandbox::Options { create, ..Default::default() }).await?;
/// # let (status, code, message) = (403, "DENIED".to_owned(), "no more pushes today".to_owned());
/// # let denied = Trouble::Status { status, code, message };
/// # sandbox.set_rules(|rules| rules.faults = vec![Fault::once("ecr:PutImage", denied).times(9)]);
/// # let mut options = Options::default();
/// # options.registries.access = sandbox.endpoint_override().into();
/// # let pusher = Pusher::builder().options(options).start().await?;
/// # let archive = Source::Path("testdata/docker-20.10-save.tar".into());
/// # let request = PushRequest::new(archive, ["team/app:1.4".parse()?]);
/// let outcome = pusher.push(request, CancellationToken::new()).await;
/// let response = outcome.error().and_then(|error| error.service_error()).expect("the registry responds");
/// assert_eq!((response.status, response.code.as_str()), (Some(403), "DENIED"));
/// assert_eq!(response.message, "no more pushes today");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ServiceError {
    /// The HTTP status, if there was one.
    pub status: Option<u16>,
    /// The service's error code: `NAME_UNKNOWN`, `RepositoryNotFoundException`.
    pub code: String,
    /// The service's message.
    pub message: String,
    /// Details of the message, such as `detail` of the OCI distribution specification. Of limited length, without secrets.
    pub detail: String,
    /// AWS's request ID, which its support asks for.
    pub request_id: Option<String>,
    /// The request: its first line (`PUT /v2/team/app/manifests/1`), or the action of an API (`ecr:PutImage`).
    pub request: Option<String>,
    /// The time by the service's clock.
    pub date: Option<SystemTime>,
    /// Whether the response is a web page. Then the message is its title.
    pub is_page: bool,
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => write!(f, "HTTP {status}")?,
            None => write!(f, "the service answered")?,
        }
        if !self.code.is_empty() {
            write!(f, " {}", self.code)?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        if !self.detail.is_empty() {
            write!(f, " (detail: {})", self.detail)?;
        }
        if let Some(id) = &self.request_id {
            write!(f, " (request {id})")?;
        }
        Ok(())
    }
}

impl std::error::Error for ServiceError {}

impl Error {
    /// Creates an error. `what` states what the program was doing to which thing, as one sentence without a period.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            kind,
            code: None,
            options: Vec::new(),
            what: what.into(),
            advice: None,
            service_error: None,
            unanswered_request: None,
            source: None,
        }))
    }

    /// Creates an error of the archive.
    pub fn input(what: impl Into<String>) -> Self {
        Self::new(Kind::Input, what)
    }

    /// Creates an error of the command line.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Kind::Usage, what)
    }

    /// Creates an error of this program, with the advice to report it.
    pub fn internal(what: impl Into<String>) -> Self {
        Self::new(Kind::Internal, what).hint(
            "This is a bug in ecr-push, not in the archive or the registry: please report it with the complete output.",
        )
    }

    /// Creates the error of a push that a signal or its caller cancelled.
    pub fn interrupted() -> Self {
        Self::new(Kind::Interrupted, "interrupted").hint("Run the same command again to resume.")
    }

    /// Adds the cause.
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(Arc::from(source.into()));
        self
    }

    /// Adds the error response of a service, which is then the cause.
    pub fn with_service_error(mut self, service_error: ServiceError) -> Self {
        self.0.source = Some(Arc::new(service_error.clone()));
        self.0.service_error = Some(service_error);
        self
    }

    /// Sets what to do about it. A text is advice without an option or a command.
    pub fn hint(mut self, advice: impl Into<Advice>) -> Self {
        self.0.advice = Some(advice.into());
        self
    }

    /// Sets a code that is more precise than the kind.
    pub fn code(mut self, code: Code) -> Self {
        self.0.code = Some(code);
        self
    }

    /// Puts what it is about in front of the message, such as the image of a run of several.
    pub(crate) fn about(mut self, subject: &str) -> Self {
        self.0.what = format!("{subject}: {}", self.0.what);
        self
    }

    /// Adds an option of the command line that it is about: `--region`.
    pub(crate) fn about_option(mut self, option: impl Into<String>) -> Self {
        self.0.options.push(option.into());
        self
    }

    /// Sets the request whose connection broke before the response.
    pub fn unanswered(mut self, request: impl Into<String>) -> Self {
        self.0.unanswered_request = Some(request.into());
        self
    }

    /// Changes the kind, for a service whose message is more precise than its status.
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.0.kind = kind;
        self
    }

    /// Returns the kind of failure, which decides the exit code.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Returns the stable name of this failure. Scripts may compare it; `docs/errors.md` explains each.
    pub fn stable_code(&self) -> Code {
        self.0.code.unwrap_or_else(|| self.0.kind.facts().3)
    }

    /// Returns the error that decides the exit code of a run with several errors: the most severe, whatever their order.
    pub fn most_severe<'a>(errors: impl IntoIterator<Item = &'a Self>) -> Option<&'a Self> {
        errors.into_iter().min_by_key(|error| (Reverse(error.kind().severity()), error.stable_code()))
    }

    /// Returns what to do about it, if that is known.
    pub fn advice(&self) -> Option<&Advice> {
        self.0.advice.as_ref()
    }

    /// Returns the options that it is about. The first is the one to change.
    pub(crate) fn options(&self) -> &[String] {
        &self.0.options
    }

    /// Returns the error response of the service, if one sent any.
    pub fn service_error(&self) -> Option<&ServiceError> {
        self.0.service_error.as_ref()
    }

    /// Returns the request without a response, if the connection broke.
    pub fn unanswered_request(&self) -> Option<&str> {
        self.0.unanswered_request.as_deref()
    }

    /// Returns the causes, nearest first. Omits a cause that another one contains, since many libraries repeat their source
    /// in their own text.
    pub fn causes(&self) -> Vec<String> {
        let mut causes: Vec<String> = Vec::new();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            let text = truncated(&cause.to_string()).into_owned();
            if !text.is_empty() && !causes.iter().any(|known| known.contains(&text)) {
                causes.push(text);
            }
            next = cause.source();
        }
        causes
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&truncated(&self.0.what))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// The maximum length of a message or a cause in characters. Text from outside may be of any length; a log line may not.
const MAX_LENGTH: usize = 2000;

fn truncated(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(MAX_LENGTH) {
        Some((end, _)) => Cow::Owned(format!("{}...", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

/// Returns the text of the innermost cause, which is the most precise: "Connection refused (os error 111)" without the four
/// layers around it.
pub(crate) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Finds the first cause of a type, including the error itself. Unwraps an `io::Error`, whose `source` skips the error that it
/// wraps.
pub(crate) fn find_cause<'a, T: std::error::Error + 'static>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref() {
            return Some(found);
        }
        next = match cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => cause.source(),
        };
    }
    None
}

/// Returns the title of a web page, which a proxy, a firewall or a load balancer sent instead of the service. `None` if the
/// body is not a web page.
pub(crate) fn page_title(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let text = text.trim_start();
    // Changes ASCII letters only, so that positions stay the same.
    let lower = text.to_ascii_lowercase();
    if !lower.starts_with("<html") && !lower.starts_with("<!doctype html") {
        return None;
    }
    let start = lower.find("<title>")? + "<title>".len();
    Some(one_line(&text[start..start + lower[start..].find("</title>")?], 200))
}

/// Returns text from outside as one line without control characters, cut after `max` characters.
pub(crate) fn one_line(text: &str, max: usize) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().filter(|c| !c.is_control()).take(max).collect()
}

/// Returns text from outside with its control characters escaped, cut after 200 characters.
pub(crate) fn shown(text: &str) -> String {
    let escaped = |char: char| if char.is_control() { char.escape_default().to_string() } else { char.into() };
    let end = if text.chars().nth(200).is_some() { "..." } else { "" };
    text.chars().take(200).map(escaped).chain([end.to_owned()]).collect()
}

/// Returns whether a thread or a process could not be started because the machine allows no more of them or has no memory
/// for it.
pub(crate) fn is_exhausted(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::OutOfMemory)
}

/// The result of most functions of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_documented_exit_code() {
        let kinds = [
            Kind::Input,
            Kind::Refused,
            Kind::Internal,
            Kind::Usage,
            Kind::Permission,
            Kind::Unavailable,
            Kind::Interrupted,
        ];
        assert_eq!(kinds.map(Kind::exit_code), [1, 1, 1, 2, 3, 4, 130]);
    }

    #[test]
    fn the_most_severe_error_decides_in_any_order() {
        let kinds = [
            Kind::Unavailable,
            Kind::Interrupted,
            Kind::Permission,
            Kind::Usage,
            Kind::Refused,
            Kind::Input,
            Kind::Internal,
        ];
        for (at, severe) in kinds.into_iter().enumerate() {
            for kind in &kinds[..=at] {
                let (one, other) = (Error::new(*kind, "one"), Error::new(severe, "other"));
                for errors in [[&one, &other], [&other, &one]] {
                    assert_eq!(Error::most_severe(errors).map(Error::kind), Some(severe));
                }
            }
        }
        let (one, other) = (Error::input("one").code(Code::ImageNotFound), Error::input("other"));
        for errors in [[&one, &other], [&other, &one]] {
            assert_eq!(Error::most_severe(errors).map(Error::stable_code), Some(Code::ArchiveInvalid));
        }
        assert!(Error::most_severe([]).is_none());
    }

    #[test]
    fn a_cause_that_repeats_the_previous_one_is_omitted() {
        let inner = Error::input("no such file");
        let outer = Error::input("cannot open x: no such file").because(inner);
        let top = Error::input("push failed").because(outer);
        assert_eq!(top.causes(), ["cannot open x: no such file"]);
    }

    #[test]
    fn a_web_page_is_named_by_its_title() {
        let page = b" <!DOCTYPE HTML><Html><head><TITLE>\n403 \x1b[1mForb\xc4\xb0dden\t</title>";
        assert_eq!(page_title(page).as_deref(), Some("403 [1mForb\u{130}dden"));
        for other in ["", "{}", "<html>", "<title>x</title>", "<html><title>x", "<html></title><title>"] {
            assert_eq!(page_title(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn a_service_error_is_shown_in_the_words_of_the_service() {
        let service_error = ServiceError {
            status: Some(404),
            code: "NAME_UNKNOWN".into(),
            message: "The repository with name 'a' does not exist".into(),
            request_id: Some("17".into()),
            ..ServiceError::default()
        };
        let error = Error::new(Kind::Refused, "cannot push").with_service_error(service_error);
        assert_eq!(error.causes(), ["HTTP 404 NAME_UNKNOWN: The repository with name 'a' does not exist (request 17)"]);
    }
}
