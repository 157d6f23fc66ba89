//! The findings of scans.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};

/// What scans of images find.
///
/// ```
/// use ecr_push::sandbox::ScanFindings;
///
/// let text = r#"{"findings": [{"name": "CVE-2026-1", "severity": "HIGH", "uri": "https://example.com/CVE-2026-1"}]}"#;
/// assert!(ScanFindings::of_json(text).is_ok());
/// assert!(ScanFindings::of_json(r#"{"findings": [{"name": "CVE-2026-1", "severity": "BAD"}]}"#).is_err());
/// ```
#[derive(Clone, Debug, Deserialize)]
pub struct ScanFindings {
    pub(super) findings: Vec<Finding>,
}

/// A finding of basic scanning (<https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ImageScanFinding.html>).
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Finding {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
    pub(super) severity: Severity,
    #[serde(default)]
    attributes: Vec<Attribute>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Attribute {
    key: String,
    value: String,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Severity {
    Informational,
    Low,
    Medium,
    High,
    Critical,
    Undefined,
}

impl ScanFindings {
    /// Parses the response of DescribeImageScanFindings, or its `imageScanFindings`. The counts and times of that scan are
    /// ignored.
    ///
    /// # Errors
    /// Fails if a finding is not as ECR's API has it.
    pub fn of_json(text: &str) -> Result<Self> {
        let bad = |error| Error::usage("the scan findings are malformed").because(error);
        let mut whole: Value = serde_json::from_str(text).map_err(bad)?;
        let own = whole.get_mut("imageScanFindings").map(Value::take).unwrap_or(whole);
        serde_json::from_value(own).map_err(bad)
    }
}
