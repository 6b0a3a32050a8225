//! What is done with each kind of message; one file for each, one line of routing.
