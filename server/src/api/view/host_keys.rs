//! Host keys of devices' SSH servers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;

/// Tells of a host key that a device's SSH server has shown; or says that it is the right one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostKeyRequest {
    /// Its type: `ssh-ed25519`.
    pub kind: String,
    /// The key, as base64.
    pub key: String,
}

/// A host key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostKeyView {
    /// Its type: `ssh-ed25519`.
    pub kind: String,
    /// The key, as base64.
    pub key: String,
    /// What people compare: `SHA256:…`.
    pub fingerprint: String,
}

/// A host key that an operator's ssh was shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShownHostKey {
    /// The key.
    #[serde(flatten)]
    pub key: HostKeyView,
    /// When.
    pub at: Time,
    /// Whose ssh it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    /// Where they were, if not on the server's machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// The host keys of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostKeysView {
    /// The device.
    pub device: String,
    /// Those that are registered: no other is accepted.
    pub registered: Vec<HostKeyView>,
    /// The last that was shown and was not registered then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<ShownHostKey>,
}

/// A host key is registered now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AcceptedHostKey {
    /// The device.
    pub device: String,
    /// The key.
    pub accepted: HostKeyView,
    /// The fingerprint of the one of this type that was registered before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<String>,
}
