//! What a test hears of a device's cameras, and the programs that stand in for them.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use protocol_core::{
    code::Role,
    frame::{self, Decoded},
    message::{self, Cameras, Kind, Order, Unit, VIDEO_MAX_FRAME, VideoParameters, VideoStatus, Window},
    tag::Tag,
};

use super::{
    Device, Heard, LONGEST_WAIT, Peer, TestServer,
    tasks::{Data, order},
};

/// A camera as a device tells of it: name, kind, width, height, framerate.
pub(crate) type Told = (String, String, u16, u16, u16);

pub(super) fn told(body: &[u8]) -> Vec<Told> {
    let cameras: Cameras<'_> = message::decode(body).unwrap();
    let told = cameras.cameras.iter().map(|camera| {
        (camera.name.to_string(), camera.kind.to_string(), camera.width, camera.height, camera.framerate)
    });
    told.collect()
}

/// What comes on the data connection of a camera.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shown {
    Unit { flags: u8, microseconds: u64, bytes: Vec<u8> },
    Status(VideoStatus),
}

impl Shown {
    pub(crate) fn flags(&self) -> Option<u8> {
        match self {
            Self::Unit { flags, .. } => Some(*flags),
            Self::Status(_) => None,
        }
    }
}

impl Data {
    /// What comes next; nothing at the end.
    pub(crate) fn shown(&mut self) -> Option<Shown> {
        loop {
            if let Decoded::Frame { frame, consumed } = frame::decode(&self.input, VIDEO_MAX_FRAME).unwrap() {
                let shown = match frame.tag {
                    Tag::UNIT => {
                        let unit: Unit<'_> = message::decode(frame.body).unwrap();
                        let Unit { flags, microseconds, bytes } = unit;
                        Shown::Unit { flags, microseconds, bytes: bytes.to_vec() }
                    }
                    Tag::VIDEO_STATUS => Shown::Status(message::decode(frame.body).unwrap()),
                    tag => panic!("expected a picture, found {tag}"),
                };
                self.input.drain(..consumed);
                return Some(shown);
            }
            // A task that has failed leaves without a word here.
            if self.try_read_some().unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// What comes, up to the first for which this holds.
    pub(crate) fn shown_until(&mut self, holds: impl Fn(&Shown) -> bool) -> Vec<Shown> {
        let start = std::time::Instant::now();
        let mut all = Vec::new();
        while !all.last().is_some_and(&holds) {
            assert!(start.elapsed() < LONGEST_WAIT, "it does not come: {} others", all.len());
            all.push(self.shown().expect("more to come"));
        }
        all
    }

    /// The next so many units.
    pub(crate) fn units(&mut self, count: usize) -> Vec<(u8, u64, Vec<u8>)> {
        let mut units = Vec::new();
        while units.len() < count {
            if let Shown::Unit { flags, microseconds, bytes } = self.shown().expect("a picture") {
                units.push((flags, microseconds, bytes));
            }
        }
        units
    }
}

/// An order to show a camera.
pub(crate) fn show(task: u64, camera: &str) -> Order<'static> {
    let mut room = [0; 64];
    let parameters = VideoParameters { camera: Kind::new(camera).unwrap() };
    let parameters = parameters.encode(&mut room).unwrap().to_vec();
    Order { role: Role::Viewer, parameters: parameters.leak(), ..order(task, "video") }
}

impl TestServer {
    /// The next device's connection, its session open by this version; nobody asks whether it lives, while a test looks
    /// at pictures. Gives the kinds that it offers.
    pub(crate) fn open_by(&self, version: u8) -> (Peer, Vec<String>) {
        let mut peer = self.accept(LONGEST_WAIT).expect("a connection");
        peer.hello();
        peer.welcome_with(version, 0, 0, Window { messages: 24, bytes: 1 << 20 });
        let (kinds, _) = peer.offer();
        (peer, kinds)
    }
}

impl Peer {
    /// Sees that the device tells of no cameras.
    pub(crate) fn no_cameras(&mut self) {
        loop {
            match self.next(Duration::from_millis(500)) {
                Heard::Nothing => return,
                Heard::Facts { .. } | Heard::Status(_) | Heard::Report(_) => {}
                other => panic!("expected no cameras, found {other:?}"),
            }
        }
    }

    /// The cameras that the device tells of.
    pub(crate) fn cameras(&mut self) -> Vec<Told> {
        loop {
            match self.next(LONGEST_WAIT) {
                Heard::Cameras(cameras) => return cameras,
                Heard::Facts { .. } | Heard::Status(_) => {}
                other => panic!("expected cameras, found {other:?}"),
            }
        }
    }
}

impl Device {
    /// Puts a script of the shell where this device finds its programs. Gives its path.
    pub(crate) fn install(&self, name: &str, script: &str) -> PathBuf {
        let (folder, path) = (self.programs(), self.programs().join(name));
        fs::create_dir_all(folder).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// Writes a file for those programs. Gives its path.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        fs::create_dir_all(self.programs()).unwrap();
        let path = self.programs().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}
