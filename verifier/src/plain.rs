//! Text from outside, shown on a terminal.

/// `text` with everything escaped that a terminal obeys instead of showing: a name in a file could
/// otherwise end the line, hide the verdict below it or write one of its own. Control characters,
/// and those that are not seen or change the direction of what is around them.
pub fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() || is_format(c) {
            true => shown.extend(c.escape_unicode()),
            false => shown.push(c),
        }
    }
    shown
}

/// Unicode's line and paragraph separators, and of its format characters those that order and join.
fn is_format(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_escaped_and_nothing_else() {
        for text in ["", "press-1/Öl °C", "温度 'a' \"b\" \\ 𝄞", "e\u{301}"] {
            assert_eq!(plain(text), text);
        }
        let cases = [
            ("x\nproven", r"x\u{a}proven"),
            ("\u{1b}[8m", r"\u{1b}[8m"),
            ("\u{9b}2J\r\u{7f}\0", r"\u{9b}2J\u{d}\u{7f}\u{0}"),
            (
                "a\u{202e}b\u{2028}c\u{200b}",
                r"a\u{202e}b\u{2028}c\u{200b}",
            ),
            ("\u{feff}\u{e0041}", r"\u{feff}\u{e0041}"),
        ];
        for (text, shown) in cases {
            assert_eq!(plain(text), shown);
        }
    }
}
