//! What is odd about ECR.

use std::time::Duration;

use ecr_push::sandbox::{BlobMounting, CreationTemplate, Fault, ImmutableWords, Interrupted, Rules, Trouble};

use super::bench::testdata;
use super::build;
use super::ecr::{Ecr, HOST, status};
use super::pushed::Pushed;
use super::source::Source;

/// As if from a machine that knows nothing.
const FRESH: [&str; 2] = ["--cache", "/proc/nonexistent/cache"];

/// Writes an archive with a small layer for each of these seeds.
fn saved(ecr: &Ecr, seeds: &[u64]) -> String {
    let path = ecr.bench.scratch(&format!("{seeds:?}.tar"));
    let layers: Vec<Vec<u8>> = seeds.iter().map(|seed| build::tar_of("file", &build::noise(*seed, 9000))).collect();
    build::docker_save(&path, &layers);
    path
}

#[test]
fn a_cut_session_goes_on_where_the_416_says_and_is_given_up_if_that_is_not_so() {
    // The old place is tried where a GET says nothing, and the 416 to that names another, which is tried once.
    for (interrupted, sessions, refused) in [(Interrupted::Resumable, 3, 1), (Interrupted::Spoiled, 4, 2)] {
        let cut = Fault::once("ecr:UploadLayerPart", Trouble::CutAfter(300_000)).after(1);
        let ecr = Ecr::with(&["team/app"], Rules { interrupted, faults: vec![cut], ..Rules::default() });
        let archive = ecr.bench.scratch("large.tar");
        build::docker_save(&archive, &[build::tar_of("noise", &build::noise(7, 17 << 20)), build::tar_of("a", b"a")]);
        drop(ecr.run(&[&archive, "team/app:1", "--concurrency", "1", "--chunk-size", "5M"]).exits(0));
        Pushed::of_sandbox(&ecr, "team/app", "1").is(&Source::read(&archive, 0));
        let wrong_offsets = ecr.log().iter().filter(|entry| entry.status == 416).count();
        let seen = (ecr.count("ecr:InitiateLayerUpload"), wrong_offsets);
        assert_eq!(seen, (sessions, refused), "{interrupted:?}: two layers and the config: {}", ecr.story());
    }
}

#[test]
fn a_tag_that_must_not_move_is_there_though_the_answer_to_its_put_got_lost() {
    for immutable_words in [ImmutableWords::Repository, ImmutableWords::Tag] {
        let faults = vec![Fault::once("ecr:PutImage", Trouble::CutAnswer(0))];
        let ecr = Ecr::with(&["team/app"], Rules { immutable: true, immutable_words, faults, ..Rules::default() });
        let run = ecr.run(&[&saved(&ecr, &[1]), "team/app:1"]).exits(0);
        assert_eq!(run.digest(), ecr.image("team/app", "1").unwrap().0.to_string());
        // The very manifest is refused under the tag that has it.
        assert!(ecr.asked("ecr:PutImage").iter().any(|entry| entry.status == 400), "{}", ecr.story());
    }
}

#[test]
fn a_repository_is_absent_by_the_registry_s_word_or_by_the_api_s() {
    for (more, asked) in [(&[][..], 0), (&["--reuse", "cache"], 1)] {
        let ecr = Ecr::empty();
        let archive = saved(&ecr, &[1]);
        let absent = ecr.run(&[&[archive.as_str(), "team/app:1"], more].concat()).exits(1);
        drop(absent.says(&["the repository team/app does not exist in", "hint: Add --create-repository"]));
        assert_eq!(ecr.count("ecr:InitiateLayerUpload"), 0);
        let before = ecr.count("ecr:DescribeRepositories");
        drop(ecr.run(&[&[archive.as_str(), "team/app:1", "--create-repository"], more].concat()).exits(0));
        assert_eq!(ecr.count("ecr:DescribeRepositories") - before, asked, "{more:?}");
        Pushed::of_sandbox(&ecr, "team/app", "1").is(&Source::read(&archive, 0));
    }
}

#[test]
fn a_mount_that_ecr_will_not_make_is_the_upload_session_whatever_the_reason() {
    let source = ["team/base:1", "--create-repository"];
    let encrypted = ["--encryption", "kms"];
    for (why, options, deny, mounting) in [
        ("the account setting", &[][..], "", BlobMounting::Disabled),
        ("another encryption", &encrypted, "", BlobMounting::Enabled),
        ("the right to read there", &[], "ecr:GetDownloadUrlForLayer", BlobMounting::Enabled),
        ("no manifest that refers to it", &[], "", BlobMounting::Enabled),
    ] {
        let ecr = Ecr::with(&["team/app"], Rules { blob_mounting: mounting, ..Rules::default() });
        let archive = testdata("crane-oci-layout");
        let unreferenced = why.starts_with("no manifest");
        if unreferenced {
            ecr.set_rules(|rules| rules.faults = vec![Fault::once("ecr:PutImage", status(400, "X", "no")).times(9)]);
        }
        let base = ecr.run(&[&[archive.as_str()], &source[..], options].concat());
        drop(base.exits(i32::from(unreferenced)));
        ecr.set_rules(|rules| {
            rules.faults.clear();
            rules.deny = (!deny.is_empty()).then(|| deny.to_owned()).into_iter().collect();
        });
        let before = ecr.log().len();
        let run = ecr.run(&[&[archive.as_str(), "team/app:1", "--mount-from", "team/base"], &FRESH[..]].concat());
        drop(run.exits(0).says(&[&format!("layers of {HOST}/team/base are not mounted"), "3 of 3 layers uploaded"]));
        let log = ecr.log().split_off(before);
        let mounts: Vec<u16> = log.iter().filter(|it| it.path.contains("mount=")).map(|it| it.status).collect();
        let opened = log.iter().filter(|it| it.operation == "ecr:InitiateLayerUpload").count();
        assert_eq!((mounts, opened), (vec![202; 3], 4), "{why}: one a layer, and one for the config");
        Pushed::of_sandbox(&ecr, "team/app", "1").is(&Source::read(&archive, 0));
    }
}

#[test]
fn one_throttle_slows_down_every_lane() {
    let pause = Trouble::Throttle { retry_after: Some(Duration::from_secs(600)) };
    let ecr = Ecr::faulty(&[Fault::once("ecr:InitiateLayerUpload", pause)]);
    let archive = saved(&ecr, &(0..16).collect::<Vec<_>>());
    drop(ecr.run(&[&archive, "team/app:1", "--concurrency", "4", "--deadline", "4"]).exits(4).prints(""));
    // Only what was under way already is answered.
    let done = ecr.count("ecr:CompleteLayerUpload");
    assert!(done < 8, "{done} of 16 layers were sent meanwhile: {}", ecr.story());
}

#[test]
fn answers_of_many_pages_are_read_to_their_end() {
    let ecr = Ecr::with(&["team/app", "team/other"], Rules { page: Some(1), ..Rules::default() });
    // Pages come in the order of digests, and the newest image is on the last one.
    let mut images: Vec<(String, String)> = (1..4)
        .map(|seed| {
            let archive = saved(&ecr, &[seed]);
            (ecr.run(&[&archive, "team/other:1"]).exits(0).digest(), archive)
        })
        .collect();
    images.sort();
    for (n, (_, archive)) in images.iter().enumerate() {
        drop(ecr.run(&[archive, &format!("team/app:main-{n}")]).exits(0));
    }
    let (before, newest) = (ecr.count("ecr:InitiateLayerUpload"), &images[2].1);
    drop(ecr.run(&[&[newest, "team/app:new", "--reuse-from", "main-*"], &FRESH[..]].concat()).exits(0));
    assert_eq!(ecr.count("ecr:InitiateLayerUpload"), before, "{}", ecr.story());
    assert_eq!(ecr.count("ecr:DescribeImages"), 3);

    let templates = ["other", "more", "team"].map(CreationTemplate::on_push).to_vec();
    let ecr = Ecr::with(&[], Rules { page: Some(1), templates, ..Rules::default() });
    let run = ecr.run(&[&saved(&ecr, &[1]), "team/app:1"]).exits(0);
    drop(run.says(&["the registry's template team creates it"]));
    assert_eq!(ecr.count("ecr:DescribeRepositoryCreationTemplates"), 3);
}
