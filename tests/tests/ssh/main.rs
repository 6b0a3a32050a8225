//! A device's SSH server, reached through the server by OpenSSH's own programs.

mod ends;
mod fleet;
mod hostile;
mod installed;
mod openssh;
mod operators;
mod password;
mod tools;
