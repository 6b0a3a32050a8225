//! Frames over a serial line that loses and damages bytes: packets, a check sum, and an acknowledgement for each.
