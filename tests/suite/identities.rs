//! Which identity is used, and which region: the order of the AWS CLI, version 2, as a matrix.
//!
//! The AWS CLI of PyPI, version 1, is asked the same as a second opinion. Where it is known to differ, the matrix says so.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::credentials::ARCHIVE;
use super::docker_registry::not_run;
use super::ecr::SECRET_KEY;
use super::fake_aws::{ACCOUNT, FakeAws};
use super::harness::{TestEnv, testdata};

/// Keys of the environment.
pub(crate) const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "AKIAENVI"), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)];

/// The result: the access key and the region, or words of the error.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    Uses(&'static str, &'static str),
    Fails(&'static str),
}
use Outcome::{Fails, Uses};

/// What version 1 of the AWS CLI does.
#[derive(Clone, Copy, Debug)]
enum Version1 {
    /// The same.
    Agrees,
    /// A known difference, and the reason.
    Differs(Outcome, &'static str),
}
use Version1::{Agrees, Differs};

struct Case {
    options: &'static [&'static str],
    variables: &'static [(&'static str, &'static str)],
    has_keys: bool,
    config: String,
    credentials: String,
    outcome: Outcome,
    version_1: Version1,
}

pub(crate) fn keys(section: &str, id: &str) -> String {
    format!("[{section}]\naws_access_key_id = {id}\naws_secret_access_key = {SECRET_KEY}\n")
}

/// The profiles `default`, `ci` and `other`, each with a region and keys.
fn three() -> (String, String) {
    let config =
        "[default]\nregion = eu-west-1\n[profile ci]\nregion = eu-west-2\n[profile other]\nregion = eu-west-3\n";
    let credentials = [keys("default", "AKIADEFA"), keys("ci", "AKIAPRCI"), keys("other", "AKIAOTHR")].concat();
    (config.to_owned(), credentials)
}

/// The cases with these three profiles: options, variables, whether there are keys in the environment, and the outcome.
fn with_three_profiles() -> Vec<Case> {
    const TYPO: &str = "is not defined in ";
    type Row = (&'static [&'static str], &'static [(&'static str, &'static str)], bool, Outcome, Version1);
    let rows: [Row; 19] = [
        (&[], &[], false, Uses("AKIADEFA", "eu-west-1"), Agrees),
        (&[], &[], true, Uses("AKIAENVI", "eu-west-1"), Agrees),
        (&[], &[("AWS_PROFILE", "ci")], false, Uses("AKIAPRCI", "eu-west-2"), Agrees),
        (&[], &[("AWS_PROFILE", "ci")], true, Uses("AKIAENVI", "eu-west-2"), Agrees),
        (&[], &[("AWS_DEFAULT_PROFILE", "ci")], false, Uses("AKIAPRCI", "eu-west-2"), Agrees),
        (&[], &[("AWS_DEFAULT_PROFILE", "ci")], true, Uses("AKIAENVI", "eu-west-2"), Agrees),
        (
            &[],
            &[("AWS_PROFILE", "ci"), ("AWS_DEFAULT_PROFILE", "other")],
            false,
            Uses("AKIAPRCI", "eu-west-2"),
            Differs(Uses("AKIAOTHR", "eu-west-3"), "version 1 reads AWS_DEFAULT_PROFILE first"),
        ),
        (&[], &[("AWS_PROFILE", ""), ("AWS_DEFAULT_PROFILE", "ci")], false, Uses("AKIAPRCI", "eu-west-2"), Agrees),
        (
            &[],
            &[("AWS_PROFILE", "")],
            false,
            Uses("AKIADEFA", "eu-west-1"),
            Differs(Fails("profile () could not be found"), "an empty variable counts as not set"),
        ),
        (&["--profile", "ci"], &[], false, Uses("AKIAPRCI", "eu-west-2"), Agrees),
        (&["--profile", "ci"], &[], true, Uses("AKIAPRCI", "eu-west-2"), Agrees),
        (&["--profile", "ci"], &[("AWS_PROFILE", "other")], false, Uses("AKIAPRCI", "eu-west-2"), Agrees),
        (&["--profile", "ci"], &[("AWS_PROFILE", "typo")], true, Uses("AKIAPRCI", "eu-west-2"), Agrees),
        (&["--profile", "typo"], &[], true, Fails(TYPO), Agrees),
        (&[], &[("AWS_PROFILE", "typo")], false, Fails(TYPO), Agrees),
        (&[], &[("AWS_PROFILE", "typo")], true, Fails(TYPO), Agrees),
        (&[], &[("AWS_DEFAULT_PROFILE", "typo")], true, Fails(TYPO), Agrees),
        (
            &[],
            &[("AWS_PROFILE", "ci"), ("AWS_DEFAULT_REGION", "sa-east-1")],
            false,
            Uses("AKIAPRCI", "sa-east-1"),
            Agrees,
        ),
        (
            &[],
            &[("AWS_PROFILE", "ci"), ("AWS_REGION", "sa-east-1")],
            false,
            Uses("AKIAPRCI", "sa-east-1"),
            Differs(Uses("AKIAPRCI", "eu-west-2"), "version 1 does not read AWS_REGION"),
        ),
    ];
    let (config, credentials) = three();
    let case = |(options, variables, has_keys, outcome, version_1)| Case {
        options,
        variables,
        has_keys,
        config: config.clone(),
        credentials: credentials.clone(),
        outcome,
        version_1,
    };
    rows.into_iter().map(case).collect()
}

/// The cases in which the files matter. `AWS_PROFILE` is `ci`, unless the profile is the default one.
fn with_files() -> Vec<Case> {
    let region = |section: &str| format!("[{section}]\nregion = eu-west-2\n");
    let process = format!(
        r#"credential_process = echo '{{"Version": 1, "AccessKeyId": "AKIAPROC", "SecretAccessKey": "{SECRET_KEY}"}}'"#
    );
    let ci: &[(&str, &str)] = &[("AWS_PROFILE", "ci")];
    let none: &[(&str, &str)] = &[];
    let case = |variables, has_keys, config: String, credentials: String, outcome, version_1| Case {
        options: &[],
        variables,
        has_keys,
        config,
        credentials,
        outcome,
        version_1,
    };
    vec![
        // The config file alone.
        case(
            ci,
            false,
            keys("profile ci", "AKIACONF") + "region = eu-west-2\n",
            String::new(),
            Uses("AKIACONF", "eu-west-2"),
            Agrees,
        ),
        // Both have keys.
        case(
            ci,
            false,
            keys("profile ci", "AKIACONF") + "region = eu-west-2\n",
            keys("ci", "AKIACRED"),
            Uses("AKIACRED", "eu-west-2"),
            Agrees,
        ),
        // A program in the config file, and keys in the other, or in the same.
        case(
            ci,
            false,
            format!("{}{process}\n", region("profile ci")),
            keys("ci", "AKIACRED"),
            Uses("AKIACRED", "eu-west-2"),
            Agrees,
        ),
        case(
            ci,
            false,
            format!("{}region = eu-west-2\n{process}\n", keys("profile ci", "AKIACONF")),
            String::new(),
            Uses("AKIAPROC", "eu-west-2"),
            Agrees,
        ),
        // Named, so it has to be there, also where it is called `default`.
        case(&[("AWS_PROFILE", "default")], true, region("profile ci"), String::new(), Fails("is not defined"), Agrees),
        // In the config file, the name stands behind `profile`.
        case(ci, true, region("ci"), String::new(), Fails("is not defined"), Agrees),
        // Named, and without credentials.
        case(
            ci,
            false,
            region("profile ci"),
            keys("default", "AKIADEFA"),
            Fails("it sets up no credentials"),
            Differs(
                Uses("", "eu-west-2"),
                "the CLI asks containers and EC2 next: a named profile ends the search here",
            ),
        ),
        case(ci, true, region("profile ci"), String::new(), Uses("AKIAENVI", "eu-west-2"), Agrees),
        // Half a pair.
        case(
            ci,
            false,
            "[profile ci]\nregion = eu-west-2\naws_access_key_id = AKIACONF\n".into(),
            String::new(),
            Fails("profile missing aws_secret_access_key"),
            Agrees,
        ),
        // A source profile that does not exist is an error of the default profile, too.
        case(
            none,
            false,
            "[default]\nregion = eu-west-2\nrole_arn = arn:aws:iam::000000000000:role/r\nsource_profile = typo\n"
                .into(),
            String::new(),
            Fails("could not find source profile typo"),
            Agrees,
        ),
        // Neither a setting nor a section.
        case(none, false, "[default]\nregion\n".into(), keys("default", "AKIADEFA"), Fails("on line 2: "), Agrees),
        case(ci, true, region("profile ci") + "output\n", String::new(), Fails("on line 3: "), Agrees),
        case(
            &[("AWS_REGION", "eu-west-2")],
            true,
            "[default]\nregion\n".into(),
            String::new(),
            Uses("AKIAENVI", "eu-west-2"),
            Differs(Fails("Unable to parse config file"), "keys of the environment need no file: a note names it"),
        ),
    ]
}

fn cases() -> Vec<Case> {
    [with_three_profiles(), with_files()].into_iter().flatten().collect()
}

impl Case {
    /// Prepares the files and the variables for a command.
    fn prepare(&self, env: &TestEnv, command: &mut Command) {
        for (variable, name, text) in
            [("AWS_CONFIG_FILE", "config", &self.config), ("AWS_SHARED_CREDENTIALS_FILE", "keys", &self.credentials)]
        {
            let path = env.scratch(name);
            std::fs::write(&path, text).unwrap();
            command.env(variable, path);
        }
        command.envs(KEYS.into_iter().filter(|_| self.has_keys)).envs(self.variables.iter().copied());
    }

    fn described(&self, outcome: Outcome) -> String {
        let Self { options, variables, has_keys, config, .. } = self;
        format!("{options:?} {variables:?}, keys in the environment: {has_keys}, with\n{config}expected {outcome:?}")
    }
}

#[test]
fn the_matrix_of_identities() {
    let mut clouds = BTreeMap::new();
    for case in cases() {
        let region = match case.outcome {
            Uses(_, region) => region,
            Fails(_) => "eu-west-1",
        };
        let aws = clouds.entry(region).or_insert_with(|| FakeAws::of(region));
        let before = aws.keys().len();
        let mut command = aws.command(&[&[testdata(ARCHIVE).as_str(), "team/app:1"], case.options].concat());
        case.prepare(&aws.ecr.env, &mut command);
        let run = aws.finish(command);
        let used = &aws.keys()[before..];
        let place = run.stdout.split('/').next().unwrap_or_default().to_owned();
        match case.outcome {
            Uses(key, region) => {
                let expected = (Some(0), format!("{ACCOUNT}.dkr.ecr.{region}.amazonaws.com"));
                assert_eq!((run.code, place), expected, "{}", case.described(case.outcome));
                assert_eq!(used, [key], "{}", case.described(case.outcome));
            }
            Fails(why) => {
                assert_eq!(run.code, Some(3), "{}", case.described(case.outcome));
                assert!(run.stderr.contains(why), "{}", case.described(case.outcome));
                assert_eq!(used, [""; 0], "no other identity is used: {}", case.described(case.outcome));
            }
        }
    }
}

#[test]
fn the_aws_cli_agrees_with_the_matrix_of_identities() {
    let program = std::env::var_os("ECR_PUSH_AWS_CLI").map(PathBuf::from).filter(|path| path.is_file());
    let Some(program) = program else {
        not_run("the AWS CLI (not installed; tests/run.sh installs it where there is Python and PyPI)");
        return;
    };
    let env = TestEnv::new();
    for case in cases() {
        let mut command = Command::new(&program);
        command.args(["configure", "list"]).args(case.options).env_clear().stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", env.home());
        command.env("AWS_EC2_METADATA_DISABLED", "true");
        case.prepare(&env, &mut command);
        let ended = command.output().unwrap();
        let [stdout, stderr] = [ended.stdout, ended.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        let outcome = match case.version_1 {
            Agrees => case.outcome,
            Differs(outcome, _) => outcome,
        };
        // Name, value, kind, place. Of a key the last four characters are shown.
        let value = |name: &str| {
            let mut rows = stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            let row = rows.find(|row| row.first() == Some(&name)).unwrap_or_default();
            row.get(1).map_or_else(String::new, |text| text.trim_start_matches('*').to_owned())
        };
        let reason = match case.version_1 {
            Agrees => "",
            Differs(_, reason) => reason,
        };
        let said = format!("{} {reason}\nbut the AWS CLI says\n{stdout}{stderr}", case.described(outcome));
        match outcome {
            Uses(key, region) => {
                assert!(ended.status.success(), "{said}");
                let shown = if key.is_empty() { "<not" } else { &key[key.len() - 4..] };
                assert_eq!((value("access_key").as_str(), value("region").as_str()), (shown, region), "{said}");
            }
            Fails(why) => {
                assert!(!ended.status.success(), "{said}");
                if let Differs(..) = case.version_1 {
                    assert!(stderr.contains(why), "{said}");
                }
            }
        }
    }
}
