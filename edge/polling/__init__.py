"""Life without MQTT: the same signed documents polled over HTTPS, and the same reports posted there."""
