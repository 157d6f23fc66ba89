//! What went wrong, for people.
//!
//! Every failure that leaves a room of this crate is an [`Error`]: what we were doing to which thing, why it
//! failed, and what to do about it. Its [`Kind`] decides the exit code and nothing else does. Nothing here prints,
//! and nothing here may carry a secret or a signed URL.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

mod advice;
mod code;

pub use advice::{Advice, Setting};
pub use code::Code;

/// A failure that a person can act on.
///
/// Cheap to clone, since one broken layer fails every target that needs it.
#[derive(Clone, Debug)]
pub struct Error(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    kind: Kind,
    code: Option<Code>,
    what: String,
    hint: Option<Advice>,
    answer: Option<ServiceError>,
    unanswered: Option<String>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// Classifies a failure by what a pipeline should do next. It decides the exit code.
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
    /// The process exit code: part of the command line's contract.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Input | Self::Internal | Self::Refused => 1,
            Self::Usage => 2,
            Self::Permission => 3,
            Self::Unavailable => 4,
            Self::Interrupted => 130,
        }
    }

    /// Returns the code of a failure that has no more precise one.
    fn code(self) -> Code {
        match self {
            Self::Input => Code::ArchiveInvalid,
            Self::Internal => Code::Internal,
            Self::Interrupted => Code::Interrupted,
            Self::Permission => Code::PermissionDenied,
            Self::Refused => Code::Rejected,
            Self::Unavailable => Code::Unavailable,
            Self::Usage => Code::Usage,
        }
    }

    /// Ranks the kinds of several failures of one run. A failure that a rerun cannot cure outranks one that it can.
    fn severity(self) -> u8 {
        match self {
            Self::Unavailable => 0,
            Self::Interrupted => 1,
            Self::Permission => 2,
            Self::Usage => 3,
            Self::Refused => 4,
            Self::Input => 5,
            Self::Internal => 6,
        }
    }

    /// The word used in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Internal => "internal",
            Self::Interrupted => "interrupted",
            Self::Permission => "permission",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Usage => "usage",
        }
    }
}

/// What a service said when it refused, in its own words.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ServiceError {
    /// HTTP status, where there was one.
    pub status: Option<u16>,
    /// The service's error code: `NAME_UNKNOWN`, `RepositoryNotFoundException`.
    pub code: String,
    /// The service's sentence.
    pub message: String,
    /// What the service adds to it, such as `detail` of the OCI distribution specification. Bounded, without secrets.
    pub detail: String,
    /// AWS's request ID, which its support asks for.
    pub request_id: Option<String>,
    /// What was asked: a request line (`PUT /v2/team/app/manifests/1`), or the action of an API (`ecr:PutImage`).
    pub request: Option<String>,
    /// The service's clock.
    pub date: Option<SystemTime>,
    /// The answer was a web page, of which the message is the title.
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
    /// An error of `kind`; `what` says what we were doing to which thing, in one sentence without a full stop.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            kind,
            code: None,
            what: what.into(),
            hint: None,
            answer: None,
            unanswered: None,
            source: None,
        }))
    }

    /// The archive is at fault.
    pub fn input(what: impl Into<String>) -> Self {
        Self::new(Kind::Input, what)
    }

    /// The command line is at fault.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Kind::Usage, what)
    }

    /// This program is at fault.
    pub fn internal(what: impl Into<String>) -> Self {
        Self::new(Kind::Internal, what).hint(
            "This is a bug in ecr-push, not in the archive or the registry: please report it with the complete output.",
        )
    }

    /// Ctrl-C, or a caller that cancelled.
    pub fn interrupted() -> Self {
        Self::new(Kind::Interrupted, "interrupted").hint("Run the same command again to resume.")
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(Arc::from(source.into()));
        self
    }

    /// Adds the service's own words, which then are the cause.
    #[must_use]
    pub fn with_service_error(mut self, answer: ServiceError) -> Self {
        self.0.source = Some(Arc::new(answer.clone()));
        self.0.answer = Some(answer);
        self
    }

    /// Adds what to do about it. A plain text is advice without an option or a command.
    #[must_use]
    pub fn hint(mut self, advice: impl Into<Advice>) -> Self {
        self.0.hint = Some(advice.into());
        self
    }

    /// Names the failure more precisely than its kind does.
    #[must_use]
    pub fn code(mut self, code: Code) -> Self {
        self.0.code = Some(code);
        self
    }

    /// Says to which request the connection broke before an answer came.
    #[must_use]
    pub fn unanswered(mut self, asked: impl Into<String>) -> Self {
        self.0.unanswered = Some(asked.into());
        self
    }

    /// The same error, of another kind: the service's words say more than its status.
    #[must_use]
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.0.kind = kind;
        self
    }

    /// What sort of failure it is.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Returns the stable name of this failure. Scripts may compare it; `docs/errors.md` explains each.
    pub fn stable_code(&self) -> Code {
        self.0.code.unwrap_or_else(|| self.0.kind.code())
    }

    /// Returns the error that decides the exit code of a run with several: the gravest, whatever their order.
    pub fn most_severe<'a>(errors: impl IntoIterator<Item = &'a Self>) -> Option<&'a Self> {
        errors.into_iter().min_by_key(|error| (Reverse(error.kind().severity()), error.stable_code()))
    }

    /// What to do about it, if we know.
    pub fn advice(&self) -> Option<&Advice> {
        self.0.hint.as_ref()
    }

    /// The service's own words, if a service spoke.
    pub fn service_error(&self) -> Option<&ServiceError> {
        self.0.answer.as_ref()
    }

    /// The request to which no answer came, because the connection broke.
    pub fn unanswered_request(&self) -> Option<&str> {
        self.0.unanswered.as_deref()
    }

    /// The causes, nearest first, each said once: libraries like to repeat their source in their own text.
    pub fn causes(&self) -> Vec<String> {
        let mut causes: Vec<String> = Vec::new();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            let text = cause.to_string();
            let text = bounded(&text).into_owned();
            if !text.is_empty() && !causes.iter().any(|said| said.contains(&text)) {
                causes.push(text);
            }
            next = cause.source();
        }
        causes
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bounded(&self.0.what))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// The most characters of a sentence or a cause. What others say may be of any length, and a log line should not.
const LONGEST: usize = 2000;

fn bounded(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => Cow::Owned(format!("{}...", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

/// The innermost cause, which says it best: "Connection refused (os error 111)", and not the four layers around it.
pub(crate) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Finds the first cause of a type, the error itself included. Looks into an `io::Error`, whose `source` skips the error
/// that it wraps.
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

/// The title of a web page, which is no service's answer: a proxy's, a firewall's, a load balancer's. `None` if it is none.
pub(crate) fn page_title(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let text = text.trim_start();
    // Of ASCII only, so that places stay.
    let lower = text.to_ascii_lowercase();
    if !lower.starts_with("<html") && !lower.starts_with("<!doctype html") {
        return None;
    }
    let start = lower.find("<title>")? + "<title>".len();
    let title = &text[start..start + lower[start..].find("</title>")?];
    let words = title.split_whitespace().collect::<Vec<_>>().join(" ");
    Some(words.chars().filter(|c| !c.is_control()).take(200).collect())
}

/// Makes text from outside fit for a sentence and a terminal: control characters are escaped, and it is cut after 200 characters.
pub(crate) fn shown(text: &str) -> String {
    let clean = |char: char| if char.is_control() { char.escape_default().to_string() } else { char.into() };
    let mut shown: String = text.chars().take(200).map(clean).collect();
    if text.chars().nth(200).is_some() {
        shown.push_str("...");
    }
    shown
}

/// Whether a thread or a process was refused because the machine allows no more of them, or has no memory for it.
pub(crate) fn is_exhausted(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::OutOfMemory)
}

/// What most functions of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_the_exit_code_of_the_contract() {
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
    fn the_gravest_of_several_failures_decides_in_any_order() {
        let kinds = [
            Kind::Unavailable,
            Kind::Interrupted,
            Kind::Permission,
            Kind::Usage,
            Kind::Refused,
            Kind::Input,
            Kind::Internal,
        ];
        for (at, graver) in kinds.into_iter().enumerate() {
            for kind in &kinds[..=at] {
                let (one, other) = (Error::new(*kind, "one"), Error::new(graver, "other"));
                for errors in [[&one, &other], [&other, &one]] {
                    assert_eq!(Error::most_severe(errors).map(Error::kind), Some(graver));
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
    fn a_cause_that_repeats_the_one_before_is_said_once() {
        let inner = Error::input("no such file");
        let outer = Error::input("cannot open x: no such file").because(inner);
        let top = Error::input("push failed").because(outer);
        assert_eq!(top.causes(), ["cannot open x: no such file"]);
    }

    #[test]
    fn a_web_page_is_told_by_its_title() {
        let page = b" <!DOCTYPE HTML><Html><head><TITLE>\n403 \x1b[1mForb\xc4\xb0dden\t</title>";
        assert_eq!(page_title(page).as_deref(), Some("403 [1mForb\u{130}dden"));
        for none in ["", "{}", "<html>", "<title>x</title>", "<html><title>x", "<html></title><title>"] {
            assert_eq!(page_title(none.as_bytes()), None, "{none}");
        }
    }

    #[test]
    fn an_answer_is_kept_in_the_service_s_words() {
        let answer = ServiceError {
            status: Some(404),
            code: "NAME_UNKNOWN".into(),
            message: "The repository with name 'a' does not exist".into(),
            request_id: Some("17".into()),
            ..ServiceError::default()
        };
        let error = Error::new(Kind::Refused, "cannot push").with_service_error(answer);
        assert_eq!(error.causes(), ["HTTP 404 NAME_UNKNOWN: The repository with name 'a' does not exist (request 17)"]);
    }
}
