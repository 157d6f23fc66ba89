//! The program `ecr-push`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ecr_push::cli::main()
}
