//! How the device is doing: readings by name. They are read when they are sent, and never kept.

use std::{fs, path::Path};

use protocol_core::message::{Kind, Reading, Status};

/// Where the kernel tells a temperature, in thousandths of a degree.
const TEMPERATURE: &str = "/sys/class/thermal/thermal_zone0/temp";

/// Where a Raspberry Pi tells whether it slows down, as hexadecimal bits.
const THROTTLED: &str = "/sys/devices/platform/soc/soc:firmware/get_throttled";

/// Reads how the device is doing; `state` is on the disk whose free space counts, and `too_large` messages wait
/// that the server does not take. What this system does not tell is left out.
pub fn read(state: &Path, too_large: u64) -> Status<'static> {
    let system = rustix::system::sysinfo();
    let free_disk = rustix::fs::statvfs(state).ok().map(|disk| (disk.f_bavail * disk.f_frsize) as f64);
    let readings = [
        ("load-1-minute", Some(system.loads[0] as f64 / 65_536.0)),
        ("memory-available-bytes", memory_available(&text("/proc/meminfo"))),
        ("disk-free-bytes", free_disk),
        ("cpu-temperature-celsius", number(&text(TEMPERATURE)).map(|thousandths| thousandths / 1000.0)),
        ("throttled-bits", bits(&text(THROTTLED))),
        ("messages-too-large", (too_large > 0).then_some(too_large as f64)),
    ];
    let readings = readings
        .into_iter()
        .filter_map(|(name, value)| Some(Reading { name: Kind::new(name)?, value: value? }))
        .collect();
    Status { uptime: u32::try_from(system.uptime).unwrap_or(0), readings }
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok()
}

fn bits(text: &str) -> Option<f64> {
    u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok().map(f64::from)
}

fn memory_available(meminfo: &str) -> Option<f64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    number(line.trim().strip_suffix("kB")?).map(|kibibytes| kibibytes * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_tells_how_it_is() {
        let status = read(Path::new("/"), 3);
        assert!(status.uptime > 0);
        let value =
            |name| status.readings.iter().find(|reading| reading.name.as_str() == name).unwrap().value;
        assert!(value("memory-available-bytes") > 1e6);
        assert!(value("disk-free-bytes") > 0.0);
        assert!((value("messages-too-large") - 3.0).abs() < 0.1);
        assert!((0.0..1e4).contains(&value("load-1-minute")));
    }

    #[test]
    fn what_the_kernel_writes_is_read() {
        assert_eq!(memory_available("MemTotal: 9 kB\nMemAvailable:    1024 kB\n"), Some(1_048_576.0));
        assert_eq!(memory_available("nonsense"), None);
        assert_eq!(bits("50005\n"), Some(327_685.0));
        assert_eq!(bits(""), None);
        assert_eq!(number("48312\n"), Some(48_312.0));
    }
}
