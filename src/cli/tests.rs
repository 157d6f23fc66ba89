use std::ffi::OsString;
use std::path::PathBuf;
#[cfg(feature = "sandbox")]
use std::time::Duration;

use clap::CommandFactory as _;

use super::files::OutputFile;
use super::inspect::Inspect;
use super::output::Output;
use super::parse::{Command, parse};
use super::parser::Cli;
use super::push::{Push, Reporting};
use crate::archive::{Attestations, ImageSelector, Platforms, Selection, Source};
use crate::compress::GzipEncoder;
use crate::error::{Kind, Result};
use crate::oci::{Tag, Target};
use crate::output::log::Verbosity;
use crate::push::{CompressionPolicy, IfExists};

fn read(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Command> {
    let environment: Vec<(String, String)> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let look = move |name: &str| environment.iter().find(|(n, _)| n == name).map(|(_, value)| OsString::from(value));
    parse(arguments.iter().map(OsString::from).collect(), &look)
}

fn push_of(arguments: &[&str], environment: &[(&str, &str)]) -> Push {
    match read(arguments, environment).unwrap() {
        Command::Push(push) => *push,
        other => panic!("{other:?}"),
    }
}

fn rejected(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let error = read(arguments, environment).unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    error.to_string()
}

#[test]
fn clap_finds_no_contradiction() {
    Cli::command().debug_assert();
}

#[test]
fn push_is_the_default_command() {
    let push = push_of(&["a.tar", "team/app:1", "ghcr.io/x/y", "--tag", "2", "-t", "3", "--image", "app"], &[]);
    assert_eq!(push.request.source, Source::Path("a.tar".into()));
    assert_eq!(push.request.targets.len(), 2);
    assert_eq!(push.request.tags.iter().map(Tag::as_str).collect::<Vec<_>>(), ["2", "3"]);
    assert_eq!(push.request.image.selector, ImageSelector::Name("app".into()));
    assert_eq!(push_of(&["push", "b.tar", "app"], &[]).request.source, Source::Path("b.tar".into()));
}

#[test]
fn inspect_has_its_own_options() {
    let look = |arguments: &[&str], environment: &[(&str, &str)]| match read(arguments, environment).unwrap() {
        Command::Inspect(Inspect { archive, temp_dir, verify, output, .. }) => (archive, temp_dir, verify, output),
        other => panic!("{other:?}"),
    };
    let file = || Source::Path("a.tar".into());
    let environment = [("ECR_PUSH_TEMP_DIR", "there"), ("ECR_PUSH_REGION", "$(Region)"), ("ECR_PUSH_VERIFY", "yes")];
    assert_eq!(look(&["inspect", "a.tar"], &[]), (file(), std::env::temp_dir(), false, Output::Text));
    assert_eq!(look(&["inspect", "a.tar"], &environment), (file(), "there".into(), true, Output::Text));
    let arguments = ["inspect", "--output=json", "--temp-dir", "here", "-"];
    assert_eq!(look(&arguments, &environment), (Source::StandardInput, "here".into(), true, Output::Json));
    // A file of that name needs a folder.
    assert_eq!(push_of(&["./inspect", "app"], &environment[..1]).request.source, Source::Path("./inspect".into()));
    assert!(
        matches!(read(&["inspect", "--help"], &environment), Ok(Command::Print(text)) if text.contains("--verify"))
    );
}

#[test]
fn a_dash_is_standard_input_and_a_file_of_that_name_needs_a_folder() {
    assert_eq!(push_of(&["-", "app"], &[]).request.source, Source::StandardInput);
    assert_eq!(push_of(&["./-", "app"], &[]).request.source, Source::Path("./-".into()));
    // A report cannot be written to stdout by this option.
    assert_eq!(
        push_of(&["-", "app", "--report", "./-"], &[]).reporting.files,
        [(OutputFile::Report, PathBuf::from("./-"))]
    );
    assert!(read(&["-", "app", "--report", "-"], &[]).unwrap_err().to_string().contains("cannot write to -"));
}

#[test]
fn temporary_files_are_in_the_system_s_folder_by_default() {
    let folder = |arguments: &[&str], environment: &[(&str, &str)]| {
        push_of(&[&["a.tar", "app"], arguments].concat(), environment).options.temp_dir
    };
    assert_eq!(folder(&[], &[]), std::env::temp_dir());
    assert_eq!(folder(&[], &[("ECR_PUSH_TEMP_DIR", "there")]), PathBuf::from("there"));
    assert_eq!(folder(&["--temp-dir", "here"], &[("ECR_PUSH_TEMP_DIR", "there")]), PathBuf::from("here"));
}

#[test]
fn a_shard_divides_the_rate_of_a_bundle() {
    let bundle = ["a.tar", "mirror/", "--all-images", "--put-rate", "8"];
    let registries = |options: &[&str]| push_of(&[&bundle[..], options].concat(), &[]).options.registries;
    let (all, part) = (registries(&[]), registries(&["--shard", "2/4"]));
    assert_eq!((all.put_rate, all.machines), (Some(8.0), None));
    assert_eq!((part.put_rate, part.machines.map(std::num::NonZeroU64::get)), (Some(8.0), Some(4)));
}

#[test]
fn options_that_change_an_image_are_off_by_default() {
    let request = push_of(&["a.tar", "app"], &[]).request;
    assert!(!request.image.repair && !request.image.non_distributable_layers);
    let request = push_of(&["a.tar", "app", "--repair", "--foreign-layers"], &[]).request;
    assert!(request.image.repair && request.image.non_distributable_layers);
    let environment = [("ECR_PUSH_REPAIR", "true"), ("ECR_PUSH_FOREIGN_LAYERS", "yes")];
    let request = push_of(&["a.tar", "app"], &environment).request;
    assert!(request.image.repair && request.image.non_distributable_layers);
    assert!(
        rejected(&["a.tar", "app"], &[("ECR_PUSH_REPAIR", "some")]).contains("ECR_PUSH_REPAIR must be true or false")
    );
}

#[test]
fn a_repository_is_configured_by_options_or_the_environment() {
    let environment = [
        ("ECR_PUSH_CREATE_REPOSITORY", "true"),
        ("ECR_PUSH_REPOSITORY_TAG", "cost center=web shop, team=x"),
        ("ECR_PUSH_TAG_MUTABILITY", "immutable-with-exclusion"),
        ("ECR_PUSH_TAG_MUTABILITY_EXCLUSION", "latest,dev-*"),
        ("ECR_PUSH_IF_EXISTS", "same-ok"),
        ("ECR_PUSH_DOCKER_NAMING", "True"),
    ];
    let Push { request, options, reporting: Reporting { notes, .. }, .. } =
        push_of(&["a.tar", "Team/App"], &environment);
    let tag = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(options.repositories.settings.tags, [tag("cost center", "web shop"), tag("team", "x")]);
    let filters = ["latest", "dev-*"].map(|filter| filter.parse().unwrap()).to_vec();
    assert_eq!(options.repositories.settings.mutability, Some(crate::ecr::Mutability::ImmutableExcept(filters)));
    assert_eq!((options.if_exists, request.targets[0].repository.as_str()), (IfExists::SameOk, "team/app"));
    assert_eq!(notes, ["the repository \"Team/App\" is called team/app"]);
}

#[test]
fn the_environment_sets_every_option_and_an_argument_overrides_it() {
    let environment = [
        ("ECR_PUSH_TAG", "x, y"),
        ("ECR_PUSH_CREATE_REPOSITORY", "TRUE"),
        ("ECR_PUSH_REGION", "us_west_2"),
        ("ECR_PUSH_CONCURRENCY", "7"),
        ("ECR_PUSH_INSECURE", "False"),
        ("ECR_PUSH_IMAGE_ID", ""),
    ];
    let Push { request, options, .. } = push_of(&["a.tar", "app"], &environment);
    assert_eq!(request.tags.len(), 2);
    assert!(options.repositories.create && !options.registries.insecure);
    assert_eq!((request.targets[0].region.as_deref(), options.layers.concurrency), (Some("us-west-2"), 7));
    assert_eq!(request.image.selector, ImageSelector::Only);
    let Push { request, options, .. } =
        push_of(&["a.tar", "app", "-tz", "--region=eu-west-1", "--concurrency", "1"], &environment);
    assert_eq!(request.tags.len(), 1);
    assert_eq!((request.targets[0].region.as_deref(), options.layers.concurrency), (Some("eu-west-1"), 1));
}

#[test]
fn a_target_without_a_host_is_one_target_per_region() {
    let targets = |arguments: &[&str], environment: &[(&str, &str)]| {
        let targets = push_of(&[&["a.tar"], arguments].concat(), environment).request.targets;
        let place = |target: Target| (target.to_string(), target.region.unwrap_or_default());
        targets.into_iter().map(place).collect::<Vec<_>>()
    };
    let pair = |name: &str, region: &str| (name.to_owned(), region.to_owned());
    let both = [pair("app", "eu-west-1"), pair("app", "us-east-1"), pair("x.y/app", "")];
    assert_eq!(targets(&["app", "x.y/app", "--region", "eu-west-1", "--region=us_east_1"], &[]), both);
    assert_eq!(targets(&["app", "x.y/app"], &[("ECR_PUSH_REGION", "eu-west-1,us-east-1")]), both);
    assert_eq!(targets(&["app", "app:2", "--region", "a-b", "--region", "a-b"], &[]), [pair("app:latest", "a-b")]);
    let host = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/app";
    assert_eq!(targets(&[host, "--region", "us-east-1", "--region", "eu-west-1"], &[]), [pair(host, "")]);
}

#[test]
fn a_switch_may_be_repeated_and_a_value_may_not() {
    let options = push_of(&["a.tar", "app", "--dry-run", "--dry-run", "-q", "-q"], &[]).options;
    assert!(options.dry_run);
    for option in ["--image", "--platform", "--deadline", "--report", "--profile"] {
        let error = rejected(&["a.tar", "app", option, "1", option, "1"], &[]);
        assert_eq!(error, format!("{option} can be used only once"));
    }
}

#[test]
fn an_argument_overrides_conflicting_variables_and_help_ignores_them() {
    let request = push_of(&["a.tar", "app", "--image-id", "12ab"], &[("ECR_PUSH_IMAGE", "app")]).request;
    assert_eq!(request.image.selector, ImageSelector::Id("12ab".into()));
    let request = push_of(&["a.tar", "app", "--image", "app"], &[("ECR_PUSH_IMAGE_ID", "12ab")]).request;
    assert_eq!(request.image.selector, ImageSelector::Name("app".into()));
    assert!(matches!(read(&["help"], &[("ECR_PUSH_REGION", "eu-west-1")]), Ok(Command::Print(_))));
}

#[test]
fn layers_are_mounted_from_repositories_of_the_same_registry() {
    let sources = |arguments: &[&str], environment: &[(&str, &str)]| {
        let options = push_of(&[&["a.tar", "app"], arguments].concat(), environment).options;
        options.layers.mount_from.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(sources(&[], &[]), [""; 0]);
    assert_eq!(sources(&["--mount-from", "base", "--mount-from=team/base:1"], &[]), ["base", "team/base:1"]);
    assert_eq!(sources(&[], &[("ECR_PUSH_MOUNT_FROM", "base, team/base:1")]), ["base", "team/base:1"]);
    assert!(rejected(&["a.tar", "app", "--mount-from", "x.y/base"], &[]).contains("names the registry x.y"));
}

#[test]
fn a_selection_is_one_platform_or_the_present_ones() {
    let part = |options: &[&str], environment: &[(&str, &str)]| {
        push_of(&[&["a.tar", "app"], options].concat(), environment).request.image.selection
    };
    let platforms = |options: &[&str], environment: &[(&str, &str)]| part(options, environment).platforms;
    let arm64 = || Platforms::One("linux/arm64".parse().unwrap());
    assert_eq!(part(&[], &[]), Selection::default());
    assert_eq!(platforms(&["--platform", "linux/arm64/v8"], &[]), arm64());
    assert_eq!(platforms(&["--present-platforms"], &[]), Platforms::Present);
    assert_eq!(part(&["--no-attestations"], &[]).attestations, Attestations::Dropped);
    // An argument overrides both variables.
    assert_eq!(platforms(&["--platform", "linux/arm64"], &[("ECR_PUSH_PRESENT_PLATFORMS", "true")]), arm64());
    assert_eq!(platforms(&["--present-platforms"], &[("ECR_PUSH_PLATFORM", "linux/arm64")]), Platforms::Present);
    assert!(
        rejected(&["a.tar", "app", "--platform", "linux/arm64", "--present-platforms"], &[]).contains("--platform")
    );
    for bad in ["", " ", "linux", "arm64/"] {
        assert!(rejected(&["a.tar", "app", "--platform", bad], &[]).contains("is not a platform"), "{bad:?}");
    }
}

#[test]
fn an_expected_digest_is_a_complete_digest() {
    let text = format!("sha256:{}", "0a".repeat(32));
    let request = push_of(&["a.tar", "app", "--expect-digest", &text, "--referrers"], &[]).request;
    assert_eq!((request.image.expect_digest.unwrap().to_string(), request.image.referrers), (text.clone(), true));
    for bad in ["", "latest", &text[..20], &text["sha256:".len()..], &text.to_uppercase()] {
        assert!(rejected(&["a.tar", "app", "--expect-digest", bad], &[]).contains("is not a digest"), "{bad:?}");
    }
}

#[test]
fn a_rate_is_bytes_with_a_unit() {
    let rate = |text: &str| push_of(&["a.tar", "app", "--limit-rate", text], &[]).options.registries.limit_rate;
    assert_eq!([rate("2048"), rate("500K"), rate("10MiB"), rate("1g")], [2048, 512_000, 10 << 20, 1 << 30].map(Some));
    for bad in ["", "10", "-5K", "1.5M", "5X", "99999999999999999999G", "G"] {
        let argument = format!("--limit-rate={bad}");
        assert!(rejected(&["a.tar", "app", &argument], &[]).contains("--limit-rate"), "{bad}");
    }
}

#[test]
fn uncompressed_layers_are_compressed_by_algorithm_and_level() {
    let compression =
        |options: &[&str]| push_of(&[&["a.tar", "app"], options].concat(), &[]).options.layers.compression;
    let zlib = |level| GzipEncoder::Zlib { level };
    for (options, expected) in [
        (&[][..], CompressionPolicy::Usual(GzipEncoder::Own)),
        (&["--compression", "gzip"], CompressionPolicy::Gzip(GzipEncoder::Own)),
        (&["--compression-level", "1"], CompressionPolicy::Gzip(zlib(1))),
        (&["--compression-level", "9"], CompressionPolicy::Gzip(zlib(9))),
        (&["--compression-recipe", "gzip/3"], CompressionPolicy::Usual(GzipEncoder::Own)),
        (&["--compression-recipe", "gzip/2-2"], CompressionPolicy::Usual(zlib(2))),
        (&["--compression=gzip", "--compression-recipe=gzip/2-2"], CompressionPolicy::Gzip(zlib(2))),
        (&["--compression", "zstd"], CompressionPolicy::Zstd(None)),
        (&["--compression", "zstd", "--compression-level", "19"], CompressionPolicy::Zstd(Some(19))),
    ] {
        assert_eq!(compression(options), expected, "{options:?}");
    }
    for bad in ["--compression-level=0", "--compression-level=10"] {
        assert!(rejected(&["a.tar", "app", bad], &[]).contains("--compression-level must be 1 to 9 for gzip"), "{bad}");
    }
    let too_high = ["a.tar", "app", "--compression=zstd", "--compression-level=20"];
    assert!(rejected(&too_high, &[]).contains("--compression-level must be 1 to 19 for zstd"));
    for (one, other) in [
        ("--compression=keep", "--compression-level=3"),
        ("--compression=keep", "--compression-recipe=gzip/3"),
        ("--compression=zstd", "--compression-recipe=gzip/2-2"),
        ("--compression-level=2", "--compression-recipe=gzip/2-2"),
    ] {
        let text = rejected(&["a.tar", "app", one, other], &[]);
        assert!(text.contains("cannot be used"), "{one} {other}: {text}");
    }
    assert!(rejected(&["a.tar", "app", "--compression-recipe=gzip/1"], &[]).contains("does not accept \"gzip/1\""));
}

#[test]
fn a_chunk_size_must_be_accepted_by_the_registry() {
    let size =
        |target: &str, text: &str| push_of(&["a.tar", target, "--chunk-size", text], &[]).options.layers.chunk_size;
    assert_eq!(
        [size("app", "5M"), size("app", "10M"), size("x.y/app", "64M")],
        [5, 10, 64].map(|size| Some(size << 20))
    );
    assert_eq!(push_of(&["a.tar", "app"], &[]).options.layers.chunk_size, None);
    for (target, text) in [("app", "4M"), ("app", "11M"), ("x.y/app", "1"), ("ghcr.io/app", "5M"), ("x.y/app", "65M")] {
        assert!(rejected(&["a.tar", target, "--chunk-size", text], &[]).contains("--chunk-size"), "{target} {text}");
    }
}

#[test]
fn a_ca_file_conflicts_with_plain_http_and_is_not_opened() {
    let of = |arguments: &[&str], environment: &[(&str, &str)]| {
        let options = push_of(&[&["a.tar", "x.y/app"], arguments].concat(), environment).options;
        (options.registries.ca_file, options.registries.insecure)
    };
    let file = || Some(PathBuf::from("there/is none.pem"));
    assert_eq!(of(&["--ca-file", "there/is none.pem"], &[]), (file(), false));
    let (trusted, plain) = (("ECR_PUSH_CA_FILE", "there/is none.pem"), ("ECR_PUSH_INSECURE", "true"));
    assert_eq!(of(&[], &[trusted]), (file(), false));
    assert_eq!(of(&[], &[trusted, ("ECR_PUSH_INSECURE", "false")]), (file(), false));
    // Plain HTTP has no certificates. An argument overrides both variables.
    assert_eq!(of(&["--insecure"], &[trusted]), (None, true));
    assert_eq!(of(&["--ca-file", "there/is none.pem"], &[plain]), (file(), false));
    assert!(rejected(&["a.tar", "app", "--insecure", "--ca-file", "x"], &[]).contains("--ca-file"));
    assert!(rejected(&["a.tar", "app"], &[trusted, plain]).contains("--insecure"));
}

#[test]
fn invalid_values_are_rejected_with_the_name_of_the_option() {
    assert!(rejected(&["a.tar"], &[]).contains("the target is missing"));
    assert!(rejected(&["a.tar", "app", "--nonsense"], &[]).contains("--nonsense"));
    assert!(rejected(&["a.tar", "app", "--image", "a", "--image-id", "b"], &[]).contains("--image-id"));
    for option in ["--image", "--image-id"] {
        for empty in ["", " "] {
            assert!(rejected(&["a.tar", "app", option, empty], &[]).contains(&format!("{option} is empty")));
        }
    }
    let unexpanded = "the argument contains $(X): ";
    assert_eq!(rejected(&["a.tar", "$(X)"], &[]), format!("{unexpanded}a variable was not expanded"));
    let azure = [("TF_BUILD", "True")];
    assert_eq!(rejected(&["a.tar", "$(X)"], &azure), format!("{unexpanded}the pipeline variable X is not defined"));
    assert!(rejected(&["a.tar", "app"], &[("ECR_PUSH_TAG", "$(Tag)")]).contains("ECR_PUSH_TAG contains $(Tag)"));
    assert!(rejected(&["a.tar", "app"], &[("ECR_PUSH_DRY_RUN", "perhaps")]).contains("ECR_PUSH_DRY_RUN"));
    assert!(rejected(&["a.tar", "app", "--concurrency", "0"], &[]).contains("at least 1"));
    let negative = "--concurrency does not accept \"-2\"";
    assert_eq!(rejected(&["a.tar", "app", "--concurrency", "-2"], &[]), negative);
    for (line, part) in [
        ("--retries -1", "--retries"),
        ("--put-rate -1", "--put-rate"),
        ("--deadline -5s", "--deadline"),
        ("--limit-rate -5M", "--limit-rate -5M is not a number"),
        ("--shard -1/4", "\"-1/4\" is not a shard"),
        ("-t -1", "tag"),
        ("--dry-run -1", "unknown option -1"),
    ] {
        let line: Vec<&str> = ["a.tar", "h.io/app"].into_iter().chain(line.split(' ')).collect();
        assert!(rejected(&line, &[]).contains(part), "{}", rejected(&line, &[]));
    }
    assert!(rejected(&["a.tar", "app", "--region", "europe!"], &[]).contains("is not an AWS region"));
    assert!(rejected(&["a.tar", "app", "--report", "a.tar"], &[]).contains("overwrite"));
    let variable = ["a.tar", "app", "--output-variable", "A", "--output-file"];
    assert!(rejected(&[&variable[..], &["a.tar"]].concat(), &[]).contains("overwrite"));
    assert!(rejected(&[&variable[..], &["b", "--report", "b"]].concat(), &[]).contains("the same file"));
    let host = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/app";
    assert!(rejected(&["a.tar", host, "--region", "us-east-1"], &[]).contains("is in region eu-west-1"));
    let remote = [("ECR_PUSH_REGISTRY_ENDPOINT", "http://example.org")];
    assert!(rejected(&["a.tar", "app"], &remote).contains("not a loopback address"));
}

#[cfg(feature = "sandbox")]
#[test]
fn a_sandbox_needs_an_equals_sign_before_its_folder_and_does_not_use_the_cache() {
    let environment = [("HOME", "/home/me")];
    let push = push_of(&["--sandbox", "a.tar", "app"], &environment);
    assert_eq!((push.sandbox, push.options.layers.cache), (Some(None), None));
    let push = push_of(&["--sandbox=dir", "a.tar", "app"], &environment);
    assert_eq!(push.sandbox, Some(Some(PathBuf::from("dir"))));
    for (value, sandbox) in [("False", None), ("true", Some(None)), ("dir", Some(Some("dir".into()))), ("", None)] {
        assert_eq!(push_of(&["a.tar", "app"], &[("ECR_PUSH_SANDBOX", value)]).sandbox, sandbox, "{value:?}");
    }
    if cfg!(target_os = "linux") {
        let cache = push_of(&["a.tar", "app"], &environment).options.layers.cache;
        assert_eq!(cache, Some(PathBuf::from("/home/me/.cache/ecr-push/layers.jsonl")));
    }
}

#[cfg(feature = "sandbox")]
#[test]
fn a_sandbox_discards_and_delays_only_on_request() {
    let sandbox = |arguments: &[&str]| match read(&[&["sandbox"], arguments].concat(), &[]).unwrap() {
        Command::Sandbox(sandbox, _) => (sandbox.discard, sandbox.rules.delay),
        other => panic!("{other:?}"),
    };
    assert_eq!(sandbox(&[]), (false, Duration::ZERO));
    assert_eq!(sandbox(&["--discard", "--delay", "50"]), (true, Duration::from_millis(50)));
    assert_eq!(sandbox(&["--latency", "2s"]), (false, Duration::from_secs(2)));
    for bad in ["", "-1", "50x", "0.5"] {
        assert!(rejected(&["sandbox", &format!("--delay={bad}")], &[]).contains("--delay"), "{bad:?}");
    }
    // The options are those of the sandbox, not of a push.
    assert!(rejected(&["--discard", "a.tar", "app"], &[]).contains("--discard"));
}

#[test]
fn verbose_may_be_given_twice() {
    let tell = |options: &[&str], environment: &[(&str, &str)]| {
        let push = push_of(&[&["a.tar", "app"], options].concat(), environment);
        (push.reporting.verbosity, push.options.registries.report_caller)
    };
    let (usual, reasons, requests) =
        ((Verbosity::Normal, false), (Verbosity::Details, true), (Verbosity::Requests, true));
    for (options, expected) in [
        (&[][..], usual),
        (&["-v"], reasons),
        (&["-vv"], requests),
        (&["-v", "--verbose"], requests),
        (&["-vvv"], requests),
    ] {
        assert_eq!(tell(options, &[]), expected, "{options:?}");
    }
    for (value, expected) in [
        ("true", reasons),
        ("1", reasons),
        (" 2 ", requests),
        ("2", requests),
        ("false", usual),
        ("0", usual),
        ("", usual),
    ] {
        assert_eq!(tell(&[], &[("ECR_PUSH_VERBOSE", value)]), expected, "{value:?}");
    }
    // An argument overrides the variable.
    assert_eq!(tell(&["-v"], &[("ECR_PUSH_VERBOSE", "2")]), reasons);
    assert_eq!(tell(&["-q"], &[("ECR_PUSH_VERBOSE", "2")]), usual);
    for bad in ["3", "-1", "much"] {
        assert!(
            rejected(&["a.tar", "app"], &[("ECR_PUSH_VERBOSE", bad)]).contains("ECR_PUSH_VERBOSE must be"),
            "{bad}"
        );
    }
    assert!(rejected(&["a.tar", "app", "-vv", "-q"], &[]).contains("--quiet"));
}

#[test]
fn the_ci_system_is_passed_to_the_push() {
    let ci = |options: &[&str], environment: &[(&str, &str)]| {
        push_of(&[&["a.tar", "app"], options].concat(), environment).options.registries.ci
    };
    assert_eq!(ci(&[], &[]), None);
    assert_eq!(ci(&[], &[("TF_BUILD", "True")]), Some("azure"));
    assert_eq!(ci(&["--ci", "none"], &[("TF_BUILD", "True")]), None);
    assert_eq!(ci(&["--ci", "tekton"], &[]), Some("tekton"));
}

#[test]
fn help_is_printed_to_stdout_without_an_error() {
    assert!(matches!(read(&["--help"], &[]), Ok(Command::Print(text)) if text.contains("Usage:")));
    assert!(matches!(read(&["--version"], &[]), Ok(Command::Print(text)) if text.starts_with("ecr-push 0.")));
}
