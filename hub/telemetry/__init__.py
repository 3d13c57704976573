"""Telemetry as people read it. Ingest, which writes it, is `hub.broker.ingest`."""
