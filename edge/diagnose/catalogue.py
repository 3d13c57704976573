"""Every check there is, in the order in which one leads to the next, with what it looks at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from edge.diagnose.finding import Finding, failed, skipped
from edge.errors import NotReady

CHECKS: Final[dict[str, str]] = {
    "clock": "whether the clock can be right: neither before this system existed nor behind what is trusted",
    "clock kept": "whether a time server keeps it",
    "disk space": "free bytes on the disk of the state directory",
    "disk files": "how many more files that disk can hold",
    "disk health": "whether it is mounted read-only, as Linux does after errors",
    "disk errors": "errors that its file system has counted (ext4)",
    "disk wear": "what flash memory says of its own wear (eMMC)",
    "memory": "share of memory in use",
    "load": "processes that wait for each processor",
    "temperature": "the hottest sensor",
    "throttling": "whether the processor is slowed down by heat or a weak supply (Raspberry Pi, Intel)",
    "identity": "whether this device is enrolled, and its key readable by nobody else",
    "permissions": "mode of the state directory",
    "secret files": "whether keys and secrets are nobody else's to read, and certificates nobody else's to change",
    "settings": "whether `agent.json` and the variables that override it can be used",
    "variables": "whether `device.env` can be used",
    "certificate": "dates of the device's certificate",
    "hub's CA": "dates of the CA by which the broker is known",
    "state file": "whether `state` is whole, or the generation before it stands in",
    "memory file": "the same of `memory`",
    "agent": "whether an agent holds the state directory",
    "starts": "starts of the agent in a row that did not last",
    "connection": "how the running agent says that its connection stands",
    "transport": "which way to the hub is used, and why",
    "last contact": "when the hub was last reached",
    "trust root": "version and expiry of the root of trust",
    "manifest": "whether the last manifest is trusted and in force",
    "desired state": "whether the device's own document is trusted",
    "refused documents": "documents that were refused and reported",
    "release": "which release is installed",
    "files": "whether its every byte is as signed",
    "current": "whether `current` points to it",
    "previous": "whether the release before stands by",
    "hook": "whether its hook is installed and executable",
    "service": "what the hook says of the service (`probe`)",
    "last update": "how the last update ended, or where the present one stands",
    "failed releases": "releases that failed here and are not tried again",
    "next update": "what the device would do now by what it believes",
    "safe mode": "whether the device is in safe mode, and the way out",
    "last error": "why the release that should run does not",
    "restarts": "how often the service was started again",
    "reports waiting": "how many reports wait for the hub's receipt",
    "oldest report": "since when the oldest of them waits",
    "broker name": "whether the broker's name has an address",
    "broker TCP": "whether its port answers",
    "broker TLS": "whether it has a certificate of the hub's own CA for that name",
    "broker lets in": "whether it accepts this device (CONNACK)",
    "broker gives": "whether it gives the device a retained message that is its own",
    "broker takes": "whether it takes a report: one log line on the device's own topic",
    "broker refuses": "whether it refuses what is the hub's to say: a receipt to this device itself",
    "hub HTTP": "whether the hub answers over HTTP",
}


def complete(findings: Sequence[Finding], why: str) -> list[Finding]:
    """Return one finding for each check, in order: those that could not be looked at are skipped for `why`."""
    found = {finding.check: finding for finding in findings}
    return [found.get(check) or skipped(check, why) for check in CHECKS]


def reading(check: str, look: Callable[[], list[Finding]]) -> list[Finding]:
    """Return what `look` finds; a file that the system does not give fails `check`, and the rest goes on."""
    try:
        return look()
    except NotReady as error:
        return [failed(check, str(error), "Do what the message says.")]
    except OSError as error:
        what = f"{error.filename or 'a file'} cannot be read: {error.strerror or error}"
        return [failed(check, what, "Run this as the agent's user, or as root.")]
