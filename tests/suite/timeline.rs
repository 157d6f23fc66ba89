//! `--timeline`: the page of a push, whether it succeeds or fails.

use ecr_push::sandbox::{BlobMounting, Fault, Interrupted, Rules, Trouble};

use super::archive_builder;
use super::archive_contents::sha256;
use super::ecr::{Ecr, HOST, status};
use super::harness::{Running, testdata};
use super::timeline_page::{Element, Page, dom, screenshot};

const ARCHIVE: &str = "docker-20.10-save.tar";
const HASHES: [&str; 3] = ["c37a06bee251", "fab827903802", "631cc2c4392a"];

/// The first digits of a layer's hash, as a lane is called.
fn short(layer: &[u8]) -> String {
    sha256(layer)["sha256:".len()..][..12].to_owned()
}

fn titles(page: &Page, lane: &Element, class: &str) -> Vec<String> {
    page.within(lane, "rect", class).iter().map(|rect| rect.text.clone()).collect()
}

/// An image with a layer that is sent in three chunks, the first of which is throttled and the second cut, one that the
/// target has, and one that another repository has.
fn eventful() -> (Ecr, Page, [Vec<u8>; 3]) {
    let throttle = Fault::once("ecr:UploadLayerPart", Trouble::Throttle { retry_after: None });
    let cut = Fault::once("ecr:UploadLayerPart", Trouble::CutAfter(300_000)).after(1);
    let (blob_mounting, interrupted) = (BlobMounting::Enabled, Interrupted::Resumable);
    let rules = Rules { blob_mounting, interrupted, faults: vec![throttle, cut], ..Rules::default() };
    let ecr = Ecr::with(&["team/base", "team/app"], rules);
    let [large, held, base] =
        [(1, 12 << 20), (2, 70_000), (3, 50_000)].map(|(seed, len)| archive_builder::noise(seed, len));
    let archive = |layers: &[Vec<u8>]| {
        let path = ecr.env.scratch("layout");
        drop(std::fs::remove_dir_all(&path));
        archive_builder::oci_layout(&path, layers);
        path
    };
    ecr.run(&[&archive(std::slice::from_ref(&held)), "team/app:1"]).succeeds();
    ecr.run(&[&archive(std::slice::from_ref(&base)), "team/base:1"]).succeeds();
    let (path, cache) = (ecr.env.scratch("page.html"), ecr.env.scratch("no-cache.jsonl"));
    let layers = [large, held, base];
    let options = ["--mount-from", "team/base:1", "--chunk-size", "5M", "--cache", &cache, "--timeline", &path];
    ecr.run(&[&[archive(&layers).as_str(), "team/app:1"], &options[..]].concat()).succeeds();
    let page = Page::read(&path);
    (ecr, page, layers)
}

#[test]
fn a_page_has_a_lane_a_layer_with_what_became_of_it_and_why_it_took_so_long() {
    let (ecr, page, [large, held, base]) = eventful();
    page.stands_alone();
    assert_eq!(page.all("div", "lane").len(), 1 + 3);

    let lane = page.lane(&short(&large));
    assert!(lane.text.contains("12.0 MiB sent in "), "{}", lane.text);
    let failed = titles(&page, lane, "fail");
    assert!(
        lane.text.contains(&format!(", {} failed; not in the repository, unchanged", failed.len())),
        "{}",
        lane.text
    );
    assert!(failed[0].starts_with("PATCH 429, ") && failed[1].starts_with("PATCH no response ("), "{failed:?}");
    let words: Vec<_> = page.within(lane, "text", "").iter().map(|word| word.text.as_str()).collect();
    assert!(words.contains(&"429") || words.contains(&"no response"), "{words:?}");
    assert!(titles(&page, lane, "pause").len() >= 2);
    let sent = titles(&page, lane, "send");
    assert!(sent.iter().any(|it| it.starts_with("PATCH 201, ") && it.contains(", 5.0 MiB")), "{sent:?}");
    assert!(sent.last().unwrap().starts_with("PUT 201, "), "{sent:?}");
    assert!(!titles(&page, lane, "pack").is_empty() && !titles(&page, lane, "held").is_empty());
    let ticks = page.within(lane, "line", "tick").len();
    let shown = ["fail", "send", "ask"].map(|class| titles(&page, lane, class).len());
    assert_eq!(ticks, shown.iter().sum::<usize>(), "each request has a tick");
    let log = ecr.log();
    let about = log.iter().filter(|entry| entry.operation == "ecr:UploadLayerPart").count();
    assert_eq!(sent.iter().chain(&failed).filter(|it| it.starts_with("PATCH ")).count(), about);

    assert!(page.lane(&short(&held)).text.contains("reused: "));
    let mounted = page.lane(&short(&base));
    assert!(mounted.text.contains("mounted in ") && mounted.text.contains("1 request; from team/base: "));
    let asked = titles(&page, page.lane("everything else"), "ask");
    for part in ["ecr:GetAuthorizationToken", "/v2/team/app/manifests/1", "the config sha256:"] {
        assert!(asked.iter().any(|it| it.contains(part)), "{part} is missing in {asked:?}");
    }
    assert!(asked.iter().any(|it| it.contains("\nrequest ")), "request IDs");
    let work = titles(&page, page.lane("everything else"), "work");
    assert!(work[0].starts_with("opening the archive, ") && work[1].starts_with("putting config, "), "{work:?}");
    assert!(!page.text.contains("_state=") && !page.text.contains("?digest="), "no query of an address");
    has_a_head_that_adds_up(&page);
}

/// What stands above the lanes of an eventful push.
#[track_caller]
fn has_a_head_that_adds_up(page: &Page) {
    assert_eq!(page.all("h1", "").len(), 1);
    let facts: Vec<_> = page.all("dd", "").iter().map(|fact| fact.text.clone()).collect();
    assert_eq!(facts[1], "3 1 uploaded, 1 mounted, 1 reused");
    assert_eq!((facts[2].trim(), facts[3].trim()), ("12.1 MiB", "12.0 MiB"));
    assert!(facts[5].starts_with("117.2 KiB of the archive"), "{facts:?}");
    let rows = page.all("tr", "");
    let row = |words: &str| rows.iter().any(|row| row.text.starts_with(words));
    for words in ["only sending", "pausing before a retry", "small requests"] {
        assert!(row(words), "{words}");
    }
    let percent = |row: &&Element| row.text.rsplit_once(' ')?.0.rsplit(['s', ' ']).next()?.parse::<f64>().ok();
    let sum: f64 = rows.iter().map(|row| percent(row).unwrap()).sum();
    assert!((94.0..=106.0).contains(&sum), "{sum} % of the time");
    assert!(page.all("code", "")[0].text.starts_with(&format!("{HOST}/team/app:1@sha256:")));
    assert!(page.all("footer", "")[0].text.contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_page_of_a_failure_has_the_cause_and_escapes_the_text_of_others() {
    let fault = Fault::once("ecr:PutImage", status(400, "DENIED", "<script>alert(1)</script> & \"more\""));
    let ecr = Ecr::faulty(&[fault]);
    let archive = ecr.env.scratch("a <b> & 'c'.tar");
    std::fs::copy(testdata(ARCHIVE), &archive).unwrap();
    let path = ecr.env.scratch("page.html");
    ecr.run(&[&archive, "team/app:1", "--timeline", &path]).fails_with(1);
    let page = Page::read(&path);
    page.stands_alone();
    assert!(page.all("h1", "")[0].text.starts_with("Push failed: localhost/fixture/app:v1"));
    let said = &page.all("pre", "")[0].text;
    assert!(said.starts_with("error: ") && said.contains("<script>alert(1)</script> & \"more\""), "{said}");
    assert!(page.all("p", "")[0].text.starts_with(&archive));
    assert!(HASHES.iter().all(|hash| titles(&page, page.lane(hash), "send").len() == 1), "the layers were sent");
    let failed = titles(&page, page.lane("everything else"), "fail");
    assert!(failed[0].starts_with("PUT 400, "), "{failed:?}");
}

#[test]
fn the_page_of_an_invalid_archive_has_the_error() {
    let ecr = Ecr::new();
    let path = ecr.env.scratch("page.html");
    ecr.run(&["missing.tar", "team/app:1", "--timeline", &path]).fails_with(1);
    let page = Page::read(&path);
    assert!(page.all("pre", "")[0].text.starts_with("error: cannot find the file missing.tar"));
    assert_eq!(page.all("div", "lane").len(), 1);
}

#[test]
fn several_targets_have_lanes_of_their_own() {
    let ecr = Ecr::with(&["team/app", "team/other"], Rules::default());
    let path = ecr.env.scratch("page.html");
    let targets = ["team/app:1", "team/other:1"];
    ecr.run(&[&testdata(ARCHIVE), targets[0], targets[1], "--timeline", &path]).succeeds();
    let page = Page::read(&path);
    let groups: Vec<_> = page.all("h2", "").iter().map(|group| group.text.clone()).collect();
    let [app, other] = ["team/app", "team/other"].map(|name| format!("{HOST}/{name}"));
    assert_eq!(groups[2..], ["For all targets".to_owned(), app, other]);
    assert_eq!(page.all("div", "lane").len(), 1 + 2 * (1 + 3));
    for group in page.all("div", "lanes").iter().skip(1).zip(["team/app", "team/other"]).map(|(it, name)| {
        let asked = page.within(it, "rect", "");
        asked.iter().filter(|rect| rect.text.contains("/v2/")).map(|rect| (rect.text.clone(), name)).collect::<Vec<_>>()
    }) {
        assert!(group.len() >= 3 * 2 + 3, "{group:?}");
        group.iter().for_each(|(title, name)| assert!(title.contains(&format!("/v2/{name}/")), "{title}"));
    }
}

#[test]
fn layers_that_go_by_have_lanes_and_so_have_plans() {
    let ecr = Ecr::new();
    let (path, archive) = (ecr.env.scratch("page.html"), testdata("docker-29-overlay2-save.tar"));
    ecr.run(&[&archive, "team/app:1", "--timeline", &path, "--dry-run"]).succeeds();
    let page = Page::read(&path);
    assert!(page.all("h1", "")[0].text.starts_with("Plan of a push: "));
    assert_eq!(page.all("div", "lane").len(), 1 + 3);
    let mut command = ecr.command(&["-", "team/app:1"]);
    // By the environment, as every option.
    command.env("ECR_PUSH_TIMELINE", &path);
    let mut cat = std::process::Command::new("cat").arg(&archive).stdout(std::process::Stdio::piped()).spawn().unwrap();
    Running::fed(command, cat.stdout.take().unwrap()).end().succeeds();
    cat.wait().unwrap();
    let page = Page::read(&path);
    for hash in HASHES {
        assert!(page.lane(hash).text.contains(" sent in "), "{}", page.lane(hash).text);
        let read = ["read", "pack", "held"].map(|class| titles(&page, page.lane(hash), class).len());
        assert!(read.iter().sum::<usize>() > 0, "what its reading waited for");
    }
    assert_eq!(page.all("div", "lane").len(), 1 + 3);
}

#[test]
fn a_page_that_cannot_be_written_is_found_out_before_the_push() {
    let (ecr, archive) = (Ecr::new(), testdata(ARCHIVE));
    let run = ecr.run(&[&archive, "team/app:1", "--timeline", "no/such/folder/page.html"]).fails_with(2);
    run.stderr_has(&["cannot write the timeline to no/such/folder/page.html", "hint: Use a file in an existing"]);
    let copy = ecr.env.scratch("copy.tar");
    std::fs::copy(&archive, &copy).unwrap();
    let run = ecr.run(&[&copy, "team/app:1", "--timeline", &copy]).fails_with(2);
    run.stderr_has(&["--timeline would overwrite the archive"]);
    assert_eq!(std::fs::read(&copy).unwrap(), std::fs::read(&archive).unwrap());
    for (option, more) in [("--report", &[][..]), ("--output-file", &["--output-variable", "IMAGE"])] {
        let same = [&[archive.as_str(), "team/app:1", "--timeline", "page.html", option, "page.html"], more].concat();
        ecr.run(&same).fails_with(2).stderr_has(&[&format!("{option} and --timeline write to the same file")]);
    }
    assert!(ecr.log().is_empty());
    if cfg!(target_os = "linux") {
        let run = ecr.run(&[&archive, "team/app:1", "--timeline", "/dev/full"]).fails_with(1);
        run.stderr_has(&["cannot write the timeline to /dev/full", "because: No space left", "was pushed"]);
    }
}

#[test]
fn a_browser_shows_the_page() {
    let ecr = Ecr::new();
    let path = ecr.env.scratch("page.html");
    ecr.run(&[&testdata(ARCHIVE), "team/app:1", "--timeline", &path]).succeeds();
    let Some(dom) = dom(&path) else { return };
    for hash in HASHES {
        assert!(dom.contains(&format!(">{hash}</span>")));
    }
    assert_eq!(dom.matches("<div class=\"lane").count() - dom.matches("<div class=\"lanes").count(), 1 + 3);
    let (light, dark) = ("--blink-settings=preferredColorScheme=1", "--blink-settings=preferredColorScheme=0");
    for (width, scheme, paper) in [(1200, light, [0xff; 3]), (600, light, [0xff; 3]), (1200, dark, [0x0f, 0x14, 0x19])]
    {
        let picture = screenshot(&path, (width, 1000), scheme).unwrap();
        assert_eq!((picture.size, picture.paper()), ((width, 1000), paper), "{scheme}");
        let colours = picture.colours();
        let send = if scheme == dark { [0x56, 0xb4, 0xe9] } else { [0x00, 0x72, 0xb2] };
        assert!(colours.len() > 20 && colours.contains(&send), "{} colours at {width}, {scheme}", colours.len());
    }
}
