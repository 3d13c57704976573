"""A small world around a device: signed documents made now, bundles, a source that serves them, a device's folder."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from nacl.signing import SigningKey

from edge import config, web
from edge.agent import Agent
from edge.config import Paths, Settings
from edge.download.fetch import Fetcher, Sources
from edge.identity import roots
from edge.identity.identity import Device
from edge.machine.clock import SystemClock
from edge.outside import Outside
from edge.storage import memory, state
from edge.storage.memory import Memory
from edge.storage.spool import Spool
from edge.storage.state import State
from edge.updating import secrets
from edge.updating.update import Updater
from edge.updating.work import Tools
from tests.topics import kit
from topics import bundle, codec
from topics.bundle import FileEntry
from topics.channels import DESIRED, MANIFEST, RECEIPT, TRUST_ROOT
from topics.documents import Bundle, Release
from topics.messages import UPLINK_TYPES, Receipt, Status, UpdateResult
from topics.trust import Clock, accept_desired, pin_root, sha256

FLEET: Final = kit.FLEET
DEVICE: Final = kit.DEVICE
MANIFEST_TOPIC: Final = MANIFEST.topic(FLEET, role="kiosk", segment="canary")
DESIRED_TOPIC: Final = DESIRED.topic(FLEET, id=DEVICE)
ROOT_TOPIC: Final = TRUST_ROOT.topic(FLEET)
RECEIPT_TOPIC: Final = RECEIPT.topic(FLEET, id=DEVICE)
NOW: Final = int(time.time() * 1000)
ROOT: Final = kit.signed_root(expires_at=NOW + 365 * kit.DAY)

QUICK: Final = Settings(
    chaos=True,
    backoff_base_seconds=0.05,
    backoff_cap_seconds=0.2,
    resend_seconds=5,
    retry_base_seconds=0.05,
    retry_cap_seconds=0.2,
    respawn_seconds=0.05,
    hook_seconds=20,
    validate_seconds=10,
    later_seconds=0.05,
    download_seconds=20,
    stall_seconds=5,
    settle_seconds=5,
)

EXECUTABLE: Final = ("validate/", "files/bin/", "files/agent/firmware_hooks/")

HOOK = """#!/bin/sh
echo "$1 $FLAGHOIST_RELEASE_ID ${FLAGHOIST_PREVIOUS_DIR##*/}" >> "$FLAGHOIST_STATE_DIR/hook.log"
[ ! -e "$FLAGHOIST_RELEASE_DIR/files/fail-$1" ] || { echo "no $1 today" >&2; exit 1; }
[ ! -e "$FLAGHOIST_STATE_DIR/fail-$1" ] || { echo "this device cannot $1" >&2; exit 1; }
"""
"""A hook called `fake` that writes down its calls, and fails when the release or the device says so."""


def wait_until(condition: Callable[[], Any], seconds: float = 60.0, what: str = "the condition") -> Any:
    """Return the first true value of `condition`; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what} did not come true within {seconds} s"
        time.sleep(0.01)


def pack(members: list[tuple[tarfile.TarInfo, bytes]]) -> tuple[bytes, bytes]:
    """Return (tar.gz, tar) of the members as they are given, right or wrong."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(raw.getvalue(), mtime=0), raw.getvalue()


def member(path: str, data: bytes = b"", mode: int = 0o644, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """Return one member for `pack`."""
    info = tarfile.TarInfo(path)
    info.size, info.mode = len(data), mode
    for name, value in fields.items():
        setattr(info, name, value)
    return info, data


@dataclass(frozen=True)
class Built:
    """A release and its archive."""

    release: Release
    archive: bytes
    signed: bytes

    @property
    def id(self) -> str:
        return self.release.id


def build(
    sequence: int = 7,
    files: dict[str, bytes] | None = None,
    *,
    hook: str = "fake",
    info: dict[str, Any] | None = None,
    **changes: Any,
) -> Built:
    """Return a good release of the kiosk, numbered `sequence`."""
    about = {
        "format": 1,
        "role": "kiosk",
        "version": f"1.{sequence}.0",
        "hook": hook,
        "probation_seconds": 0,
        "probe_interval_seconds": 0.1,
        **(info or {}),
    }
    tree = {"bundle.json": json.dumps(about).encode(), "files/app.txt": b"app %d" % sequence, **(files or {})}
    modes = {path: 0o755 if path.startswith(EXECUTABLE) else 0o644 for path in tree}
    archive, tar = pack([member(path, data, modes[path]) for path, data in tree.items()])
    entries = [
        FileEntry(path, hashlib.sha256(data).hexdigest(), len(data), modes[path])
        for path, data in tree.items()
    ]
    release = kit.release(
        sequence,
        **{
            "hook": hook,
            "bundle": Bundle(sha256=sha256(archive), size=len(archive), tar_sha256=sha256(tar)),
            "checksums": sha256(bundle.checksums_bytes(entries)),
            "compose_sha256": sha256(tree.get("compose.yaml", b"")),
            **changes,
        },
    )
    return Built(release, archive, kit.sign(release, "release", ["release-1"]))


class Numbers:
    """Hands out `issued_at`, each later than the one before."""

    def __init__(self) -> None:
        self._last = NOW - 60_000

    def next(self) -> int:
        self._last += 1
        return self._last


class Source:
    """Serves archives by HTTP with ranges; `faults` are used up one per request, then all goes well."""

    def __init__(self, port: int = 0) -> None:
        self.archives: dict[str, bytes] = {}
        self.files: dict[str, bytes] = {}
        self.requests: list[dict[str, str]] = []
        self.faults: list[Callable[[BaseHTTPRequestHandler, bytes], None]] = []
        self.answers: list[tuple[int, bytes]] = []
        self.judge: Callable[[bytes], tuple[int, bytes]] | None = None
        self.bodies: list[bytes] = []
        source = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                source.requests.append({"path": self.path, **dict(self.headers)})
                data = source.files.get(self.path) or source.archives.get(self.path.split("/")[-2], b"")
                if source.faults:
                    source.faults.pop(0)(self, data)
                elif not data:
                    self.send_error(404)
                else:
                    source.serve(self, data)

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                asked = self.rfile.read(length)
                if len(asked) < length:
                    return  # whoever asked is gone
                source.bodies.append(asked)
                status, body = source.judge(asked) if source.judge else source.answers.pop(0)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.template = f"{self.url}/artifacts/{{role}}/{{release}}/bundle"

    def add(self, built: Built) -> Built:
        self.archives[built.id] = built.archive
        return built

    @staticmethod
    def serve(handler: BaseHTTPRequestHandler, data: bytes) -> None:
        wanted = handler.headers.get("Range")
        etag = f'"{sha256(data)}"'
        start = 0
        if wanted and handler.headers.get("If-Range", etag) == etag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if start and start >= len(data):
            handler.send_error(416)
            return
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        handler.send_header("ETag", etag)
        handler.send_header("Content-Length", str(len(data) - start))
        handler.end_headers()
        handler.wfile.write(data[start:])

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class FakeLink:
    """The broker as the agent's link sees it: everything published is kept, and acknowledged at once."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.subscriptions: list[str] = []
        self.refuse: Callable[[str], bool] = lambda _topic: False
        self.agent: Agent | None = None
        self._mid = 0

    def publish(self, topic: str, body: bytes, *, qos: int, retain: bool) -> int | None:
        self.sent.append((topic, body))
        self._mid += 1
        return self._mid

    def subscribe(self, topics: list[tuple[str, int]]) -> None:
        self.subscriptions += [topic for topic, _ in topics if topic not in self.subscriptions]

    def unsubscribe(self, topics: list[str]) -> None:
        self.subscriptions = [topic for topic in self.subscriptions if topic not in topics]

    def of(self, channel: str) -> list[Any]:
        """Return the messages of one channel, decoded."""
        return [
            codec.decode(body, UPLINK_TYPES[channel], limit=65536)
            for topic, body in self.sent
            if topic.endswith(f"/up/{channel}")
        ]


class InlineJobs:
    """The update process, run when a test says so, in this one."""

    def __init__(self, run: Callable[[], None]) -> None:
        self._run = run
        self.busy = False
        self.starts = 0

    def start(self) -> None:
        self.busy = True
        self.starts += 1

    def run(self) -> None:
        self._run()
        self.busy = False


class Box:
    """A device's folder and, on it, an agent with an in-memory broker."""

    def __init__(self, root: Path, source: Source | None = None, settings: Settings = QUICK) -> None:
        self.paths = Paths(root / "state", root / "hooks")
        self.source = source
        self.settings = settings
        self.numbers = Numbers()
        self.boot = "boot-1"
        self.restart: Callable[[], str] = lambda: "this device has no machine to restart"
        self.clock = SystemClock()
        self.root = root
        self._spool: Spool | None = None
        self.paths.make()
        self.paths.hooks.mkdir(exist_ok=True)
        self.hook("fake", HOOK)
        self.key = SigningKey(hashlib.sha256(b"device").digest())
        self.device = Device(
            fleet=FLEET,
            device_id=DEVICE,
            mqtt_host="127.0.0.1",
            mqtt_port=1,
            http_url=source.url if source else "http://127.0.0.1:1",
            hardware="rpi4",
            root=ROOT,
        )
        self.desired = kit.signed_desired(self.numbers.next())
        trusted, _ = accept_desired(
            pin_root(ROOT, sha256(ROOT)), DESIRED_TOPIC, self.desired, Clock(NOW, ok=True)
        )
        memory.save(
            self.paths,
            Memory(id="00" * 8, trust=trusted, role="kiosk", segment="canary", desired=self.desired),
        )
        self.start()

    def start(self) -> Agent:
        """Start the agent anew, as after a crash."""
        if self._spool is not None:
            self._spool.close()
        self.link, self.jobs = FakeLink(), InlineJobs(self.update)
        self.spool = self._spool = Spool(self.paths.spool)
        self.agent = Agent(
            Outside(
                self.paths,
                self.settings,
                self.device,
                self.clock,
                self.link,
                self.jobs,
                self.spool,
                lambda n: b"\x11" * n,
            )
        )
        return self.agent

    def online(self) -> Agent:
        """Start the agent's work, settle its first check and connect."""
        self.agent.start()
        self.settle()
        self.agent.will()
        self.agent.on_connected()
        return self.agent

    def settle(self) -> None:
        """Let the update process run for as long as the agent starts it."""
        for _ in range(20):
            if not self.jobs.busy:
                return
            self.jobs.run()
            self.agent.on_progress()
            self.agent.on_job_end(0)
        raise AssertionError("the agent starts the update process again and again")

    def pass_time(self, condition: Callable[[], Any], *, settle: bool = True) -> None:
        """Let the agent's timers fire until the condition holds."""

        def holds() -> Any:
            self.agent.tick()
            if settle:
                self.settle()
            return condition()

        wait_until(holds)

    def hook(self, name: str, text: str) -> None:
        path = self.paths.hooks / name
        path.write_text(text)
        path.chmod(0o755)

    def fetcher(self, urls: list[str]) -> Fetcher:
        sources = Sources(urls, self.device.http_url, lambda now: f"token-{now}", lambda: None)  # type: ignore[arg-type, return-value]
        return Fetcher(self.settings, sources, self.clock.wall, lambda _s: None)

    def update(self) -> None:
        tools = Tools(
            paths=self.paths,
            settings=self.settings,
            device=self.device,
            variables=config.load_variables(self.paths.root),
            secrets=secrets.of(self.paths, self.settings, {}),
            clock=self.clock,
            fetcher=self.fetcher,
            tell=lambda: None,
            boot=self.boot,
            restart=self.restart,
        )
        roots.fetch(self.paths, self.device.http_url, web.unchecked())
        Updater(tools).run()

    def manifest(self, stable: Built | None = None, candidate: Built | None = None, **changes: Any) -> bytes:
        sources = [self.source.template] if self.source else []
        fields: dict[str, Any] = {
            "expires_at": NOW + 7 * kit.DAY,
            "stable": stable.signed if stable else None,
            "candidate": candidate.signed if candidate else None,
            "basis_points": 10_000 if candidate else 0,
            "sources": sources,
        }
        return kit.signed_manifest(self.numbers.next(), **{**fields, **changes})

    def hear(self, body: bytes, topic: str = MANIFEST_TOPIC) -> None:
        """Let a message arrive and everything that follows happen."""
        self.agent.on_message(topic, body)
        self.settle()

    def offer(self, built: Built, **changes: Any) -> None:
        """Let a manifest with `built` as stable arrive, its archive at hand."""
        if self.source:
            self.source.add(built)
        self.hear(self.manifest(built, **changes))

    def receipt_all(self) -> None:
        """Let the hub receipt every report."""
        for entry in self.spool.reports[-1:]:
            self.agent.on_message(RECEIPT_TOPIC, codec.encode(Receipt(spool=entry.spool, n=entry.n)))

    @property
    def state(self) -> State:
        return state.load(self.paths)

    @property
    def memory(self) -> Memory:
        return memory.need(self.paths)

    @property
    def status(self) -> Status:
        return self.link.of("status")[-1]  # type: ignore[no-any-return]

    def results(self) -> list[tuple[str, str | None]]:
        """Return (state, release) of every update result in the spool."""
        reports = [
            codec.decode(entry.body, UpdateResult, limit=65536)
            for entry in self.spool.reports
            if entry.channel == "update-result"
        ]
        return [(report.state, report.release) for report in reports]

    def calls(self) -> list[str]:
        """Return the calls of the fake hook but probes, oldest first."""
        path = self.paths.root / "hook.log"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.strip() for line in lines if not line.startswith("probe")]

    def close(self) -> None:
        self.spool.close()


def tree(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
