//! Measures this program and skopeo, alternating in one run: `cargo bench --bench push`.
//!
//! Both push into the program's own sandbox, which verifies digests and discards layers, and into docker-registry, which
//! writes them to the disk. The ratios are those of the sandbox. The medians are printed as a table and appended to
//! `benches/results.md`.
//!
//! - `options.rs`: the arguments; `rows.rs`: what is measured; `run.rs`: the runs, and the arguments of each program
//! - `input.rs`: archives made of files of this machine; `sink.rs`: the registries; `line.rs`: a long line to them
//! - `measure.rs`: one process, from its start to its end; `floor.rs`: the least work that any program must do
//! - `many.rs`: bundles, batches and joined archives; `bundles.rs`: their archives; `bare.rs`: a client without a plan
//! - `table.rs`: the results

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot continue fails by panicking")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it prints a table")]

#[cfg(target_os = "linux")]
mod bare;
#[cfg(target_os = "linux")]
mod bundles;
#[cfg(target_os = "linux")]
mod floor;
#[cfg(target_os = "linux")]
mod input;
#[cfg(target_os = "linux")]
mod line;
#[cfg(target_os = "linux")]
mod many;
#[cfg(target_os = "linux")]
mod measure;
#[cfg(target_os = "linux")]
mod options;
#[cfg(target_os = "linux")]
mod rows;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
mod sink;
#[cfg(target_os = "linux")]
mod table;

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("This benchmark reads /proc, so it runs on Linux only.");
}

#[cfg(target_os = "linux")]
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        // Three parts of this program run as separate processes.
        Some((first, rest)) if first == "--measure" => measure::child(rest),
        Some((first, rest)) if first == "--floor" => floor::child(rest),
        Some((first, rest)) if first == "--bare" => bare::child(rest),
        // `cargo test --all-targets` starts benchmarks, too, without this argument.
        _ if !arguments.iter().any(|argument| argument == "--bench") => {
            println!("Nothing was measured: use `cargo bench --bench push`.");
        }
        _ => match options::read(&arguments) {
            Ok(options) => {
                let (outcomes, many, inputs) = run::run(&options);
                table::publish(&options, &inputs, &outcomes, &many);
            }
            Err(why) => {
                eprintln!("{why}\n\n{}", options::USAGE);
                std::process::exit(2);
            }
        },
    }
}
