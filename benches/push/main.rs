//! Measures this program beside skopeo, in turn, in one run: `cargo bench --bench push`.
//!
//! The sink of the ratios is the program's own sandbox, which checks digests and keeps no bytes of layers; for all
//! alike. The same against docker-registry stands beside it, where a disk is part of what is measured. Medians are
//! printed as a table and appended to `benches/results.md`.
//!
//! - `options.rs`: what is asked for; `rows.rs`: what is measured, and how each program is told to do it
//! - `input.rs`: archives made of files of this machine; `sink.rs`: where they are pushed to
//! - `measure.rs`: one process, from its start to its end; `floor.rs`: what no program can do without
//! - `table.rs`: what came of it

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on ends here")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a table is what it is for")]

#[cfg(target_os = "linux")]
mod floor;
#[cfg(target_os = "linux")]
mod input;
#[cfg(target_os = "linux")]
mod measure;
#[cfg(target_os = "linux")]
mod options;
#[cfg(target_os = "linux")]
mod rows;
#[cfg(target_os = "linux")]
mod sink;
#[cfg(target_os = "linux")]
mod table;

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("This reads /proc, and so runs on Linux only.");
}

#[cfg(target_os = "linux")]
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        // The two sides of this program that run as processes of their own.
        Some((first, rest)) if first == "--measure" => measure::child(rest),
        Some((first, rest)) if first == "--floor" => floor::child(rest),
        // `cargo test --all-targets` starts benchmarks too, and means something else by it.
        _ if !arguments.iter().any(|argument| argument == "--bench") => {
            println!("Nothing is measured: that is for `cargo bench --bench push`.");
        }
        _ => match options::read(&arguments) {
            Ok(options) => rows::run(&options),
            Err(why) => {
                eprintln!("{why}\n\n{}", options::USAGE);
                std::process::exit(2);
            }
        },
    }
}
