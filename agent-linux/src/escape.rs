//! What others said, made safe to show on a terminal.

use std::fmt::{self, Write as _};

/// Shows bytes on one line: as text where they are UTF-8, and `\x..` for each byte that is not. What would
/// move a terminal, or can't be seen, is escaped as in Rust's literals.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for letter in chunk.valid().chars() {
                match letter {
                    '\n' | '\r' | '\t' | '\\' => write!(formatter, "{}", letter.escape_default())?,
                    letter if is_dangerous(letter) => write!(formatter, "{}", letter.escape_unicode())?,
                    letter => formatter.write_char(letter)?,
                }
            }
            chunk.invalid().iter().try_for_each(|byte| write!(formatter, "\\x{byte:02x}"))?;
        }
        Ok(())
    }
}

fn is_dangerous(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_a_terminal_is_escaped() {
        let shown = Escaped(b"caf\xc3\xa9\x1b[2J\n\xff\\\xe2\x80\xae").to_string();
        assert_eq!(shown, r"café\u{1b}[2J\n\xff\\\u{202e}");
    }
}
