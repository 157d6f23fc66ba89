//! What every run of pushes has: the log, its files, the CI system, progress, and signals.

use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::files::{Claims, Files};
use super::pipeline::{self, CiOutput};
use super::signals::{cancelled_by_ctrl_c, survive_file_size_limit};
use super::stderr::style;
use crate::archive::Source;
use crate::cli::environment::unknown_env_vars;
use crate::cli::files;
use crate::cli::pipeline::Pipeline;
use crate::cli::push::Reporting;
use crate::error::Result;
use crate::output::log::{Mode, PushLog, log_explanations};
use crate::output::report::ReportCollector;
use crate::output::writer::{Log, Writer};
use crate::push::{Event, Events, Options};

/// Variables that name files of credentials.
const FILES_OF_AWS: [&str; 4] = [
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
];

/// What a run has besides its pushes. Its files are open.
pub(super) struct Frame {
    writer: Writer,
    pub(super) display_name: String,
    pub(super) ci: CiOutput,
    pub(super) files: Files,
    pub(super) progress: PushLog,
    pub(super) cancel: CancellationToken,
    pub(super) collector: Arc<ReportCollector>,
    /// Takes the events of all pushes.
    pub(super) events: Events,
}

impl Frame {
    /// Starts it for pushes from these sources to so many targets at a time, and reports the notes about the arguments.
    ///
    /// # Errors
    /// If a file cannot be written, or is one that is read.
    pub(super) fn start<'a>(
        sources: impl Iterator<Item = &'a Source>,
        targets: usize,
        options: &Options,
        reporting: Reporting,
    ) -> Result<Self> {
        survive_file_size_limit();
        let Reporting { notes, details, files, pipeline, progress, verbosity, log_format } = reporting;
        let writer = Writer::start(style(progress, verbosity, log_format));
        let log = writer.log();
        log_explanations(log);
        let display_name = pipeline.display_name.clone();
        claim(sources, options, &pipeline, &files)?;
        let ci = CiOutput::start(pipeline, log)?;
        let files = Files::open(files)?;
        let progress = PushLog::start(log, targets);
        let cancel = cancelled_by_ctrl_c(log, &progress);
        let collector = Arc::new(ReportCollector::default());
        let events = collector.observe(ci.events(progress.events()));
        ci.begin_group();
        let unknown = unknown_env_vars(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()));
        let unknown = unknown.iter().map(|name| format!("{name} is not the name of an option; is it misspelled?"));
        notes.into_iter().chain(unknown).for_each(|note| events(Event::Note(note)));
        details.iter().for_each(|detail| debug!("{detail}"));
        Ok(Self { writer, display_name, ci, files, progress, cancel, collector, events })
    }

    pub(super) fn log(&self) -> &Log {
        self.writer.log()
    }

    /// Returns whether nothing but errors is logged.
    pub(super) fn is_quiet(&self) -> bool {
        self.log().style().mode == Mode::Quiet
    }

    /// Ends the progress, and the group of the log.
    pub(super) fn end_progress(&self) {
        self.progress.finish();
        self.ci.end_group();
    }
}

/// Checks every file that a push writes against all that it reads and all else that it writes.
fn claim<'a>(
    sources: impl Iterator<Item = &'a Source>,
    options: &Options,
    pipeline: &Pipeline,
    files: &files::Files,
) -> Result<()> {
    let mut claims = Claims::default();
    for source in sources {
        match source {
            Source::Path(path) => claims.read("the archive", path),
            Source::StandardInput => claims.read_standard_input(),
            Source::Engine(_) | Source::Opened(_) => {}
        }
    }
    let policies = [&options.repositories.lifecycle_policy, &options.repositories.repository_policy];
    policies.into_iter().flatten().for_each(|path| claims.read("the policy", path));
    let bundle = options.registries.ca_bundle.as_ref().map(|bundle| &bundle.path);
    options.registries.ca_file.iter().chain(bundle).for_each(|path| claims.read("the CA file", path));
    options.registries.keychain.files.iter().for_each(|path| claims.read("the login file", path));
    for variable in FILES_OF_AWS {
        if let Some(path) = std::env::var_os(variable) {
            claims.read(&format!("the file of {variable},"), Path::new(&path));
        }
    }
    if let Some(cache) = &options.layers.cache {
        claims.write("layer cache", cache)?;
    }
    pipeline::claim(pipeline, &mut claims)?;
    Files::claim(files, &mut claims)
}
