"""The event log as proof: read, exported, and held to its own chain."""
