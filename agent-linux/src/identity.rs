//! Who this device is, and which servers it trusts: key, pins, addresses.
