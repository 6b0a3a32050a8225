//! Letting devices and operators in: lines, wired devices, and microcontrollers whose keys are made already.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;

/// Asks for an enrolment token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// The device's name; with several uses, what its numbered name starts with. Without one, the device's host name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The name of an operator elsewhere, whom it is for instead; with a `role`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// What that operator may do: `viewer`, `operator` or `admin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// How many devices it is good for; 1 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<u32>,
    /// For how long it is good, in seconds; a day if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_seconds: Option<u64>,
    /// Where the device finds the server, `host:port`, best first; what the server is configured with if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
}

/// An enrolment token was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenAnswer {
    /// What to run on the device, or on the operator's machine. It is a secret until it is used up or expired.
    pub line: String,
    /// When it is no longer good.
    pub expires: Time,
    /// How many devices it is good for.
    pub uses: u32,
    /// Where the device will look for the server.
    pub addresses: Vec<String>,
    /// Whether nobody has said where the server is found, so that the address is a guess.
    pub guessed: bool,
}

/// Asks for a device to be registered that is wired to another one, and has no key of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WiredRequest {
    /// The device's name.
    pub name: String,
    /// The device that it is wired to.
    pub gateway: String,
}

/// A device is registered that is wired to another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WiredAnswer {
    /// The device's name.
    pub name: String,
    /// The device that it is wired to.
    pub gateway: String,
    /// Whether it was registered so before, and nothing has changed.
    pub repeat: bool,
    /// What to write into the gateway's `agent.toml`, with the path and the speed of the port that has the wire.
    pub config: String,
}

/// What stands in the provisioning blocks of new microcontrollers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProvisioningView {
    /// The pin of the server's key in use.
    pub current: String,
    /// The pin of the key that will come after it.
    pub next: String,
    /// Where devices find the server, `host:port`, best first.
    pub addresses: Vec<String>,
    /// Whether nobody has said where the server is found, so that the address is a guess.
    pub guessed: bool,
}

/// Asks for devices to be registered whose keys are made already: all of them or none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProvisioningRequest {
    /// The pin of the server's key in use, as it stands in their blocks.
    pub current: String,
    /// The pin of its next key, as it stands there.
    pub next: String,
    /// The devices, at most 3,000.
    pub devices: Vec<ProvisionedDevice>,
}

/// A device whose key is made already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProvisionedDevice {
    /// Its name.
    pub name: String,
    /// The pin of its key.
    pub key: String,
}

/// Devices were registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProvisioningAnswer {
    /// How many.
    pub devices: u64,
}
