"""Keys and certificates of the installation: signing keys in files, and the hub's own CA."""
