"""The machine itself: clock, probes, facts, and what systemd is told."""
