//! What is odd about ECR, and who finds out if the client forgets it. Each row was seen red with the client spoiled in
//! that one place. Tests without a module before them are below; those in `src` are named by their file.
//!
//! | point | what the client must not forget | test |
//! |---|---|---|
//! | one state behind both faces | the API is asked which blobs are there that went in over HTTP | `layer_cache::an_oci_layout_is_recognised_without_a_cache` |
//! | | a repository is created by the API before it is pushed to | `repositories::a_repository_is_created_as_it_was_asked_for` |
//! | logins | the login is shown before the 401 | `tags::a_tag_moves_where_the_repository_lets_it_and_is_refused_before_a_byte_elsewhere` |
//! | | a 401 is answered with a login | `logins::a_docker_registry_with_a_password_file` |
//! | | a 403 that speaks of an expired token takes a fresh one, also in mid-push | `faults::a_token_that_expires_in_mid_push_is_renewed_once` |
//! | | any other 403 takes none | `src/registry/fault.rs`, `only_an_expired_token_is_worth_a_fresh_one_after_403` |
//! | | a denial is reported with its action | `registry_errors::a_right_that_is_missing_is_named_with_what_it_is_missing_on` |
//! | | an empty one, too | `ecr_errors::an_empty_403_is_reported_with_the_permission_of_the_request` |
//! | uploads | `Location` is absolute; there is no `Docker-Upload-UUID` | `chunks::a_layer_of_exactly_one_chunk_takes_no_part` |
//! | | a PATCH is answered with 201; its `Range` stays at the first part, so bytes are counted here | `chunks::a_layer_that_is_compressed_during_the_upload_is_sent_in_consecutive_parts` |
//! | chunks | none of more than 10 MiB, none of less than 5 MiB but the last, and every one at its offset | `chunks::a_layer_that_is_compressed_during_the_upload_is_sent_in_consecutive_parts` |
//! | | a part says its range, a blob in one piece does not | `chunks::one_byte_more_than_a_chunk_takes_a_part_and_the_byte`, `chunks::a_layer_of_exactly_one_chunk_takes_no_part` |
//! | cuts | a 416 may mean a session that is lost, which takes a new one | `faults::a_part_that_is_cut_is_sent_again_whatever_becomes_of_its_session` |
//! | | the old place is tried where a GET says 404; the offset that the 416 names is believed, and once | `a_cut_session_resumes_at_the_offset_of_the_416_and_is_given_up_if_that_is_wrong` |
//! | | a GET that says 404 is not the end's session | `resume::a_push_that_was_killed_is_resumed` |
//! | blobs | one without a byte is refused before anything is sent | `empty_layers::a_layer_of_no_bytes_is_refused_where_ecr_could_not_store_it` |
//! | | a digest that does not match takes another reading | `registry_errors::a_registry_that_stores_something_else_is_not_believed` |
//! | | a blob that is there already has arrived | `repositories::layers_that_are_archived_or_among_the_failures_are_sent_again` |
//! | manifests | a PUT is answered with 201 and no `Location` | `chunks::a_layer_of_exactly_one_chunk_takes_no_part` |
//! | | a GET does not return the digest | `remote_reuse::a_tag_that_names_this_image_takes_two_requests_and_no_byte_of_a_layer` |
//! | | the config is there before the manifest | `chunks::an_empty_layer_arrives` |
//! | | children are there before their index, inner ones first | `indexes::an_index_is_pushed_whole_children_first` |
//! | | a layer that is gone after all is sent again | `remote_reuse::what_the_repository_has_lost_since_is_sent_after_all` |
//! | | 4 MiB is the most | `large_inputs::a_manifest_that_no_registry_takes_is_refused_before_the_first_byte` |
//! | strict fields | a 405 is reported with the field: `platform` and `annotations` of the config, `platform` of the subject, media types with parameters | `ecr_errors::a_manifest_that_ecr_rejects_is_reported_with_the_field_and_its_writer` |
//! | | `platform.features`, attestations as artifacts, indexes with a subject, `data` | `src/ecr/advice/strict.rs`, `every_trigger_is_found_by_itself` |
//! | | `platform` of the config is reported before the push | `manifest_repair::what_ecr_rejects_is_reported_before_the_push_and_explained_after_it` |
//! | | a tag has no `+` | `src/oci/tests.rs`, `targets_that_make_no_sense_are_usage_errors_that_name_the_part` |
//! | | there is a most of layers | `large_inputs::more_layers_than_docker_runs_are_warned_of` |
//! | immutability | exclusion filters of both directions | `tags::a_tag_moves_where_the_repository_lets_it_and_is_refused_before_a_byte_elsewhere` |
//! | | a tag that points at the very manifest is not put again | `tags::an_index_is_the_same_by_its_digest` |
//! | | TAG_INVALID for it is no failure | `a_tag_that_must_not_move_is_there_though_the_answer_to_its_put_got_lost` |
//! | | both texts mean the same | `registry_errors::a_tag_that_may_not_move` |
//! | absent repositories | 404 NAME_UNKNOWN shows it, and RepositoryNotFoundException | `a_repository_is_absent_by_the_registry_s_word_or_by_the_api_s` |
//! | | so may a connection that is closed | `ecr_errors::a_bare_end_of_the_connection_is_asked_about` |
//! | | a template creates it: the closest one by prefix, else ROOT | `repositories::a_template_creates_the_repository_with_the_first_request` |
//! | | one that is not for pushes does not | `src/ecr/repositories.rs`, `a_template_fits_what_begins_with_its_prefix_and_a_slash` |
//! | mounts | `from` is said; 201 is a mount | `mount::layers_with_stated_digests_are_linked_from_a_repository_that_has_them` |
//! | | 202 is the session to upload in | `mount::where_nothing_is_mounted_the_answer_is_the_upload_session`, `a_mount_that_ecr_will_not_make_is_the_upload_session_whatever_the_reason` |
//! | | a refusal is no failure | `mount::a_registry_that_refuses_to_mount_gets_the_layers` |
//! | redirects | a blob is at the other end of a 307 | `remote_reuse::one_changed_layer_is_all_that_is_sent` |
//! | | no login goes there | the same: every run of `ecr.rs` asserts it |
//! | throttles | 429 and ThrottlingException pass, on every route | `faults::a_throttle_of_any_operation_passes` |
//! | | so does 5xx | `faults::an_internal_error_of_any_operation_passes` |
//! | | `Retry-After` is obeyed | `faults::a_pause_that_the_registry_asks_for_is_made` |
//! | | one lane's throttle is every lane's | `one_throttle_slows_down_every_lane` |
//! | | LimitExceededException is no throttle | `registry_errors::a_quota_of_repositories_that_is_used_up_is_not_tried_again` |
//! | | it is reported with the rate of an account | `ecr_errors::every_answer_of_ecr_has_an_explanation_and_advice` |
//! | availability | 100 digests a call | `repositories::many_layers_are_asked_for_a_hundred_a_call` |
//! | | UNAVAILABLE, ARCHIVED and failures are all not there | `repositories::layers_that_are_archived_or_among_the_failures_are_sent_again` |
//! | the API | a repository that another client created exists | `repositories::settings_change_nothing_about_a_repository_that_exists` |
//! | | AccessDenied is not "absent", and no failure | `registry_errors::a_push_continues_without_the_permissions_to_read` |
//! | | pages are read to the last | `answers_of_many_pages_are_read_to_their_end` |
//! | | `proxyEndpoint` is not where to push: the target, `--registry-id` and the endpoint settings say that | `credentials::every_form_of_host_is_asked_with_its_own_endpoints`, `credentials::another_account_s_registry_by_its_number` |

use std::time::Duration;

use ecr_push::sandbox::{
    BlobMounting, CreationTemplate, Fault, ImmutableWords, Interrupted, Parts, Rules, Trouble, UploadStatus,
};

use super::archive_builder;
use super::archive_contents::Source;
use super::ecr::{Ecr, HOST, status};
use super::harness::testdata;
use super::stored_image::StoredImage;

/// As if from a machine that knows nothing.
const FRESH: [&str; 2] = ["--cache", "/proc/nonexistent/cache"];

/// Writes an archive with a small layer for each of these seeds.
fn saved(ecr: &Ecr, seeds: &[u64]) -> String {
    let path = ecr.env.scratch(&format!("{seeds:?}.tar"));
    let layers: Vec<Vec<u8>> =
        seeds.iter().map(|seed| archive_builder::tar_of("file", &archive_builder::noise(*seed, 9000))).collect();
    archive_builder::docker_save(&path, &layers);
    path
}

#[test]
fn a_cut_session_resumes_at_the_offset_of_the_416_and_is_given_up_if_that_is_wrong() {
    // The old place is tried where a GET says nothing, and the 416 to that names another, which is tried once.
    for (interrupted, sessions, refused) in [(Interrupted::Resumable, 3, 1), (Interrupted::Spoiled, 4, 1)] {
        let cut = Fault::once("ecr:UploadLayerPart", Trouble::CutAfter(300_000)).after(1);
        let ecr = Ecr::with(&["team/app"], Rules { interrupted, faults: vec![cut], ..Rules::default() });
        let archive = ecr.env.scratch("large.tar");
        archive_builder::docker_save(
            &archive,
            &[
                archive_builder::tar_of("noise", &archive_builder::noise(7, 17 << 20)),
                archive_builder::tar_of("a", b"a"),
            ],
        );
        ecr.run(&[&archive, "team/app:1", "--concurrency", "1", "--chunk-size", "5M"]).succeeds();
        StoredImage::of_sandbox(&ecr, "team/app", "1").is(&Source::read(&archive, 0));
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
        let run = ecr.run(&[&saved(&ecr, &[1]), "team/app:1"]).succeeds();
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
        let absent = ecr.run(&[&[archive.as_str(), "team/app:1"], more].concat()).fails_with(1);
        absent.stderr_has(&[
            "the repository team/app does not exist in",
            "hint: Create it with the push, or before it: --create-repository",
        ]);
        assert_eq!(ecr.count("ecr:InitiateLayerUpload"), 0);
        let before = ecr.count("ecr:DescribeRepositories");
        ecr.run(&[&[archive.as_str(), "team/app:1", "--create-repository"], more].concat()).succeeds();
        assert_eq!(ecr.count("ecr:DescribeRepositories") - before, asked, "{more:?}");
        StoredImage::of_sandbox(&ecr, "team/app", "1").is(&Source::read(&archive, 0));
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
        base.exits_with(i32::from(unreferenced));
        ecr.set_rules(|rules| {
            rules.faults.clear();
            rules.deny = (!deny.is_empty()).then(|| deny.to_owned()).into_iter().collect();
        });
        let before = ecr.log().len();
        let run = ecr.run(&[&[archive.as_str(), "team/app:1", "--mount-from", "team/base"], &FRESH[..]].concat());
        run.succeeds().stderr_has(&[&format!("layers of {HOST}/team/base are not mounted"), "3 of 3 layers uploaded"]);
        let log = ecr.log().split_off(before);
        let mounts: Vec<u16> = log.iter().filter(|it| it.path.contains("mount=")).map(|it| it.status).collect();
        let opened = log.iter().filter(|it| it.operation == "ecr:InitiateLayerUpload").count();
        assert_eq!((mounts, opened), (vec![202; 3], 4), "{why}: one a layer, and one for the config");
        StoredImage::of_sandbox(&ecr, "team/app", "1").is(&Source::read(&archive, 0));
    }
}

#[test]
fn one_throttle_slows_down_every_lane() {
    let pause = Trouble::Throttle { retry_after: Some(Duration::from_secs(600)) };
    let ecr = Ecr::faulty(&[Fault::once("ecr:InitiateLayerUpload", pause)]);
    let archive = saved(&ecr, &(0..16).collect::<Vec<_>>());
    ecr.run(&[&archive, "team/app:1", "--concurrency", "4", "--deadline", "4"]).fails_with(4).stdout_is("");
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
            (ecr.run(&[&archive, "team/other:1"]).succeeds().digest(), archive)
        })
        .collect();
    images.sort();
    for (n, (_, archive)) in images.iter().enumerate() {
        ecr.run(&[archive, &format!("team/app:main-{n}")]).succeeds();
    }
    let (before, newest) = (ecr.count("ecr:InitiateLayerUpload"), &images[2].1);
    ecr.run(&[&[newest, "team/app:new", "--reuse-from", "main-*"], &FRESH[..]].concat()).succeeds();
    assert_eq!(ecr.count("ecr:InitiateLayerUpload"), before, "{}", ecr.story());
    assert_eq!(ecr.count("ecr:DescribeImages"), 3);

    let templates = ["other", "more", "team"].map(CreationTemplate::on_push).to_vec();
    let ecr = Ecr::with(&[], Rules { page: Some(1), templates, ..Rules::default() });
    let run = ecr.run(&[&saved(&ecr, &[1]), "team/app:1"]).succeeds();
    run.stderr_has(&["the registry's template team creates it"]);
    assert_eq!(ecr.count("ecr:DescribeRepositoryCreationTemplates"), 3);
}

#[test]
fn a_registry_that_advances_by_two_bytes_a_try_is_given_up() {
    let cut = Fault::once("ecr:UploadLayerPart", Trouble::CutAfter(2)).times(u32::MAX);
    let rules =
        Rules { interrupted: Interrupted::Resumable, upload_status: UploadStatus::Reported, ..Rules::default() };
    let ecr = Ecr::with(&["team/app"], Rules { anonymous: true, faults: vec![cut], parts: Parts::Any, ..rules });
    let archive = ecr.env.scratch("large.tar");
    archive_builder::docker_save(&archive, &[archive_builder::tar_of("noise", &archive_builder::noise(7, 17 << 20))]);
    let target = format!("{}/team/app:1", ecr.address());
    let arguments = [archive.as_str(), &target, "--retries", "2", "--chunk-size", "5M"];
    ecr.finish(ecr.env.command(&arguments)).fails_with(4).stdout_is("");
    assert!(ecr.count("ecr:UploadLayerPart") < 10, "{}", ecr.story());
}
