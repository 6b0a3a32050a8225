//! The operators' API: HTTP and JSON under `/api/v1`.

pub mod view;

/// The name of the API's socket, in the data directory.
pub const SOCKET: &str = "api.sock";

/// The longest message that can be sent to a device, in bytes.
pub const MAX_MESSAGE: usize = 65_000;
