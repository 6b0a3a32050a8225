//! Named steps, run one after the other, with their times and a summary that hides nothing.

use std::time::{Duration, Instant};

use crate::shell::{Error, Result};

/// One step of `cargo xtask test` or `cargo xtask check`.
pub(crate) struct Step {
    /// The name that the summary shows, and by which the step is run alone.
    pub(crate) name: &'static str,
    /// What it shows, in one line.
    pub(crate) about: &'static str,
    /// Does it; what it returns is added to its line of the summary.
    pub(crate) run: fn() -> Result<String>,
}

/// Runs `steps` in their order and stops at the first that fails. `alone` is the command that runs one step alone, without its name;
/// `left_out` says, a line for each, what was not run and how to run it.
///
/// # Errors
/// A step failed: the message says which one, why, and the command that runs it again.
pub(crate) fn run_all(steps: &[&Step], alone: &str, left_out: &[&str]) -> Result {
    let start = Instant::now();
    let mut lines: Vec<String> = Vec::new();
    for (number, step) in (1..).zip(steps) {
        println!("\n== {number}/{} {}: {}", steps.len(), step.name, step.about);
        let begun = Instant::now();
        let result = (step.run)();
        let elapsed = seconds(begun.elapsed());
        match result {
            Ok(note) => lines.push(format!("  ok      {elapsed:>8}  {:<13} {note}", step.name)),
            Err(error) => {
                lines.push(format!("  FAILED  {elapsed:>8}  {}", step.name));
                let rest =
                    steps.iter().skip(number).map(|step| format!("  not run            {}", step.name));
                lines.extend(rest);
                summary(&lines, left_out, start.elapsed());
                return Err(Error::Told(format!(
                    "step {:?} failed: {error}\nrun it again: {alone} {}",
                    step.name, step.name
                )));
            }
        }
    }
    summary(&lines, left_out, start.elapsed());
    println!("all steps passed");
    Ok(())
}

fn summary(lines: &[String], left_out: &[&str], elapsed: Duration) {
    println!("\n== summary, {} in all", seconds(elapsed));
    for line in lines {
        println!("{}", line.trim_end());
    }
    for line in left_out {
        println!("  left out           {line}");
    }
}

/// `12.3 s`, or `4 min 05 s` from a hundred seconds up.
fn seconds(elapsed: Duration) -> String {
    match elapsed.as_secs() {
        0..100 => format!("{:.1} s", elapsed.as_secs_f64()),
        long => format!("{} min {:02} s", long / 60, long % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Step = Step { name: "good", about: "succeeds", run: || Ok(String::from("7 tests")) };
    const BAD: Step = Step { name: "bad", about: "fails", run: || Err(Error::Told("the reason".into())) };
    const NEVER: Step = Step { name: "never", about: "is not reached", run: || panic!("reached") };

    #[test]
    fn all_steps_pass() {
        run_all(&[&GOOD, &GOOD], "cargo xtask test", &[]).expect("both succeed");
    }

    #[test]
    fn the_first_failure_ends_the_run_and_says_how_to_run_it_again() {
        let error = run_all(&[&GOOD, &BAD, &NEVER], "cargo xtask test", &[]).expect_err("the second fails");
        let text = error.to_string();
        assert!(text.contains("the reason"), "{text}");
        assert!(text.ends_with("run it again: cargo xtask test bad"), "{text}");
    }

    #[test]
    fn times_are_short_to_read() {
        assert_eq!(seconds(Duration::from_millis(12_340)), "12.3 s");
        assert_eq!(seconds(Duration::from_secs(245)), "4 min 05 s");
    }
}
