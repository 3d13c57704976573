"""Device registry and identity: who a device is, which role and segment it has, and its desired state."""
