//! A line typed on a terminal that does not show it.

use std::io::{self, BufRead, ErrorKind, Stdin, Write};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

/// What Ctrl-C is on the line while it interrupts nothing.
const INTERRUPT: u8 = 0x03;

/// Asks on a terminal for a line that is not shown: without its end, or nothing at the end of the input.
///
/// The terminal is quiet before the prompt is there, so that not even the fastest typist is shown.
///
/// # Errors
/// `input` is no terminal, or it fails. Ctrl-C gives [`ErrorKind::Interrupted`], with the terminal as it was.
pub(super) fn line(input: &Stdin, prompt: &str) -> io::Result<Option<Vec<u8>>> {
    let before = tcgetattr(input)?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(LocalModes::ECHO);
    quiet.local_modes.insert(LocalModes::ECHONL);
    // A program that Ctrl-C ends here would leave the terminal quiet: it ends the line instead.
    quiet.local_modes.remove(LocalModes::ISIG);
    quiet.special_codes[SpecialCodeIndex::VEOL] = INTERRUPT;
    tcsetattr(input, OptionalActions::Now, &quiet)?;
    let _restore = Restore { input, before };
    // Not among what the program prints: that may be JSON, or go elsewhere.
    let mut output = io::stderr();
    output.write_all(prompt.as_bytes())?;
    output.flush()?;
    let line = read(&mut input.lock())?;
    if line.is_none() {
        writeln!(output)?;
    }
    Ok(line)
}

fn read(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        let read = input.fill_buf()?;
        if read.is_empty() {
            break;
        }
        let end = read.iter().position(|byte| *byte == b'\n' || *byte == INTERRUPT);
        let taken = end.map_or(read.len(), |end| end.saturating_add(1));
        line.extend(read.iter().take(taken));
        input.consume(taken);
        if line.ends_with(&[INTERRUPT]) {
            return Err(io::Error::new(ErrorKind::Interrupted, "interrupted"));
        }
    }
    Ok((!line.is_empty()).then(|| without_line_end(&line).to_vec()))
}

/// The terminal as it was, however the prompt ends.
struct Restore<'a> {
    input: &'a Stdin,
    before: Termios,
}

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        // A terminal that can't be restored is gone.
        let _ = tcsetattr(self.input, OptionalActions::Now, &self.before);
    }
}

/// A line without the one line end, `\n` or `\r\n`, that it may have.
pub(super) fn without_line_end(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r\n").or_else(|| line.strip_suffix(b"\n")).unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::{ErrorKind, read, without_line_end};

    #[test]
    fn a_line_ends_where_it_should() {
        let mut input = &b"secret\nrest"[..];
        assert_eq!(read(&mut input).unwrap(), Some(b"secret".to_vec()));
        assert_eq!(read(&mut input).unwrap(), Some(b"rest".to_vec()));
        assert_eq!(read(&mut input).unwrap(), None);
        assert_eq!(read(&mut &b"\n"[..]).unwrap(), Some(Vec::new()));
        assert_eq!(read(&mut &b"sec\x03ret\n"[..]).unwrap_err().kind(), ErrorKind::Interrupted);
    }

    #[test]
    fn one_line_end_is_removed() {
        for (line, expected) in [
            ("a", "a"),
            ("a\n", "a"),
            ("a\r\n", "a"),
            ("a\n\n", "a\n"),
            ("\n", ""),
            ("", ""),
            ("a\r", "a\r"),
            ("a b \n", "a b "),
        ] {
            assert_eq!(without_line_end(line.as_bytes()), expected.as_bytes());
        }
    }
}
