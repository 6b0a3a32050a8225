//! One framed connection: a session, a mailbox, and the plain loop that drives them.
