//! Real Chromium, driven by a script of `browser/`, which says what it has seen: an object on each line.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use holdfast_tests::wait;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, Result};

/// How long a browser has to close.
const FAREWELL: Duration = Duration::from_secs(10);

/// A script with its browser. Both end with this.
pub(crate) struct Driver {
    script: Child,
    orders: Option<ChildStdin>,
    said: BufReader<ChildStdout>,
    log: PathBuf,
}

impl Driver {
    /// Starts a script that is told `wanted`; what goes wrong stands in the file `log`.
    ///
    /// # Errors
    /// There is no Node.
    pub(crate) fn start(script: &str, wanted: &Value, log: &Path) -> Result<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser").join(script);
        let errors = File::create(log).map_err(Error::file(log))?;
        let mut script = Command::new("setpriv")
            // The kernel sees to it that nothing is left behind; the browser ends with its script.
            .args(["--pdeathsig", "KILL", "--", "node"])
            .arg(path)
            .arg(wanted.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()?;
        let orders = script.stdin.take();
        let output = script.stdout.take();
        let output = output.ok_or_else(|| Error::Told("the browser's script has no output".to_owned()))?;
        Ok(Self { script, orders, said: BufReader::new(output), log: log.to_owned() })
    }

    /// What it says next.
    ///
    /// # Errors
    /// It has ended, or says something else.
    pub(crate) fn hear<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        if self.said.read_line(&mut line)? == 0 {
            let said = fs::read_to_string(&self.log).unwrap_or_default();
            let is_reason =
                |line: &&str| ["Error", "Timeout", "waiting for"].iter().any(|word| line.contains(word));
            let words: Vec<_> = said.lines().filter(is_reason).map(str::trim).take(3).collect();
            return Err(Error::Told(format!("the browser has ended: {}", words.join("; "))));
        }
        Ok(serde_json::from_str(&line)?)
    }

    /// Tells it to go on.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn go_on(&mut self) -> Result {
        let orders = self.orders.as_mut().ok_or_else(|| Error::Told("the browser has ended".to_owned()))?;
        Ok(orders.write_all(b"\n").and_then(|()| orders.flush())?)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // At the end of its orders it closes the browser.
        drop(self.orders.take());
        if wait::find(FAREWELL, || self.script.try_wait().ok().flatten()).is_none() {
            let _ = self.script.kill();
            let _ = self.script.wait();
        }
    }
}
