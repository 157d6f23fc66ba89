//! Detection of binary data that was corrupted by encoding it as text, as by PowerShell's `>` and pipes before version 7.4.

use std::io::{self, Read};

use crate::error::{Advice, Code, Error};

/// Returns whether the first bytes of a file are binary data that was encoded as UTF-8: the bytes above 7F of binary formats
/// are not valid UTF-8 otherwise. The block may end inside a character.
pub(super) fn is_reencoded(start: &[u8]) -> bool {
    let mut check = TextCheck::default();
    check.add(start);
    check.is_reencoded() && start.iter().any(|byte| byte.is_ascii_control() && !byte.is_ascii_whitespace())
}

/// An incremental check whether bytes are UTF-8.
#[derive(Debug, Default)]
pub(super) struct TextCheck {
    is_binary: bool,
    has_non_ascii: bool,
    /// The beginning of a character that the next bytes continue.
    rest: Vec<u8>,
}

impl TextCheck {
    /// Checks the next bytes.
    pub(super) fn add(&mut self, mut bytes: &[u8]) {
        while let (false, false, [byte, others @ ..]) = (self.is_binary, self.rest.is_empty(), bytes) {
            self.rest.push(*byte);
            bytes = others;
            match str::from_utf8(&self.rest) {
                Ok(_) => self.rest.clear(),
                Err(error) => self.is_binary = error.error_len().is_some(),
            }
        }
        if self.is_binary {
            return;
        }
        self.has_non_ascii |= !bytes.is_ascii();
        if let Err(error) = str::from_utf8(bytes) {
            self.is_binary = error.error_len().is_some();
            self.rest = bytes[error.valid_up_to()..].to_vec();
        }
    }

    /// Returns whether these bytes and all previous ones are UTF-8, and not only ASCII.
    pub(super) fn all_reencoded(mut self, mut bytes: impl Read) -> bool {
        let mut buffer = vec![0; 64 << 10];
        while !self.is_binary {
            match bytes.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => self.add(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        self.is_reencoded()
    }

    fn is_reencoded(&self) -> bool {
        self.has_non_ascii && !self.is_binary
    }
}

/// Returns the error that PowerShell encoded an archive as text.
pub(super) fn reencoded(name: &str, how: &str) -> Error {
    Error::input(format!("{name} is {how}, not an image archive"))
        .code(Code::ArchiveDamaged)
        .because("PowerShell's > and pipes likely wrote it: before version 7.4 they corrupt binary output")
        .hint(Advice::new("Let docker write the file itself:").command("docker save -o image.tar IMAGE"))
}
