//! Logins of other registries than ECR: given, stored by docker or podman, asked for by the registry or by its token
//! service. And where they must not go.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ecr_push::sandbox::{Asks, BlobMounting, Fault, LogEntry, Rules, TokenService, Trouble};

use super::archive_contents::Source;
use super::docker_registry::DockerRegistry;
use super::ecr::Ecr;
use super::harness::{Run, Running, TestEnv, finish, testdata};
use super::stored_image::StoredImage;

const ARCHIVE: &str = "docker-20.10-save.tar";
const USER: &str = "bob";
/// Never to be seen in anything the program writes.
const PASSWORD: &str = "hunter2:and more";
const IDENTITY: &str = "1dent1ty+/=&t0ken";

/// What the program must never write.
fn secrets() -> [String; 5] {
    let login = BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}"));
    [PASSWORD.into(), IDENTITY.into(), login, "Basic ".into(), "Bearer ey".into()]
}

#[track_caller]
fn discreet(run: Run) -> Run {
    run.output_has_none(&secrets().each_ref().map(String::as_str))
}

/// A sandbox that asks for tokens of a service, with the repositories `team/app` and `team/base`.
fn sandbox(service: TokenService) -> Ecr {
    let users = vec![format!("{USER}:{PASSWORD}")];
    let service = TokenService { users, identities: vec![IDENTITY.into()], ..service };
    Ecr::with(&["team/app", "team/base"], Rules { asks: Asks::Tokens(service), ..Rules::default() })
}

/// The program, to push to a registry that is ECR's only to those who know.
fn to(env: &TestEnv, place: &str, more: &[&str]) -> Command {
    env.command(&[&[testdata(ARCHIVE).as_str(), place, "-vv"], more].concat())
}

fn place(ecr: &Ecr) -> String {
    format!("{}/team/app:1", ecr.address())
}

/// Writes docker's file.
fn docker_config(env: &TestEnv, text: &str) {
    std::fs::create_dir(env.home().join(".docker")).unwrap();
    std::fs::write(env.home().join(".docker/config.json"), text).unwrap();
}

/// The login as docker writes it.
fn auths(key: &str) -> String {
    let login = BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}"));
    format!(r#"{{"auths": {{"{key}": {{"auth": "{login}"}}}}}}"#)
}

/// A helper on the program's PATH. Another process writes it: what is open for writing here, the children of other tests may
/// have open still when it is to be run.
fn helper(env: &TestEnv, command: &mut Command, name: &str, script: &str) {
    let write = r#"printf '#!/bin/sh\n%s\n' "$1" > "$0" && chmod +x "$0""#;
    let mut writing = Command::new("sh");
    let path = env.scratch(&format!("docker-credential-{name}"));
    assert!(writing.args(["-c", write, &path, script]).status().unwrap().success());
    let folder = Path::new(&path).parent().unwrap().to_owned();
    let known = std::env::var_os("PATH").unwrap_or_default();
    let all = std::env::join_paths(std::iter::once(folder).chain(std::env::split_paths(&known))).unwrap();
    command.env("PATH", all);
}

/// Runs the program with a password at its standard input.
#[track_caller]
fn with_password(mut command: Command, password: &[u8]) -> Run {
    command.args(["--username", USER, "--password-stdin"]);
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(password).unwrap();
    drop(writer);
    discreet(Running::fed(command, Stdio::from(reader)).end())
}

#[cfg(target_os = "linux")]
#[test]
fn a_password_is_typed_on_a_terminal_that_does_not_show_it() {
    use std::fs::File;
    use std::io::Read as _;
    use std::time::{Duration, Instant};

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{LocalModes, tcgetattr};

    let ecr = sandbox(TokenService::default());
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let path = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
    let theirs = File::options().read(true).write(true).open(path).unwrap();
    let mut command = to(&ecr.env, &place(&ecr), &["--username", USER, "--password-stdin", "--progress", "plain"]);
    command.stdin(theirs.try_clone().unwrap()).stdout(Stdio::null()).stderr(theirs);
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut terminal = File::from(ours);
    let deadline = Instant::now() + Duration::from_secs(20);
    while tcgetattr(&terminal).unwrap().local_modes.contains(LocalModes::ECHO) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    let is_hidden = !tcgetattr(&terminal).unwrap().local_modes.contains(LocalModes::ECHO);
    if !is_hidden {
        child.kill().unwrap();
    }
    terminal.write_all(format!("{PASSWORD}\n").as_bytes()).unwrap();
    let mut seen = Vec::new();
    let mut bytes = [0; 4096];
    // It ends with an error once the other end is closed.
    while let Ok(read @ 1..) = terminal.read(&mut bytes) {
        seen.extend_from_slice(&bytes[..read]);
    }
    let (status, seen) = (child.wait().unwrap(), String::from_utf8_lossy(&seen).into_owned());
    assert!(is_hidden && status.success(), "{seen}");
    assert!(seen.starts_with(&format!("Password of {USER}: ")), "{seen}");
    assert!(secrets().iter().all(|secret| !seen.contains(secret.as_str())), "{seen}");
    is_there(&ecr);
}

#[track_caller]
fn is_there(ecr: &Ecr) {
    StoredImage::of_sandbox(ecr, "team/app", "1").is(&Source::read(&testdata(ARCHIVE), 0));
    assert_eq!(ecr.open_uploads(), 0, "an upload session is left open");
}

fn tokens(ecr: &Ecr) -> Vec<LogEntry> {
    ecr.asked("v2:Token")
}

#[test]
fn a_docker_registry_with_a_password_file() {
    let Some(registry) = DockerRegistry::start_for_bob() else { return };
    let place = registry.target("team/app:1");
    let host = registry.target("").trim_end_matches('/').to_owned();
    let said = |run: Run, words: &str| run.succeeds().stderr_has(&[&format!("{host} gets {words}")]);

    let env = TestEnv::new();
    let run = with_password(to(&env, &place, &[]), format!("{PASSWORD}\r\n").as_bytes());
    said(run, "the login given for bob");

    let env = TestEnv::new();
    docker_config(&env, &auths(&format!("http://{host}/v1/")));
    said(discreet(finish(to(&env, &place, &[]), String::new)), "the login of bob in ");

    let env = TestEnv::new();
    let file = env.scratch("auth.json");
    std::fs::write(&file, auths(&format!("{host}/team"))).unwrap();
    let mut command = to(&env, &place, &[]);
    command.env("REGISTRY_AUTH_FILE", &file);
    said(discreet(finish(command, String::new)), &format!("the login of bob in {file}"));

    for (env, config) in [
        (TestEnv::new(), format!(r#"{{"credHelpers": {{"{host}": "test"}}}}"#)),
        (TestEnv::new(), format!(r#"{{"auths": {{"{host}": {{}}}}, "credsStore": "test"}}"#)),
    ] {
        docker_config(&env, &config);
        let mut command = to(&env, &place, &[]);
        let script = r#"read key; printf '{"ServerURL":"%s","Username":"bob","Secret":"hunter2:and more"}' "$key""#;
        helper(&env, &mut command, "test", script);
        said(discreet(finish(command, String::new)), "the login of bob from docker-credential-test, which ");
    }

    let run = with_password(to(&TestEnv::new(), &place, &[]), b"wrong").fails_with(3).stdout_is("");
    run.stderr_has(&["rejected the login given for bob", "HTTP 401", "hint: Check the name"]);
    let run = finish(to(&TestEnv::new(), &place, &[]), String::new).fails_with(3).stdout_is("");
    let hint = format!(
        "hint: Log in, or pass the password on standard input: --username NAME --password-stdin\n  docker login {host}\n"
    );
    run.stderr_has(&["requires a login, and none was found", &hint]);
}

#[test]
fn a_token_service_is_asked_once_for_all_that_a_push_needs() {
    let ecr = sandbox(TokenService { expires_in: Some(300), ..TokenService::default() });
    with_password(to(&ecr.env, &place(&ecr), &[]), format!("{PASSWORD}\n").as_bytes()).succeeds();
    is_there(&ecr);
    let tokens = tokens(&ecr);
    assert_eq!(tokens.len(), 1);
    assert!(
        tokens[0].path.ends_with("?service=sandbox&scope=repository%3Ateam%2Fapp%3Apull%2Cpush"),
        "{}",
        tokens[0].path
    );
    // Nothing is shown before the registry asks.
    let first = ecr.log().into_iter().next().unwrap();
    assert!(!first.authorized && first.status == 401 && first.operation == "ecr:BatchGetImage");
    assert_eq!(ecr.log().iter().filter(|entry| entry.status == 401).count(), 1);
}

#[test]
fn an_identity_token_is_posted() {
    let ecr = sandbox(TokenService::default());
    let host = ecr.address().to_string();
    docker_config(&ecr.env, &format!(r#"{{"auths": {{"{host}": {{"auth": "", "identitytoken": "{IDENTITY}"}}}}}}"#));
    discreet(finish(to(&ecr.env, &place(&ecr), &[]), || ecr.story())).succeeds();
    is_there(&ecr);
    assert!(tokens(&ecr).iter().all(|asked| asked.method == "POST" && !asked.path.contains('?') && !asked.authorized));
    assert_eq!(tokens(&ecr).len(), 1);
}

#[test]
fn a_token_that_ends_in_mid_push_is_renewed_once_for_all_lanes() {
    for operation in ["ecr:InitiateLayerUpload", "ecr:CompleteLayerUpload", "ecr:PutImage"] {
        let ecr = sandbox(TokenService { expires_in: Some(300), ..TokenService::default() });
        ecr.set_rules(|rules| rules.faults = vec![Fault::once(operation, Trouble::ExpireTokens)]);
        with_password(to(&ecr.env, &place(&ecr), &["--retries", "0"]), PASSWORD.as_bytes()).succeeds();
        is_there(&ecr);
        assert_eq!(tokens(&ecr).len(), 2, "{operation}");
    }
}

#[test]
fn a_session_is_closed_with_a_token_for_that_or_left() {
    // docker's registries want the right to delete for it, which is asked for then, and not everybody has.
    for (closed, statuses) in [(vec![], [401, 204]), (vec!["team/app:delete".to_owned()], [401, 401])] {
        let is_left = !closed.is_empty();
        let ecr = sandbox(TokenService { closed, expires_in: Some(300), ..TokenService::default() });
        ecr.set_rules(|rules| rules.faults = vec![Fault::once("ecr:CompleteLayerUpload", Trouble::CutAfter(100))]);
        with_password(to(&ecr.env, &place(&ecr), &["--concurrency", "1"]), PASSWORD.as_bytes()).succeeds();
        StoredImage::of_sandbox(&ecr, "team/app", "1").is(&Source::read(&testdata(ARCHIVE), 0));
        let closing: Vec<u16> = ecr.asked("v2:CancelUpload").iter().map(|asked| asked.status).collect();
        assert!(statuses.starts_with(&closing), "{closing:?} {}", ecr.story());
        assert_eq!((ecr.open_uploads(), tokens(&ecr).len()), (usize::from(is_left), 2), "{}", ecr.story());
    }
}

#[test]
fn anybody_s_token_is_asked_for_without_a_login() {
    let ecr = sandbox(TokenService { anonymous: true, ..TokenService::default() });
    finish(to(&ecr.env, &place(&ecr), &[]), || ecr.story()).succeeds();
    is_there(&ecr);
    assert!(tokens(&ecr).iter().all(|asked| !asked.authorized));
}

#[test]
fn a_registry_with_anonymous_reads_is_asked_what_else_needs_a_login() {
    let ecr = sandbox(TokenService { readable: true, ..TokenService::default() });
    with_password(to(&ecr.env, &place(&ecr), &["--concurrency", "1"]), PASSWORD.as_bytes()).succeeds();
    is_there(&ecr);
    assert!(!ecr.log()[0].authorized && ecr.log()[0].status == 404);
    assert_eq!((ecr.count("v2:Check"), tokens(&ecr).len()), (1, 1), "{}", ecr.story());
    // Without a login it is one that is lacking.
    let ecr = sandbox(TokenService { readable: true, ..TokenService::default() });
    let run = finish(to(&ecr.env, &place(&ecr), &[]), || ecr.story()).fails_with(3).stdout_is("");
    run.stderr_has(&["requires a login, and none was found", "incorrect username or password"]);
}

#[test]
fn a_token_service_that_rejects_is_reported() {
    let ecr = sandbox(TokenService::default());
    let run = with_password(to(&ecr.env, &place(&ecr), &[]), b"wrong").fails_with(3).stdout_is("");
    let words = ["rejected the login given for bob", "incorrect username or password"];
    run.stderr_has(&words).stderr_has(&[&format!("the token service 127.0.0.1:{}", ecr.address().port())]);
    // That it is busy is waited for.
    let ecr = sandbox(TokenService::default());
    ecr.set_rules(|rules| rules.faults = vec![Fault::once("v2:Token", Trouble::Throttle { retry_after: None })]);
    with_password(to(&ecr.env, &place(&ecr), &[]), PASSWORD.as_bytes()).succeeds().stderr_has(&["; retry "]);
    is_there(&ecr);
}

#[test]
fn a_mount_asks_for_its_source_too() {
    for (closed, mounted) in [(vec![], true), (vec!["team/base".to_owned()], false)] {
        let ecr = sandbox(TokenService { closed, expires_in: Some(300), ..TokenService::default() });
        ecr.set_rules(|rules| rules.blob_mounting = BlobMounting::Enabled);
        let base = format!("{}/team/base:1", ecr.address());
        if mounted {
            with_password(to(&ecr.env, &base, &[]), PASSWORD.as_bytes()).succeeds();
        }
        let more = ["--mount-from", "team/base:1", "--reuse", "tag"];
        let run = with_password(to(&ecr.env, &place(&ecr), &more), PASSWORD.as_bytes()).succeeds();
        is_there(&ecr);
        let asked: Vec<String> = tokens(&ecr).into_iter().map(|asked| asked.path).collect();
        let of_both = |path: &String| path.contains("team%2Fapp%3Apull%2Cpush") && path.contains("team%2Fbase%3Apull");
        assert_eq!(asked.iter().any(of_both), mounted, "{asked:?}");
        assert_eq!(run.stderr.contains("  mounted\n"), mounted);
        assert!(asked.iter().any(|path| path.ends_with("scope=repository%3Ateam%2Fbase%3Apull")), "{asked:?}");
    }
}

#[test]
fn several_challenges_are_understood_and_strange_ones_named() {
    let beside = vec!["Negotiate".to_owned(), "Basic realm=\"a, b\", Digest realm=x, nonce=\"y\"".to_owned()];
    let ecr = sandbox(TokenService { beside, ..TokenService::default() });
    with_password(to(&ecr.env, &place(&ecr), &[]), PASSWORD.as_bytes()).succeeds();
    is_there(&ecr);
    let (address, shown) = listener(
        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Negotiate\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n".into(),
    );
    let env = TestEnv::new();
    let run = with_password(to(&env, &format!("{address}/team/app:1"), &[]), PASSWORD.as_bytes()).fails_with(3);
    run.stderr_has(&[&format!("{address} requires authentication by negotiate, ntlm, which is not supported")]);
    assert_eq!(shown.load(Ordering::SeqCst), 0);
}

/// A server that answers everything so, and counts requests with a login.
fn listener(answer: String) -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, shown) = (listener.local_addr().unwrap().to_string(), Arc::<AtomicU64>::default());
    let counted = Arc::clone(&shown);
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut request = [0; 16 << 10];
            let read = stream.read(&mut request).unwrap_or(0);
            let head = String::from_utf8_lossy(&request[..read]).to_ascii_lowercase();
            let is_shown = head.contains("authorization:") || head.contains("refresh_token");
            counted.fetch_add(u64::from(is_shown), Ordering::SeqCst);
            stream.write_all(answer.as_bytes()).ok();
        }
    });
    (address, shown)
}

#[test]
fn a_login_goes_to_no_realm_that_may_not_have_it() {
    for (realm, why) in [
        ("http://auth.example/token", "without TLS"),
        ("http://169.254.169.254/latest/api/token", "of a metadata service"),
        ("https://169.254.170.2/token", "of a metadata service"),
        ("http://[fd00:ec2::254]/token", "of a metadata service"),
        ("http://user:pw@127.0.0.1/token", "that contains credentials"),
        ("/token", "that cannot be parsed"),
    ] {
        let ecr = sandbox(TokenService { realm: Some(realm.into()), ..TokenService::default() });
        let run = with_password(to(&ecr.env, &place(&ecr), &[]), PASSWORD.as_bytes()).fails_with(1).stdout_is("");
        run.stderr_has(&[&format!("requests credentials at a URL {why}"), "hint: Ask the operator of the registry"]);
        assert!(ecr.log().iter().all(|entry| !entry.authorized), "{realm}");
    }
}

#[test]
fn a_token_service_of_its_own_gets_the_login_and_no_other_host_does() {
    // A realm elsewhere on this machine may have it: over https it would be any host.
    let token = r#"{"token": "of no use"}"#;
    let answer = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{token}", token.len());
    let (address, shown) = listener(answer);
    let ecr = sandbox(TokenService { realm: Some(format!("http://{address}/token")), ..TokenService::default() });
    let run = with_password(to(&ecr.env, &place(&ecr), &["--retries", "0"]), PASSWORD.as_bytes()).fails_with(3);
    // The path of another host than the registry's is not logged.
    let line = format!("  a token for repository:team/app:pull,push  http://{address}/***\n");
    run.stderr_has(&["HTTP 401", &line]).output_has_none(&[&format!("{address}/token")]);
    assert!(shown.load(Ordering::SeqCst) >= 1);

    // But it may not pass it on.
    for how in [IDENTITY, PASSWORD] {
        let (address, shown) = listener("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}".into());
        let ecr = sandbox(TokenService { moved: Some(format!("http://{address}/token")), ..TokenService::default() });
        let command = to(&ecr.env, &place(&ecr), &["--retries", "0"]);
        let run = if how == IDENTITY {
            let host = ecr.address();
            docker_config(&ecr.env, &format!(r#"{{"auths": {{"{host}": {{"identitytoken": "{IDENTITY}"}}}}}}"#));
            discreet(finish(command, || ecr.story()))
        } else {
            with_password(command, PASSWORD.as_bytes())
        };
        run.fails_with(1).stderr_has(&["redirects to another URL; redirects with credentials are not followed"]);
        assert_eq!(shown.load(Ordering::SeqCst), 0, "the login was passed on");
    }
}

#[test]
fn a_helper_that_is_missing_or_fails_is_named() {
    let ecr = sandbox(TokenService::default());
    let host = ecr.address().to_string();
    docker_config(&ecr.env, &format!(r#"{{"credHelpers": {{"{host}": "nobodys"}}}}"#));
    let run = discreet(finish(to(&ecr.env, &place(&ecr), &[]), String::new)).fails_with(3);
    run.stderr_has(&[&format!("cannot get the login for {host}: docker-credential-nobodys, which "), " is missing"]);
    let mut command = to(&ecr.env, &place(&ecr), &[]);
    helper(&ecr.env, &mut command, "nobodys", "echo the keychain is locked; exit 2");
    let run = discreet(finish(command, String::new)).fails_with(3);
    run.stderr_has(&["the keychain is locked (exit status: 2)", "hint: Check its output:"]);
    // A registry that needs no login is pushed to as well.
    let ecr = Ecr::with(&["team/app"], Rules { anonymous: true, ..Rules::default() });
    docker_config(&ecr.env, r#"{"credsStore": "nobodys"}"#);
    finish(to(&ecr.env, &place(&ecr), &[]), String::new).succeeds();
}

#[test]
fn a_missing_helper_is_to_be_installed() {
    let ecr = sandbox(TokenService::default());
    docker_config(&ecr.env, r#"{"credsStore": "nobodys"}"#);
    let run = discreet(finish(to(&ecr.env, &place(&ecr), &[]), String::new)).fails_with(3);
    run.stderr_has(&["hint: Install docker-credential-nobodys, or log in again"])
        .output_has_none(&["| docker-credential"]);
}

#[test]
fn a_login_is_read_from_the_variable_of_ci_systems() {
    for (variable, code) in [(None, 0), (Some("{}"), 0), (Some("{"), 0)] {
        let ecr = sandbox(TokenService::default());
        let login = auths(&ecr.address().to_string());
        let mut command = to(&ecr.env, &place(&ecr), &[]);
        match variable {
            None => drop(command.env("DOCKER_AUTH_CONFIG", &login)),
            // The files are read after it.
            Some(text) => {
                docker_config(&ecr.env, &login);
                command.env("DOCKER_AUTH_CONFIG", text);
            }
        }
        let run = discreet(finish(command, String::new)).exits_with(code);
        let place = if variable.is_none() { "in DOCKER_AUTH_CONFIG" } else { "config.json" };
        run.stderr_has(&[&format!("{} gets the login of bob in ", ecr.address()), place]);
        is_there(&ecr);
    }
}

#[test]
fn a_token_service_that_is_silent_is_named() {
    let ecr = sandbox(TokenService { anonymous: true, ..TokenService::default() });
    ecr.set_rules(|rules| rules.faults = vec![Fault::once("v2:Token", Trouble::Stall).times(u32::MAX)]);
    let run = finish(to(&ecr.env, &place(&ecr), &["--retries", "0"]), String::new).fails_with(4);
    run.stderr_has(&[&format!("no response from the token service {}", ecr.address()), "no response within 20 s"]);
}

#[test]
fn a_password_is_for_standard_input_and_one_registry() {
    let env = TestEnv::new();
    let archive = testdata(ARCHIVE);
    let both = ["--username", "bob", "--password-stdin"];
    for (arguments, part) in [
        (&[archive.as_str(), "x.y/a", "--username", "bob"][..], "--password-stdin"),
        (&[archive.as_str(), "x.y/a", "--password-stdin"], "--username"),
        (&["-", "x.y/a", both[0], both[1], both[2]], "cannot read both the archive and the password"),
        (&[archive.as_str(), "x.y/a", "z.y/a", both[0], both[1], both[2]], "several: x.y, z.y"),
        (&[archive.as_str(), "a", "--region", "eu-west-1", both[0], both[1], both[2]], "no target is in one"),
        (&[archive.as_str(), "x.y/a", both[0], both[1], both[2]], "standard input has no password"),
        (&[archive.as_str(), "x.y/a", "--password", "pw"], "--password"),
    ] {
        env.run(arguments).fails_with(2).stderr_has(&[part]);
    }
    let mut command = env.command(&[&archive, "x.y/a", "--password-stdin"]);
    command.env("ECR_PUSH_USERNAME", "bob");
    finish(command, String::new).fails_with(2).stderr_has(&["standard input has no password"]);
}
