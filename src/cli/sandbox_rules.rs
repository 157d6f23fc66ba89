//! The options of `ecr-push sandbox` for its behavior: faults, limits, lifetimes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::values::{milliseconds, seconds};
use crate::error::{Error, Result};
use crate::file;
use crate::sandbox::{Fault, Rules, ScanFindings};

/// The maximum length of a file of faults or findings in bytes.
const MAX_FILE: u64 = 1 << 20;

#[derive(Debug, clap::Args)]
pub(super) struct SandboxRulesArgs {
    /// Delay of each registry response, in milliseconds or with a unit: 50ms, 1s
    #[arg(long, visible_alias = "latency", value_parser = milliseconds, value_name = "DURATION", default_value = "0")]
    pub(super) delay: Duration,
    /// Fault to inject: EFFECT:OPERATION[:TIMES[:SKIP]], such as 429:put-manifest:3 (repeatable)
    #[arg(long, value_name = "FAULT")]
    pub(super) fault: Vec<String>,
    /// File with one fault per line
    #[arg(long, value_name = "FILE")]
    pub(super) faults: Option<PathBuf>,
    /// Throttle requests above ECR's default rates, such as 10 manifests per second
    #[arg(long)]
    pub(super) limits: bool,
    /// Lifetime of logins, in seconds or with a unit [default: 12h]
    #[arg(long, value_parser = seconds, value_name = "DURATION")]
    pub(super) token_lifetime: Option<Duration>,
    /// Make all tags immutable, whatever their repository allows
    #[arg(long)]
    pub(super) immutable_tags: bool,
    /// File with the result of image scans, as imageScanFindings of AWS's API [default: no findings]
    #[arg(long, value_name = "FILE")]
    pub(super) scan_findings: Option<PathBuf>,
}

impl SandboxRulesArgs {
    /// Reads the files and returns the rules.
    pub(super) fn read(&self) -> Result<Rules> {
        let mut rules = Rules {
            delay: self.delay,
            rates: self.limits,
            immutable: self.immutable_tags,
            token_lifetime: self.token_lifetime,
            ..Rules::default()
        };
        rules.faults = self.fault.iter().map(|fault| fault.parse()).collect::<Result<_>>()?;
        if let Some(path) = &self.faults {
            rules.faults.extend(Fault::of_lines(&text_of(path)?)?);
        }
        rules.scan_findings =
            self.scan_findings.as_deref().map(|path| ScanFindings::of_json(&text_of(path)?)).transpose()?;
        Ok(rules)
    }
}

fn text_of(path: &Path) -> Result<String> {
    let fail = || Error::usage(format!("cannot read {}", path.display()));
    let bytes = file::read(path, MAX_FILE).map_err(|error| fail().because(error))?;
    String::from_utf8(bytes).map_err(|error| fail().because(error))
}
