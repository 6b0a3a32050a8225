//! A camera of Video4Linux, in an emulated machine: `cargo xtask test --slow`.

use std::{fs, path::Path, process::Command};

const CAMERA: &str =
    "[[cameras]]\nname = 'usb'\nkind = 'v4l2'\nwidth = 320\nheight = 180\nframerate = 10\nbitrate = 200000\n";

#[test]
#[ignore = "slow: half a minute in an emulated machine"]
fn a_camera_of_the_kernel_gives_pictures() {
    let agent = env!("CARGO_BIN_EXE_holdfast-agent");
    let kernel = Path::new(agent).ancestors().nth(2).unwrap().join("debian-kernel");
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("agent.toml");
    fs::write(&config, CAMERA).unwrap();
    let cameras = format!("{agent} cameras --config {} --json", config.display());
    let output = Command::new("sh")
        .args(["-c", include_str!("support/guest.sh"), "guest.sh"])
        .arg(kernel)
        .arg(folder.path().join("guest"))
        // An emulated machine takes its time, and less of it when it has read a program once.
        .arg(format!("{cameras}; {cameras} --try usb || {cameras} --try usb || {cameras} --try usb"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    // The machine's own words may stand before it.
    let json = |line: &str| serde_json::from_str::<serde_json::Value>(&line[line.find('{')?..]).ok();
    let mut told = said.lines().filter_map(json);
    let (list, trial) = (told.next().expect(&said), told.next().expect(&said));
    assert_eq!(list["devices"][0]["device"], "/dev/video0", "{said}");
    assert!(list["cameras"][0]["command"].as_str().unwrap().contains("-c:v libx264"), "{said}");
    assert!(trial["pictures"].as_u64().unwrap() > 10 && trial["keyframes"].as_u64().unwrap() >= 1, "{said}");
}
