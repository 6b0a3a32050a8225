//! The connection to the server, and the plain loop that drives its session.
