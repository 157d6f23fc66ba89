use super::*;
use crate::error::Kind;

fn spool<'a>(folder: &'a Path, watch: &'a dyn Fn(u64) -> ControlFlow<()>) -> Spool<'a> {
    Spool { folder, watch, handler: None }
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
