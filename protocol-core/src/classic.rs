//! The original protocol, on its own listener: texts that end when the line goes quiet.
