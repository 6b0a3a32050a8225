//! Registering devices: tokens, names, and the exchange in which a device becomes known.
