//! Advice about an error, as data: the command line, a report and a CI system render it each in their own way.

use std::borrow::Cow;
use std::fmt;

/// Says what to do about an error.
///
/// Options and commands are data, not part of the text, so that no sentence repeats them and a program can use them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Advice {
    text: String,
    settings: Vec<Setting>,
    commands: Vec<String>,
}

/// Names a setting that cures an error, by the name of its option without dashes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Setting {
    /// The option's name: `platform`.
    pub name: Cow<'static, str>,
    /// The value to give, if the setting takes one: `linux/arm64`.
    pub value: Option<String>,
}

impl Advice {
    /// Creates advice in words: a sentence, or the beginning of one that [`setting`](Self::setting) ends.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// Adds a setting without a value. Several settings are alternatives.
    #[must_use]
    pub fn setting(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.settings.push(Setting { name: name.into(), value: None });
        self
    }

    /// Adds a setting with the value to give. Several settings are alternatives.
    #[must_use]
    pub fn setting_with(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        self.settings.push(Setting { name: name.into(), value: Some(value.into()) });
        self
    }

    /// Adds a command line that can be pasted into a shell. It is shown on a line of its own.
    #[must_use]
    pub fn command(mut self, command: impl Into<String>) -> Self {
        self.commands.push(command.into());
        self
    }

    /// Returns the text alone, without settings and commands.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the settings, each of which is a cure.
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// Returns the command lines, in the order in which to run them.
    pub fn commands(&self) -> &[String] {
        &self.commands
    }
}

impl From<&str> for Advice {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Advice {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

/// As the command line shows it: the text, `: --name VALUE or --name`, then each command on its own line.
impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        for (at, setting) in self.settings.iter().enumerate() {
            f.write_str(if at > 0 {
                " or "
            } else if self.text.is_empty() {
                ""
            } else {
                ": "
            })?;
            write!(f, "{setting}")?;
        }
        self.commands.iter().try_for_each(|command| write!(f, "\n  {command}"))
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--{}", self.name)?;
        self.value.as_ref().map_or(Ok(()), |value| write!(f, " {value}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_and_commands_follow_the_text() {
        let advice =
            Advice::new("Choose a platform").setting_with("platform", "linux/arm64").setting("present-platforms");
        assert_eq!(advice.to_string(), "Choose a platform: --platform linux/arm64 or --present-platforms");
        let advice = Advice::new("Log in again:").command("aws sso login --profile dev");
        assert_eq!(advice.to_string(), "Log in again:\n  aws sso login --profile dev");
        assert_eq!(Advice::default().setting("repair").to_string(), "--repair");
    }
}
