//! What is said of operators: who they are, what admins do with them, and how browsers log in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;

/// An operator elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OperatorView {
    /// The name.
    pub name: String,
    /// What they may do: `viewer`, `operator` or `admin`.
    pub role: String,
    /// The pin of their key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Since when they have this role.
    pub since: Time,
    /// When their rights were taken away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Time>,
    /// When they last asked for something, within a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Time>,
    /// From where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Whether they have a password, for the console.
    #[serde(default)]
    pub password: bool,
    /// Whether they have a second factor beside it.
    #[serde(default)]
    pub totp: bool,
}

/// An operator's rights were taken away, and what they had open was ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OperatorRevokeAnswer {
    /// The operator's name.
    pub operator: String,
    /// The role that they had.
    pub role: String,
    /// The command that makes a line for them again.
    pub again: String,
}

/// Says who somebody is.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// The operator's name.
    pub name: String,
    /// Their password.
    pub password: String,
    /// The code of their second factor, if they have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// Uses a one-time login up.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FirstLoginRequest {
    /// The one-time login.
    pub token: String,
    /// The password from now on: 12 characters or more.
    pub password: String,
}

/// Who has logged in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoggedInAnswer {
    /// The operator's name.
    pub name: String,
    /// What they may do: `viewer`, `operator` or `admin`.
    pub role: String,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MeView {
    /// The name.
    pub name: String,
    /// What they may do: `viewer`, `operator` or `admin`.
    pub role: String,
    /// Whether they have a password.
    pub password: bool,
    /// Whether they have a second factor.
    pub totp: bool,
    /// The server that they ask.
    pub server: ServerName,
}

/// A server, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerName {
    /// The program's version.
    pub version: String,
    /// What its machine calls itself.
    pub name: String,
}

/// Puts a password in the place of the one before.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordChange {
    /// The one before.
    pub current: String,
    /// The one from now on: 12 characters or more.
    pub new: String,
}

/// Shows the password again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordRequest {
    /// The password.
    pub password: String,
}

/// Takes the second factor away.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TotpRemoval {
    /// The password.
    pub password: String,
    /// The code of now.
    pub code: String,
}

/// Shows that an app has the secret of the second factor.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CodeRequest {
    /// Its code of now.
    pub code: String,
}

/// The secret of a second factor, to be confirmed by a code.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TotpAnswer {
    /// To be typed into an app: base32.
    pub secret: String,
    /// The same for a QR code: `otpauth://…`.
    pub uri: String,
}

/// A browser that is logged in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoginView {
    /// Its number.
    pub id: i64,
    /// Whose it is.
    pub operator: String,
    /// Since when.
    pub since: Time,
    /// When it was last used, within a minute.
    pub last_seen: Time,
    /// From where.
    pub address: String,
    /// What the browser calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub browser: Option<String>,
    /// Whether it is the one that asks.
    pub current: bool,
}

/// An access token, by which programs ask in an operator's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AccessTokenView {
    /// What its operator calls it.
    pub name: String,
    /// Since when there is it.
    pub since: Time,
    /// Until when it is good.
    pub expires: Time,
    /// When it was last used, within a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Time>,
    /// From where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// Makes an access token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessTokenRequest {
    /// What to call it: as devices are called.
    pub name: String,
    /// For how long it is good, in seconds: up to 10 years; 90 days if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_seconds: Option<u64>,
}

/// An access token that was made.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AccessTokenAnswer {
    /// What it is called.
    pub name: String,
    /// Whose it is.
    pub operator: String,
    /// What they may do, and it with them: `viewer`, `operator` or `admin`.
    pub role: String,
    /// The token, for the header `Authorization: Bearer TOKEN`. It is told only here.
    pub token: String,
    /// Until when it is good.
    pub expires: Time,
}

/// An access token is good no longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AccessTokenRevoked {
    /// What it was called.
    pub name: String,
    /// Whose it was.
    pub operator: String,
}

/// Makes an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OperatorRequest {
    /// The name.
    pub name: String,
    /// What they may do: `viewer`, `operator` or `admin`.
    pub role: String,
}

/// A one-time login: whoever has it sets the operator's password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OneTimeLogin {
    /// The operator's name.
    pub name: String,
    /// What they may do.
    pub role: String,
    /// The token. It is told only here.
    pub login: String,
    /// Until when it is good.
    pub expires: Time,
    /// Where it is used, as far as the server knows its own addresses.
    #[serde(default)]
    pub links: Vec<String>,
}

/// Gives an operator another role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleRequest {
    /// What they may do from now on: `viewer`, `operator` or `admin`.
    pub role: String,
}

/// An operator has another role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RoleAnswer {
    /// The operator's name.
    pub name: String,
    /// What they may do now.
    pub role: String,
    /// What they could do before.
    pub before: String,
}
