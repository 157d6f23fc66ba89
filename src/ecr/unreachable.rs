//! Advice for an endpoint of AWS that does not respond.

use strsim::osa_distance;

use crate::error::Advice;

/// The regions with ECR when this was written (AWS General Reference, "Amazon ECR endpoints and quotas"). The list is only for
/// suggestions: a region that is not in it is used like any other.
const REGIONS: [&str; 39] = [
    "af-south-1", "ap-east-1", "ap-east-2", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1",
    "ap-south-2", "ap-southeast-1", "ap-southeast-2", "ap-southeast-3", "ap-southeast-4", "ap-southeast-5",
    "ap-southeast-6", "ap-southeast-7", "ca-central-1", "ca-west-1", "cn-north-1", "cn-northwest-1", "eu-central-1",
    "eu-central-2", "eu-north-1", "eu-south-1", "eu-south-2", "eu-west-1", "eu-west-2", "eu-west-3", "eusc-de-east-1",
    "il-central-1", "me-central-1", "me-south-1", "mx-central-1", "sa-east-1", "us-east-1", "us-east-2",
    "us-gov-east-1", "us-gov-west-1", "us-west-1", "us-west-2",
];

/// The maximum number of wrong letters in a misspelled region.
const MAX_TYPOS: usize = 2;

/// Advises on an endpoint that does not respond. `service` is its name in the names of VPC endpoints: `ecr.api`.
pub(super) fn advice(region: &str, service: &str) -> Advice {
    let vpc = format!(
        "In a VPC without a route to the internet, it needs the interface endpoint com.amazonaws.{region}.{service}."
    );
    let route = "Check the region, the proxy settings and the route to AWS, then run the same command again to resume.";
    match similar(region) {
        Some(similar) => format!("The region {region} is unknown; did you mean {similar}? {route}").into(),
        None => format!("{route} {vpc}").into(),
    }
}

/// Returns the region that a misspelled one most likely means. `None` if the region is known, or similar to none.
fn similar(region: &str) -> Option<&'static str> {
    let (typos, nearest) = REGIONS.into_iter().map(|known| (osa_distance(known, region), known)).min()?;
    (1..=MAX_TYPOS).contains(&typos).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelled_region_has_a_suggestion() {
        for (typed, region) in [
            ("eu-wst-1", Some("eu-west-1")),
            ("us-esat-1", Some("us-east-1")),
            ("eu-centrall-1", Some("eu-central-1")),
            ("eu-wst-11", Some("eu-west-1")),
            ("eu-wst-111", None),
            ("us-east-1", None),
            ("eu-west-2", None),
            ("xx-nowhere-1", None),
            ("", None),
        ] {
            assert_eq!(similar(typed), region, "{typed}");
        }
    }
}
