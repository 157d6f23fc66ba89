//! Generates `docs/reference.md` from the program's own help, which clap writes.

use super::harness::{TestEnv, finish};
use super::markdown::check_file;

const COMMANDS: [&str; 8] = ["", "tag", "inspect", "policy", "sandbox", "demo", "completions", "man"];

const INTRODUCTION: &str = "# Command line

<!-- Generated from `ecr-push --help` by tests/suite/docs_reference.rs: DOCS_UPDATE=1 cargo test --test suite docs -->

Options may stand anywhere, also before a command. Options of a push, of `tag`, `inspect` and `policy` can also be set in the environment.
The variable is `ECR_PUSH_` and the name in capitals, with `_` for `-`: `ECR_PUSH_REGION` for `--region`.
[Scripting](scripting.md#options-in-the-environment) has the rules.
";

/// Returns the help of a command, in lines that are not wrapped.
fn help(command: &str) -> String {
    let env = TestEnv::new();
    let arguments: Vec<&str> = [command, "--help"].into_iter().filter(|word| !word.is_empty()).collect();
    let mut command = env.command(&arguments);
    command.env("COLUMNS", "10000");
    finish(command, String::new).exits_with(0).stdout
}

/// Writes help as Markdown: its first paragraphs, the usage, and each section as a list. Examples are left to the README.
fn markdown(command: &str, help: &str) -> String {
    let title = if command.is_empty() { "ecr-push".to_owned() } else { format!("ecr-push {command}") };
    let mut out = format!("\n## {title}\n");
    let mut is_left_out = false;
    let mut lines = help.lines().filter(|line| !line.trim().is_empty()).peekable();
    while let Some(line) = lines.next() {
        let text = line.trim();
        let is_at_start = !line.starts_with(' ');
        if let Some(usage) = line.strip_prefix("Usage: ") {
            out += &format!("\n```text\n{usage}\n");
            while let Some(usage) = lines.next_if(|line| line.starts_with(' ')) {
                out += &format!("{}\n", usage.trim());
            }
            out += "```\n";
        } else if is_at_start && text.ends_with(':') && text.len() < 30 {
            is_left_out = text == "Examples:";
            if !is_left_out {
                out += &format!("\n### {}\n\n", text.trim_end_matches(':'));
            }
        } else if is_at_start {
            is_left_out = false;
            out += &format!("\n{}\n", escaped(text));
        } else if !is_left_out {
            out += &item(line.len() - line.trim_start().len(), text);
        }
    }
    out
}

/// Formats a line of a section: a sentence, an option with or without its description, the description of the previous option, or
/// one of its values.
fn item(indent: usize, text: &str) -> String {
    let is_name = text.starts_with(['-', '<']) && !text.starts_with("- ");
    let is_sentence = !is_name && indent < 10 && text.ends_with('.') && !text.contains("  ");
    if is_sentence {
        format!("\n{}\n", escaped(text))
    } else if indent < 10 || is_name {
        let (name, description) = text.split_once("  ").unwrap_or((text, ""));
        let description = description.trim();
        if description.is_empty() { format!("- `{name}`\n") } else { format!("- `{name}`: {}\n", escaped(description)) }
    } else if let Some(value) = text.strip_prefix("- ") {
        let (value, meaning) = value.split_once(':').unwrap_or((value, ""));
        format!("  - `{value}`: {}\n", escaped(meaning.trim()))
    } else if text == "Possible values:" {
        String::new()
    } else {
        format!("  {}\n", escaped(text))
    }
}

/// Escapes text so that Markdown has no markup in it. Text between backticks is unchanged.
fn escaped(text: &str) -> String {
    let escape = |(at, part): (usize, &str)| {
        if at % 2 == 1 { format!("`{part}`") } else { part.replace('<', "\\<").replace('*', "\\*").replace('_', "\\_") }
    };
    text.split('`').enumerate().map(escape).collect()
}

#[test]
fn the_reference_is_the_help_of_all_commands() {
    let commands: String = COMMANDS.iter().map(|command| markdown(command, &help(command))).collect();
    check_file("docs/reference.md", &format!("{INTRODUCTION}{commands}"));
}
