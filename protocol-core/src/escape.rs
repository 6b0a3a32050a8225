//! What a peer said, made safe to show: a terminal, a table and a log line are left as they are by it.

use core::fmt;

/// Shows a text on one line: control characters, those that turn the direction of writing, those that can't be
/// seen, and backslashes are escaped as in Rust's literals, so that no two texts look the same.
///
/// ```
/// # use protocol_core::escape::Escaped;
/// # extern crate std;
/// assert_eq!(std::format!("{}", Escaped("red: \x1b[31m\n")), r"red: \u{1b}[31m\n");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(self.0, |letter| letter == '\\' || is_dangerous(letter), formatter)
    }
}

/// Shows bytes on one line: as an [`Escaped`] text where they are UTF-8, and `\x..` for each byte that is not.
#[derive(Clone, Copy, Debug)]
pub struct EscapedBytes<'a>(pub &'a [u8]);

impl fmt::Display for EscapedBytes<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            Escaped(chunk.valid()).fmt(formatter)?;
            chunk.invalid().iter().try_for_each(|byte| write!(formatter, "\\x{byte:02x}"))?;
        }
        Ok(())
    }
}

/// Shows a text on one line as [`Escaped`] does, but leaves its backslashes: for words of the program's own that
/// a peer's may stand in.
#[derive(Clone, Copy, Debug)]
pub struct OneLine<'a>(pub &'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(self.0, is_dangerous, formatter)
    }
}

fn write(text: &str, is_escaped: fn(char) -> bool, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    for piece in text.split_inclusive(is_escaped) {
        let mut letters = piece.chars();
        match letters.next_back().filter(|letter| is_escaped(*letter)) {
            Some(last) => {
                formatter.write_str(letters.as_str())?;
                match last {
                    '\n' | '\r' | '\t' | '\\' => write!(formatter, "{}", last.escape_default())?,
                    _ => write!(formatter, "{}", last.escape_unicode())?,
                }
            }
            None => formatter.write_str(piece)?,
        }
    }
    Ok(())
}

fn is_dangerous(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            // Soft hyphen, Arabic letter mark, Hangul fillers, Mongolian vowel separator.
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{3164}' | '\u{ffa0}'
            // Zero widths and marks of direction; separators of lines and paragraphs, embeddings and
            // overrides; word joiner, invisible operators, isolates.
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            // Byte order mark, interlinear annotations, tags.
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::{Escaped, EscapedBytes, OneLine};

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
            ("\n\n", "\\n\\n"),
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
        assert_eq!(OneLine("a \\ b\nc").to_string(), "a \\ b\\nc");
    }
}
