"""Mosquitto as the hub's child: started with what it needs, watched, restarted, never left behind.

A hub killed with SIGKILL must not leave a broker that holds the port. So the kernel ends the child when its
parent dies (`PDEATHSIG`, set by setpriv *after* it drops root, since dropping root clears it). Two locks cover
the rest: `hub.lock` is held by one hub at a time; `lock` is inherited by the broker, so that the next hub waits
until the old broker has written its database, and ends it if it stays. It may: Mosquitto loses a SIGTERM that
comes in the instant before its main loop begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import structlog

from hub.broker import config, credentials
from hub.broker.abuse.subscriptions import Subscriptions
from hub.broker.config import BrokerSettings
from hub.errors import SetupError
from hub.identity.ca import Authorities
from hub.identity.files import write_atomic
from hub.identity.revocation import revocation_list
from topics import acl

START_SECONDS: Final = 15.0
STOP_SECONDS: Final = 10.0
ORPHAN_SECONDS: Final = 10.0
"""How long a dead hub's broker may take to write its database and end, before it is killed."""
STEADY_SECONDS: Final = 60.0
"""A child that ran this long was well: the back-off starts anew."""
BACKOFF_LIMIT: Final = 30.0
_DROPPING: Final = "messages are being dropped"

_log = structlog.get_logger("mosquitto")


class UnreadableDatabase(SetupError):  # noqa: N818  (named by outcome)
    """Mosquitto cannot read what it saved at its last stop."""


class PortInUse(SetupError):  # noqa: N818  (named by outcome)
    """Another program listens on a port that the broker needs."""


class Child:
    """One Mosquitto process and the thread that reads its log until it ends."""

    def __init__(self, argv: list[str], folder: Path, lock: int, on_line: Callable[[str], None]) -> None:
        # PDEATHSIG follows the thread that forks, not the process: a worker thread's end would kill the broker.
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("the broker must be started from the main thread")
        self.tail: deque[str] = deque(maxlen=5)
        self._on_line = on_line
        self.process = subprocess.Popen(
            argv,
            cwd=folder,
            pass_fds=(lock,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the hub, which then ends the broker in good order
        )
        self._thread = threading.Thread(target=self._read, name="mosquitto-log", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stderr is not None  # noqa: S101  (we asked for the pipe)
        with self.process.stderr as pipe:
            for raw in pipe:
                line = raw.decode("utf-8", "replace").rstrip()
                self.tail.append(line)
                try:
                    self._on_line(line)
                except Exception:
                    # Whatever a line did to us, a log that nobody reads any more would stop the broker.
                    _log.exception("a line of the broker's log was not understood", line=line)

    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    def stop(self) -> None:
        """End the process: SIGTERM, then SIGKILL after `STOP_SECONDS`; blocks until it is gone."""
        deadline = time.monotonic() + STOP_SECONDS
        while self.is_alive():
            # Again and again, since Mosquitto can lose an early one.
            self.process.send_signal(signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.5)
        self._thread.join(STOP_SECONDS)


class Mosquitto:
    """The broker, from `start` to `stop`; also an async context manager.

    `now` gives seconds since the epoch, `revoked` the serials (hex) of withdrawn device certificates.
    `muted` gives the ids of devices whose publishes the broker refuses. `is_withdrawn` tells whether a client has no
    certificate left and is asked at every subscription. `on_intruder(client_id, why)` is called on a thread of the
    broker's when a client subscribes as it may not.
    `start` raises `SetupError` in one sentence.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        authorities: Authorities,
        *,
        now: Callable[[], int],
        revoked: Callable[[], Iterable[str]] = tuple,
        muted: Callable[[], Iterable[str]] = tuple,
        is_withdrawn: Callable[[str], bool] = lambda _client: False,
        on_intruder: Callable[[str, str], None] = lambda _client, _why: None,
        backoff_seconds: float = 0.2,
    ) -> None:
        self._settings = settings
        self._authorities = authorities
        self._now = now
        self._revoked = revoked
        self._muted = muted
        self._subscriptions = Subscriptions(settings.fleet, is_withdrawn)
        self._on_intruder = on_intruder
        self._backoff = backoff_seconds
        self._writing = threading.Lock()
        self._locks: list[int] = []
        self._child: Child | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running = False
        self.restarts = 0
        """How often the child died and was started again."""
        self.overflows = 0
        """How often a session's queue overflowed: from then on the broker dropped what came for it."""
        self.problem = ""
        """One sentence while the broker is down, else empty."""

    @property
    def device_port(self) -> int:
        """TCP port of the device listener, once started."""
        return self._settings.device_port

    @property
    def service_port(self) -> int:
        """TCP port of the service listener on 127.0.0.1, once started."""
        return self._settings.service_port

    @property
    def pid(self) -> int | None:
        """Process id of the running child."""
        return self._child.process.pid if self._child and self._child.is_alive() else None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the broker and return once it accepts connections."""
        self._loop = asyncio.get_running_loop()
        owner = broker_owner(self._settings)
        prepare_folder(self._settings.folder, owner)
        try:
            await self._take_locks()
            await self._first_launch(self._settings)
        except BaseException:
            await self.stop()
            raise
        self._supervisor = asyncio.create_task(self._supervise(), name="mosquitto")

    async def stop(self) -> None:
        """End the broker in good order; it writes its database. Safe to call twice."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await supervisor
        child, self._child = self._child, None
        if child is not None:
            await asyncio.to_thread(child.stop)
        while self._locks:
            os.close(self._locks.pop())

    def reload(self) -> None:
        """Renew what is due and let the broker read its files again, revoked certificates too; sessions stay."""
        self._write_files()
        if self._child is not None and self._child.is_alive():
            self._child.process.send_signal(signal.SIGHUP)

    def restart(self) -> None:
        """Have the broker started again, which makes it give up what it took up at reloads; sessions are made anew."""
        if self._child is not None and self._child.is_alive():
            self._child.process.send_signal(signal.SIGTERM)

    def _write_files(self) -> None:
        # One after the other: whoever was slow would put older lists in the place of newer ones.
        with self._writing:
            revoked, muted = self._revoked(), self._muted()
            write_files(self._settings, self._authorities, now=self._now(), revoked=revoked, muted=muted)

    async def _take_locks(self) -> None:
        folder = self._settings.folder
        for name in ("hub.lock", "lock"):
            self._locks.append(os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        own, inherited = self._locks
        if not _try_lock(own):
            raise SetupError(f"Another hub already runs the broker in {folder}; stop that hub first.")
        deadline = time.monotonic() + ORPHAN_SECONDS
        while not _try_lock(inherited):
            late = time.monotonic() - deadline
            if late > 5:
                raise SetupError(
                    f"A process still holds {folder / 'lock'}; end it (fuser shows which it is)."
                )
            _signal_orphan(inherited, signal.SIGKILL if late > 0 else signal.SIGTERM)
            await asyncio.sleep(0.1)

    async def _first_launch(self, wanted: BrokerSettings) -> None:
        chosen_here = 0 in (wanted.device_port, wanted.service_port)
        for tries_left in (2, 1, 0):
            self._settings = choose_ports(wanted)
            try:
                await self._launch()
                break
            except UnreadableDatabase as error:
                if not tries_left:
                    raise
                self._set_database_aside(error)
            except PortInUse:
                # Somebody took a free port between our choice and the broker's bind: choose again.
                if not chosen_here or not tries_left:
                    raise

    def _set_database_aside(self, error: UnreadableDatabase) -> None:
        # What the broker retained is hoisted again, and devices send durable reports until they are receipted.
        database = self._settings.folder / "data" / "mosquitto.db"
        database.replace(database.with_suffix(".unreadable"))
        _log.error(
            "the broker's database was set aside", reason=str(error), kept=str(database) + ".unreadable"
        )

    async def _launch(self) -> None:
        lock = self._locks[-1]
        self._write_files()
        self._running = False
        self._wake.clear()
        child = self._child = Child(command(self._settings), self._settings.folder, lock, self._heard)
        os.ftruncate(lock, 0)
        os.pwrite(lock, b"%d" % child.process.pid, 0)
        deadline = time.monotonic() + START_SECONDS
        while not self._running and child.is_alive():
            if time.monotonic() > deadline:
                await asyncio.to_thread(child.stop)
                raise SetupError(f"Mosquitto did not start within {START_SECONDS:.0f} s; see its log above.")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), 0.05)
        if not child.is_alive():
            await asyncio.to_thread(child.stop)
            raise _refusal(list(child.tail), self._settings)
        self.problem = ""

    async def _supervise(self) -> None:
        failures = 0
        while True:
            child = self._child
            if child is not None:
                began = time.monotonic()
                await _ended(child.process)
                await asyncio.to_thread(child.stop)
                failures = 0 if time.monotonic() - began > STEADY_SECONDS else failures
                self.problem = (
                    f"Mosquitto ended with status {child.process.returncode}; it is being restarted."
                )
                _log.error("broker ended", status=child.process.returncode, last=list(child.tail))
                self._child = None
            # Full jitter is not for one child's sake: several hubs on one machine should not restart in step.
            await asyncio.sleep(min(BACKOFF_LIMIT, self._backoff * 2**failures) * random.uniform(0.5, 1))  # noqa: S311
            failures = min(failures + 1, 10)
            try:
                await self._launch()
                self.restarts += 1
                _log.warning("broker restarted", restarts=self.restarts)
            except (SetupError, OSError) as error:
                self.problem = str(error)
                self._child = None
                _log.error("broker could not be restarted", reason=str(error))

    def _heard(self, line: str) -> None:
        """Runs on the child's reader thread."""
        assert self._loop is not None  # noqa: S101
        subscription = config.parse_subscription(line)
        # The loop may be closed already when a hub ends in disorder; then nobody is left to tell.
        with contextlib.suppress(RuntimeError):
            if subscription is None:
                _tell(line)
                self.overflows += _DROPPING in line
                if line.startswith("mosquitto version") and line.endswith("running"):
                    self._running = True
                    self._loop.call_soon_threadsafe(self._wake.set)
            elif why := self._subscriptions.offence(*subscription, time.monotonic()):
                self._on_intruder(subscription[0], why)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _signal_orphan(lock: int, number: signal.Signals) -> None:
    """Signal the process named in the lock file, if it does hold that file: its pid may be another's by now."""
    text = os.pread(lock, 20, 0)
    if not text.isdigit():
        return
    ours = os.fstat(lock)
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{int(text)}/fd").iterdir():
            if os.path.samestat(entry.stat(), ours):
                os.kill(int(text), number)
                return


def command(settings: BrokerSettings) -> list[str]:
    """Return the argv that runs the broker in `settings.folder` and ends it with its parent.

    Raises `SetupError` when a program is missing.
    """
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin"])
    program = shutil.which(settings.program, path=path)
    if program is None:
        raise SetupError(
            f"The program {settings.program} is missing; install Mosquitto 2.0.11 or later (apt install mosquitto)."
        )
    setpriv = shutil.which("setpriv", path=path)
    if setpriv is None:
        raise SetupError("The program setpriv is missing; install util-linux.")
    drop = []
    if os.geteuid() == 0:
        drop = ["--reuid", settings.user, "--regid", settings.user, "--clear-groups"]
    return [setpriv, *drop, "--pdeathsig", "TERM", program, "-c", "mosquitto.conf"]


def broker_owner(settings: BrokerSettings) -> tuple[int, int] | None:
    """Return (uid, gid) that the broker's files belong to, None when the hub is not root.

    Raises `SetupError` when there is no such user.
    """
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(settings.user)
    except KeyError:
        raise SetupError(
            f"There is no user {settings.user!r} to run the broker as; install the mosquitto package or add the user."
        ) from None
    return entry.pw_uid, entry.pw_gid


def prepare_folder(folder: Path, owner: tuple[int, int] | None) -> None:
    """Make the broker's folders, owned by `owner`. Raises `SetupError` when that is refused."""
    try:
        for path in (folder, folder / "data"):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if owner:
            # All of it: a copy made as root, as backups are, belongs to root.
            for path in (folder, *folder.rglob("*")):
                os.chown(path, *owner, follow_symlinks=False)
    except OSError as error:
        raise SetupError(
            f"{folder} cannot be used for the broker ({error.strerror}); check its owner."
        ) from error


def write_files(
    settings: BrokerSettings,
    authorities: Authorities,
    *,
    now: int,
    revoked: Iterable[str] = (),
    muted: Iterable[str] = (),
) -> None:
    """Write configuration, access list and TLS files. Paths are relative to the folder, the broker's working
    directory, so that its user needs no right on the folders above."""
    owner = broker_owner(settings)
    folder = settings.folder
    access = acl.render(settings.fleet, settings.services, muted=muted)
    write_atomic(folder / "mosquitto.conf", config.render(settings).encode(), 0o600, owner=owner)
    write_atomic(folder / "acl", access.encode(), 0o600, owner=owner)
    serials = tuple(revoked)
    # One list of each CA that is believed: without its own, OpenSSL lets in nobody whom a CA vouches for.
    lists = "".join(revocation_list(authority, serials, now=now) for authority in authorities.trusted)
    write_atomic(folder / "revoked.pem", lists.encode(), 0o644, owner=owner)
    for kind, authority, clients, hosts in (
        ("device", authorities.serving, authorities.bundle, settings.hosts),
        ("service", authorities.service, authorities.service.pem, ()),
    ):
        write_atomic(folder / f"{kind}-ca.pem", clients.encode(), 0o644, owner=owner)
        credentials.server_credentials(folder, authority, kind, hosts, now=now, owner=owner)


def choose_ports(settings: BrokerSettings) -> BrokerSettings:
    """Return `settings` with free ports in place of 0; raises `PortInUse` for one that is taken."""
    device = _free_port(settings.host, settings.device_port)
    return replace(settings, device_port=device, service_port=_free_port("127.0.0.1", settings.service_port))


def _free_port(host: str, port: int) -> int:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            chosen: int = probe.getsockname()[1]
            return chosen
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(
                f"Port {port} on {host} is in use by another program; stop it or choose another port."
            ) from None
        reason = error.strerror or str(error)
        raise SetupError(
            f"The broker cannot listen on {host} port {port} ({reason}); choose another."
        ) from None


def _refusal(tail: list[str], settings: BrokerSettings) -> SetupError:
    reasons = [line.removeprefix("Error: ") for line in tail if "rror" in line] or tail[-1:]
    if any("Address already in use" in line for line in tail):
        return PortInUse(
            f"Port {settings.device_port} or {settings.service_port} was taken by another program; start again."
        )
    reason = "; ".join(reasons) or "it said nothing"
    if any("persistent database" in line or "restor" in line for line in tail):
        return UnreadableDatabase(f"Mosquitto cannot read its database: {reason}")
    return SetupError(f"Mosquitto refused {settings.folder / 'mosquitto.conf'}: {reason}")


def _tell(line: str) -> None:
    if line.startswith("Warning: ACL pattern"):
        return  # what every device may read has no %u in it, and is meant
    if line.startswith("Error"):
        _log.error(line)
    elif line.startswith("Warning") or _DROPPING in line:
        _log.warning(line)
    else:
        _log.debug(line)


async def _ended(process: subprocess.Popen[bytes]) -> None:
    """Return when the process has ended, without polling: a pidfd becomes readable then."""
    if process.poll() is not None:
        return
    # Not reaped yet, so the pid is still this child's.
    descriptor = os.pidfd_open(process.pid)
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
