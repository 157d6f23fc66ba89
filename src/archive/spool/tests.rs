use super::*;
use crate::error::Kind;

fn spool<'a>(folder: &'a Path, watch: &'a dyn Fn(u64) -> ControlFlow<()>, processes: &'a ChildProcesses) -> Spool<'a> {
    Spool { folder, watch, handler: None, processes }
}

#[test]
fn the_progress_is_reported_after_each_mebibyte_and_can_stop_the_copy() {
    let seen = std::cell::RefCell::new(Vec::new());
    let watch = |written| {
        seen.borrow_mut().push(written);
        if written > 2 << 20 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let folder = std::env::temp_dir();
    let stopped = spool(&folder, &watch, &ChildProcesses::default()).write(
        &Source::StandardInput,
        io::repeat(7).take(9 << 20),
        0,
        |_, _| Error::input("unread"),
    );
    assert_eq!(stopped.unwrap_err().kind(), Kind::Interrupted);
    assert_eq!(seen.into_inner(), [1 << 20, 2 << 20, 3 << 20]);
}

#[test]
fn a_reserve_of_the_disk_stays_free() {
    let check = |space: Option<(u64, u64)>, written, more| {
        let capacity = space.map(|(free, reserve)| Capacity { free, total: reserve * 20 });
        DiskSpace { folder: Path::new("/var/tmp"), capacity }.check(&"standard input", written, more)
    };
    check(Some((1000, 100)), 5000, 900).unwrap();
    check(Some((0, 0)), 0, 0).unwrap();
    check(None, 0, u64::MAX).unwrap();
    for (free, more) in [(1000, 901), (99, 1), (0, u64::MAX)] {
        assert_eq!(check(Some((free, 100)), 0, more).unwrap_err().kind(), Kind::Input);
    }
    let error = check(Some((3 << 20, 2 << 20)), 5 << 20, 3 << 20).unwrap_err();
    let text = "standard input takes a temporary file of 8.0 MiB or more, but /var/tmp has 8.0 MiB free, and 2.0 MiB \
                 of that stay reserved";
    assert_eq!(error.to_string(), text);
    assert_eq!(error.advice().unwrap().to_string(), "Use a folder with more space: --temp-dir DIR");
}

#[cfg(unix)]
#[test]
fn the_free_space_of_a_file_system_is_known() {
    let Capacity { free, total } = Capacity::around(&tempfile::tempfile().unwrap()).unwrap();
    assert!(free > 0 && total >= free);
}
