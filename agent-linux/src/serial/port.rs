//! A serial port: raw, eight bits, no parity, one stop bit, no flow control.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll, ready},
};

use rustix::{
    fs::{FlockOperation, OFlags, flock},
    io::Errno,
    termios::{
        ControlModes, OptionalActions, QueueSelector, SpecialCodeIndex, Termios, tcflush, tcgetattr,
        tcsetattr,
    },
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, unix::AsyncFd};

/// Why a port can't be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum PortError {
    /// It is not there, or this agent may not open it.
    #[error("{}: {error}{}", path.display(), next_step(error))]
    Open { path: PathBuf, error: io::Error },
    /// Another program has it.
    #[error(
        "{}: another program uses this port; end it (a login on the serial console: systemctl disable --now serial-getty@{})",
        path.display(), name(path)
    )]
    InUse { path: PathBuf },
    /// It is something else.
    #[error("{}: expected a serial port, found something else; correct `path` in agent.toml", path.display())]
    NoPort { path: PathBuf },
    /// It can't be set.
    #[error("{}: the port can't be set to {baud} baud: {error}; choose another speed, on both ends", path.display())]
    Settings { path: PathBuf, baud: u32, error: io::Error },
}

/// What is to be done where a port can't be opened.
fn next_step(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; the agent must be in the group that owns the port (dialout), and its unit must let it reach devices"
        }
        io::ErrorKind::NotFound => {
            "; is it plugged in, is the UART switched on, and does the agent's unit let it reach devices?"
        }
        _ => "",
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A port that is open, for this program alone.
#[derive(Debug)]
pub(super) struct Port {
    file: AsyncFd<File>,
}

impl Port {
    /// Opens a port, and drops what waits in it; it must be called within the runtime.
    ///
    /// # Errors
    /// [`PortError`].
    pub(super) fn open(path: &Path, baud: u32) -> Result<Self, PortError> {
        let failed = |error| PortError::Open { path: path.to_owned(), error };
        // Without waiting for a carrier, and without becoming this program's terminal.
        let flags = (OFlags::NOCTTY | OFlags::NONBLOCK).bits().cast_signed();
        let file =
            OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Err(PortError::InUse { path: path.to_owned() }),
            result => result.map_err(|error| failed(error.into()))?,
        }
        let Ok(before) = tcgetattr(&file) else {
            return Err(PortError::NoPort { path: path.to_owned() });
        };
        set(&file, before, baud).map_err(|error| PortError::Settings {
            path: path.to_owned(),
            baud,
            error,
        })?;
        #[expect(
            deprecated,
            reason = "unsound only for types whose descriptor changes, which a File's never does; what is to be used instead is unsafe"
        )]
        let file = AsyncFd::new(file).map_err(failed)?;
        Ok(Self { file })
    }
}

/// Sets the port, and looks whether the driver does what it was told.
fn set(port: &File, mut termios: Termios, baud: u32) -> io::Result<()> {
    termios.make_raw();
    // Many boards reset themselves when the line is hung up (HUPCL).
    termios.control_modes -= ControlModes::CSTOPB | ControlModes::CRTSCTS | ControlModes::HUPCL;
    termios.control_modes |= ControlModes::CLOCAL | ControlModes::CREAD;
    // Reading gives what there is, and says so where there is nothing.
    termios.special_codes[SpecialCodeIndex::VMIN] = 1;
    termios.special_codes[SpecialCodeIndex::VTIME] = 0;
    termios.set_speed(baud)?;
    tcsetattr(port, OptionalActions::Now, &termios)?;
    let speed = tcgetattr(port)?.output_speed();
    // A UART finds the next that its clock has; more than this, and the other end reads nonsense.
    if speed.abs_diff(baud) > baud / 32 {
        return Err(io::Error::other(format!("the driver takes {speed}")));
    }
    Ok(tcflush(port, QueueSelector::IOFlush)?)
}

impl AsyncRead for Port {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.file.poll_read_ready(context))?;
            let room = buffer.initialize_unfilled();
            match ready.try_io(|file| Ok(rustix::io::read(file, room)?)) {
                Ok(Ok(0)) => return Poll::Ready(Err(io::Error::from(io::ErrorKind::NotConnected))),
                Ok(Ok(count)) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                // Nothing is there after all.
                Err(_) => {}
            }
        }
    }
}

impl AsyncWrite for Port {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.file.poll_write_ready(context))?;
            match ready.try_io(|file| Ok(rustix::io::write(file, bytes)?)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => return Poll::Ready(result),
                Err(_) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
