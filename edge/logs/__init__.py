"""The agent's own log: on standard error, in a small file that outlives a restart, and what of it goes to the hub."""
