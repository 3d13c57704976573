"""What the agent keeps on disk: state, memory and spool, each whole after a power cut."""
