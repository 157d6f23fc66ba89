//! Several images of one archive in one run: `--all-images` and `--image-list`.

use std::fs::{self, File};

use ecr_push::sandbox::Rules;
use serde_json::{Value, json};

use super::archive_builder::{add, packed, prose, tar_of};
use super::archive_contents::sha256;
use super::ecr::Ecr;
use super::harness::{Run, TestEnv};
use super::layout_builder::{Layout, annotated, digest};
use super::schema;

/// Writes a docker save of images with these names. They share a base layer, and each has a layer of its own.
pub(crate) fn save(env: &TestEnv, images: &[&[&str]]) -> String {
    save_without(env, images, None)
}

/// The same without the config of an image.
pub(crate) fn save_without(env: &TestEnv, images: &[&[&str]], absent: Option<usize>) -> String {
    let path = env.scratch("images.tar");
    let mut tar = tar::Builder::new(File::create(&path).unwrap());
    let base = tar_of("base", &prose(1, 60_000));
    add(&mut tar, "base/layer.tar", &base);
    let mut list = Vec::new();
    for (at, names) in images.iter().enumerate() {
        let own = tar_of("own", &prose(at as u64 + 2, 30_000));
        let config = json!({"os": "linux", "architecture": "amd64",
            "rootfs": {"type": "layers", "diff_ids": [sha256(&base), sha256(&own)]}});
        add(&mut tar, &format!("{at}/layer.tar"), &own);
        if absent != Some(at) {
            add(&mut tar, &format!("{at}.json"), config.to_string().as_bytes());
        }
        list.push(json!({"Config": format!("{at}.json"), "RepoTags": names,
            "Layers": ["base/layer.tar", format!("{at}/layer.tar")]}));
    }
    add(&mut tar, "manifest.json", Value::from(list).to_string().as_bytes());
    tar.finish().unwrap();
    path
}

/// Writes a docker save of so many images with one name each: `NAME-0:1`, `NAME-1:1` and so on.
pub(crate) fn save_numbered(env: &TestEnv, name: &str, count: usize) -> String {
    let names: Vec<String> = (0..count).map(|n| format!("{name}-{n}:1")).collect();
    let images: Vec<[&str; 1]> = names.iter().map(|name| [name.as_str()]).collect();
    save(env, &images.iter().map(|names| &names[..]).collect::<Vec<_>>())
}

/// Pushes every image of an archive below `mirror/`, whose repositories are created.
pub(crate) fn mirror(ecr: &Ecr, archive: &str, options: &[&str]) -> Run {
    ecr.run(&[&[archive, "mirror/", "--all-images", "--create-repository"], options].concat())
}

/// Pushes the images of an archive that a list with this text names.
pub(crate) fn mirror_listed(ecr: &Ecr, archive: &str, list: &str, options: &[&str]) -> Run {
    let path = ecr.env.scratch("images.txt");
    fs::write(&path, list).unwrap();
    ecr.run(&[&[archive, "mirror/", "--image-list", &path, "--create-repository"], options].concat())
}

/// Returns the objects that a run printed, of the images by their names and the last one of all.
pub(crate) fn lines(run: &Run) -> (Vec<Value>, Value) {
    schema::check_lines(&run.stdout);
    let mut lines: Vec<Value> = run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let summary = lines.pop().unwrap();
    assert_eq!(summary["kind"], "summary");
    assert!(lines.iter().all(|line| line["kind"] == "image"), "{lines:#?}");
    (lines, summary)
}

/// Returns what the sandbox has: every repository with its tags of these.
pub(crate) fn stored(ecr: &Ecr, tags: &[&str]) -> Vec<String> {
    let mut repositories = ecr.repositories();
    repositories.sort();
    let has = |repository: &str, tag: &&&str| ecr.image(repository, tag).is_some();
    let of = |name: String| tags.iter().filter(|tag| has(&name, tag)).map(|tag| format!("{name}:{tag}")).collect();
    repositories.into_iter().flat_map(|name: String| -> Vec<String> { of(name) }).collect()
}

#[test]
fn every_image_goes_below_the_prefix_with_all_its_tags() {
    let ecr = Ecr::empty();
    let archive = save(
        &ecr.env,
        &[
            &["nginx:1", "docker.io/library/nginx:stable"],
            &["quay.io/org/app:2", "org/app:3"],
            &["registry.k8s.io/pause:3.9"],
        ],
    );
    let run = mirror(&ecr, &archive, &[]).succeeds();
    assert_eq!(
        stored(&ecr, &["1", "stable", "2", "3", "3.9"]),
        ["mirror/nginx:1", "mirror/nginx:stable", "mirror/org/app:2", "mirror/org/app:3", "mirror/pause:3.9"]
    );
    assert_eq!(run.stdout.lines().count(), 5, "{}", run.stdout);
    run.stderr_has(&["3 images: 3 pushed, 0 already up to date, 0 failed"]);
}

#[test]
fn a_rerun_costs_two_requests_an_image() {
    let ecr = Ecr::empty();
    let archive = save(&ecr.env, &[&["a:1"], &["b:1"], &["c:1"]]);
    mirror(&ecr, &archive, &[]).succeeds();
    let before = ecr.log().len();
    let machine = ecr.env.scratch("new-machine");
    mirror(&ecr, &archive, &["--cache", &machine])
        .succeeds()
        .stderr_has(&["3 images: 0 pushed, 3 already up to date, 0 failed; 0 B sent"]);
    let log = ecr.log().split_off(before);
    let logins = log.iter().filter(|entry| entry.operation == "ecr:GetAuthorizationToken").count();
    assert!(logins == 1 && log.len() <= 1 + 2 * 3, "{}", ecr.story());
}

#[test]
fn the_registry_of_a_name_can_be_kept() {
    let ecr = Ecr::empty();
    let archive = save(&ecr.env, &[&["nginx:1"], &["quay.io/org/app:2"], &["docker.io/org/app:2"]]);
    mirror(&ecr, &archive, &[]).fails_with(2).stderr_has(&[
        "several images would get the same tag of a repository",
        "quay.io/org/app:2 and docker.io/org/app:2 to mirror/org/app:2",
        "--keep-registry",
    ]);
    // What does not help is not recommended.
    let elsewhere = TestEnv::new();
    let other = save(&elsewhere, &[&["Org/app:2"], &["org/app:2"]]);
    for options in [&["--docker-naming"][..], &["--docker-naming", "--keep-registry"]] {
        mirror(&ecr, &other, options)
            .fails_with(2)
            .stderr_has(&["Org/app:2 and org/app:2 to mirror/", "hint: Leave one of them out: --exclude NAME"]);
    }
    assert_eq!(ecr.repositories(), [""; 0]);
    mirror(&ecr, &archive, &["--keep-registry"]).succeeds();
    assert_eq!(
        stored(&ecr, &["1", "2"]),
        ["mirror/docker.io/library/nginx:1", "mirror/docker.io/org/app:2", "mirror/quay.io/org/app:2"]
    );
}

#[test]
fn a_list_chooses_images_and_fails_before_the_first_push_if_one_is_missing() {
    let ecr = Ecr::empty();
    let archive = save(&ecr.env, &[&["rancher/a:1"], &["rancher/b:1", "rancher/b:2"], &["rancher/c:1"]]);
    let list = "# images\n\ndocker.io/rancher/a:1\n  rancher/b:2  # the newer one\n";
    mirror_listed(&ecr, &archive, list, &[]).succeeds();
    assert_eq!(stored(&ecr, &["1", "2"]), ["mirror/rancher/a:1", "mirror/rancher/b:2"]);
    mirror_listed(&ecr, &archive, "rancher/c:1\nrancher/d:1\nrancher/a\n", &[])
        .fails_with(1)
        .stderr_has(&["does not contain 2 of the listed images", "rancher/d:1 (line 2), rancher/a (line 3)"]);
    assert_eq!(stored(&ecr, &["1", "2"]).len(), 2);
    mirror_listed(&ecr, &archive, "# nothing\n", &[]).fails_with(2).stderr_has(&["images.txt is empty"]);
}

#[test]
fn a_digest_in_a_list_is_checked() {
    let ecr = Ecr::empty();
    let layout = Layout::new(&ecr.env, "layout");
    let named = |image: &Value, name: &str| annotated(image, &json!({"io.containerd.image.name": name}));
    let (amd, arm) = (layout.image("linux/amd64"), layout.image("linux/arm64"));
    let index = layout.index(&[amd, arm]);
    layout.finish(&[named(&index, "quay.io/org/app:1")]);
    let push = |line: String| mirror_listed(&ecr, &layout.path, &line, &[]);
    push(format!("quay.io/org/app:1@{}", digest(&index))).succeeds();
    push(format!("quay.io/org/app@{}", digest(&index))).succeeds();
    push(format!("quay.io/org/app:1@sha256:{}", "0".repeat(64)))
        .fails_with(1)
        .stderr_has(&["of line 1 is not sha256:0000"]);
    assert_eq!(stored(&ecr, &["1"]), ["mirror/org/app:1"]);
}

#[test]
fn excluded_images_are_left_out() {
    let ecr = Ecr::empty();
    let archive = save(&ecr.env, &[&["rancher/a:1"], &["rancher/b:1-windows"], &["quay.io/c:1"]]);
    mirror(&ecr, &archive, &["--exclude", "*-windows", "--exclude", "quay.io/*"])
        .succeeds()
        .output_has_none(&["matches no image"]);
    assert_eq!(ecr.repositories(), ["mirror/rancher/a"]);
    mirror(&ecr, &archive, &["--exclude", "*"]).fails_with(2).stderr_has(&["no image of"]);
    // The typing error of a pattern would push what it was to leave out.
    mirror(&ecr, &archive, &["--exclude", "rancher/a", "--exclude", "*-window"])
        .succeeds()
        .stderr_has(&["note: --exclude *-window matches no image"])
        .output_has_none(&["--exclude rancher/a matches"]);
}

/// Damages a layer in the middle of an archive.
fn damage(archive: &str, content: &[u8]) {
    let mut bytes = fs::read(archive).unwrap();
    let at = bytes.windows(content.len()).position(|window| window == content).unwrap();
    bytes[at + 1000] ^= 1;
    fs::write(archive, bytes).unwrap();
}

#[test]
fn a_failed_image_does_not_stop_the_others() {
    let ecr = Ecr::empty();
    let archive = save(&ecr.env, &[&["a:1"], &["b:1"], &["c:1"]]);
    damage(&archive, &tar_of("own", &prose(3, 30_000))[..4000]);
    let run = mirror(&ecr, &archive, &["--output", "jsonl"]).fails_with(1);
    assert_eq!(stored(&ecr, &["1"]), ["mirror/a:1", "mirror/c:1"]);
    let (images, summary) = lines(&run);
    let failed: Vec<_> = images.iter().filter(|image| image["exit_code"] == 1).map(|image| &image["name"]).collect();
    assert_eq!(failed, ["mirror/b:1"]);
    let counts = json!({"all": 3, "pushed": 2, "unchanged": 0, "failed": 1, "not_attempted": 0});
    assert_eq!((&summary["images"], &summary["exit_code"]), (&counts, &json!(1)));
    run.stderr_has(&["failed: mirror/b:1: layer", "3 images: 2 pushed, 0 already up to date, 1 failed"]);
}

#[test]
fn no_push_starts_after_a_failure_if_that_is_asked_for() {
    let ecr = Ecr::empty();
    let archive = save_numbered(&ecr.env, "image", 12);
    // Without repositories, every push fails.
    let run = ecr.run(&[&archive, "mirror/", "--all-images", "--fail-fast", "--output", "jsonl"]).fails_with(1);
    let (images, summary) = lines(&run);
    assert!(images.len() < 12 && summary["images"]["not_attempted"] == 12 - images.len(), "{summary:#}");
    let run = ecr.run(&[&archive, "mirror/", "--all-images", "--output", "jsonl"]).fails_with(1);
    assert_eq!(lines(&run).1["images"]["failed"], 12);
}

#[test]
fn the_report_has_a_line_for_each_image_and_one_for_all() {
    let ecr = Ecr::empty();
    let archive = save(&ecr.env, &[&["a:1"], &["b:1"]]);
    let report = ecr.env.scratch("report.jsonl");
    let run = mirror(&ecr, &archive, &["--output", "jsonl", "--report", &report]).succeeds();
    assert_eq!(fs::read_to_string(&report).unwrap(), run.stdout);
    let (images, summary) = lines(&run);
    let mut names: Vec<_> = images.iter().map(|image| image["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["mirror/a:1", "mirror/b:1"]);
    let sent: u64 = images.iter().map(|image| image["totals"]["bytes_sent"].as_u64().unwrap()).sum();
    assert_eq!(summary["totals"]["bytes_sent"], sent);
    let tags: Vec<_> = images.iter().map(|image| &image["targets"][0]["tag_outcomes"][0]["outcome"]).collect();
    assert_eq!(tags, ["pushed", "pushed"]);
    // A rerun replaces it.
    ecr.run(&[&archive, "mirror/", "--all-images", "--report", &report]).succeeds();
    assert_eq!(fs::read_to_string(&report).unwrap().lines().count(), 3);
}

#[test]
fn a_prefix_and_several_images_need_each_other() {
    let ecr = Ecr::new();
    let archive = save(&ecr.env, &[&["a:1"], &["b:1"]]);
    let refused = |arguments: &[&str], parts: &[&str]| {
        ecr.run(&[&[archive.as_str()], arguments].concat()).fails_with(2).stderr_has(parts);
    };
    refused(&["mirror/"], &["ends with a slash", "--all-images"]);
    refused(&["mirror/app:1", "--all-images"], &["is one repository", "at its end: mirror/app/"]);
    refused(&["mirror/:1", "--all-images"], &["is one repository", "at its end: mirror/"]);
    refused(&["registry:5000", "--all-images"], &["is one repository", "at its end: registry:5000/"]);
    refused(&["mirror/", "--all-images", "--image", "a:1"], &["--image"]);
    refused(&["mirror/", "--all-images", "--output", "json"], &["--output json is for one image", "--output jsonl"]);
    refused(&["team/app:1", "--image", "a:1", "--exclude", "b"], &["--exclude is for several images"]);
    refused(&["team/app:1", "--image", "a:1", "--keep-registry"], &["--keep-registry is for several images"]);
    refused(&["team/app:1", "--image", "a:1", "--fail-fast"], &["--fail-fast is for several images"]);
    refused(&["team/app:1", "--image", "a:1", "--shard", "1/2"], &["--shard is for several images"]);
    refused(&["team/app:1", "--image", "a:1", "--output", "jsonl"], &["--output jsonl is for several images"]);
    // The transports of skopeo name an image, too.
    ecr.run(&[&format!("docker-archive:{archive}:a:1"), "mirror/", "--all-images"])
        .fails_with(2)
        .stderr_has(&["the archive argument selects an image, and several images are pushed"]);
    assert_eq!(ecr.log().len(), 0);
}

#[test]
fn a_compressed_archive_is_decompressed_once() {
    let ecr = Ecr::empty();
    let archive = save(&ecr.env, &[&["a:1"], &["b:1"], &["c:1"]]);
    let compressed = format!("{archive}.gz");
    fs::write(&compressed, packed("gzip", &fs::read(&archive).unwrap())).unwrap();
    let run = mirror(&ecr, &compressed, &["-v"]).succeeds();
    assert_eq!(run.stderr.matches("decompress").count(), 1, "{}", run.stderr);
    assert_eq!(stored(&ecr, &["1"]).len(), 3);
}

#[test]
fn images_without_a_name_are_reported() {
    let ecr = Ecr::empty();
    let archive = save(&ecr.env, &[&["a:1"], &[]]);
    mirror(&ecr, &archive, &[])
        .succeeds()
        .stderr_has(&["an image without a name that has a tag is not pushed; --image-id "]);
    assert_eq!(ecr.repositories(), ["mirror/a"]);
}

#[test]
fn several_prefixes_get_every_image_and_an_immutable_tag_fails_alone() {
    let ecr = Ecr::with(&["one/a", "one/b", "two/a", "two/b"], Rules::default());
    let archive = save(&ecr.env, &[&["a:1"], &["b:1"]]);
    ecr.run(&[&archive, "one/", "two/", "--all-images"]).succeeds();
    assert_eq!(stored(&ecr, &["1"]), ["one/a:1", "one/b:1", "two/a:1", "two/b:1"]);
    let other = Ecr::with(&["one/a", "one/b"], Rules::default());
    other.run(&[&archive, "one/b:1", "--image", "a:1"]).succeeds();
    other
        .run(&[&archive, "one/", "--all-images", "--if-exists", "same-ok"])
        .fails_with(1)
        .stderr_has(&["2 images: 1 pushed, 0 already up to date, 1 failed"]);
    assert_eq!(stored(&other, &["1"]), ["one/a:1", "one/b:1"]);
}

#[test]
fn a_dry_run_plans_all_images_and_changes_nothing() {
    let ecr = Ecr::empty();
    let archive = save(&ecr.env, &[&["a:1"], &["b:1"]]);
    mirror(&ecr, &archive, &["--dry-run"]).succeeds().stderr_has(&["2 images: 2 would be pushed"]);
    assert_eq!(ecr.repositories(), [""; 0]);
}

#[test]
fn the_inline_sandbox_creates_the_repositories() {
    let env = TestEnv::new();
    let archive = save(&env, &[&["a:1"], &["b:1"]]);
    env.run(&["--sandbox", &archive, "mirror/", "--all-images"]).succeeds().stderr_has(&["2 images: 2 pushed"]);
}

#[test]
fn shards_push_every_image_once() {
    let ecr = Ecr::empty();
    let archive = save_numbered(&ecr.env, "image", 9);
    let mut pushed = Vec::new();
    for shard in 1..=3 {
        let mut command = ecr.command(&[&archive, "mirror/", "--all-images", "--create-repository", "--shard", "auto"]);
        command.env("JOB_COMPLETION_INDEX", (shard - 1).to_string()).args(["--shards", "3"]);
        pushed.extend(ecr.finish(command).succeeds().stdout.lines().map(str::to_owned));
    }
    pushed.sort();
    pushed.dedup();
    assert_eq!((pushed.len(), ecr.repositories().len(), ecr.count("ecr:PutImage")), (9, 9, 9));
    // The same parts under their numbers have nothing to do, also in a batch.
    for shard in ["1/3", "2/3", "3/3"] {
        ecr.run(&[&archive, "mirror/", "--all-images", "--shard", shard]).succeeds().stderr_has(&[" 0 pushed"]);
    }
    let file = ecr.env.scratch("pushes.txt");
    let line = |n| format!("{archive} --image image-{n}:1 batch/image-{n}:1\n");
    fs::write(&file, (0..9).map(line).collect::<String>()).unwrap();
    for shard in ["1/2", "2/2"] {
        ecr.run(&["batch", &file, "--create-repository", "--shard", shard]).succeeds();
    }
    assert_eq!((ecr.repositories().len(), ecr.count("ecr:PutImage")), (18, 18));
    for (wrong, part) in [(["--shard", "0/3"], "from 1"), (["--shard", "auto"], "found no engine")] {
        ecr.run(&[&[archive.as_str(), "mirror/", "--all-images"], &wrong[..]].concat())
            .fails_with(2)
            .stderr_has(&[part]);
    }
}

#[test]
fn tags_collide_across_prefixes_and_names_with_digests() {
    let ecr = Ecr::empty();
    let archive = save(&ecr.env, &[&["b/x:1"], &["x:1"]]);
    ecr.run(&[&archive, "a/", "a/b/", "--all-images", "--create-repository"])
        .fails_with(2)
        .stderr_has(&["several images would get the same tag", "b/x:1 and x:1 to a/b/x:1"]);
    assert_eq!(ecr.log().len(), 0);
}

#[test]
fn digests_in_a_list_choose_among_images_of_one_repository() {
    let ecr = Ecr::empty();
    let layout = Layout::new(&ecr.env, "layout");
    let named = |image: &Value, name: &str| annotated(image, &json!({"io.containerd.image.name": name}));
    let (one, two) = (layout.image("linux/amd64"), layout.image("linux/arm64"));
    layout.finish(&[named(&one, "quay.io/org/app:1"), named(&two, "quay.io/org/app:2")]);
    let push = |lines: &[String]| mirror_listed(&ecr, &layout.path, &lines.join("\n"), &[]);
    push(&[format!("quay.io/org/app@{}", digest(&one)), format!("quay.io/org/app@{}", digest(&two))]).succeeds();
    assert_eq!(stored(&ecr, &["1", "2"]), ["mirror/org/app:1", "mirror/org/app:2"]);
    // Another repository has no tag of this image.
    push(&[format!("quay.io/other@{}", digest(&one))]).fails_with(2).stderr_has(&["of line 1 has no tag"]);
    push(&[format!("quay.io/org/app:2@{}", digest(&one))]).fails_with(1).stderr_has(&["of line 1 is not"]);
}

#[test]
fn an_image_that_cannot_be_pushed_has_a_line_and_belongs_to_one_shard() {
    let ecr = Ecr::empty();
    let archive = save_without(&ecr.env, &[&["a:1"], &["b:1"]], Some(1));
    let run = mirror(&ecr, &archive, &["--output", "jsonl"]).fails_with(1);
    let (images, summary) = lines(&run);
    let failed: Vec<_> = images.iter().filter(|image| image["exit_code"] == 1).map(|image| &image["name"]).collect();
    assert_eq!((failed, &summary["images"]["failed"]), (vec![&json!("mirror/b:1")], &json!(1)));
    let shards = ["1/2", "2/2"].map(|shard| {
        let run = mirror(&ecr, &archive, &["--output", "jsonl", "--shard", shard]);
        lines(&run).1["images"]["failed"].as_u64().unwrap()
    });
    assert_eq!(shards.iter().sum::<u64>(), 1);
}

#[test]
fn results_that_cannot_be_written_fail_the_run_and_stop_no_push() {
    let ecr = Ecr::empty();
    // More than are pushed at a time, and than wait for the reader of stdout.
    let archive = save_numbered(&ecr.env, "image", 14);
    let report = ecr.env.scratch("report.jsonl");
    let mut command = ecr.command(&[&archive, "mirror/", "--all-images", "--create-repository", "--report", &report]);
    let errors = ecr.env.scratch("stderr");
    command.stdout(File::options().write(true).open("/dev/full").unwrap()).stderr(File::create(&errors).unwrap());
    assert_eq!(command.status().unwrap().code(), Some(1));
    let errors = fs::read_to_string(errors).unwrap();
    assert!(errors.contains("cannot write to stdout") && errors.contains("14 images: 14 pushed"), "{errors}");
    assert_eq!(fs::read_to_string(&report).unwrap().lines().count(), 15);
    ecr.run(&[&archive, "again/", "--all-images", "--create-repository", "--report", "/dev/full"])
        .fails_with(1)
        .stderr_has(&["cannot write the report", "14 images: 14 pushed"]);
}

#[test]
fn a_report_of_an_interrupted_run_is_replaced() {
    let ecr = Ecr::empty();
    let archive = save(&ecr.env, &[&["a:1"], &["b:1"]]);
    let report = ecr.env.scratch("report.jsonl");
    mirror(&ecr, &archive, &["--report", &report]).succeeds();
    let lines = fs::read_to_string(&report).unwrap();
    // Only the first line, as after a kill.
    fs::write(&report, lines.lines().next().unwrap()).unwrap();
    mirror(&ecr, &archive, &["--report", &report]).succeeds();
    assert_eq!(fs::read_to_string(&report).unwrap().lines().count(), 3);
}

#[test]
fn a_plan_counts_what_is_there() {
    let ecr = Ecr::empty();
    let archive = save(&ecr.env, &[&["a:1"], &["b:1"]]);
    mirror(&ecr, &archive, &["--exclude", "b:1"]).succeeds();
    mirror(&ecr, &archive, &["--dry-run"])
        .succeeds()
        .stderr_has(&["2 images: 1 would be pushed, 1 already up to date"]);
}
