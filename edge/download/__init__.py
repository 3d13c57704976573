"""Getting a release's bytes from whichever source has them, bounded in size, time and slowness."""
