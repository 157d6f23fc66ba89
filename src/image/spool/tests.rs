use super::*;
use crate::error::Kind;

fn spool<'a>(folder: &'a Path, watch: &'a dyn Fn(u64) -> ControlFlow<()>) -> Spool<'a> {
    Spool { folder, watch, pass: None }
}

#[test]
fn others_keep_their_share_of_the_disk() {
    let watch = |_| ControlFlow::Continue(());
    let (spool, source) = (spool(Path::new("/var/tmp"), &watch), Source::StandardInput);
    let room = |free, reserve, written, more| spool.has_room(&source, Some(Space { free, reserve }), written, more);
    room(1000, 100, 5000, 900).unwrap();
    room(0, 0, 0, 0).unwrap();
    spool.has_room(&source, None, 0, u64::MAX).unwrap();
    for (free, more) in [(1000, 901), (99, 1), (0, u64::MAX)] {
        assert_eq!(room(free, 100, 0, more).unwrap_err().kind(), Kind::Input);
    }
    let error = room(3 << 20, 2 << 20, 5 << 20, 3 << 20).unwrap_err();
    let words = "standard input takes a temporary file of 8.0 MiB or more, and /var/tmp had 8.0 MiB free, of which \
                 2.0 MiB are left to others";
    assert_eq!(error.to_string(), words);
    assert_eq!(error.advice(), Some("Name a folder with more room: --temp-dir DIR"));
}

#[cfg(unix)]
#[test]
fn what_a_file_system_has_free_is_known() {
    let space = space(&tempfile::tempfile().unwrap()).unwrap();
    assert!(space.free > 0 && space.reserve > 0 && space.reserve <= MOST_RESERVE);
}

#[test]
fn who_watches_is_told_at_every_mebibyte_and_can_end_it() {
    let seen = std::cell::RefCell::new(Vec::new());
    let watch = |written| {
        seen.borrow_mut().push(written);
        if written > 2 << 20 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let folder = std::env::temp_dir();
    let endless = spool(&folder, &watch)
        .write(&Source::StandardInput, io::repeat(7).take(9 << 20), 0, |_, _| Error::input("unread"));
    assert_eq!(endless.unwrap_err().kind(), Kind::Interrupted);
    assert_eq!(seen.into_inner(), [1 << 20, 2 << 20, 3 << 20]);
}
