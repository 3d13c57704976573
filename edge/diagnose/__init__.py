"""What a technician asks a device: each check with what it found and one sentence that says what to do."""
