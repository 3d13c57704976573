"""The contract between hub and device: topics, messages, trust and the decision both sides run.

Nothing here opens a socket or a file, reads a clock or draws a random number: `now`, identities and
bytes are arguments. What the hub answers about a device is therefore what the device will do.
"""
