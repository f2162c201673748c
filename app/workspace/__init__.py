"""A commit becomes a read-only tree in memory-backed storage, and is forgotten afterwards."""
