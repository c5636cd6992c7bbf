//! Errors as the command prints them.

use crate::output::printable;

/// An error with its causes, each text once: some errors already print their cause, and some the file that is named
/// around them. What a terminal would obey comes out as escapes, because names of strangers' files are in it.
pub(crate) fn in_words(error: &anyhow::Error) -> String {
    let mut whole = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if whole.is_empty() || starts_with_part(&cause, &whole) {
            whole = cause;
        } else if !ends_with_part(&whole, &cause) {
            whole = format!("{whole}: {cause}");
        }
    }
    printable(&whole)
}

/// Says whether a text goes on from another one.
fn starts_with_part(text: &str, part: &str) -> bool {
    text.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with(": "))
}

/// Says whether a text ends in another one, as a part of its own.
fn ends_with_part(text: &str, part: &str) -> bool {
    text.strip_suffix(part).is_some_and(|rest| rest.is_empty() || rest.ends_with(": "))
}

#[cfg(test)]
mod tests {
    use super::in_words;
    use anyhow::{Context, anyhow};

    #[test]
    fn each_text_comes_once() {
        let lost = || std::io::Error::new(std::io::ErrorKind::NotFound, "no such file");
        let io = dsconv::Error::Io { path: "a.onnx".into(), source: lost() };
        let named = anyhow::Error::from(io).context("a.onnx");
        assert_eq!(in_words(&named), "a.onnx: no such file");
        let nested: anyhow::Result<()> =
            Err(lost()).context("a.onnx").context("a.onnx").context("b.csv");
        assert_eq!(in_words(&nested.unwrap_err()), "b.csv: a.onnx: no such file");
        // Only whole parts are left out.
        let apart = anyhow!("file").context("no such file");
        assert_eq!(in_words(&apart), "no such file: file");
        let apart = anyhow!("a.onnx2: no").context("a.onnx");
        assert_eq!(in_words(&apart), "a.onnx: a.onnx2: no");
    }

    #[test]
    fn a_terminal_obeys_nothing_of_it() {
        let told = in_words(&anyhow!("node \"\u{1b}[2J\u{9b}31m\r\": no\nnext line"));
        assert_eq!(told, "node \"\\u{1b}[2J\\u{9b}31m\\r\": no\nnext line");
    }
}
