//! What registries other than ECR say to uploads in parts.

use std::io;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use super::*;

async fn bench(parts: Parts) -> Bench {
    Bench::with(Rules { parts, ..Rules::default() }).await
}

/// A body of unknown length: it comes in HTTP's own chunks.
fn stream(bytes: &[u8]) -> reqwest::Body {
    let pieces: Vec<_> = bytes.chunks(100_000).map(|piece| Ok::<_, io::Error>(piece.to_vec())).collect();
    reqwest::Body::wrap_stream(futures_util::stream::iter(pieces))
}

#[tokio::test]
async fn parts_of_any_size_are_answered_as_the_specification_says() {
    let bench = bench(Parts::Any).await;
    let blob = noise(12 * MIB);
    let url = bench.begin().await;
    for (start, end) in [(0, 1), (1, 10), (10, 12 * MIB - 3)] {
        let reply = bench.patch(&url, Some((start, end - 1)), blob[start..end].to_vec()).await;
        assert_eq!((reply.status, reply.header("range")), (StatusCode::ACCEPTED, format!("0-{}", end - 1).as_str()));
        assert_eq!(reply.header("location"), url);
    }
    let reply = bench.patch(&url, Some((0, 0)), vec![1]).await;
    assert_eq!(reply.status, StatusCode::RANGE_NOT_SATISFIABLE, "order still matters");
    let digest = Digest::of(&blob);
    assert_eq!(bench.put(&url, &digest, &blob[12 * MIB - 3..]).await.status, StatusCode::CREATED);
    assert_eq!(bench.sandbox.blob("team/app", &digest), Some(blob));
}

#[tokio::test]
async fn an_empty_blob_is_only_refused_by_ecr() {
    let empty = Digest::of(b"");
    for parts in [Parts::Any, Parts::AtLeast(9), Parts::AtMost(9), Parts::Refused { status: 405, code: "X".into() }] {
        let bench = bench(parts.clone()).await;
        let url = bench.begin().await;
        assert_eq!(bench.put(&url, &empty, b"").await.status, StatusCode::CREATED, "{parts:?}");
        assert_eq!(bench.sandbox.blob("team/app", &empty), Some(Vec::new()));
    }
}

#[tokio::test]
async fn a_least_size_is_told_and_counts_for_all_parts_but_the_last() {
    let bench = bench(Parts::AtLeast(100)).await;
    let opened = bench.call("POST", "/v2/team/app/blobs/uploads/").await;
    assert_eq!((opened.status.as_u16(), opened.header("oci-chunk-min-length")), (202, "100"));
    let (url, blob) = (opened.header("location"), noise(250));
    assert_eq!(bench.patch(url, Some((0, 99)), blob[..100].to_vec()).await.status, StatusCode::ACCEPTED);
    assert_eq!(bench.patch(url, Some((100, 198)), blob[100..199].to_vec()).await.status, StatusCode::ACCEPTED);
    // It was not the last one.
    let small =
        (416, "BLOB_UPLOAD_INVALID".into(), "The part before this one has 99 bytes, and 100 is the least".into());
    assert_eq!(bench.patch(url, Some((199, 249)), blob[199..].to_vec()).await.refusal(), small);
    assert_eq!(bench.patch(url, None, blob[199..].to_vec()).await.refusal(), small);
    assert_eq!(bench.put(url, &Digest::of(&blob), &blob[199..]).await.refusal(), small);
    // Nothing of those was taken.
    assert_eq!(bench.put(url, &Digest::of(&blob[..199]), b"").await.status, StatusCode::CREATED);

    let url = bench.begin().await;
    assert_eq!(bench.patch(&url, None, blob[..249].to_vec()).await.status, StatusCode::ACCEPTED);
    assert_eq!(bench.put(&url, &Digest::of(&blob), &blob[249..]).await.status, StatusCode::CREATED);
    bench.sandbox.set_rules(|rules| rules.parts = Parts::Any);
    let opened = bench.call("POST", "/v2/team/app/blobs/uploads/").await;
    assert_eq!(opened.header("oci-chunk-min-length"), "");
}

#[tokio::test]
async fn a_registry_without_parts_takes_a_blob_in_one_piece() {
    let bench = bench(Parts::Refused { status: 405, code: "UNSUPPORTED".into() }).await;
    let refused = (405, "UNSUPPORTED".to_owned(), "This registry takes no blobs in parts".to_owned());
    let (blob, digest) = (noise(MIB), Digest::of(&noise(MIB)));
    let url = bench.begin().await;
    assert_eq!(bench.patch(&url, Some((0, MIB - 1)), blob.clone()).await.refusal(), refused);
    assert_eq!(bench.last().body_bytes, MIB as u64);
    let put = bench.request("PUT", &format!("{url}?digest={digest}"));
    let put = put.header("content-range", format!("0-{}", MIB - 1)).body(blob.clone());
    assert_eq!(send(put).await.refusal(), refused);
    // Which leaves the session as it was.
    assert_eq!(bench.put(&url, &digest, &blob).await.status, StatusCode::CREATED);

    for body in [stream(&blob), blob.clone().into()] {
        let url = bench.begin().await;
        let reply = send(bench.request("PATCH", &url).body(body)).await;
        assert_eq!((reply.status.as_u16(), reply.header("range")), (202, format!("0-{}", MIB - 1).as_str()));
        assert_eq!(bench.patch(&url, None, vec![1]).await.refusal(), refused);
        assert_eq!(bench.put(&url, &digest, b"1").await.refusal(), refused);
        assert_eq!(bench.put(&url, &digest, b"").await.status, StatusCode::CREATED);
    }
    assert_eq!(bench.sandbox.blob("team/app", &digest), Some(blob));
    bench.sandbox.set_rules(|rules| rules.parts = Parts::Refused { status: 416, code: "RANGE_INVALID".into() });
    let reply = bench.patch(&bench.begin().await, Some((0, 0)), vec![1]).await;
    assert_eq!((reply.status.as_u16(), reply.refusal().1.as_str()), (416, "RANGE_INVALID"));
}

#[tokio::test]
async fn a_proxy_lets_no_large_body_through_and_reads_no_more_of_it() {
    let bench = bench(Parts::AtMost(MIB as u64)).await;
    let url = bench.begin().await;
    let path = url.strip_prefix(&bench.sandbox.url()).unwrap();
    let head =
        |rest: &str| format!("PATCH {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {}\r\n{rest}", bench.token);
    let announced = head(&format!("Content-Length: {}\r\n\r\n", MIB + 1)).into_bytes();
    let length = 2 * MIB;
    let mut streamed = head(&format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n")).into_bytes();
    // Less than the whole chunk, so that an answer cannot have waited for it.
    streamed.extend(vec![1; length - 10]);
    for (request, most) in [(announced, 0), (streamed, length - 10)] {
        let address = bench.sandbox.address();
        let talk = move || {
            let mut connection = TcpStream::connect(address).unwrap();
            connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            connection.write_all(&request).unwrap();
            let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
            // It may end with a reset, as there are bytes that nobody wanted.
            while let Ok(read @ 1..) = connection.read(&mut buffer) {
                answer.extend_from_slice(&buffer[..read]);
            }
            String::from_utf8(answer).unwrap()
        };
        let answer = tokio::task::spawn_blocking(talk).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 413 Payload Too Large\r\n"), "{answer}");
        assert!(answer.contains("\r\ncontent-type: text/html\r\n"), "{answer}");
        let page = "\r\n\r\n<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n<body>\r\n";
        assert!(answer.contains(page) && answer.ends_with("<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"));
        let log = bench.last();
        assert_eq!(log.status, 413);
        assert!(log.body_bytes as usize <= most, "{log:?}");
    }
    // As much as is allowed goes through.
    let (blob, digest) = (noise(MIB), Digest::of(&noise(MIB)));
    for body in [stream(&blob), blob.clone().into()] {
        let url = bench.begin().await;
        assert_eq!(send(bench.request("PATCH", &url).body(body)).await.status, StatusCode::ACCEPTED);
        assert_eq!(bench.put(&url, &digest, b"").await.status, StatusCode::CREATED);
    }
}

#[tokio::test]
async fn a_client_that_is_still_sending_sees_the_proxy_s_refusal() {
    let bench = bench(Parts::AtMost(MIB as u64)).await;
    for _ in 0..30 {
        let url = bench.begin().await;
        let (whole, streamed) = (vec![1; 8 * MIB], stream(&vec![1; 8 * MIB]));
        for body in [whole.into(), streamed] {
            let reply = send(bench.request("PATCH", &url).body(body)).await;
            assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
        }
    }
}
