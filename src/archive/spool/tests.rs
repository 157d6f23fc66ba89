use super::*;
use crate::error::Kind;

fn spool<'a>(folder: &'a Path, watch: &'a dyn Fn(u64) -> ControlFlow<()>) -> Spool<'a> {
    Spool { folder, watch, handler: None }
}

#[test]
fn the_progress_is_reported_after_each_mebibyte_and_can_stop_the_copy() {
    let seen = std::cell::RefCell::new(Vec::new());
    let watch = |written| {
        seen.borrow_mut().push(written);
        if written > 2 << 20 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let folder = std::env::temp_dir();
    let stopped = spool(&folder, &watch)
        .write(&Source::StandardInput, io::repeat(7).take(9 << 20), 0, |_, _| Error::input("unread"));
    assert_eq!(stopped.unwrap_err().kind(), Kind::Interrupted);
    assert_eq!(seen.into_inner(), [1 << 20, 2 << 20, 3 << 20]);
}
