//! Text made to fit a place on a terminal, as wide as it is shown there.

use std::borrow::Cow;

use console::measure_text_width;

use crate::output::log::sanitize_line;

/// What stands where something was cut off.
const CUT: &str = "..";

/// How many columns a text takes at most. Terminals do not agree about signs that are joined: the widest view counts, since a
/// row that is too long breaks the picture.
pub(super) fn width(text: &str) -> usize {
    if text.is_ascii() {
        return text.len();
    }
    let mut buffer = [0; 4];
    let apart: usize = text.chars().map(|c| measure_text_width(c.encode_utf8(&mut buffer))).sum();
    apart.max(measure_text_width(text))
}

/// A text of one line that takes no more columns than `most`.
pub(super) fn cut(text: &str, most: usize) -> Cow<'_, str> {
    let text = match text.contains(|c: char| c.is_control() || c == '#' || !c.is_ascii()) {
        true => Cow::Owned(sanitize_line(text).replace(['\t', '\n', '\r'], " ")),
        false => Cow::Borrowed(text),
    };
    if width(&text) <= most {
        return text;
    }
    let (mut short, room) = (String::new(), most.saturating_sub(CUT.len()));
    for c in text.chars() {
        short.push(c);
        if width(&short) > room {
            short.pop();
            break;
        }
    }
    short += &CUT[..CUT.len().min(most)];
    Cow::Owned(short)
}

/// The same, filled up with blanks to exactly so many columns.
pub(super) fn filled(text: &str, columns: usize) -> String {
    let text = cut(text, columns);
    let blanks = columns.saturating_sub(width(&text));
    format!("{text}{:blanks$}", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_as_wide_as_it_is_shown() {
        assert_eq!(cut("layer", 5), "layer");
        assert_eq!(cut("layers", 5), "lay..");
        assert_eq!(cut("日本語レイヤー", 9), "日本語..", "each takes two columns");
        assert_eq!(cut("a\u{301}b", 2), "a\u{301}b", "what stands above takes none");
        assert_eq!(cut("ab", 1), ".");
        assert_eq!(cut("ab", 0), "");
        assert_eq!(cut("a\u{1b}[31m\tb", 20), "a\u{fffd}[31m b");
        // A family of three: two columns here, six there.
        assert!(width("👨\u{200d}👩\u{200d}👧") >= 6);
        assert_eq!(filled("日", 4), "日  ");
        assert_eq!(width(&filled("日本語", 4)), 4);
    }
}
