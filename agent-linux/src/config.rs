//! What the agent is told by its file, its environment and its command line.
