//! Cameras: programs that write H.264 on their standard output, and the pictures in what they write.

mod command;
mod film;
mod found;
mod pictures;
mod program;
mod words;

pub(crate) use self::{
    command::{CommandLine, NoCommand, RPICAM},
    film::{Fault, Run, film},
    found::{Surroundings, ask},
    pictures::{Found, Picture},
};
use self::{
    pictures::Pictures,
    program::{CameraProgram, HowItEnded},
};
