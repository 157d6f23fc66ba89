//! The password of `--password-stdin`.

use std::io::{self, IsTerminal as _, Read as _};
use std::time::Duration;

use crate::error::{Advice, Code, Error, Kind, Result};
use crate::file;
use crate::output::log::sanitize;
use crate::output::stderr::ask_secret;
use crate::push::ExplicitCredentials;
use crate::registry::Login;

/// Reads the password of a user from standard input. The end of its line is none of it.
pub(super) fn password_of(user: String, deadline: Option<Duration>) -> Result<ExplicitCredentials> {
    const LONGEST: u64 = 64 << 10;
    /// The command that writes it may ask a person.
    const LIMIT: Duration = Duration::from_secs(120);
    let limit = deadline.map_or(LIMIT, |deadline| deadline.min(LIMIT));
    let failed = "cannot read the password from standard input";
    if io::stdin().is_terminal() && io::stderr().is_terminal() {
        return typed_password(user);
    }
    let mut password = String::new();
    let input = file::standard_input().map_err(|error| Error::usage(failed).because(error))?;
    // What is no text is not quoted: it is a secret all the same.
    file::TimedReader::new(input, limit).take(LONGEST).read_to_string(&mut password).map_err(|error| {
        match error.kind() {
            io::ErrorKind::TimedOut => Error::new(Kind::Unavailable, failed)
                .code(Code::TimedOut)
                .because(format!("no end of input within {} s", limit.as_secs()))
                .hint("Check the command that writes the password."),
            _ => Error::usage(failed).because(error),
        }
    })?;
    let password = password.strip_suffix('\n').map_or(password.as_str(), |line| line.trim_end_matches('\r'));
    if password.is_empty() {
        return Err(Error::usage("standard input has no password").hint(
            Advice::new("Pass it on standard input:").command("printenv TOKEN | ecr-push ... --password-stdin"),
        ));
    }
    let login = Login::password(&user, password);
    Ok(ExplicitCredentials { user, login })
}

/// Asks for the password on the terminal, which does not show it.
fn typed_password(user: String) -> Result<ExplicitCredentials> {
    let read = ask_secret(&format!("Password of {}: ", sanitize(&user)));
    let password = read.map_err(|error| Error::usage("cannot read the password from the terminal").because(error))?;
    if password.is_empty() {
        return Err(Error::usage("the password is empty"));
    }
    let login = Login::password(&user, &password);
    Ok(ExplicitCredentials { user, login })
}
