//! What the device says of itself: host name, version, SSH user.
