//! What a peer said, made safe to show: a terminal, a table and a log line are left as they are by it.

use std::fmt::{self, Write};

/// Shows a text on one line: control characters, those that turn the direction of writing, those that can't be
/// seen, and backslashes are escaped as in Rust's literals, so that no two texts look the same.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(is_dangerous) {
            let (safe, tail) = rest.split_at(at);
            formatter.write_str(safe)?;
            let mut letters = tail.chars();
            match letters.next() {
                Some('\n') => formatter.write_str("\\n")?,
                Some('\r') => formatter.write_str("\\r")?,
                Some('\t') => formatter.write_str("\\t")?,
                Some('\\') => formatter.write_str("\\\\")?,
                Some(letter) => write!(formatter, "{}", letter.escape_unicode())?,
                None => {}
            }
            rest = letters.as_str();
        }
        formatter.write_str(rest)
    }
}

/// Shows bytes on one line: as an [`Escaped`] text where they are UTF-8, and `\x..` for each byte that is not.
#[derive(Clone, Copy, Debug)]
pub struct EscapedBytes<'a>(pub &'a [u8]);

impl fmt::Display for EscapedBytes<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            Escaped(chunk.valid()).fmt(formatter)?;
            for byte in chunk.invalid() {
                write!(formatter, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Shows any text of another part of the program on one line, without its backslashes doubled.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for letter in text.chars() {
        match is_dangerous(letter) && letter != '\\' {
            // Writing to a string can't fail.
            true => _ = write!(line, "{}", Escaped(letter.encode_utf8(&mut [0; 4]))),
            false => line.push(letter),
        }
    }
    line
}

fn is_dangerous(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\\'
            // Soft hyphen, Arabic letter mark, Hangul fillers, Mongolian vowel separator.
            | '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{3164}' | '\u{ffa0}'
            // Zero widths and marks of direction; separators of lines and paragraphs, embeddings and
            // overrides; word joiner, invisible operators, isolates.
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            // Byte order mark, interlinear annotations, tags.
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::{Escaped, EscapedBytes, one_line};

    #[test]
    fn what_moves_a_terminal_is_escaped() {
        for (text, shown) in [
            ("plain, größe, 温度, 🌡", "plain, größe, 温度, 🌡"),
            ("a\nb\r\tc", "a\\nb\\r\\tc"),
            ("\x1b[2Jx", "\\u{1b}[2Jx"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("\u{202e}txt.exe", "\\u{202e}txt.exe"),
            ("a\u{2028}b\u{200b}c\u{2066}", "a\\u{2028}b\\u{200b}c\\u{2066}"),
            ("\\n", "\\\\n"),
            ("\u{7f}", "\\u{7f}"),
            ("", ""),
        ] {
            assert_eq!(Escaped(text).to_string(), shown);
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_as_such() {
        assert_eq!(EscapedBytes(b"a\xff\xc3b\n").to_string(), "a\\xff\\xc3b\\n");
        assert_eq!(EscapedBytes("größe".as_bytes()).to_string(), "größe");
    }

    #[test]
    fn one_line_keeps_backslashes() {
        assert_eq!(one_line("a \\ b\nc"), "a \\ b\\nc");
    }
}
