//! What a TLS connection is for, as it is agreed on in the handshake (`docs/protocol.md`, Identity and encryption).

/// The session of a registered device.
pub const SESSION: &str = "holdfast/1";

/// The session of a device that is wired to a registered one, its gateway: the gateway's
/// [`Gateway`](crate::message::Gateway) first, and then the wired device's bytes.
pub const GATEWAY: &str = "holdfast-gateway/1";

/// The exchange in which a device is registered.
pub const ENROLMENT: &str = "holdfast-enroll/1";

/// The bytes of one task, in a connection of their own: the device's [`Join`](crate::message::Join) first.
pub const DATA: &str = "holdfast-data/1";

/// The exchange in which an operator is registered who is elsewhere: as [`ENROLMENT`], by a line of an operator's.
pub const LOGIN: &str = "holdfast-login/1";

/// The API of an operator who is elsewhere: HTTP/1.1.
pub const API: &str = "holdfast-api/1";

/// The most that a server puts into one TLS record, in bytes before encryption: a microcontroller keeps room for a whole
/// one. The server's part of the handshake, from its encrypted extensions on, is one record.
pub const MAX_RECORD: usize = 1024;
