//! Text from archives and registries, made safe for logs and terminals.

/// Returns the text without logging commands of CI systems and without control sequences of terminals.
///
/// Names in an archive and answers of registries may hold either. The agents of CI systems obey `##vso[...]` and `##[...]`
/// anywhere in a line, and `::...` at its start.
pub(crate) fn sanitize(text: &str) -> String {
    text.split_inclusive('\n').map(sanitize_line).collect()
}

/// Replaces control characters and marks that change the direction of text. Line ends and tabs stay.
pub(crate) fn replace_controls(text: &str) -> String {
    let is_end = |c: char| ['\n', '\r', '\t'].contains(&c);
    text.chars().map(|c| if is_control(c) && !is_end(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Escapes such characters in JSON. A parser reads the same values.
pub(crate) fn escape_controls(json: &str) -> String {
    if !json.contains(|c: char| is_control(c) && c != '\n') {
        return json.to_owned();
    }
    // They occur in strings only, and all of them are below U+10000.
    let escaped = |c: char| if is_control(c) && c != '\n' { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    json.chars().map(escaped).collect()
}

/// Sanitizes a single line, with or without its line end.
pub(crate) fn sanitize_line(line: &str) -> String {
    let line = replace_controls(line).replace("##", "# #");
    let start = line.len() - line.trim_start().len();
    if line[start..].starts_with("::") { format!("{}: {}", &line[..start], &line[start + 1..]) } else { line }
}

/// Whether a character is invisible and changes what is displayed around it: controls, and marks that change the direction of
/// text.
fn is_control(c: char) -> bool {
    char::is_control(c) || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_json_has_the_same_values() {
        let json = serde_json::to_string_pretty(&["a\u{1b}\u{9b}\u{202e}b\u{7f}\u{2066}", "é"]).unwrap();
        let visible = escape_controls(&json);
        assert!(!visible.contains(|c: char| is_control(c) && c != '\n'), "{visible}");
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(read(&visible), read(&json));
    }

    #[test]
    fn logging_commands_are_disarmed() {
        assert_eq!(
            sanitize("a ##vso[task.x]b\n ::set-env::c\r\n###[d]"),
            "a # #vso[task.x]b\n : :set-env::c\r\n# ##[d]"
        );
        let same = "error: h.example:443/app::1 # 1\n\n  because: ::\n";
        assert_eq!(sanitize(same), same);
    }

    #[test]
    fn control_sequences_are_replaced() {
        assert_eq!(sanitize("a\u{1b}[2Jb\u{202e}c\u{9b}1m\u{7}\té"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}1m\u{fffd}\té");
    }
}
