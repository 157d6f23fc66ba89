//! What to do where an endpoint of AWS gives no answer.

use crate::error::Advice;

/// The regions that had ECR when this was written (AWS General Reference, "Amazon ECR endpoints and quotas"). The list only
/// finds what a misspelled name may mean: a region that is not in it is used like any other.
const REGIONS: [&str; 39] = [
    "af-south-1",
    "ap-east-1",
    "ap-east-2",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-south-1",
    "ap-south-2",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-southeast-3",
    "ap-southeast-4",
    "ap-southeast-5",
    "ap-southeast-6",
    "ap-southeast-7",
    "ca-central-1",
    "ca-west-1",
    "cn-north-1",
    "cn-northwest-1",
    "eu-central-1",
    "eu-central-2",
    "eu-north-1",
    "eu-south-1",
    "eu-south-2",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "eusc-de-east-1",
    "il-central-1",
    "me-central-1",
    "me-south-1",
    "mx-central-1",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-gov-east-1",
    "us-gov-west-1",
    "us-west-1",
    "us-west-2",
];

/// How many letters of a misspelled region may be wrong.
const TYPOS: usize = 2;

/// The advice for an endpoint without an answer. `service` is its name in those of VPC endpoints: `ecr.api`.
pub(super) fn advice(region: &str, service: &str) -> Advice {
    let vpc = format!(
        "In a VPC without a route to the internet, it needs the interface endpoint com.amazonaws.{region}.{service}."
    );
    let route = "Check the region, the proxy settings and the route to AWS, then run the same command again to resume.";
    match meant(region) {
        Some(meant) => format!("The region {region} is unknown; did you mean {meant}? {route}").into(),
        None => format!("{route} {vpc}").into(),
    }
}

/// The region that a misspelled one most likely means. `None` if the region is known, or nothing is like it.
fn meant(region: &str) -> Option<&'static str> {
    let nearest = REGIONS.into_iter().map(|known| (distance(known, region), known)).min()?;
    (1..=TYPOS).contains(&nearest.0).then_some(nearest.1)
}

/// How many letters are to be added, left out, replaced or swapped to make one text of the other.
fn distance(one: &str, other: &str) -> usize {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (n, a) in one.iter().enumerate() {
        let mut row = vec![n + 1];
        for (m, b) in other.iter().enumerate() {
            let mut least = (last[m] + usize::from(a != b)).min(last[m + 1] + 1).min(row[m] + 1);
            if n > 0 && m > 0 && *a == other[m - 1] && one[n - 1] == *b {
                least = least.min(before_last[m - 1] + 1);
            }
            row.push(least);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelled_region_leads_to_the_one_that_is_meant() {
        for (typed, region) in [
            ("eu-wst-1", Some("eu-west-1")),
            ("us-esat-1", Some("us-east-1")),
            ("eu-centrall-1", Some("eu-central-1")),
            ("us-east-1", None),
            ("eu-west-2", None),
            ("xx-nowhere-1", None),
            ("", None),
        ] {
            assert_eq!(meant(typed), region, "{typed}");
        }
    }
}
