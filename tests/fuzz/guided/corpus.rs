//! Writes the inputs to start from into a folder, one folder for each target: the archives of `testdata` with short layers,
//! their documents, blocks to compress, and examples of targets and rejections.

#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "a corpus that cannot be written is a failure; the files have other users"
)]

use std::fs;
use std::path::PathBuf;

// It has the counters that the instrumentation of the dependencies needs.
use libfuzzer_sys as _;

#[path = "../archive.rs"]
mod archive;
#[path = "../dice.rs"]
mod dice;
#[path = "../layers.rs"]
mod layers;
#[path = "../samples.rs"]
mod samples;
#[path = "../sparse.rs"]
mod sparse;

const REFERENCES: [&str; 12] = [
    "app",
    "team/app:1.2",
    "000000000000.dkr.ecr.eu-west-1.amazonaws.com/team/app:latest",
    "000000000000.dkr.ecr-fips.us-gov-west-1.amazonaws.com/app",
    "000000000000.dkr-ecr.eu-west-1.on.aws/app",
    "vpce-0123456789abcdef0-abcdefgh.dkr.ecr.eu-west-1.vpce.amazonaws.com/app:1",
    "public.ecr.aws/alias/app:1",
    "localhost:5000/app",
    "[::1]:5000/app:1",
    "linux/arm64/v8",
    "release-*",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
];

const REJECTIONS: [&str; 5] = [
    "Bearer realm=\"https://auth.example.org/token\",service=\"r\",scope=\"repository:a/b:pull,push\"\n{\"errors\":[]}",
    "Basic realm=\"Registry\", Negotiate\n{\"errors\":[{\"code\":\"DENIED\",\"message\":\"no\",\"detail\":{\"a\":[1,\"b\"]}}]}",
    "\n{\"errors\":[{\"code\":\"UNKNOWN\",\"message\":\"m\"},{\"code\":\"NAME_UNKNOWN\",\"message\":\"n\",\"detail\":\"d\"}]}",
    "\n<html><body>Bad gateway</body></html>",
    "\ntoken=secret https://user:password@example.org/a?X-Amz-Signature=1 Authorization: Basic dXNlcjpwYXNz",
];

fn main() {
    let root = PathBuf::from(std::env::args_os().nth(1).expect("the folder"));
    let write = |target: &str, name: String, bytes: &[u8]| {
        let folder = root.join(target);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
    };
    for (n, sample) in samples::Samples::load().short.iter().enumerate() {
        let sealed = sample.seal();
        let (tar, _) = sample.tar(&sealed);
        write("archive", format!("{n}.tar"), &tar);
        write("archive", format!("{n}.tar.gz"), &layers::gzip(&tar));
        for (name, bytes) in sample.files(&sealed).iter().filter(|(_, bytes)| bytes.starts_with(b"{")) {
            write("document", format!("{n}-{}", name.replace('/', "-")), bytes);
        }
    }
    let (text, counters) =
        (b"the quick brown fox jumps over the lazy dog. ".repeat(20), (0..=255).collect::<Vec<u8>>());
    for (n, data) in [text, counters, vec![0; 5_000]].iter().enumerate() {
        for options in [[0, 0, 255, 255], [19, 99, 0, 255], [19, 0, 31, 3], [1, 16, 0, 0]] {
            write(
                "deflate",
                format!("{n}-{}", options.map(|it| it.to_string()).join("-")),
                &[&options[..], data].concat(),
            );
        }
    }
    REFERENCES.iter().enumerate().for_each(|(n, text)| write("reference", n.to_string(), text.as_bytes()));
    REJECTIONS.iter().enumerate().for_each(|(n, text)| write("rejection", n.to_string(), text.as_bytes()));
}
