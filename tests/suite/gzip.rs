//! The bytes of compressed layers: other decoders read them, they are the same on every CPU, and what earlier versions
//! uploaded is found again.

use std::io::Write as _;
use std::ops::ControlFlow;
use std::process::{Command, Stdio};
use std::sync::Arc;

use ecr_push::GzipEncoder;
use ecr_push::internals::deflate::{Encoder, WINDOW};
use ecr_push::internals::{ByteSource, CompressionSpec, Pool, compress};
use ecr_push::sandbox::Rules;

use super::archive_builder::{self, noise, prose};
use super::docker_registry::{is_installed, second_opinion};
use super::ecr::Ecr;
use super::harness::testdata;

const ARCHIVE: &str = "docker-20.10-save.tar";

/// What the default compression was in version 0.1.
const OLD: &str = "--compression-recipe=gzip/2-2";

/// The digest of the archive's image, whose layers are compressed. It depends on the recipe.
const DIGEST: &str = "sha256:38cbee6a3343745b25dd27b992a80a19c6a2f955fdc604829c81232cdb995b9a";

/// Pipes input through a program.
fn filter(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = Command::new(program);
    let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // A program that fails does not read to the end; its exit status is checked below.
        scope.spawn(move || drop(stdin.write_all(input)));
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{program}: {}", output.status);
        output.stdout
    })
}

/// Text, incompressible data and zeros, more than two blocks of a layer.
fn mixed() -> Vec<u8> {
    [prose(1, 700_000), noise(2, 300_000), vec![0; 400_000], prose(3, 100_000), noise(4, 70_000)].concat()
}

#[test]
fn gzip_reads_a_layer() {
    if !second_opinion("gzip") {
        return;
    }
    let mut file = tempfile::tempfile().unwrap();
    let layer = mixed();
    file.write_all(&layer).unwrap();
    let source = ByteSource::new(Arc::new(file), 0, layer.len() as u64);
    let mut sent = Vec::new();
    compress(source.reader(), source.len(), CompressionSpec::Gzip(GzipEncoder::Own), &Pool::start(2), |block| {
        sent.extend_from_slice(&block.bytes);
        ControlFlow::Continue(())
    })
    .unwrap();
    filter("gzip", &["-t"], &sent);
    assert!(filter("gzip", &["-dc"], &sent) == layer);
}

#[test]
fn python_reads_blocks_of_any_size() {
    const PYTHON: &str = "import sys, zlib
decoder = zlib.decompressobj(-15)
data = decoder.decompress(sys.stdin.buffer.read()) + decoder.flush()
assert decoder.eof and not decoder.unused_data
sys.stdout.buffer.write(data)";
    if !second_opinion("python3") {
        return;
    }
    let mut encoder = Encoder::new();
    for data in [&[][..], b"x", &mixed()] {
        for block_len in [512 << 10, 100_001, 4_096] {
            let mut stream = Vec::new();
            for start in (0..data.len().max(1)).step_by(block_len) {
                let end = data.len().min(start + block_len);
                let dictionary = &data[start.saturating_sub(WINDOW)..start];
                encoder.compress(dictionary, &data[start..end], end == data.len(), &mut stream);
            }
            let read = filter("python3", &["-c", PYTHON], &stream);
            assert!(read == data, "{} bytes in blocks of {block_len}", data.len());
        }
    }
}

#[test]
fn the_digest_is_that_of_the_recipe_on_every_cpu() {
    let ecr = Ecr::new();
    let arguments = [&testdata(ARCHIVE), "team/app:1", "--reuse=off"];
    for threads in ["1", "3"] {
        let run = ecr.run(&[&arguments[..], &["--pack-threads", threads]].concat()).succeeds();
        assert_eq!(run.digest(), DIGEST);
    }
    if !cfg!(target_arch = "x86_64") || !is_installed("qemu-x86_64", "qemu-user") {
        return;
    }
    // Without AVX, and with AVX2 and BMI2.
    for cpu in ["Nehalem", "Haswell"] {
        let native = ecr.command(&arguments);
        let mut command = Command::new("qemu-x86_64");
        command.args(["-cpu", cpu]).arg(native.get_program()).args(native.get_args()).env_clear();
        command.envs(native.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.current_dir(native.get_current_dir().unwrap());
        assert_eq!(ecr.finish(command).succeeds().digest(), DIGEST, "{cpu}");
    }
}

#[test]
fn a_layer_of_an_earlier_version_is_not_sent_again() {
    let archive = testdata(ARCHIVE);
    for (options, again) in [
        // The layer cache of the machine, and the image under the tag.
        (&[][..], "team/app:2"),
        (&["--reuse=cache"], "team/app:2"),
        (&["--cache=/dev/null"], "team/app:1"),
        (&["--cache=/dev/null", "--reuse-from=1"], "team/app:2"),
    ] {
        let ecr = Ecr::new();
        let old = ecr.run(&[&archive, "team/app:1", OLD, "-v"]).succeeds().stderr_has(&["(recipe gzip/2-2)"]);
        let from = ecr.log().len();
        let new = ecr.run(&[&[&archive, again, "-v"], options].concat()).succeeds();
        let new = new.stderr_has(&["(recipe gzip/3)", "3 reused"]);
        assert_eq!(new.digest(), old.digest(), "{options:?}");
        let sent = ecr.log()[from..].iter().filter(|entry| entry.operation == "ecr:InitiateLayerUpload").count();
        assert_eq!(sent, 0, "{options:?}");
        // Without that, it is another digest.
        let other = ecr.run(&[&archive, "team/app:3", "--reuse=off"]).succeeds();
        assert_ne!(other.digest(), old.digest());
    }
}

/// Two regions, of which one has the image of a machine with version 0.1.
#[test]
fn the_old_recipe_gives_two_registries_the_digest_that_one_of_them_has() {
    let archive = testdata(ARCHIVE);
    let registry = || Ecr::with(&["team/app"], Rules { anonymous: true, ..Rules::default() });
    let (old, new) = (registry(), registry());
    let targets = [&old, &new].map(|registry| format!("{}/team/app:1", registry.address()));
    let run = |targets: &[&str], options: &[&str]| {
        // A fresh machine each time.
        let cache = ["--cache", "/dev/null"];
        old.env.run(&[&[archive.as_str()], targets, &cache, options].concat()).succeeds().digests()
    };
    let before = run(&[&targets[0]], &[OLD]).remove(0);
    let both = [targets[0].as_str(), &targets[1]];
    assert_eq!(run(&both, &["--same-digest", OLD]), [before.clone(), before.clone()]);
    let with_new = run(&both, &["--same-digest", "--reuse=off"]);
    assert_eq!(with_new[0], with_new[1]);
    assert_ne!(with_new[0], before);
}

#[test]
fn an_unknown_recipe_is_rejected_with_the_names_of_all() {
    let ecr = Ecr::new();
    let run = ecr.run(&[&testdata(ARCHIVE), "team/app:1", "--compression-recipe", "gzip/1"]).fails_with(2);
    run.stderr_has(&["--compression-recipe does not accept \"gzip/1\"", "gzip/3, gzip/2-2"]);
    for option in ["--compression-level=2", "--compression=zstd", "--compression=keep"] {
        let run = ecr.run(&[&testdata(ARCHIVE), "team/app:1", OLD, option]).fails_with(2);
        run.stderr_has(&["cannot be used together"]);
    }
    assert!(ecr.log().is_empty());
}

#[test]
fn level_two_is_the_old_recipe() {
    let ecr = Ecr::new();
    let archive = ecr.env.scratch("words.tar");
    archive_builder::docker_save(&archive, &[archive_builder::tar_of("words", &prose(1, 2 << 20))]);
    let digest = |option| ecr.run(&[&archive, "team/app:1", "--reuse=off", option]).succeeds().digest();
    assert_eq!(digest("--compression-level=2"), digest(OLD));
}
