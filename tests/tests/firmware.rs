//! Microcontrollers with TLS: made by `holdfast enroll --firmware`, and running against a real server.

use std::{collections::HashSet, fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use holdfast_tests::{binaries, microcontroller::Microcontroller, proxy::Proxy, server::Server, wait};
use protocol_core::provisioning::{LENGTH, Provisioning};

/// The arguments that make blocks in `directory`.
fn firmware<'a>(directory: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    [&["enroll", "--firmware", "--out", directory.to_str().unwrap()], more].concat()
}

fn block(file: &Path) -> [u8; LENGTH] {
    fs::read(file).unwrap().try_into().unwrap()
}

/// A device of this name, made on this server: its block.
fn made(server: &Server, name: &str, more: &[&str]) -> [u8; LENGTH] {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("blocks");
    server.tell(&firmware(&out, &[&["--name", name], more].concat()));
    block(&out.join(format!("{name}.bin")))
}

fn addresses(flash: &[u8; LENGTH]) -> Vec<String> {
    let addresses = Provisioning::decode(flash).unwrap().endpoints.addresses;
    addresses.iter().map(|address| address.as_str().to_owned()).collect()
}

/// Has the server use its next key, from now on.
fn rotate(server: &mut Server) {
    server.tell(&["rotate-key"]);
    server.terminate();
    server.run().unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_thousand_devices_are_made_at_once() {
    let server = Server::start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("a/b");
    let printed = server.tell(&firmware(&out, &["--name", "sensor", "--count", "1000"]));
    assert_eq!(printed.lines().count(), 1000);
    assert_eq!(mode(&out), 0o700);

    let devices = server.ask(&["devices"]);
    let list = fs::read_to_string(out.join("devices.csv")).unwrap();
    assert_eq!((mode(&out.join("devices.csv")), list.lines().next()), (0o600, Some("name,pin,file")));
    let rows: HashSet<_> = list.lines().skip(1).collect();
    assert_eq!((rows.len(), devices.len()), (1000, 1000));
    let mut database = fs::read(server.data().join("holdfast.db")).unwrap_or_default();
    database.extend(fs::read(server.data().join("holdfast.db-wal")).unwrap_or_default());
    assert!(!database.is_empty());
    let mut keys = HashSet::new();
    for device in devices {
        let (name, key) = (device["name"].as_str().unwrap(), device["key"].as_str().unwrap());
        assert!(rows.contains(format!("{name},{key},{name}.bin").as_str()), "{name}");
        let path = out.join(format!("{name}.bin"));
        assert_eq!(mode(&path), 0o600);
        let flash = block(&path);
        let read = Provisioning::decode(&flash).unwrap();
        assert_eq!(read.name.as_str(), name);
        assert!(keys.insert(read.key.0));
        assert_eq!(addresses(&flash), [server.address().to_string()]);
    }
    let secret = keys.iter().next().unwrap();
    assert!(!database.windows(32).any(|bytes| bytes == secret), "the server has not even seen it");
    assert_eq!(server.events("device-enrolled").len(), 1000);

    // The next ones go on behind.
    let more = server.ask(&firmware(&directory.path().join("more"), &["--name", "sensor", "--count", "2"]));
    assert_eq!([&more[0]["name"], &more[1]["name"]], ["sensor-1001", "sensor-1002"]);
    assert_eq!(more[0]["key"].as_str().map(str::len), Some(64));
    assert!(more[1]["file"].as_str().unwrap().ends_with("/more/sensor-1002.bin"));
}

#[test]
fn nothing_is_registered_that_has_no_file_and_no_file_is_written_over() {
    let server = Server::start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("blocks");
    let refused = |arguments: &[&str], code: i32, words: &str| {
        let output = server.command(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(words) && output.stdout.is_empty(), "{said}");
    };
    server.tell(&firmware(&out, &["--name", "a"]));
    let before = block(&out.join("a.bin"));

    // The name is taken: nothing is left of the attempt.
    let other = directory.path().join("other");
    refused(&firmware(&other, &["--name", "a"]), 1, "there is a device \"a\" already");
    assert!(!other.exists());
    fs::create_dir(&other).unwrap();
    refused(&firmware(&other, &["--name", "a"]), 1, "choose another name");
    assert_eq!(fs::read_dir(&other).unwrap().count(), 0);

    // A file is in the way, at the beginning or at the end.
    fs::write(other.join("b-2.bin"), "mine").unwrap();
    refused(&firmware(&other, &["--name", "b", "--count", "3"]), 1, "b-2.bin: this block is there already");
    assert_eq!(fs::read(other.join("b-2.bin")).unwrap(), b"mine");
    assert_eq!(fs::read_dir(&other).unwrap().count(), 1);
    fs::write(other.join("devices.csv"), "a list of mine").unwrap();
    refused(
        &firmware(&other, &["--name", "b"]),
        1,
        "devices.csv: expected a list of devices (name,pin,file)",
    );
    assert_eq!(fs::read(other.join("devices.csv")).unwrap(), b"a list of mine");
    assert_eq!(fs::read_dir(&other).unwrap().count(), 2);

    // The same directory takes no second block of a name, and its list is as it was.
    let list = || fs::read_to_string(out.join("devices.csv")).unwrap();
    let listed = list();
    refused(&firmware(&out, &["--name", "a"]), 1, "a.bin: this block is there already");
    fs::rename(out.join("a.bin"), out.join("flashed")).unwrap();
    refused(&firmware(&out, &["--name", "a"]), 1, "choose another name");
    fs::rename(out.join("flashed"), out.join("a.bin")).unwrap();
    assert_eq!((list(), block(&out.join("a.bin"))), (listed.clone(), before));
    // It does take others.
    server.tell(&firmware(&out, &["--name", "c"]));
    assert_eq!((block(&out.join("a.bin")), fs::read_dir(&out).unwrap().count()), (before, 3));
    let (lines, grown) = (list().lines().count(), list());
    assert!(lines == 3 && grown.starts_with(&listed) && grown.ends_with(",c.bin\n"), "{grown}");

    refused(&firmware(&other, &["--count", "0"]), 2, "--count: expected 1 to 3000");
    refused(&firmware(&other, &["--name", "A"]), 2, "--name");
    refused(&firmware(&other, &["--address", "nowhere"]), 2, "--address: expected HOST:PORT");
    refused(&firmware(&other, &["--address", "[::1]:55223"]), 2, "the firmware has no IPv6");
    refused(&firmware(&other.join("devices.csv"), &[]), 2, "--out: expected a directory, found a file");
    refused(&["enroll", "--firmware"], 2, "--out");
    refused(&["enroll", "--count", "3"], 2, "--firmware");
    assert_eq!(server.ask(&["devices"]).len(), 2);
}

/// A crash has left half a line: it was of a device that was never registered.
#[test]
fn a_torn_list_takes_further_devices() {
    let server = Server::start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("devices.csv");
    let whole = "name,pin,file\na,1,a.bin\n";
    for (name, torn, kept) in
        [("b", "name,p", "name,pin,file\n"), ("c", &format!("{whole}x,ab"), whole), ("d", whole, whole)]
    {
        fs::write(&list, torn).unwrap();
        let output = server.command(&firmware(directory.path(), &["--name", name]));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert_eq!(said.contains("was not whole, and is gone"), torn != kept, "{said}");
        let grown = fs::read_to_string(&list).unwrap();
        let row = grown.strip_prefix(kept).expect("what was whole is kept");
        assert!(row.starts_with(&format!("{name},")) && row.ends_with(&format!(",{name}.bin\n")), "{grown}");
    }
}

/// Some of them are refused, and take away what they made: the others' list has them all.
#[test]
fn several_at_once_in_a_new_directory_leave_one_list() {
    let server = Server::start().unwrap();
    made(&server, "taken", &[]);
    let directory = tempfile::tempdir().unwrap();
    let make = |name: &str| server.command(&firmware(directory.path(), &["--name", name])).status.success();
    let names: Vec<_> = (0..12).map(|number| format!("sensor-{number}")).collect();
    std::thread::scope(|scope| {
        for name in &names {
            scope.spawn(|| assert!(!make("taken")));
            scope.spawn(|| assert!(make(name)));
        }
    });
    let list = fs::read_to_string(directory.path().join("devices.csv")).unwrap();
    let mut listed: Vec<_> = list.lines().skip(1).filter_map(|row| row.split(',').next()).collect();
    listed.sort_unstable();
    let mut expected: Vec<_> = names.iter().map(String::as_str).collect();
    expected.sort_unstable();
    assert_eq!(listed, expected);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), names.len() + 1);
}

/// Firmware on another machine would look for the server on itself.
#[test]
fn addresses_are_shown_and_doubted() {
    let server = Server::start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let said = |more: &[&str]| {
        let output = server.command(&firmware(directory.path(), more));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let own = said(&[]);
    assert!(own.contains("is this machine itself") && own.contains("--address"), "{own}");
    let other = said(&["--address", "fleet.example.org:55223"]);
    assert!(other.contains("look for the server at fleet.example.org:55223.\n"), "{other}");
}

#[test]
fn a_full_disk_registers_nobody() {
    let server = Server::start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let small = directory.path().join("small");
    fs::create_dir(&small).unwrap();
    // A file system of 64 KiB holds fewer than 100 blocks.
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c"])
        .arg("mount -t tmpfs -o size=64k tmpfs \"$0\" && { \"$@\"; code=$?; ls -A \"$0/blocks\" 2>&1; exit $code; }")
        .arg(&small)
        .arg(binaries::holdfast())
        .args(firmware(&small.join("blocks"), &["--count", "100", "--data"]))
        .arg(server.data())
        .output()
        .expect("unshare (of util-linux) is needed to make a small file system");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said.contains("No space left") && said.contains("nothing was registered"), "{said}");
    let left = String::from_utf8_lossy(&output.stdout);
    assert!(left.contains("No such file"), "{left}");
    assert!(server.ask(&["devices"]).is_empty());
}

#[test]
fn messages_go_both_ways_until_the_device_is_revoked() {
    let server = Server::start().unwrap();
    let device = Microcontroller::networked(made(&server, "mcu", &[]));
    server.wait_online("mcu", true);
    let version = || server.device("mcu").map(|device| device["version"].clone());
    wait::until("it has said what it is", version, |version| version.as_ref().is_some_and(|it| it == "test"));
    let said: Vec<_> = (0..30).map(|number| format!("{number} of thirty")).collect();
    said.iter().for_each(|body| device.say(body));
    wait::until("all that it said is archived", || server.archived("mcu"), |archived| *archived == said);
    let told: Vec<_> = (0..10).map(|number| format!("{number:0>3000}")).collect();
    for body in &told {
        server.tell(&["send", "mcu", body]);
    }
    wait::until("it has all that it was told", || device.seen().received, |received| *received == told);
    server.tell(&["ping", "mcu"]);

    server.tell(&["revoke", "mcu"]);
    device.wait_state("offline: the server ended the connection");
    server.wait_online("mcu", false);
    let again = Microcontroller::networked(device.flash());
    again.wait_state("the server ended the connection");
    let states = again.seen().states;
    assert!(!states.iter().any(|state| state.starts_with("online")), "{states:?}");
}

#[test]
fn a_device_follows_the_keys_and_addresses_of_its_server() {
    let proxy = Proxy::start().unwrap();
    let mut server = Server::behind(&proxy).unwrap();
    let direct = server.address().to_string();
    let device = Microcontroller::networked(made(&server, "mcu", &["--address", &direct]));
    server.wait_online("mcu", true);
    let both = [proxy.address().to_string(), direct];
    wait::until(
        "it keeps the new address, and the one that works",
        || device.flash(),
        |flash| addresses(flash) == both,
    );

    // After a reset it comes by the new one, and needs the old one no longer.
    let device = Microcontroller::networked({
        let flash = device.flash();
        drop(device);
        flash
    });
    wait::until("it has come by the new address", || device.flash(), |flash| addresses(flash) == both[..1]);
    server.wait_online("mcu", true);

    // Two rotations in a row, and no power during a third.
    for _ in 0..2 {
        let old = device.flash();
        rotate(&mut server);
        server.wait_online("mcu", true);
        let old = Provisioning::decode(&old).unwrap();
        wait::until(
            "it keeps the new keys",
            || device.flash(),
            |flash| Provisioning::decode(flash).unwrap().endpoints.current == old.endpoints.next,
        );
        assert_eq!(Provisioning::decode(&device.flash()).unwrap().key, old.key);
    }
    let flash = device.flash();
    drop(device);
    server.wait_online("mcu", false);
    rotate(&mut server);
    let device = Microcontroller::networked(flash);
    device.wait_state("online as mcu");
    server.wait_online("mcu", true);
}

#[test]
fn a_block_that_is_missing_or_of_another_server_is_a_state() {
    let (server, other) = (Server::start().unwrap(), Server::start().unwrap());
    let elsewhere = made(&other, "mcu", &["--address", &server.address().to_string()]);
    let device = Microcontroller::networked([0xff; LENGTH]);
    device.wait_state("offline: no provisioning block");
    let mut damaged = made(&server, "mcu", &[]);
    damaged[100] ^= 1;
    device.write_flash(damaged);
    device.wait_state("offline: the provisioning block is damaged");
    damaged[100] ^= 1;
    device.write_flash(damaged);
    device.wait_state("online as mcu");
    server.wait_online("mcu", true);

    let device = Microcontroller::networked(elsewhere);
    device.wait_state("offline: the server's key is not the one");
}
