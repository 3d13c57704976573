"""Tests of the broker side of the hub, against a real Mosquitto."""
