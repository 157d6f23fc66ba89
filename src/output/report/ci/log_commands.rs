//! Commands in a log that mark errors, warnings and groups of lines.

use super::escape::{azure_message, github};
use crate::error::Error;
use crate::output::report::text::error_text;

/// The commands that a CI system finds in a log. It reads stderr as well as stdout.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum LogCommands {
    /// Azure's: <https://github.com/microsoft/azure-pipelines-agent/blob/master/src/Agent.Worker/Handlers/NodeHandler.cs>
    Azure,
    /// GitHub's: <https://github.com/actions/runner/blob/main/src/Runner.Worker/Handlers/ScriptHandler.cs>
    GitHub,
}

impl LogCommands {
    /// Returns the command for an error, in place of the line of text.
    pub(crate) fn error(self, error: &Error) -> String {
        let text = error_text(error);
        let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
        match self {
            Self::Azure => format!("##vso[task.logissue type=error;]{}\n", azure_message(text)),
            Self::GitHub => format!("::error::{}\n", github(text)),
        }
    }

    /// Returns the command for a warning, in place of the line of text.
    pub(crate) fn warning(self, text: &str) -> String {
        match self {
            Self::Azure => format!("##vso[task.logissue type=warning;]{}\n", azure_message(text)),
            Self::GitHub => format!("::warning::{}\n", github(text)),
        }
    }

    /// Returns the command that begins a group of lines.
    pub(crate) fn group(self, name: &str) -> String {
        match self {
            Self::Azure => format!("##[group]{name}\n"),
            Self::GitHub => format!("::group::{}\n", github(name)),
        }
    }

    /// Returns the command that ends it.
    pub(crate) fn group_end(self) -> &'static str {
        match self {
            Self::Azure => "##[endgroup]\n",
            Self::GitHub => "::endgroup::\n",
        }
    }
}

/// Returns Azure's logging command that uploads a file of Markdown.
pub(crate) fn azure_summary(path: &str) -> String {
    format!("##vso[task.uploadsummary]{}\n", azure_message(path))
}
