//! The program `ecr-push`.

use std::process::ExitCode;

/// Requests pass between threads, and so does their memory: with the allocator of glibc the threads wait for each other.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ecr_push::cli::main()
}
