//! The IAM policy that the program prints: it is enough for a push with the same options, and nothing in it is for nothing.

use ecr_push::sandbox::{BlobMounting, Policy, Rules};
use serde_json::{Value, json};

use super::ecr::{Ecr, HOST};
use super::harness::{Run, TestEnv, finish, testdata};

const ARCHIVE: &str = "docker-20.10-save.tar";
const PACKED: &str = "crane-oci-layout";
const BEFORE: &str = "docker-20.10-save-by-id-untagged.tar";
const REPOSITORY: &str = "arn:aws:ecr:us-east-1:000000000000:repository/team/app";

/// The policy that is printed for a push.
#[track_caller]
fn printed(options: &[&str]) -> Value {
    let target = format!("{HOST}/team/app:1");
    let run = TestEnv::new().run(&[&["policy", &target], options].concat()).succeeds();
    assert_eq!(run.stderr, "");
    serde_json::from_str(&run.stdout).unwrap()
}

/// The note of a lookup that took too long. On a busy machine that may be one without a fault.
const LATE: &str = "no answer within 2 s";

/// A push with that policy, whose lookups are in time: see [`push_once`].
fn push(archive: &str, policy: &Value, options: &[&str], is_there: bool) -> (Ecr, Run, Vec<String>) {
    let mut pushes = (0..20).map(|_| push_once(archive, policy, options, is_there));
    pushes.find(|(_, run, _)| !run.stderr.contains(LATE)).expect("a push whose lookups are in time")
}

/// A push with that policy, into a registry that has another image under the tag, if the repository is there, and one to
/// mount layers from. With the operations that were refused.
fn push_once(archive: &str, policy: &Value, options: &[&str], is_there: bool) -> (Ecr, Run, Vec<String>) {
    let rules = Rules { blob_mounting: BlobMounting::Enabled, ..Rules::default() };
    let ecr = Ecr::with(if is_there { &["team/app", "team/base"] } else { &["team/base"] }, rules);
    ecr.run(&[&testdata(archive), "team/base:1"]).succeeds();
    if is_there {
        ecr.run(&[&testdata(BEFORE), "team/app:1"]).succeeds();
    }
    let (policy, before) = (Policy::of_json(&policy.to_string()).unwrap(), ecr.log().len());
    ecr.set_rules(|rules| rules.policy = Some(policy));
    // A fresh machine: nothing is known of the layers.
    let cache = ecr.env.scratch("no-cache.jsonl");
    let run = ecr.run(&[&[&testdata(archive), "team/app:1", "--cache", &cache], options].concat());
    let denied = ecr.log().split_off(before).into_iter().filter(|entry| matches!(entry.status, 400 | 403));
    let denied = denied.map(|entry| entry.operation).collect();
    (ecr, run, denied)
}

/// The result of a push without an action.
enum Without {
    /// It fails and names the action.
    Fails,
    /// A push of this archive does without, and says so in these words and with the action's name.
    Says(&'static str, &'static str),
}
use Without::{Fails, Says};

const CHECK: Without = Says(PACKED, "is not allowed, so existing layers are uploaded again");
const MOVE: Without = Says(ARCHIVE, "was not checked: ");
const LOOK: Without = Says(ARCHIVE, "could not be read: ");
const MOUNT: Without = Says(PACKED, "are not mounted: ");
const MOUNT_PLAIN: Without = Says(ARCHIVE, "are not mounted: ");

/// An action of a statement, with the result of a push without it.
type Action = (&'static str, &'static str, Without);

/// The options of a push, and all actions of its policy.
const CASES: &[(&[&str], &[Action])] = &[
    (
        &[],
        &[
            ("LogIn", "ecr:GetAuthorizationToken", Fails),
            ("Push", "ecr:BatchCheckLayerAvailability", CHECK),
            ("Push", "ecr:BatchGetImage", LOOK),
            ("Push", "ecr:CompleteLayerUpload", Fails),
            ("Push", "ecr:DescribeRepositories", MOVE),
            ("Push", "ecr:GetDownloadUrlForLayer", LOOK),
            ("Push", "ecr:InitiateLayerUpload", Fails),
            ("Push", "ecr:PutImage", Fails),
            ("Push", "ecr:UploadLayerPart", Fails),
        ],
    ),
    (
        &["--reuse", "off"],
        &[
            ("LogIn", "ecr:GetAuthorizationToken", Fails),
            ("Push", "ecr:BatchCheckLayerAvailability", CHECK),
            ("Push", "ecr:CompleteLayerUpload", Fails),
            (
                "Push",
                "ecr:DescribeRepositories",
                Says(ARCHIVE, "was not checked: ecr:DescribeRepositories is not allowed"),
            ),
            ("Push", "ecr:InitiateLayerUpload", Fails),
            ("Push", "ecr:PutImage", Fails),
            ("Push", "ecr:UploadLayerPart", Fails),
        ],
    ),
    (
        &["--reuse-from", "*"],
        &[
            ("LogIn", "ecr:GetAuthorizationToken", Fails),
            ("Push", "ecr:BatchCheckLayerAvailability", CHECK),
            ("Push", "ecr:BatchGetImage", LOOK),
            ("Push", "ecr:CompleteLayerUpload", Fails),
            ("Push", "ecr:DescribeImages", LOOK),
            ("Push", "ecr:DescribeRepositories", MOVE),
            ("Push", "ecr:GetDownloadUrlForLayer", LOOK),
            ("Push", "ecr:InitiateLayerUpload", Fails),
            ("Push", "ecr:PutImage", Fails),
            ("Push", "ecr:UploadLayerPart", Fails),
        ],
    ),
    (
        &["--create-repository"],
        &[
            ("LogIn", "ecr:GetAuthorizationToken", Fails),
            ("Push", "ecr:BatchCheckLayerAvailability", CHECK),
            ("Push", "ecr:BatchGetImage", LOOK),
            ("Push", "ecr:CompleteLayerUpload", Fails),
            ("Push", "ecr:DescribeRepositories", MOVE),
            ("Push", "ecr:GetDownloadUrlForLayer", LOOK),
            ("Push", "ecr:InitiateLayerUpload", Fails),
            ("Push", "ecr:PutImage", Fails),
            ("Push", "ecr:UploadLayerPart", Fails),
            ("Create", "ecr:CreateRepository", Fails),
        ],
    ),
    (
        &["--mount-from", "team/base"],
        &[
            ("LogIn", "ecr:GetAuthorizationToken", Fails),
            ("Push", "ecr:BatchCheckLayerAvailability", CHECK),
            ("Push", "ecr:BatchGetImage", LOOK),
            ("Push", "ecr:CompleteLayerUpload", Fails),
            ("Push", "ecr:DescribeRepositories", MOVE),
            ("Push", "ecr:GetDownloadUrlForLayer", LOOK),
            ("Push", "ecr:InitiateLayerUpload", Fails),
            ("Push", "ecr:PutImage", Fails),
            ("Push", "ecr:UploadLayerPart", Fails),
            ("Mount", "ecr:BatchCheckLayerAvailability", MOUNT),
            ("Mount", "ecr:GetDownloadUrlForLayer", MOUNT),
        ],
    ),
    (
        &["--mount-from", "team/base:1"],
        &[
            ("LogIn", "ecr:GetAuthorizationToken", Fails),
            ("Push", "ecr:BatchCheckLayerAvailability", CHECK),
            ("Push", "ecr:BatchGetImage", LOOK),
            ("Push", "ecr:CompleteLayerUpload", Fails),
            ("Push", "ecr:DescribeRepositories", MOVE),
            ("Push", "ecr:GetDownloadUrlForLayer", LOOK),
            ("Push", "ecr:InitiateLayerUpload", Fails),
            ("Push", "ecr:PutImage", Fails),
            ("Push", "ecr:UploadLayerPart", Fails),
            ("MountImage", "ecr:BatchGetImage", MOUNT_PLAIN),
            ("MountImage", "ecr:GetDownloadUrlForLayer", MOUNT_PLAIN),
        ],
    ),
];

#[test]
fn the_policy_is_enough_and_nothing_in_it_is_for_nothing() {
    for (options, actions) in CASES {
        let (policy, creates) = (printed(options), options.contains(&"--create-repository"));
        for archive in [ARCHIVE, PACKED] {
            let (ecr, run, denied) = push(archive, &policy, options, !creates);
            run.succeeds()
                .output_has_none(&["is not allowed", " could not be read: HTTP", " are not mounted: HTTP", "HTTP 403"]);
            assert_eq!(denied, Vec::<String>::new(), "{options:?}");
            assert!(ecr.image("team/app", "1").is_some());
        }
        let statements = policy["Statement"].as_array().unwrap();
        let all: Vec<(&str, &str)> = statements
            .iter()
            .flat_map(|it| {
                it["Action"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|action| (it["Sid"].as_str().unwrap(), action.as_str().unwrap()))
            })
            .collect();
        assert_eq!(all, actions.iter().map(|(sid, action, _)| (*sid, *action)).collect::<Vec<_>>(), "{options:?}");
        for (sid, action, result) in *actions {
            let (policy, is_there) = (without(&policy, sid, action), !creates || *action != "ecr:CreateRepository");
            match result {
                Fails => {
                    let (_ecr, run, _denied) = push(ARCHIVE, &policy, options, is_there);
                    let run = run.fails_with(3).stderr_has(&[&format!("hint: Allow the action {action} on ")]);
                    run.stderr_has(&[&format!("{{\"Effect\":\"Allow\",\"Action\":\"{action}\",")]);
                }
                Says(archive, words) => {
                    let (ecr, run, _denied) = push(archive, &policy, options, is_there);
                    run.succeeds().stderr_has(&[words, action]);
                    assert!(ecr.image("team/app", "1").is_some());
                }
            }
        }
    }
}

#[test]
fn a_check_of_tags_needs_the_permission_to_read_them() {
    for options in [["--reuse", "off", "--if-exists", "skip"], ["--reuse", "cache", "--if-exists", "skip"]] {
        let (_ecr, run, denied) = push(ARCHIVE, &printed(&options), &options, true);
        run.succeeds();
        assert_eq!(denied, Vec::<String>::new(), "{options:?}");
    }
}

#[test]
fn any_option_of_a_push_can_be_given() {
    let run =
        TestEnv::new().run(&["policy", "team/app", "localhost:5000/app", "--username", "bob", "--password-stdin"]);
    run.succeeds();
    // What ECR Public's repositories cannot have takes no right.
    let options = ["--create-repository", "--repository-tag", "a=b", "--repository-policy", "p.json"];
    let run = TestEnv::new().run(&[&["policy", "public.ecr.aws/me/app"], &options[..]].concat()).succeeds();
    assert!(run.stdout.contains("ecr-public:CreateRepository"));
    run.output_has_none(&["TagResource", "SetRepositoryPolicy"]);
    // A blank variable counts as unset, as it does in a push.
    let env = TestEnv::new();
    let mut command = env.command(&["policy", "team/app"]);
    command.env("AWS_REGION", " ").env("AWS_DEFAULT_REGION", "eu_west_1");
    assert!(finish(command, String::new).succeeds().stdout.contains("arn:aws:ecr:eu-west-1:*:repository/team/app"));
}

/// The policy without one action; a statement that allows nothing any more goes, too.
fn without(policy: &Value, sid: &str, action: &str) -> Value {
    let mut policy = policy.clone();
    let statements = policy["Statement"].as_array_mut().unwrap();
    for statement in statements.iter_mut().filter(|it| it["Sid"] == sid) {
        statement["Action"].as_array_mut().unwrap().retain(|it| it != action);
    }
    statements.retain(|it| !it["Action"].as_array().unwrap().is_empty());
    policy
}

#[test]
fn the_policy_of_the_azure_task_s_guide_is_enough_for_a_push_without_creation() {
    let actions = [
        "BatchCheckLayerAvailability", "BatchGetImage", "CompleteLayerUpload", "DescribeImages",
        "DescribeRepositories", "GetDownloadUrlForLayer", "InitiateLayerUpload", "ListImages", "PutImage",
        "UploadLayerPart",
    ];
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": actions.map(|it| format!("ecr:{it}")), "Resource": REPOSITORY},
        {"Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*"},
    ]});
    for options in [&[][..], &["--reuse", "off"], &["--reuse-from", "*"], &["--tag", "2", "--compression", "zstd"]] {
        let (_ecr, run, denied) = push(ARCHIVE, &policy, options, true);
        run.succeeds().output_has_none(&["not authorized", "not allowed"]);
        assert_eq!(denied, Vec::<String>::new(), "{options:?}");
    }
}

#[test]
fn what_is_unknown_is_reported_as_unknown() {
    let env = TestEnv::new();
    for (arguments, environment, arn, note) in [
        (&["team/app"][..], None, "arn:aws:ecr:*:*:repository/team/app", "account and region are not known for"),
        (&["team/app", "--region", "eu-west-1"], None, "arn:aws:ecr:eu-west-1:*:", "the account is not known for"),
        (&["team/app"], Some("us-gov-west-1"), "arn:aws-us-gov:ecr:us-gov-west-1:*:", "the account is not known for"),
        (&["123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/a"], None, "arn:aws-cn:ecr:cn-north-1:123456789012:", ""),
    ] {
        let mut command = env.command(&[&["policy"], arguments].concat());
        command.envs(environment.map(|region| ("AWS_REGION", region)));
        let run = finish(command, String::new).succeeds().stderr_has(&[note]);
        assert!(run.stdout.contains(arn), "{}", run.stdout);
        assert_eq!(run.stderr.is_empty(), note.is_empty());
        drop(Policy::of_json(&run.stdout).unwrap());
    }
}

#[test]
fn several_targets_stand_in_one_policy() {
    let targets = ["team/b", "team/a:1", "team/a:2", "public.ecr.aws/team/app", "localhost:5000/team/c"];
    let run = TestEnv::new().run(&[&["policy", "--region", "us-east-1"], &targets[..]].concat()).succeeds();
    let policy: Value = serde_json::from_str(&run.stdout).unwrap();
    let sids: Vec<_> = policy["Statement"].as_array().unwrap().iter().map(|it| it["Sid"].as_str().unwrap()).collect();
    assert_eq!(sids, ["LogIn", "Push", "LogInPublic", "BearPublic", "PushPublic"]);
    let arns = ["a", "b"].map(|name| format!("arn:aws:ecr:us-east-1:*:repository/team/{name}"));
    assert_eq!(policy["Statement"][1]["Resource"], json!(arns));
    drop(Policy::of_json(&run.stdout).unwrap());
}

#[test]
fn terraform_gets_the_same_statements() {
    let target = format!("{HOST}/team/app:1");
    let run = TestEnv::new().run(&["policy", &target, "--terraform", "--reuse", "off"]).succeeds();
    let text: String = run.stdout.split_whitespace().collect();
    let policy = printed(&["--reuse", "off"]);
    assert!(text.starts_with("data\"aws_iam_policy_document\"\"ecr_push\"{statement{sid=\"LogIn\"effect=\"Allow\""));
    let statements = policy["Statement"].as_array().unwrap();
    assert_eq!(text.matches("statement{").count(), statements.len());
    for statement in statements {
        for (name, key) in [("actions", "Action"), ("resources", "Resource")] {
            let values = statement[key].as_array().unwrap().iter().map(|value| format!("{value},")).collect::<String>();
            assert!(text.contains(&format!("{name}=[{values}]")), "{text} does not have {name} {values}");
        }
    }
}

#[test]
fn a_policy_for_nothing_or_of_options_that_make_no_sense() {
    for (arguments, words) in [
        (&["localhost:5000/app"][..], "no target is in Amazon ECR"),
        (&[], "the target is missing"),
        (&["image.tar", "team/app"], "hint: Leave the archive out"),
        (&["team/app", "--reuse", "off", "--reuse-from", "main"], "--reuse-from needs --reuse tag"),
        (&["team/app", "--colour"], "unknown option --colour"),
        (&["team/$(APP)"], "$(APP): a variable was not expanded"),
    ] {
        TestEnv::new().run(&[&["policy"], arguments].concat()).fails_with(2).stdout_is("").stderr_has(&[words]);
    }
    let env = TestEnv::new();
    let mut command = env.command(&["policy", &format!("{HOST}/team/app")]);
    command.env("ECR_PUSH_CREATE_REPOSITORY", "true");
    assert!(finish(command, String::new).succeeds().stdout.contains("ecr:CreateRepository"));
}
