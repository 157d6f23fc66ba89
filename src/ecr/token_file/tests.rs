use super::*;

#[tokio::test]
async fn only_a_regular_file_with_a_token_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("token"), " a.b.c\n").unwrap();
    std::fs::write(path("empty"), "\n").unwrap();
    std::fs::write(path("long"), vec![b'a'; MAX_SIZE as usize + 1]).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, path("pipe"), rustix::fs::Mode::RWXU).unwrap();
    assert_eq!(read(&path("token"), "VARIABLE").await.unwrap().expose(), "a.b.c");
    for (name, cause) in [
        ("empty", "it is empty"),
        ("long", "it is longer than a token can be"),
        ("pipe", "it is not a regular file"),
        (".", "it is not a regular file"),
    ] {
        let error = read(&path(name), "VARIABLE").await.unwrap_err();
        assert_eq!(error.causes(), [cause], "{name}");
    }
}
