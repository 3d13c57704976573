"""The hub: registry, deployment, telemetry and artifacts around one store and one event log."""
