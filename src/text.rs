//! Strangers' text, as people get to see it.

/// Returns a text in which every character that a terminal would obey is an escape, as `\u{1b}`: control characters,
/// ends of lines, and those that turn the direction of writing. Names, operators and paths of strangers' files are
/// printed through it; a text without such characters stays as it is.
pub fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                out.extend(character.escape_unicode());
            }
            character if character.is_control() => out.extend(character.escape_default()),
            character => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn a_terminal_obeys_nothing_of_it() {
        let hostile = "a\u{1b}]0;title\u{7}\u{9b}31m\r\n\u{202e}b";
        assert_eq!(shown(hostile), "a\\u{1b}]0;title\\u{7}\\u{9b}31m\\r\\n\\u{202e}b");
        for plain in ["", "conv1/Größe \"\\ 層", "a'b"] {
            assert_eq!(shown(plain), plain);
        }
    }
}
