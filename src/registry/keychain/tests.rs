use super::*;

/// Finds the login for repositories of a registry in a file.
async fn found(file: &str, host: &str, repositories: &[&str]) -> Result<Option<StoredLogin>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    std::fs::write(&path, file).unwrap();
    let repositories: Vec<Repository> = repositories.iter().map(|name| name.parse().unwrap()).collect();
    let missing = folder.path().join("missing/auth.json");
    Keychain { text: None, files: vec![missing, path] }.find(&host.parse().unwrap(), &repositories).await
}

/// Encodes `user:password` as in a file.
fn auth(user: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(user)
}

#[tokio::test]
async fn a_registry_is_found_under_all_keys_of_docker_and_podman() {
    for (key, host) in [
        ("registry.example", "registry.example"),
        ("registry.example:5000", "registry.example:5000"),
        ("Registry.Example", "registry.example"),
        ("https://registry.example", "registry.example"),
        ("https://registry.example/v1/", "registry.example"),
        ("http://registry.example/v2/", "registry.example"),
        ("registry.example:443", "registry.example"),
        ("registry.example", "registry.example:443"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("https://index.docker.io/v1/", "registry-1.docker.io"),
        ("docker.io", "index.docker.io"),
        ("registry.example/team", "registry.example"),
        ("registry.example/team/app", "registry.example"),
    ] {
        let file = format!(r#"{{"auths": {{"{key}": {{"auth": "{}"}}}}}}"#, auth("bob:secret"));
        let found = found(&file, host, &["team/app"]).await.unwrap().unwrap_or_else(|| panic!("{key} for {host}"));
        assert!(found.login == Login::password("bob", "secret"), "{key}");
        assert!(found.origin.starts_with("the login of bob in ") && found.origin.ends_with("config.json"));
    }
    for (key, host) in [
        ("registry.example", "example"),
        ("registry.example:5000", "registry.example"),
        ("registry.example.org", "registry.example"),
        ("https://index.docker.io/v1/", "registry.example"),
        ("registry.example/tea", "registry.example"),
        ("registry.example/team/app/x", "registry.example"),
        ("", "registry.example"),
    ] {
        let file = format!(r#"{{"auths": {{"{key}": {{"auth": "{}"}}}}}}"#, auth("bob:secret"));
        assert!(found(&file, host, &["team/app"]).await.unwrap().is_none(), "{key} for {host}");
    }
}

#[tokio::test]
async fn the_longest_key_that_covers_all_repositories_counts() {
    let file = format!(
        r#"{{"auths": {{"x.y": {{"auth": "{}"}}, "x.y/a": {{"auth": "{}"}}, "x.y/a/b": {{"auth": "{}"}}}}}}"#,
        auth("all:1"),
        auth("a:2"),
        auth("b:3"),
    );
    for (repositories, user) in
        [(&["a/b"][..], "b:3"), (&["a/b/c"], "b:3"), (&["a/b", "a/c"], "a:2"), (&["a/b", "c"], "all:1")]
    {
        let found = found(&file, "x.y", repositories).await.unwrap().unwrap();
        assert!(found.login == Login::Basic(auth(user)), "{repositories:?}");
    }
}

#[tokio::test]
async fn an_entry_is_parsed_in_all_its_forms() {
    let whole = auth("bob:a:b");
    for (entry, login) in [
        (format!(r#"{{"auth": "{whole}"}}"#), Some(Login::password("bob", "a:b"))),
        (format!(r#"{{"auth": "{}"}}"#, whole.trim_end_matches('=')), Some(Login::password("bob", "a:b"))),
        (format!(r#"{{"auth": "{}"}}"#, auth("bob:pw\0\0")), Some(Login::password("bob", "pw"))),
        (r#"{"username": "bob", "password": "pw"}"#.into(), Some(Login::password("bob", "pw"))),
        (
            format!(r#"{{"auth": "{}", "identitytoken": "t0k"}}"#, auth("00000000-0000-0000-0000-000000000000:")),
            Some(Login::IdentityToken("t0k".into())),
        ),
        (r#"{"email": "bob@example", "identitytoken": "", "auth": ""}"#.into(), None),
        ("{}".into(), None),
    ] {
        let found = found(&format!(r#"{{"auths": {{"x.y": {entry}}}}}"#), "x.y", &["a"]).await.unwrap();
        assert!(found.map(|found| found.login) == login, "{entry}");
    }
    assert!(found("", "x.y", &["a"]).await.unwrap().is_none());
    assert!(found(r#"{"HttpHeaders": {}, "credsStore": ""}"#, "x.y", &["a"]).await.unwrap().is_none());
}

#[tokio::test]
async fn an_invalid_file_is_named_and_not_quoted() {
    for (file, part) in [
        (r#"{"auths": {"x.y": {"auth": "c2VjcmV0"}}}"#, "the login for x.y in "),
        (r#"{"auths": {"x.y": {"auth": "!secret"}}}"#, "the login for x.y in "),
        (r#"{"auths": {"x.y": {"auth": 1}}, "secret"}"#, "cannot read the credentials in "),
        (r#"{"auths": "secret"}"#, "cannot read the credentials in "),
        (r#"{"credsStore": "../secret"}"#, "from docker-credential-../secret"),
        (r#"{"credHelpers": {"x.y": "is not here"}}"#, "from docker-credential-is not here"),
        (r#"{"credHelpers": {"x.y": "missing"}}"#, "cannot get the login for x.y: docker-credential-missing, which "),
    ] {
        let error = found(file, "x.y", &["a"]).await.unwrap_err();
        let text = format!("{error} {:?} {:?}", error.causes(), error.advice());
        assert!(error.to_string().contains(part) && text.contains("config.json"), "{text}");
        assert!(part.contains("secret") || !text.contains("secret"), "{text}");
        assert_eq!(error.kind(), Kind::Permission);
    }
}

/// Asks a helper that runs this script.
#[cfg(unix)]
async fn ask(script: &str) -> Result<Option<StoredLogin>> {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("docker-credential-test");
    // Written by another process: a file that is open for writing in this one may still be open in a child process of another
    // test when it is executed.
    let write = r#"printf '#!/bin/sh\n%s\n' "$1" > "$0" && chmod +x "$0""#;
    let mut writing = std::process::Command::new("sh");
    assert!(writing.args(["-c", write]).arg(&program).arg(script).status().unwrap().success());
    run_helper(program.to_str().unwrap(), "x.y", "config.json").await
}

#[cfg(unix)]
#[tokio::test]
async fn the_login_of_a_helper_is_used() {
    let login = |found: Result<Option<StoredLogin>>| found.unwrap().map(|found| found.login);
    let script =
        r#"read key; [ "$1 $key" = "get x.y" ] && printf '{"ServerURL":"x.y","Username":"bob","Secret":"pw"}'"#;
    assert!(login(ask(script).await) == Some(Login::password("bob", "pw")));
    let script = r#"echo '{"Username":"<token>","Secret":"t0k"}'"#;
    assert!(login(ask(script).await) == Some(Login::IdentityToken("t0k".into())));
    for script in ["echo credentials not found in native keychain; exit 1", r#"echo '{"Username":"","Secret":""}'"#] {
        assert!(login(ask(script).await).is_none(), "{script}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_helper_that_fails_is_named_and_its_secrets_are_not_printed() {
    for (script, why) in [
        ("echo the keychain is locked; exit 3", "the keychain is locked (exit status: 3)"),
        (r#"echo '{"Username":"bob","Secret":"hunter2"}'; exit 1"#, "exit status: 1"),
        ("echo hunter2 >&2; exit 1", "exit status: 1"),
        ("echo hunter2; exit 1", "exit status: 1"),
        (r#"echo '{"Username":"bob","Secret":hunter2}'"#, "its output is invalid"),
        ("true", "its output is invalid"),
        ("exec cat /dev/zero", "signal: 13 (SIGPIPE)"),
    ] {
        let error = ask(script).await.unwrap_err();
        assert_eq!(error.causes(), [why], "{script}");
        assert!(error.to_string().contains("docker-credential-test, which config.json names"), "{error}");
    }
}

#[cfg(unix)]
#[tokio::test(start_paused = true)]
async fn a_helper_that_hangs_times_out() {
    // The paused clock advances once the test is idle.
    let error = ask("exec sleep 600").await.unwrap_err();
    assert_eq!(error.causes(), ["no response within 60 s"]);
}

#[tokio::test]
async fn of_several_helpers_for_a_registry_the_one_under_its_exact_name_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    std::fs::write(
        &path,
        r#"{"credHelpers": {"https://z.example": "wrong", "z.example": "right", "http://z.example": "wrong"}}"#,
    )
    .unwrap();
    for _ in 0..16 {
        let keychain = Keychain { text: None, files: vec![path.clone()] };
        let error = keychain.find(&"z.example".parse().unwrap(), &[]).await.unwrap_err();
        assert!(error.to_string().contains("docker-credential-right"), "{error}");
    }
}
