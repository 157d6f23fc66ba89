//! Text that may hold words of others, made fit for logs and terminals.

/// How wide a line of the log is at most, in characters.
pub const WIDTH: usize = 120;

/// What the lines stand behind that continue one.
const INDENT: &str = "  ";

/// Text that may hold words of others, names in an archive and answers of registries, without what the agents of CI systems take
/// for a command of the step's: `##vso[...]` and `##[...]` anywhere in a line, `::...` at its start; and without what a terminal
/// takes for one.
pub fn sanitize(text: &str) -> String {
    text.split_inclusive('\n').map(sanitize_line).collect()
}

/// Text without what a terminal takes for a command, and without marks that turn the direction of writing. Line ends and tabs
/// stay.
pub fn replace_controls(text: &str) -> String {
    let is_end = |c: char| ['\n', '\r', '\t'].contains(&c);
    text.chars().map(|c| if is_order(c) && !is_end(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// JSON in which such characters are escaped. Whoever parses it reads the same.
pub fn escape_controls(json: &str) -> String {
    if !json.contains(|c: char| is_order(c) && c != '\n') {
        return json.to_owned();
    }
    // They stand in texts only, and all of them are below U+10000.
    let escaped = |c: char| if is_order(c) && c != '\n' { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    json.chars().map(escaped).collect()
}

/// The same of a single line, which may end or not.
pub fn sanitize_line(line: &str) -> String {
    let line = replace_controls(line).replace("##", "# #");
    let start = line.len() - line.trim_start().len();
    if line[start..].starts_with("::") { format!("{}: {}", &line[..start], &line[start + 1..]) } else { line }
}

/// Whether a character is none to be seen, but changes what is seen around it: controls, and the marks that turn the direction
/// of writing.
fn is_order(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A line for the log, broken between words if it is too long. Words stay whole, however long they are, and so does what
/// stands between backticks.
pub fn wrapped(line: &str) -> String {
    if line.chars().count() <= WIDTH {
        return sanitize_line(line);
    }
    let own = line.len() - line.trim_start().len();
    let (indent, words) = line.split_at(own);
    let (mut lines, mut current, mut is_quoted) = (Vec::new(), indent.to_owned(), false);
    let mut is_first = true;
    for word in with_units(words) {
        // A commands' sign may get longer by being made sanitize.
        let word = sanitize_line(&word);
        // One that is too long for any line gains nothing by a line of its own.
        let length = word.chars().count();
        let fits = current.chars().count() + 1 + length <= WIDTH || own + INDENT.len() + length > WIDTH;
        if is_first {
            is_first = false;
        } else if fits || is_quoted {
            current.push(' ');
        } else {
            let line = std::mem::replace(&mut current, format!("{indent}{INDENT}"));
            lines.push(line.trim_end().to_owned());
        }
        is_quoted ^= word.matches('`').count() % 2 == 1;
        current += &word;
    }
    lines.push(current);
    lines.join("\n")
}

/// The words of a line. A number and its unit are one.
fn with_units(line: &str) -> Vec<String> {
    const UNITS: [&str; 11] = ["B", "KiB", "MiB", "GiB", "TiB", "ms", "s", "min", "h", "%", "bytes"];
    let is_unit = |word: &str| UNITS.contains(&word.split(['/', ',', ';', ')', '.', ':']).next().unwrap_or_default());
    let mut words: Vec<String> = Vec::new();
    for word in line.split(' ') {
        match words.last_mut().filter(|last| is_unit(word) && last.ends_with(|c: char| c.is_ascii_digit())) {
            Some(number) => *number = format!("{number} {word}"),
            None => words.push(word.to_owned()),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_reads_the_same_without_what_cannot_be_seen() {
        let json = serde_json::to_string_pretty(&["a\u{1b}\u{9b}\u{202e}b\u{7f}\u{2066}", "é"]).unwrap();
        let visible = escape_controls(&json);
        assert!(!visible.contains(|c: char| is_order(c) && c != '\n'), "{visible}");
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(read(&visible), read(&json));
    }

    #[test]
    fn no_line_is_a_command_of_a_ci_system() {
        assert_eq!(
            sanitize("a ##vso[task.x]b\n ::set-env::c\r\n###[d]"),
            "a # #vso[task.x]b\n : :set-env::c\r\n# ##[d]"
        );
        let same = "error: h.example:443/app::1 # 1\n\n  because: ::\n";
        assert_eq!(sanitize(same), same);
    }

    #[test]
    fn no_line_is_an_order_to_a_terminal() {
        assert_eq!(sanitize("a\u{1b}[2Jb\u{202e}c\u{9b}1m\u{7}\té"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}1m\u{fffd}\té");
    }

    #[test]
    fn long_lines_are_broken_between_words() {
        let line = format!("{} {}", "word ".repeat(40).trim_end(), "long".repeat(40));
        let wrapped = wrapped(&line);
        let lines: Vec<&str> = wrapped.lines().collect();
        assert_eq!(lines.len(), 2, "{wrapped}");
        assert!(lines[0].len() == 119 && lines[1].starts_with("  word"), "{wrapped}");
        assert!(lines[1].ends_with(&format!("word {}", "long".repeat(40))), "a word stays whole");
        assert_eq!(wrapped.replace("\n  ", " "), line);
    }

    #[test]
    fn a_number_stays_with_its_unit() {
        let line = format!("{} 1.5 MiB/s; 135 ms", "a".repeat(112));
        assert_eq!(wrapped(&line), format!("{}\n  1.5 MiB/s; 135 ms", "a".repeat(112)));
        assert_eq!(with_units("a 3 s, 4 songs s 5 MiB."), ["a", "3 s,", "4", "songs", "s", "5 MiB."]);
    }

    #[test]
    fn a_command_between_backticks_stays_whole() {
        let line = format!("{}`aws ecr {}`, then on", "word ".repeat(20), "--option value ".repeat(5));
        assert!(wrapped(&line).contains(&line[100..line.len() - 8]), "{}", wrapped(&line));
    }

    #[test]
    fn a_line_that_continues_is_no_command_either() {
        let line = format!("{} ::error::x {}", "a".repeat(116), "b ".repeat(3).trim_end());
        assert!(wrapped(&line).lines().all(|line| !line.trim_start().starts_with("::")), "{}", wrapped(&line));
    }
}
