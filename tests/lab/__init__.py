"""Machines that boot: a Debian 12 under systemd in QEMU, for the units (`make boot`) and power cuts (`make lab`)."""
