"""A device under attack: a real broker and HTTP server, its agent as a process, and an attacker who holds some keys.

The release role needs two keys. Everything that a hub would say is signed here, so each attack changes one thing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from edge.storage import memory
from edge.storage.memory import Memory
from tests.edge.rig import SERVICE, Rig, alive
from tests.edge.world import (
    DESIRED_TOPIC,
    MANIFEST_TOPIC,
    NOW,
    ROOT_TOPIC,
    Built,
    Source,
    build,
    pack,
    wait_until,
)
from tests.support.mosquitto import Broker
from tests.topics import kit
from topics import codec
from topics.channels import UPLINK_LIMIT
from topics.documents import Bundle, RootChain
from topics.messages import DURABLE_TYPES, CommandResult, Status, UpdateResult
from topics.trust import Clock, accept_desired, pin_root, sha256

BOTH: Final = ("release-1", "release-2")
ROOT: Final = kit.signed_root(expires_at=NOW + 365 * kit.DAY, releases=BOTH, thresholds={"release": 2})
FLOOR: Final = 5
MOVING: Final = ("state", "memory", "anchor", "spool", "downloads", "run", "roots")
"""What changes while an agent lives; everything else in its folder must stay as it is."""
Members = list[Any]


def releases(
    sequence: int, *, signers: tuple[str, ...] = BOTH, signed_hook: str = "exec", **changes: Any
) -> Built:
    """Return a release that runs a service, by both release keys unless said otherwise."""
    built = build(
        sequence,
        {"files/bin/service": SERVICE},
        hook="exec",
        info={"exec": {"command": ["files/bin/service"], "stop_seconds": 2}},
        **{"floor": FLOOR, **changes},
    )
    release = msgspec.structs.replace(built.release, hook=signed_hook)
    return Built(release, built.archive, kit.sign(release, "release", signers))


def hostile(sequence: int, members: Members, archive: bytes | None = None, **changes: Any) -> Built:
    """Return a release that both keys signed with an archive of `members`, so that only unpacking can refuse it."""
    packed, tar = pack(members)
    packed = packed if archive is None else archive
    bundle = Bundle(sha256=sha256(packed), size=len(packed), tar_sha256=sha256(tar))
    release = kit.release(sequence, **{"bundle": bundle, "hook": "exec", "floor": FLOOR, **changes})
    return Built(release, packed, kit.sign(release, "release", BOTH))


class Attacked(Rig):
    """The device, running release 7, and what the attacker may do to it."""

    def __init__(self, folder: Path, broker: Broker, source: Source) -> None:
        self.folder = folder
        super().__init__(folder, broker, source)
        pinned, _ = accept_desired(
            pin_root(ROOT, sha256(ROOT)), DESIRED_TOPIC, self.box.desired, Clock(NOW, ok=True)
        )
        memory.save(
            self.paths,
            Memory(id="00" * 8, trust=pinned, role="kiosk", segment="canary", desired=self.box.desired),
        )
        self.good = releases(7)
        source.add(self.good)
        self._sequence = 100

    @property
    def environment(self) -> dict[str, str]:
        quick = {
            "BACKOFF_BASE_SECONDS": "0.02",
            "BACKOFF_CAP_SECONDS": "0.05",
            "DOWNLOAD_SECONDS": "12",
            "STALL_SECONDS": "1",
            "FLOOR_BYTES_PER_SECOND": "1000000",
            "RETRY_BASE_SECONDS": "3600",
            "LATER_SECONDS": "0.1",
        }
        return os.environ | {f"FLAGHOIST_EDGE_{name}": value for name, value in quick.items()}

    def begin(self) -> None:
        """Start the agent, let it take release 7, and remember everything that must not change."""
        self.run()
        self.old_manifest, self.old_desired = self.manifest(), self.desired()
        self.hoist(DESIRED_TOPIC, self.old_desired)
        self.hoist(MANIFEST_TOPIC, self.old_manifest)
        self.until(lambda said: isinstance(said, UpdateResult) and said.state == "committed")
        self.calm()
        self._remember([self.good])

    def move_on(self, built: Built) -> None:
        """Let the device take a genuine release, which is the one that no attack may touch from then on."""
        self.source.add(built)
        self.offer(built)
        self.until(
            lambda said: (
                isinstance(said, UpdateResult) and (said.state, said.release) == ("committed", built.id)
            )
        )
        before, self.good = self.good, built
        self.calm()
        self._remember([before, built])

    def _remember(self, kept: list[Built]) -> None:
        ids = {built.id for built in kept}
        for folder in (self.paths.releases, self.paths.rendered("x").parent, self.paths.meta("x").parent):
            wait_until(lambda: {path.stem for path in folder.iterdir()} == ids)  # noqa: B023  (used at once)
        wait_until(lambda: self.service is not None)
        self._pid = self.service
        self._before = self.still()

    # What the hub would say

    def next_sequence(self) -> int:
        self._sequence += 1
        return self._sequence

    def manifest(self, stable: Built | None = None, **changes: Any) -> bytes:
        """Return a manifest with release 7 as stable, newer than any before."""
        return self.box.manifest(stable or self.good, **changes)

    def desired(self, **changes: Any) -> bytes:
        """Return a desired state newer than any before."""
        return kit.signed_desired(self.box.numbers.next(), **changes)

    def offer(self, built: Built) -> None:
        """Hoist a manifest by the hub's own key that offers `built` to everyone."""
        self.hoist(MANIFEST_TOPIC, self.manifest(candidate=built))

    def calm(self) -> None:
        """Say everything anew and genuinely, so that no earlier attack is still in the air."""
        self.source.faults.clear()
        self.hoist(ROOT_TOPIC, codec.encode(RootChain([ROOT])))
        self.hoist(DESIRED_TOPIC, self.desired())
        self.hoist(MANIFEST_TOPIC, self.manifest())

    # What is seen

    def until(self, wanted: Callable[[Any], bool]) -> Any:
        """Return the first report that is wanted; all are receipted."""
        while True:
            topic, body = self.ingest.receive(60)
            kind = topic.rpartition("/")[2]
            if kind == "status":
                said: Any = codec.decode(body, Status, limit=UPLINK_LIMIT)
            elif kind in DURABLE_TYPES:
                said = codec.decode(body, DURABLE_TYPES[kind], limit=UPLINK_LIMIT)
                self.receipt(said)
            else:
                continue
            if wanted(said):
                return said

    def refused(self, check: str, topic: str) -> None:
        """Wait for the report that a document on `topic` was refused by `check`."""
        self.until(
            lambda said: (
                isinstance(said, UpdateResult)
                and (said.state, said.reason, said.check, said.topic)
                == ("refused", "untrusted", check, topic)
            )
        )

    def failed(self, check: str, built: Built) -> None:
        """Wait for the report that `built` failed by `check`, before anything was activated."""
        said = self.until(
            lambda said: (
                isinstance(said, UpdateResult)
                and said.release == built.id
                and said.state not in ("downloading", "verified")
            )
        )
        assert (said.state, said.check) == ("failed", check), said

    def held(self, reason: str, release: str | None = None) -> None:
        """Wait for a heartbeat whose decision is `reason`."""
        self.until(
            lambda said: (
                isinstance(said, Status)
                and said.verdict is not None
                and said.verdict.reason == reason
                and (release is None or said.verdict.release == release)
            )
        )

    def done(self, command: str) -> list[str]:
        """Wait for the result of `command`; return the commands whose results came until then."""
        seen: list[str] = []

        def is_it(said: Any) -> bool:
            if isinstance(said, CommandResult):
                seen.append(said.command)
            return bool(seen) and seen[-1] == command

        self.until(is_it)
        return seen

    def still(self) -> dict[str, tuple[str, int]]:
        """Return target, or hash, and mode of everything on and around the device that an attack must not change."""
        found = {}
        for path in sorted(self.folder.rglob("*")):
            place = path.relative_to(self.folder)
            inside = place.parts[1:]
            if place.parts[0] == "state" and inside and inside[0].lstrip(".").split(".")[0] in MOVING:
                continue
            mode = path.lstat().st_mode
            if path.is_symlink():
                found[str(place)] = (str(path.readlink()), mode)
            elif path.is_file():
                found[str(place)] = (hashlib.sha256(path.read_bytes()).hexdigest(), mode)
            else:
                found[str(place)] = ("", mode)
        return found

    def check_untouched(self) -> None:
        """The release that ran runs on as the same process, and nothing stands anywhere that did not before."""
        assert self.paths.current.readlink().name == self.good.id
        assert self.service == self._pid and alive(self._pid)
        # Leftovers of an attempt may go a moment after its report.
        wait_until(lambda: self.still() == self._before, 30, "the folder as it was before")
        for name in ("downloads", "roots"):
            for path in (self.paths.root / name).rglob("*"):
                assert path.is_file() and not path.is_symlink() and path.suffix in (".part", ".bundle", ""), (
                    path
                )
