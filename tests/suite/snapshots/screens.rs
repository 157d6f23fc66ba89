//! What is left on a terminal in the end, on narrow ones and on wide ones.

use super::Snapshot;
use crate::ecr::Ecr;
use crate::harness::testdata;
use crate::pty::{Seen, Stdout, Terminal};

const SAME: [&str; 4] = ["--concurrency", "1", "--pack-threads", "2"];

fn push(ecr: &Ecr, columns: u16, options: &[&str], environment: &[(&str, &str)]) -> Seen {
    let archive = testdata("docker-29-overlay2-save.tar");
    let mut command = ecr.command(&[&[archive.as_str(), "team/app:1"], &SAME[..], options].concat());
    command.env("TERM", "xterm").envs(environment.iter().copied());
    Terminal::start(command, columns, 24, Stdout::Terminal).end()
}

#[test]
fn terminals_of_all_widths() {
    for columns in [40, 80, 120, 200] {
        let ecr = Ecr::new();
        let seen = push(&ecr, columns, &[], &[]);
        Snapshot::of_screen(&format!("{columns} columns"), &seen).is(&format!("screen_{columns}"), &ecr.env);
        // One without a request ID, which would be broken in two.
        let ecr = Ecr::empty();
        let seen = push(&ecr, columns, &[], &[]);
        let title = format!("{columns} columns, a failure");
        Snapshot::of_screen(&title, &seen).is(&format!("screen_{columns}_failure"), &ecr.env);
    }
}

#[test]
fn terminals_without_colours() {
    for (title, environment, name) in
        [("NO_COLOR=1", ("NO_COLOR", "1"), "screen_no_color"), ("TERM=dumb", ("TERM", "dumb"), "screen_dumb")]
    {
        let ecr = Ecr::new();
        let seen = push(&ecr, 80, &["--cache", "."], &[environment]);
        Snapshot::of_screen(title, &seen).is(name, &ecr.env);
    }
}
