//! How the device is doing: readings by name.
