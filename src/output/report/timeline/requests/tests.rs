use super::*;

/// A request that began so many milliseconds after `start` and took 8 of them.
pub(in super::super) fn record(start: Instant, millis: u64, method: &str, status: u16) -> RequestRecord {
    RequestRecord {
        method: method.into(),
        url: "https://r.example/v2/a/blobs/uploads/1".into(),
        status: (status > 0).then_some(status),
        error: (status == 0).then(|| "connection reset".into()),
        began: start + Duration::from_millis(millis),
        seconds: 0.008,
        is_throttle: false,
        request_id: Some("7".into()),
        sent: if method == "PATCH" { 100 } else { 0 },
        repository: None,
        subject: None,
        attempt: 1,
    }
}

#[test]
fn the_number_of_requests_is_bounded_and_a_failed_one_stays_visible() {
    let start = Instant::now();
    let mut requests = RequestList { max: 10, ..RequestList::default() };
    for n in 0..1000 {
        requests.add(&record(start, n * 10, "PATCH", if n == 500 { 429 } else { 201 }));
    }
    let requests = requests.requests();
    assert!(requests.len() <= 10, "{}", requests.len());
    assert_eq!(requests.iter().map(|it| it.count).sum::<usize>(), 1000);
    assert_eq!(requests.iter().map(|it| it.sent).sum::<u64>(), 100_000);
    assert_eq!((requests[0].from, requests.last().unwrap().to), (start, start + Duration::from_millis(9_998)));
    assert!(requests.windows(2).all(|pair| pair[0].to < pair[1].from), "in their order");
    let failed: Vec<_> = requests.iter().filter(|it| it.failed.is_some()).collect();
    assert_eq!((failed.len(), failed[0].count), (1, 1), "it is not merged");

    let mut requests = RequestList { max: 10, ..RequestList::default() };
    (0..1000).for_each(|n| requests.add(&record(start, n * 10, "PATCH", 0)));
    assert!(requests.requests().len() <= 10, "also if all fail");
}

#[test]
fn a_missing_item_is_no_failure() {
    let start = Instant::now();
    let failed = |method, status| Failed::of(&record(start, 0, method, status));
    for (method, status) in [("HEAD", 404), ("GET", 401), ("GET", 403), ("PUT", 201), ("PATCH", 202), ("POST", 401)] {
        assert_eq!(failed(method, status), None, "{method} {status}");
    }
    for (method, status) in [("GET", 429), ("GET", 503), ("PATCH", 401), ("PATCH", 416), ("PUT", 400), ("POST", 404)] {
        assert_eq!(failed(method, status), Some(Failed::Status(status)), "{method} {status}");
    }
    assert_eq!(failed("HEAD", 0), Some(Failed::NoResponse("connection reset".into())));
}
