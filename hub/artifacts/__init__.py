"""Config and artifacts: bundles taken in, checked against the signed release, and served."""
