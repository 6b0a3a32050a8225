//! What this machine's SSH server asks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A key that somebody has shown to the SSH server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyRequest {
    /// Its type: `ecdsa-sha2-nistp256`.
    pub kind: String,
    /// The key, as base64.
    pub key: String,
}

/// What may be done with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyAnswer {
    /// A line for the SSH server's `AuthorizedKeysCommand`: nothing if nothing may be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
}
