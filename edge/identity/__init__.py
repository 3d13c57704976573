"""Who this device is, and the roots of trust that it pinned."""
