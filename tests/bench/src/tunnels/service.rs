//! What stands in for a device's SSH server where the tunnel itself is measured: it greets whoever connects, and then
//! gives bytes, takes bytes, or says them again, as it is asked to.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use crate::error::Result;

/// The first that it says, as an SSH server does.
pub(crate) const GREETING: &[u8; 8] = b"welcome\n";

/// How many bytes go at once.
const ROOM: usize = 256 * 1024;

/// What it is asked to do: it is said in nine bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// So many bytes.
    Give(u64),
    /// To take so many bytes, and then to say one.
    Take(u64),
    /// To say again whatever comes.
    Echo,
}

impl Wish {
    /// The bytes that say so.
    pub(crate) fn encode(self) -> [u8; 9] {
        let (letter, count) = match self {
            Self::Give(count) => (b'g', count),
            Self::Take(count) => (b't', count),
            Self::Echo => (b'e', 0),
        };
        let mut bytes = [letter; 9];
        let (_, number) = bytes.split_at_mut(1);
        number.copy_from_slice(&count.to_be_bytes());
        bytes
    }

    fn decode([letter, count @ ..]: [u8; 9]) -> Option<Self> {
        let count = u64::from_be_bytes(count);
        match letter {
            b'g' => Some(Self::Give(count)),
            b't' => Some(Self::Take(count)),
            b'e' => Some(Self::Echo),
            _ => None,
        }
    }
}

/// A device's service: it greets, and then gives, takes or echoes bytes
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where it listens
    #[arg(long)]
    listen: SocketAddr,
}

/// `holdfast-bench service`: serves until it is killed.
///
/// # Errors
/// It can't listen.
pub(crate) fn run(arguments: &Arguments) -> Result {
    let listener = TcpListener::bind(arguments.listen)?;
    println!("ready");
    io::stdout().flush()?;
    loop {
        let (stream, _) = listener.accept()?;
        // Whoever goes before the end has its reasons.
        thread::Builder::new().stack_size(2 * ROOM).spawn(move || serve(stream))?;
    }
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(GREETING)?;
    let mut wish = [0; 9];
    stream.read_exact(&mut wish)?;
    let mut room = vec![0; ROOM];
    match Wish::decode(wish) {
        Some(Wish::Give(count)) => give(&mut stream, count, &room),
        Some(Wish::Take(count)) => {
            take(&mut stream, count, &mut room)?;
            stream.write_all(b".")
        }
        Some(Wish::Echo) => loop {
            let count = stream.read(&mut room)?;
            let Some(bytes @ [_, ..]) = room.get(..count) else { return Ok(()) };
            stream.write_all(bytes)?;
        },
        None => Ok(()),
    }
}

/// Writes so many bytes.
///
/// # Errors
/// What the system said.
pub(crate) fn give(to: &mut impl Write, mut count: u64, room: &[u8]) -> io::Result<()> {
    while count > 0 {
        let now = usize::try_from(count).unwrap_or(usize::MAX).min(room.len());
        to.write_all(room.get(..now).unwrap_or_default())?;
        count -= now as u64;
    }
    Ok(())
}

/// Reads so many bytes.
///
/// # Errors
/// What the system said; [`io::ErrorKind::UnexpectedEof`] if there are fewer.
pub(crate) fn take(from: &mut impl Read, mut count: u64, room: &mut [u8]) -> io::Result<()> {
    while count > 0 {
        let most = usize::try_from(count).unwrap_or(usize::MAX).min(room.len());
        match from.read(room.get_mut(..most).unwrap_or_default())? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            now => count -= now as u64,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_understood() {
        for wish in [Wish::Give(0), Wish::Give(u64::MAX), Wish::Take(7), Wish::Echo] {
            assert_eq!(Wish::decode(wish.encode()), Some(wish));
        }
        assert_eq!(Wish::decode(*b"SSH-2.0-x"), None);
    }

    #[test]
    fn bytes_are_counted() {
        let mut given = Vec::new();
        give(&mut given, 10, &[1; 4]).unwrap();
        assert_eq!(given, [1; 10]);
        take(&mut given.as_slice(), 10, &mut [0; 3]).unwrap();
        assert!(take(&mut given.as_slice(), 11, &mut [0; 3]).is_err());
    }
}
