"""Clients that would take the broker, or ingest, from the others."""
