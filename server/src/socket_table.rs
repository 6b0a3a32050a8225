//! Who listens on this machine, and as which user: the kernel tells everybody.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Where the kernel tells it.
const TABLES: [&str; 2] = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];

/// The state of a socket that listens.
const LISTEN: &str = "0A";

/// The kernel's table of sockets, as it was at one moment: those of them that listen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketTable(Vec<Listener>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Listener {
    address: IpAddr,
    port: u16,
    user: u32,
}

impl SocketTable {
    /// Those that there are now.
    ///
    /// # Errors
    /// What the system says.
    pub fn look() -> io::Result<Self> {
        let mut found = Vec::new();
        for table in TABLES {
            match File::open(table) {
                Ok(file) => read(BufReader::new(file), &mut found)?,
                // A kernel may have no IPv6.
                Err(error) if error.kind() == io::ErrorKind::NotFound && table != TABLES[0] => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self(found))
    }

    /// The user whose socket has the connections to this port of `127.0.0.1`, if somebody listens there.
    pub fn user_at(&self, port: u16) -> Option<u32> {
        let is_named = |listener: &&Listener| listener.address == Ipv4Addr::LOCALHOST;
        let at_port = || self.0.iter().filter(|listener| listener.port == port);
        // Who listens on all addresses has what nobody listens for by name.
        let found =
            at_port().find(is_named).or_else(|| at_port().find(|other| other.address.is_unspecified()));
        found.map(|listener| listener.user)
    }

    /// Whether somebody listens on this port, on whatever address.
    pub fn has(&self, port: u16) -> bool {
        self.0.iter().any(|listener| listener.port == port)
    }

    /// The ports on which this user listens.
    pub fn ports_of(&self, user: u32) -> impl Iterator<Item = u16> {
        self.0.iter().filter(move |listener| listener.user == user).map(|listener| listener.port)
    }
}

/// Takes in the sockets of a table that listen. They stand before all others, as the kernel's documentation says
/// (`networking/proc_net_tcp`): nothing is read of the connections, of which there are many.
fn read(mut table: impl BufRead, found: &mut Vec<Listener>) -> io::Result<()> {
    let mut line = String::new();
    // The first line names the columns.
    table.read_line(&mut line)?;
    loop {
        line.clear();
        if table.read_line(&mut line)? == 0 {
            return Ok(());
        }
        match listener(&line) {
            Some(Ok(listener)) => found.push(listener),
            Some(Err(NotListening)) => return Ok(()),
            None => return Err(io::Error::other(format!("expected a socket's line, found {line:?}"))),
        }
    }
}

struct NotListening;

fn listener(line: &str) -> Option<Result<Listener, NotListening>> {
    // sl, local_address, rem_address, st, tx_queue:rx_queue, tr:tm->when, retrnsmt, uid
    let mut columns = line.split_whitespace();
    let (address, port) = columns.nth(1)?.split_once(':')?;
    if columns.nth(1)? != LISTEN {
        return Some(Err(NotListening));
    }
    let (address, port) = (ip_address(address)?, u16::from_str_radix(port, 16).ok()?);
    Some(Ok(Listener { address, port, user: columns.nth(3)?.parse().ok()? }))
}

/// An address: words of 32 bits, each as this machine has it in memory.
fn ip_address(text: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(text.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    Some(match text.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let bytes = words.as_flattened().try_into().ok()?;
            IpAddr::from(Ipv6Addr::from_octets(bytes)).to_canonical()
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn what_the_kernel_says() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
        let line = |address: &str, state: &str, user: u32| {
            let rest = "00000000:00000000 00:00000000 00000000";
            format!(
                "   0: {address} 00000000:0000 {state} {rest} {user:5}        0 123 1 0000000000000000 100\n"
            )
        };
        let mut found = Vec::new();
        let four = [
            head,
            &line("00000000:9C40", "0A", 7),
            &line("0100007F:9C40", "0A", 999),
            &line("0100007F:9C41", "0A", 999),
            &line("0100007F:9C42", "01", 999),
            &line("0100007F:9C43", "0A", 999),
        ];
        read(four.concat().as_bytes(), &mut found).unwrap();
        let six = [
            head,
            &line("0000000000000000FFFF00000100007F:9C44", "0A", 8),
            &line("00000000000000000000000000000000:9C45", "0A", 9),
            &line("00000000000000000000000001000000:9C46", "0A", 999),
        ];
        read(six.concat().as_bytes(), &mut found).unwrap();
        let listeners = SocketTable(found);
        for (port, user) in [
            (40_000, Some(999)),
            (40_001, Some(999)),
            (40_002, None),
            (40_003, None),
            (40_004, Some(8)),
            (40_005, Some(9)),
            (40_006, None),
        ] {
            assert_eq!(listeners.user_at(port), user, "{port}");
        }
        assert!(listeners.has(40_006) && !listeners.has(40_002));
        assert_eq!(listeners.ports_of(999).collect::<Vec<_>>(), [40_000, 40_001, 40_006]);
        assert!(read([head, "nonsense\n"].concat().as_bytes(), &mut Vec::new()).is_err());
    }

    #[test]
    fn one_of_ones_own_is_found() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let own = rustix::process::geteuid().as_raw();
        let listeners = SocketTable::look().unwrap();
        assert_eq!((listeners.user_at(port), listeners.has(port)), (Some(own), true));
        assert!(listeners.ports_of(own).any(|found| found == port));
    }
}
