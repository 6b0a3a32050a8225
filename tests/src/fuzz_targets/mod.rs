//! What the fuzzer runs, and what the tests run again on the inputs that it found (`tests/fuzz`).
//!
//! Each target takes any bytes, does with `protocol-core` what they say, and panics if something does not hold.

mod classic;
mod h264;
mod serial;
mod session;
mod wire;

/// A target: it panics if the input shows that something does not hold.
pub type Target = fn(&[u8]);

/// All targets, by the name of their corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("classic", classic::run),
    ("frame", wire::frame),
    ("h264", h264::run),
    ("invitation", wire::invitation),
    ("message", wire::message),
    ("noise", serial::noise),
    ("provisioning", wire::provisioning),
    ("serial", serial::run),
    ("session", session::run),
];

/// Runs the target of that name.
///
/// # Panics
/// If the input shows that something does not hold, or there is no such target.
pub fn run(name: &str, input: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("the name of a target");
    target(input);
}

/// The input as a script: it is read from the front, and gives zeros when it is used up.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn is_done(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// A number: mostly small, for small ones meet.
    fn number(&mut self) -> u64 {
        match self.byte() {
            byte @ 0..=250 => u64::from(byte),
            byte => u64::MAX - u64::from(255 - byte),
        }
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }
}
