"""Devices in trouble: quarantine, safe mode, diagnostics, commands, and the way back."""
