"""What a technician orders at the device itself, without a hub: install from a stick, go back, leave safe mode."""
