"""The archive that `diagnose --bundle FILE` writes for whoever helps from afar, with secrets taken out."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import platform
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from edge import VERSION, beliefs, status
from edge.config import Paths
from edge.diagnose import collect, finding, scrub
from edge.diagnose.finding import Finding
from edge.errors import NotReady, Refused
from edge.identity.identity import Identity
from edge.logs import book
from edge.machine import clock
from edge.storage import disk, memory, state

TAIL: Final = 256 * 1024
"""Bytes taken of the end of a file that may be large."""
MACHINE: Final = (
    "/etc/os-release",
    "/etc/resolv.conf",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/mounts",
    "/proc/net/dev",
    "/proc/net/route",
    "/proc/uptime",
    "/proc/version",
)
"""What the machine says of itself; not its command line or environment, which may hold secrets."""
_SAY_NO: Final = (OSError, NotReady)


def write(paths: Paths, findings: Sequence[Finding], file: Path) -> list[str]:
    """Write the archive, readable by its owner alone, and return the names in it.

    Raises `Refused` when the file is there already, and `NotReady` when it cannot be written.
    """
    if file.exists():
        raise Refused(f"{file} is there already; name another file")
    cleaner = scrub.Scrubber(scrub.known(paths))
    packed, names = io.BytesIO(), []
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in _parts(paths, findings):
            member = tarfile.TarInfo(f"flaghoist-support/{name}")
            clean = cleaner.clean(content)
            member.size, member.mode, member.mtime = len(clean), 0o600, int(time.time())
            tar.addfile(member, io.BytesIO(clean))
            names.append(name)
    try:
        disk.replace(file, gzip.compress(packed.getvalue()))
    except OSError as error:
        raise NotReady(f"{file} cannot be written ({error.strerror}); name a file elsewhere") from None
    return names


def _parts(paths: Paths, findings: Sequence[Finding]) -> Iterator[tuple[str, bytes]]:
    missing = []

    def part(name: str, make: Callable[[], bytes]) -> Iterator[tuple[str, bytes]]:
        try:
            yield name, make()
        except _SAY_NO as error:
            missing.append(f"{name}: {error}")

    yield "about.json", _json(_about(paths))
    yield "diagnose.txt", finding.text(findings).encode()
    yield "diagnose.json", _json(finding.as_json(findings))
    yield from part("status.json", lambda: _json(status.gather(paths)))
    yield from part("settings.json", lambda: (paths.root / "agent.json").read_bytes())
    yield from part("variables.txt", lambda: "\n".join(_variables(paths)).encode())
    yield from part("state.json", lambda: _json(_state(paths)))
    yield from part("memory.json", lambda: _json(_memory(paths)))
    yield from part("diagnostics.json", lambda: collect.place(paths).read_bytes())
    for log in (book.before(paths), book.place(paths), paths.run / "exec.log"):
        yield from part(f"logs/{log.name}", lambda log=log: _tail(log))  # type: ignore[misc]
    for place in (paths.run / "link.json", paths.run / "way.json"):
        yield from part(f"run/{place.name}", lambda place=place: _tail(place))  # type: ignore[misc]
    for source in MACHINE:
        yield from part(f"machine/{source.strip('/').replace('/', '-')}", lambda at=source: _tail(Path(at)))  # type: ignore[misc]
    yield "missing.txt", "\n".join(missing).encode()


def _about(paths: Paths) -> dict[str, Any]:
    about: dict[str, Any] = {
        "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "agent": VERSION,
        "python": platform.python_version(),
        "system": " ".join(platform.uname()),
        "state": str(paths.root),
        "removed": "keys, tokens, values of device.env and of secrets",
    }
    with contextlib.suppress(*_SAY_NO):
        device = Identity(paths).device
        about |= {"device_id": device.device_id, "fleet": device.fleet, "hub": device.http_url}
    return about


def _variables(paths: Paths) -> list[str]:
    lines = (paths.root / "device.env").read_text(encoding="utf-8", errors="replace").splitlines()
    return [
        line.split("=", 1)[0].strip() for line in lines if "=" in line and not line.strip().startswith("#")
    ]


def _state(paths: Paths) -> Any:
    shown = msgspec.to_builtins(state.load(paths))
    shown["outbox"] = len(shown["outbox"])
    return shown


def _memory(paths: Paths) -> Any:
    known = memory.need(paths)
    held = beliefs.reopen(
        known, Identity(paths).device.device_id, clock.judge(known.trust, int(time.time() * 1000))
    )
    return {
        "role": known.role,
        "segment": known.segment,
        "boot": known.boot,
        "session": known.session,
        "done": known.done,
        "refusals": known.refusals,
        "root": {"version": known.trust.root.version, "expires_at": known.trust.root.expires_at},
        "floors": known.trust.floors,
        "marks": msgspec.to_builtins(known.trust.marks),
        "manifest": _shown(held.manifest),
        "desired": _shown(held.desired),
    }


def _shown(document: msgspec.Struct | None) -> Any:
    return msgspec.to_builtins(document) if document is not None else None


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        # Files of /proc have no size to seek in.
        with contextlib.suppress(OSError):
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
        return file.read(TAIL)


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=2).encode()
