//! `enroll --firmware`: provisioning blocks for microcontrollers.
//!
//! The blocks are on disk before their devices are registered, and removed if that is refused: so there is neither a
//! device without its block nor, but for a crash, a block without its device. A directory takes more blocks at any time:
//! none is written over, and their list grows.

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    net::Ipv4Addr,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use protocol_core::message::{Endpoints, MAX_ADDRESSES, Text};
use serde::Serialize;

use super::{api_client::ApiClient, error::CliError, output::Output};
use crate::{
    api::{
        provisioning::MOST_DEVICES,
        view::{
            DeviceView, Page, ProvisionedDevice, ProvisioningAnswer, ProvisioningRequest, ProvisioningView,
        },
    },
    files,
    firmware::{self, NewDevice},
    id::DeviceName,
};

/// The list of the devices, beside their blocks.
const LIST: &str = "devices.csv";

/// The first line of the list.
const HEADING: &str = "name,pin,file\n";

/// What devices are called if nobody says.
const DEFAULT_NAME: &str = "device";

/// What is to be made.
pub(super) struct Firmware<'a> {
    /// The name, or what the names begin with.
    pub(super) name: Option<&'a str>,
    /// How many devices.
    pub(super) count: usize,
    /// Where devices find the server, if it is not where the server says.
    pub(super) addresses: &'a [String],
    /// Where the blocks go.
    pub(super) directory: &'a Path,
}

/// A device that was made, for programs.
#[derive(Serialize)]
struct Made<'a> {
    name: &'a str,
    key: String,
    file: String,
}

/// `holdfast enroll --firmware`.
pub(super) async fn make(
    api: &ApiClient,
    firmware: &Firmware<'_>,
    output: &mut Output,
) -> Result<(), CliError> {
    if !(1..=MOST_DEVICES).contains(&firmware.count) {
        let found = firmware.count;
        return Err(CliError::Usage(format!("--count: expected 1 to {MOST_DEVICES}, found {found}")));
    }
    let told: ProvisioningView = api.get("/api/v1/provisioning").await?;
    let names = names(api, firmware).await?;
    let addresses = addresses(&told, firmware.addresses)?;
    let endpoints = endpoints(&told, &addresses)?;
    let made = names.iter().map(|name| firmware::new_device(name, &endpoints));
    let made = made.collect::<Result<Vec<_>, _>>().map_err(|error| CliError::failed(error.to_string()))?;
    let devices: Vec<_> = names.iter().zip(&made).collect();

    let written = Written::write(firmware.directory, &devices)?;
    let request = ProvisioningRequest {
        current: told.current.clone(),
        next: told.next.clone(),
        devices: devices.iter().map(|(name, made)| provisioned(name, made)).collect(),
    };
    match api.post("/api/v1/provisioning", &request).await {
        Ok(ProvisioningAnswer { .. }) => {}
        Err(error @ CliError::Unreachable { .. }) => return Err(written.kept(&error)),
        // The server has said no, or was not there: nothing is registered.
        Err(error) => {
            written.remove();
            return Err(error);
        }
    }
    tell(&devices, firmware.directory, told.guessed && firmware.addresses.is_empty(), &addresses, output)
}

fn tell(
    devices: &[(&DeviceName, &NewDevice)],
    directory: &Path,
    guessed: bool,
    addresses: &[String],
    output: &mut Output,
) -> Result<(), CliError> {
    for (name, made) in devices {
        let file = directory.join(file_of(name)).display().to_string();
        match output.json {
            true => output.json_line(&Made { name: name.as_str(), key: made.pin.to_string(), file })?,
            false => output.line(&file)?,
        }
    }
    output.flush()?;
    if output.json {
        return Ok(());
    }
    let list = directory.join(LIST);
    let count = match devices.len() {
        1 => "One device is".to_owned(),
        count => format!("{count} devices are"),
    };
    eprintln!(
        "{count} registered; {} lists them. Write each block to the flash of one device, and remove the file then: it \
         holds the device's key, which is nowhere else.",
        list.display()
    );
    let doubt = if addresses.iter().all(|address| is_loopback(address)) {
        ": that is this machine itself, which no other finds there. Revoke them and use --address, or set `advertise` in the \
         server's configuration"
    } else if guessed {
        ": that is a guess. If it is wrong, revoke them and use --address, or set `advertise` in the server's configuration"
    } else {
        ""
    };
    eprintln!("The devices will look for the server at {}{doubt}.", addresses.join(", "));
    Ok(())
}

fn provisioned(name: &DeviceName, made: &NewDevice) -> ProvisionedDevice {
    ProvisionedDevice { name: name.to_string(), key: made.pin.to_string() }
}

/// The names of the new devices: the one that was asked for, or numbered ones that nobody has.
async fn names(api: &ApiClient, firmware: &Firmware<'_>) -> Result<Vec<DeviceName>, CliError> {
    let base = firmware.name.unwrap_or(DEFAULT_NAME).parse();
    let base: DeviceName = base.map_err(|error| CliError::Usage(format!("--name: {error}")))?;
    if firmware.count == 1 && firmware.name.is_some() {
        return Ok(vec![base]);
    }
    let known: Page<DeviceView> = api.get("/api/v1/devices").await?;
    let taken: HashSet<_> = known.items.into_iter().map(|device| device.name).collect();
    let numbered = (1..).map(|number| base.numbered(number));
    Ok(numbered.filter(|name| !taken.contains(name.as_str())).take(firmware.count).collect())
}

/// Where the devices find the server: where they were asked to, or else where it says, as far as firmware can go there.
fn addresses(told: &ProvisioningView, asked: &[String]) -> Result<Vec<String>, CliError> {
    let usage = |problem: String| Err(CliError::Usage(format!("--address: expected {problem}")));
    if asked.len() > MAX_ADDRESSES {
        return usage(format!("at most {MAX_ADDRESSES}, found {}", asked.len()));
    }
    if let Some(bad) = asked.iter().find(|address| !crate::config::is_host_and_port(address)) {
        return usage(format!("HOST:PORT, found {bad:?}"));
    }
    if let Some(bad) = asked.iter().find(|address| is_ipv6(address)) {
        return usage(format!("a name or an IPv4 address, as the firmware has no IPv6, found {bad:?}"));
    }
    if !asked.is_empty() {
        return Ok(asked.to_vec());
    }
    let usable: Vec<_> = told.addresses.iter().filter(|address| !is_ipv6(address)).cloned().collect();
    match usable.is_empty() {
        true => usage(format!(
            "one, as the server tells its devices none that firmware could use: {}",
            told.addresses.join(", ")
        )),
        false => Ok(usable),
    }
}

/// Whether this `HOST:PORT` is a number of IPv6.
fn is_ipv6(address: &str) -> bool {
    address.starts_with('[')
}

/// Whether this `HOST:PORT` leads whoever dials it to itself.
fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host == "localhost" || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

fn endpoints<'a>(told: &ProvisioningView, addresses: &'a [String]) -> Result<Endpoints<'a>, CliError> {
    let addresses = addresses.iter().filter_map(|address| Text::new(address)).collect();
    let pins = firmware::pin(&told.current).zip(firmware::pin(&told.next));
    let (current, next) = pins.ok_or_else(|| {
        CliError::failed("the server's answer has no pins: it is perhaps of another version")
    })?;
    Ok(Endpoints { current, next, addresses })
}

fn file_of(name: &DeviceName) -> String {
    format!("{name}.bin")
}

fn unwritten(path: &Path, error: &io::Error) -> CliError {
    CliError::failed(format!("{}: {error}; nothing was registered", path.display()))
}

/// The list, once nobody else has it: opened again if who had it has taken it away meanwhile.
fn open_locked(path: &Path) -> io::Result<File> {
    loop {
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        file.lock()?;
        if file.metadata()?.nlink() > 0 {
            return Ok(file);
        }
    }
}

/// The files that were written here. They go away with this, unless they are kept.
struct Written<'a> {
    directory: &'a Path,
    /// Whether the directory was made here, too.
    is_new: bool,
    files: Vec<PathBuf>,
    /// The list, and how long it was; nothing while it is as it was.
    list: Option<(File, u64)>,
}

impl<'a> Written<'a> {
    /// Writes the blocks and their list, none over what is there: all of them are on disk then, or none is left.
    fn write(directory: &'a Path, devices: &[(&DeviceName, &NewDevice)]) -> Result<Self, CliError> {
        let failed = |error: io::Error| unwritten(directory, &error);
        let is_new = !directory.try_exists().map_err(failed)?;
        if !is_new && !directory.is_dir() {
            let path = directory.display();
            return Err(CliError::Usage(format!("--out: expected a directory, found a file: {path}")));
        }
        files::create_private_directory(directory).map_err(failed)?;
        let mut written = Self { directory, is_new, files: Vec::new(), list: None };
        match written.fill(devices) {
            Ok(()) => Ok(written),
            Err(error) => {
                written.remove();
                Err(error)
            }
        }
    }

    fn fill(&mut self, devices: &[(&DeviceName, &NewDevice)]) -> Result<(), CliError> {
        let mut rows = String::new();
        for (name, made) in devices {
            let file = file_of(name);
            rows.push_str(&format!("{name},{},{file}\n", made.pin));
            self.add(&file, &made.block)?;
        }
        self.add_rows(&rows)?;
        // Not before all are written: the first to be waited for takes the others with it.
        let mut directories = vec![self.directory.to_owned()];
        if self.is_new {
            let parent = self.directory.parent().filter(|parent| !parent.as_os_str().is_empty());
            directories.push(parent.unwrap_or(Path::new(".")).to_owned());
        }
        directories.push(self.directory.join(LIST));
        for path in self.files.iter().chain(&directories) {
            let synced = File::open(path).and_then(|file| file.sync_all());
            synced.map_err(|error| unwritten(path, &error))?;
        }
        Ok(())
    }

    fn add(&mut self, name: &str, contents: &[u8]) -> Result<(), CliError> {
        let path = self.directory.join(name);
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists => CliError::failed(format!(
                "{}: this block is there already, and is left as it is; nothing was registered. Remove it once it is in \
                 its device's flash, or choose another --out or --name",
                path.display()
            )),
            _ => unwritten(&path, &error),
        };
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
        self.files.push(path.clone());
        file.write_all(contents).map_err(failed)
    }

    /// Adds rows to the list, which is made if it is not there. Who else adds to it waits until this is done.
    fn add_rows(&mut self, rows: &str) -> Result<(), CliError> {
        let path = self.directory.join(LIST);
        let failed = |error: io::Error| unwritten(&path, &error);
        let mut file = open_locked(&path).map_err(failed)?;
        let mut before = String::new();
        file.read_to_string(&mut before).map_err(failed)?;
        if !before.starts_with(HEADING) && !HEADING.starts_with(&before) {
            return Err(CliError::failed(format!(
                "{}: expected a list of devices ({}), found something else, and left it as it is; nothing was \
                 registered. Choose another --out",
                path.display(),
                HEADING.trim_end()
            )));
        }
        // A line without its end is of a crash: its device was never registered.
        let whole = before.rfind('\n').map_or(0, |end| end + 1);
        let torn = before.split_off(whole);
        if !torn.is_empty() {
            file.set_len(whole as u64).map_err(failed)?;
            eprintln!("{}: the last line, {torn:?}, was not whole, and is gone", path.display());
        }
        let heading = if before.is_empty() { HEADING } else { "" };
        let (file, _) = self.list.insert((file, whole as u64));
        file.write_all(format!("{heading}{rows}").as_bytes()).map_err(failed)
    }

    /// Removes them: what was not registered is of no use.
    fn remove(self) {
        if let Some((list, length)) = &self.list {
            let _ = match length {
                0 => fs::remove_file(self.directory.join(LIST)),
                length => list.set_len(*length),
            };
        }
        for file in &self.files {
            // What can't be removed does no harm: nobody knows its key.
            let _ = fs::remove_file(file);
        }
        if self.is_new {
            let _ = fs::remove_dir(self.directory);
        }
    }

    /// The answer was lost: the devices may be registered, and then there is nothing of them but these files.
    fn kept(&self, error: &CliError) -> CliError {
        CliError::failed(format!(
            "{error}; whether the {} devices are registered is not known, so their blocks in {} are kept: `holdfast \
             devices` shows it; if they are not there, remove the blocks, and ask again",
            self.files.len(),
            self.directory.display()
        ))
    }
}
