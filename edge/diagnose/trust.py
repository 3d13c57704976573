"""Who the device is and what it believes: identity, certificates, root, documents, its own settings."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from edge import beliefs, config
from edge.beliefs import Beliefs
from edge.config import Paths
from edge.diagnose.finding import Finding, failed, graded, passed, warned
from edge.errors import NotReady
from edge.identity import certificate, renewal
from edge.identity.identity import Device
from edge.machine import clock
from edge.storage import records
from edge.storage.memory import Memory
from edge.storage.state import State
from topics.trust import ROOT_WARNING_MS

CERTIFICATE_WARNING: Final = timedelta(days=30)
_RENEW: Final = "See that the hub's HTTP address can be reached; the agent tries again by itself."
_ENROL: Final = "Run flaghoist-edge enrol with a new token; the key, role and segment stay."


def settings(paths: Paths) -> list[Finding]:
    """Whether the files that people write can be used."""
    return [_settings(paths), _usable("variables", lambda: config.load_variables(paths.root))]


def _settings(paths: Paths) -> Finding:
    found = _usable("settings", lambda: config.load_settings(paths.root))
    if found.level == "pass" and clock.zones(zone := config.load_settings(paths.root).zone) is None:
        remedy = "Mend zone in agent.json; until then no maintenance window is ever open here."
        return warned("settings", f"this device knows no time zone {zone!r}", remedy)
    return found


def _usable(check: str, load: Callable[[], object]) -> Finding:
    try:
        load()
    except NotReady as error:
        return failed(check, str(error), "Mend that file; the agent reads it at its next start.")
    return passed(check, "can be used")


def enrolled(paths: Paths, device: Device | None, problem: str) -> list[Finding]:
    """Whether the device has an identity, and whether others can read it; `problem` is why there is none."""
    if device is None:
        return [failed("identity", problem, "Run this as the agent's user, or enrol the device.")]
    mode = paths.root.stat().st_mode & 0o777
    return [
        passed("identity", f"{device.device_id} of fleet {device.fleet}"),
        graded(
            "permissions",
            f"{paths.root} has mode {mode:o}",
            f"Run chmod 700 {paths.root}; spool and variables are nobody else's business.",
            fail=False,
            warn=bool(mode & 0o077),
        ),
    ]


def certificates(paths: Paths, wall: int) -> list[Finding]:
    """The dates of the device's certificate, whether it is renewed in time, and those of the CA, at `wall` (ms)."""
    now = datetime.fromtimestamp(wall // 1000, UTC)
    own = _dates("certificate", paths.identity / "cert.pem", now, _ENROL)
    if own.level != "fail" and (problem := renewal.read(paths).problem):
        own = warned("certificate", f"{own.detail}; it could not be renewed: {problem}", _RENEW)
    return [
        own,
        _dates(
            "hub's CA", paths.identity / "ca.pem", now, "Enrol anew with a token that names the hub's new CA."
        ),
    ]


def files(paths: Paths) -> list[Finding]:
    """Whether `state` and `memory` are whole, or the generation before stands in."""
    findings = []
    for path, kind in ((paths.state, State), (paths.memory, Memory)):
        check = f"{path.name} file"
        try:
            record, newest = records.load(path, kind)
        except NotReady as error:
            findings.append(failed(check, str(error), "Do what the message says."))
            continue
        there = path.exists() or path.with_name(f"{path.name}.before").exists()
        if record is not None and newest:
            findings.append(passed(check, "whole"))
        elif record is None and not there and kind is State:
            findings.append(passed(check, "not written yet"))
        else:
            stands_in = "the generation before stands in" if record is not None else "lost"
            findings.append(
                warned(
                    check,
                    f"damaged: {stands_in}",
                    "The agent makes it anew when it starts; look at the disk's health.",
                )
            )
    return findings


def believed(known: Memory, device: Device, wall: int) -> list[Finding]:
    """The root's expiry, and whether the last documents still pass and are in force, at `wall` (ms)."""
    judged = clock.judge(known.trust, wall)
    now = known.trust.time(judged)
    root = known.trust.root
    left = (root.expires_at - now) // 86_400_000
    held = beliefs.reopen(known, device.device_id, judged)
    return [
        graded(
            "trust root",
            f"version {root.version}, {f'expires in {left} days' if left >= 0 else f'expired {-left} days ago'}",
            "The holders of the root keys sign and publish the next root; with an expired one nothing new starts.",
            fail=known.trust.expired(now),
            warn=root.expires_at - now < ROOT_WARNING_MS,
        ),
        _manifest(held, now),
        passed("desired state", "trusted")
        if held.desired
        else warned("desired state", "none is held", "Connect the device to its broker once."),
    ]


def refusals(known: Memory) -> Finding:
    """Whether documents were refused; what is kept of them says no more than that."""
    if not known.refusals:
        return passed("refused documents", "none")
    return warned(
        "refused documents",
        f"{len(known.refusals)} were refused and reported to the hub",
        "Ask the hub which check refused (flaghoist device timeline); a device in the wrong fleet shows like this.",
    )


def _manifest(held: Beliefs, now: int) -> Finding:
    place = f"{held.memory.role}/{held.memory.segment}"
    if held.manifest is None:
        return warned("manifest", f"none of {place} is held", "Connect the device to its broker once.")
    if held.manifest.manifest.expires_at <= now:
        return warned(
            "manifest",
            f"that of {place} has expired; nothing new starts",
            "Connect the device: the hub renews manifests long before they expire.",
        )
    return passed("manifest", f"of {place}, trusted")


def _dates(check: str, path: Path, now: datetime, remedy: str) -> Finding:
    try:
        # Of several CAs, while the hub changes its own, the newest comes last.
        begin, end = certificate.dates(certificate.ders(path.read_text(encoding="ascii"))[-1])
    except (OSError, ValueError) as error:
        return failed(check, f"{path} cannot be read: {error}", _ENROL)
    if now < begin:
        return failed(check, f"valid from {begin:%Y-%m-%d} on", "Set the clock; it stands before that.")
    return graded(
        check,
        f"valid until {end:%Y-%m-%d}" if now < end else f"expired on {end:%Y-%m-%d}",
        f"Check the clock. {remedy}" if now >= end else remedy,
        fail=now >= end,
        warn=end - now < CERTIFICATE_WARNING,
    )
