"""MQTT: the broker as the hub's child, what devices report (ingest), and what the hub hoists."""
