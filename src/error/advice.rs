//! Advice about an error, as data, which the command line, the report and the CI systems render.

use std::borrow::Cow;
use std::fmt;

/// What to do about an error.
///
/// Options and commands are data, not part of the text, so that no sentence repeats them and a program can use them.
///
/// ```
/// use ecr_push::{Advice, Setting};
///
/// let advice = Advice::new("Choose a platform").setting_with("platform", "linux/arm64");
/// assert_eq!(advice.to_string(), "Choose a platform: --platform linux/arm64");
/// // A program that has no such option uses the data.
/// let [Setting { name, value }] = advice.settings() else { panic!("it has one setting") };
/// assert_eq!((name.as_ref(), value.as_deref()), ("platform", Some("linux/arm64")));
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[must_use]
pub struct Advice {
    text: String,
    settings: Vec<Setting>,
    /// The settings in the list, each with a note.
    choices: Vec<(Setting, String)>,
    /// The number of choices that the list omits.
    omitted: usize,
    commands: Vec<String>,
}

/// The maximum length of a list of choices. The others are counted.
const MAX_CHOICES: usize = 50;

/// A setting that fixes an error, by the name of its option without dashes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Setting {
    /// The option's name: `platform`.
    pub name: Cow<'static, str>,
    /// The value to give, if the setting takes one: `linux/arm64`.
    pub value: Option<String>,
}

impl Setting {
    /// Names a setting without a value.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self { name: name.into(), value: None }
    }

    /// Names a setting with the value to give.
    pub fn with(name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: Some(value.into()) }
    }
}

impl Advice {
    /// Creates advice in words: a sentence, or its beginning, which [`setting`](Self::setting) completes.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// Prepends a sentence to the text.
    pub fn preceded_by(mut self, sentence: &str) -> Self {
        self.text = if self.text.is_empty() { sentence.to_owned() } else { format!("{sentence} {}", self.text) };
        self
    }

    /// Adds a setting without a value. Several settings are alternatives.
    pub fn setting(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.settings.push(Setting::new(name));
        self
    }

    /// Adds a setting with the value to give. Several settings are alternatives.
    pub fn setting_with(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        self.settings.push(Setting::with(name, value));
        self
    }

    /// Adds a list of settings, each with a note, which may be empty. They are alternatives, each on a separate line. Items
    /// after the 50th are only counted.
    pub fn choices<T>(
        mut self,
        items: impl IntoIterator<Item = T>,
        choice: impl Fn(T) -> (&'static str, Option<String>, String),
    ) -> Self {
        let mut items = items.into_iter();
        self.choices.extend(items.by_ref().take(MAX_CHOICES).map(|item| {
            let (name, value, note) = choice(item);
            (Setting { name: name.into(), value }, note)
        }));
        self.omitted += items.count();
        self
    }

    /// Adds a command line that can be pasted into a shell. It is shown on a separate line.
    pub fn command(mut self, command: impl Into<String>) -> Self {
        self.commands.push(command.into());
        self
    }

    /// Returns the text alone, without settings and commands.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the settings, each of which fixes the error.
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

impl fmt::Display for Advice {
    /// Formats it for the command line: the text, `: --name VALUE or --name`, then each choice and command on a separate line.
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
        for (setting, note) in &self.choices {
            write!(f, "\n  {setting}")?;
            if !note.is_empty() {
                write!(f, "  ({note})")?;
            }
        }
        if self.omitted > 0 {
            write!(f, "\n  and {} more", self.omitted)?;
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

    #[test]
    fn choices_are_a_list_and_those_after_the_fiftieth_are_counted() {
        let choice = |n: usize| ("image", Some(n.to_string()), if n == 0 { "the first".into() } else { String::new() });
        let advice = Advice::new("Select one:").choices(0..2, choice);
        assert_eq!(advice.to_string(), "Select one:\n  --image 0  (the first)\n  --image 1");
        let advice = Advice::new("Select one:").choices(0..53, choice);
        assert!(advice.to_string().ends_with("\n  --image 49\n  and 3 more"), "{advice}");
    }
}
