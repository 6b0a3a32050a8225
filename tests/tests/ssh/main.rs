//! A device's SSH server, reached through the server by OpenSSH's own programs.

mod ends;
mod fleet;
mod host_keys;
mod hostile;
mod installed;
mod limits;
mod many;
mod openssh;
mod openssh_kept;
mod openssh_refused;
mod operators;
mod password;
mod relay;
mod setup;
mod steps;
mod tools;
