//! Who is online, and how to reach them.
