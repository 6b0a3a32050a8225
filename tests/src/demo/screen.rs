//! What the demo looks like: styles where there is a terminal, and a table that is drawn again in its place.

use std::io::{self, IsTerminal, Write};

fn styled(style: &str, text: &str) -> String {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    match wanted && io::stdout().is_terminal() {
        true => format!("\x1b[{style}m{text}\x1b[0m"),
        false => text.to_owned(),
    }
}

/// A heading.
pub(super) fn bold(text: &str) -> String {
    styled("1", text)
}

/// What matters less.
pub(super) fn dim(text: &str) -> String {
    styled("2", text)
}

/// A table that is drawn again and again. Where there is no terminal, it is printed when it has changed in more than
/// its times.
#[derive(Debug, Default)]
pub(super) struct Live {
    lines: usize,
    states: Vec<String>,
}

impl Live {
    /// Draws it.
    pub(super) fn show(&mut self, table: &str) -> io::Result<()> {
        let mut output = io::stdout().lock();
        if io::stdout().is_terminal() {
            if self.lines > 0 {
                write!(output, "\x1b[{}A\x1b[J", self.lines)?;
            }
            // Lines that are too long for the terminal are cut: else they would take more room than is counted.
            write!(output, "\x1b[?7l")?;
            table.lines().try_for_each(|line| writeln!(output, "{}", coloured(line)))?;
            write!(output, "\x1b[?7h")?;
            self.lines = table.lines().count();
        } else {
            let states: Vec<String> =
                table.lines().map(|line| line.split_whitespace().take(2).collect()).collect();
            if states != self.states {
                write!(output, "{table}")?;
                self.states = states;
            }
        }
        output.flush()
    }
}

fn coloured(line: &str) -> String {
    let style = if line.contains(" offline") { ("offline", "31") } else { ("online", "32") };
    line.replacen(style.0, &styled(style.1, style.0), 1)
}
