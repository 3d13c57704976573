"""Mosquitto as the hub's child, for real: who gets in, who reads what, and that it never outlives the hub."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.broker import mosquitto
from hub.broker.config import BrokerSettings
from hub.broker.credentials import Credentials
from hub.broker.evict import evict
from hub.broker.mosquitto import Mosquitto
from hub.broker.session import IngestSettings, Session
from hub.broker.wire import Link, LinkError
from hub.errors import SetupError
from hub.identity.building import DAY
from hub.identity.ca import open_authorities
from tests.support.mosquitto import Broker, Peer, wait_until
from tests.support.tls import handshake, is_refused

DESIRED = "acme/v1/devices/{}/down/desired"
STATUS = "acme/v1/devices/{}/up/status"
NOT_AUTHORISED = 0x87


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


def test_a_device_with_its_certificate_speaks_tls_1_3(broker: Broker) -> None:
    assert handshake(broker.device_files("tls-a").context(), broker.device_port) == "TLSv1.3"


def test_a_client_limited_to_tls_1_2_is_refused(broker: Broker) -> None:
    context = broker.device_files("tls-b").context()
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert is_refused(context, broker.device_port)


def _without_certificate(files: Credentials) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(files.ca)
    return context


def _with_ca(files: Credentials, ca: Path) -> ssl.SSLContext:
    return Credentials(ca, files.certificate, files.key).context()


@pytest.mark.parametrize("listener", ["device", "service"])
def test_a_client_without_a_certificate_is_refused(broker: Broker, listener: str) -> None:
    files = broker.device_files("bare") if listener == "device" else broker.service_files("svc.bare")
    port = broker.device_port if listener == "device" else broker.service_port
    assert is_refused(_without_certificate(files), port)


def test_a_device_certificate_does_not_open_the_service_listener(broker: Broker) -> None:
    context = _with_ca(broker.device_files("sneaky"), broker.service_files("svc.hoister").ca)
    assert is_refused(context, broker.service_port)


def test_a_device_certificate_named_like_a_service_does_not_open_the_service_listener(broker: Broker) -> None:
    context = _with_ca(broker.device_files("svc.hoister"), broker.service_files("svc.hoister").ca)
    assert is_refused(context, broker.service_port)


def test_a_device_cannot_pose_as_the_broker(broker: Broker) -> None:
    """Its certificate is for clients only, so another device that pins the same CA refuses it."""
    files = broker.device_files("impostor")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(files.certificate, files.key)
    ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = broker.device_files("victim").context()
    client.check_hostname = False  # the name is not the point
    end = server.wrap_bio(ours, theirs, server_side=True)
    start = client.wrap_bio(theirs, ours)
    with pytest.raises(ssl.SSLWantReadError):
        start.do_handshake()
    with pytest.raises(ssl.SSLWantReadError):
        end.do_handshake()
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate purpose"):
        start.do_handshake()


def test_a_device_publishes_its_own_reports_and_nobody_elses(broker: Broker) -> None:
    with broker.service("svc.ingest-0") as ingest, broker.device("pub-a") as device:
        ingest.subscribe(STATUS.format("+"))
        assert device.publish(STATUS.format("pub-b"), b"forged") == NOT_AUTHORISED
        assert device.publish(DESIRED.format("pub-a"), b"forged", retain=True) == NOT_AUTHORISED
        assert device.publish("acme/v1/releases/kiosk/canary", b"forged", retain=True) == NOT_AUTHORISED
        assert device.publish("acme/v1/trust/root", b"forged", retain=True) == NOT_AUTHORISED
        assert device.publish(STATUS.format("pub-a"), b"mine") == 0
        assert ingest.receive() == (STATUS.format("pub-a"), b"mine")


def test_a_device_reads_its_own_desired_state_and_nobody_elses(broker: Broker) -> None:
    with broker.service("svc.hoister") as hoister, broker.device("read-a") as device:
        device.subscribe(DESIRED.format("+"), STATUS.format("+"), "acme/v1/releases/+/+")
        assert hoister.publish(DESIRED.format("read-b"), b"for b", retain=True) == 0
        assert hoister.publish(DESIRED.format("read-a"), b"for a", retain=True) == 0
        assert hoister.publish("acme/v1/releases/kiosk/canary", b"for all", retain=True) == 0
        received = [device.receive(), device.receive()]
        assert received == [
            (DESIRED.format("read-a"), b"for a"),
            ("acme/v1/releases/kiosk/canary", b"for all"),
        ]
        assert device.messages.empty()


def test_a_device_cannot_take_another_devices_session_by_its_client_id(broker: Broker) -> None:
    with broker.device("own-a") as victim:
        files = broker.device_files("own-b")
        with Peer(files, broker.device_port, "own-a") as attacker:
            assert attacker.publish(STATUS.format("own-a"), b"x") == NOT_AUTHORISED
            assert victim.publish(STATUS.format("own-a"), b"still here") in (0, 0x10)
            assert not victim.disconnected.is_set()


def test_retained_messages_survive_an_orderly_restart(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    with broker, broker.service("svc.hoister") as hoister:
        hoister.publish(DESIRED.format("keep"), b"kept", retain=True)
    with broker, broker.device("keep") as device:
        device.subscribe(DESIRED.format("keep"))
        assert device.receive() == (DESIRED.format("keep"), b"kept")


def run(settings: BrokerSettings, folder: Path, body: Any, **options: Any) -> None:
    """Run `body(broker)` inside a started `Mosquitto`."""

    async def main() -> None:
        authorities = open_authorities(folder / "ca", "acme", now=int(time.time()))
        async with Mosquitto(settings, authorities, now=lambda: int(time.time()), **options) as broker:
            await body(broker)

    asyncio.run(main())


def local(folder: Path, **settings: Any) -> BrokerSettings:
    return BrokerSettings(folder / "broker", "acme", **{"host": "127.0.0.1", "device_port": 0, **settings})


async def until(condition: Any, seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def test_it_accepts_connections_once_started_and_none_once_stopped(tmp_path: Path) -> None:
    ports: list[int] = []

    async def body(broker: Mosquitto) -> None:
        ports.extend([broker.device_port, broker.service_port])
        for port in ports:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()

    run(local(tmp_path), tmp_path, body)
    for port in ports:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)


def test_a_broker_that_dies_is_started_again_on_the_same_ports(tmp_path: Path) -> None:
    async def body(broker: Mosquitto) -> None:
        before = (broker.pid, broker.device_port, broker.service_port)
        assert before[0] is not None
        os.kill(before[0], signal.SIGKILL)
        await until(lambda: broker.restarts == 1)
        assert broker.pid not in (None, before[0])
        assert (broker.device_port, broker.service_port) == before[1:]
        assert broker.problem == ""
        socket.create_connection(("127.0.0.1", broker.device_port), timeout=5).close()

    run(local(tmp_path), tmp_path, body, backoff_seconds=0.01)


def test_a_database_that_it_cannot_read_is_set_aside_and_kept(tmp_path: Path) -> None:
    settings = local(tmp_path)
    saved = settings.folder / "data" / "mosquitto.db"
    saved.parent.mkdir(parents=True)
    saved.write_bytes(b"garbage" * 100)

    async def body(broker: Mosquitto) -> None:
        assert broker.pid is not None

    run(settings, tmp_path, body)
    assert saved.with_suffix(".unreadable").read_bytes() == b"garbage" * 100


def test_a_copy_made_as_root_starts_as_well(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root makes files that the broker's user may not read")

    async def body(broker: Mosquitto) -> None:
        assert broker.pid is not None

    settings = local(tmp_path)
    run(settings, tmp_path, body)
    for path in settings.folder.rglob("*"):
        os.chown(path, 0, 0)
    run(settings, tmp_path, body)


def test_while_it_cannot_be_restarted_the_problem_is_a_sentence(tmp_path: Path) -> None:
    async def body(broker: Mosquitto) -> None:
        program = tmp_path / "bin" / "mosquitto"
        program.rename(program.with_name("gone"))
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGKILL)
        await until(lambda: "missing" in broker.problem)
        program.with_name("gone").rename(program)
        await until(lambda: broker.problem == "")
        assert broker.restarts == 1

    (tmp_path / "bin").mkdir()
    real = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")
    assert real
    (tmp_path / "bin" / "mosquitto").symlink_to(real)
    settings = local(tmp_path, program=str(tmp_path / "bin" / "mosquitto"))
    run(settings, tmp_path, body, backoff_seconds=0.01)


def test_a_client_that_subscribes_outside_its_topics_is_reported(tmp_path: Path) -> None:
    seen: list[tuple[str, str]] = []

    async def body(broker: Mosquitto) -> None:
        helper = Broker(tmp_path)
        files = helper.device_files("nosy")

        def subscribe() -> None:
            with Peer(files, broker.device_port, "nosy") as device:
                device.subscribe(DESIRED.format("nosy"), "$share/guess/acme/v1/devices/+/up/status")

        await asyncio.to_thread(subscribe)
        await until(lambda: seen)

    run(local(tmp_path), tmp_path, body, on_intruder=lambda client, text: seen.append((client, text)))
    assert seen == [("nosy", "subscribed to $share/guess/acme/v1/devices/+/up/status")]


def test_a_queue_that_overflows_while_nobody_reads_it_is_told(tmp_path: Path) -> None:
    """Publishers are told that all is well, so the broker's log is the only word of it."""
    helper = Broker(tmp_path)
    reader, writer = helper.service_files("svc.ingest-0"), helper.device_files("busy")

    async def body(broker: Mosquitto) -> None:
        def overflow() -> None:
            with Link("127.0.0.1", broker.service_port, reader.context()) as link:
                session = Session(link, IngestSettings("acme", broker.service_port))
                session.connect()
                while not session.subscribed:
                    link.wait(5)
                    session.read()
            with Peer(writer, broker.device_port, "busy") as device:
                sent = [device.send(STATUS.format("busy"), b"x") for _ in range(1200)]
                assert device.acknowledged(sent[-1]) == 0

        await asyncio.to_thread(overflow)
        await until(lambda: broker.overflows)

    run(local(tmp_path, max_queued_messages=100), tmp_path, body)


def test_an_evicted_device_loses_its_connection_and_nobody_else_does(broker: Broker) -> None:
    with broker.device("evict-a") as device, broker.device("evict-b") as other:
        evict(broker.authorities, "evict-a", port=broker.device_port, now=int(time.time()))
        assert device.disconnected.wait(60)
        assert other.publish(STATUS.format("evict-b"), b"x") in (0, 0x10)
        assert not other.disconnected.is_set()


def test_evicting_needs_the_installations_own_authorities(broker: Broker, tmp_path: Path) -> None:
    others = open_authorities(tmp_path / "others", "acme", now=int(time.time()))
    with pytest.raises((ssl.SSLError, LinkError, ConnectionError)), broker.device("evict-c") as device:
        try:
            evict(others, "evict-c", port=broker.device_port, now=int(time.time()))
        finally:
            assert not device.disconnected.is_set()


def test_a_log_line_that_cannot_be_handled_does_not_stop_the_reading(tmp_path: Path) -> None:
    """A pipe that nobody empties would stop the broker itself."""
    heard: list[str] = []

    def on_line(line: str) -> None:
        heard.append(line)
        if line == "1":
            raise ValueError(line)

    with (tmp_path / "lock").open("w") as lock:
        argv = ["sh", "-c", "for n in 1 2 3; do echo $n >&2; done"]
        child = mosquitto.Child(argv, tmp_path, lock.fileno(), on_line)
        child.process.wait(10)
        child.stop()
    assert heard == ["1", "2", "3"]


def test_certificates_that_are_due_are_renewed_without_ending_sessions(tmp_path: Path) -> None:
    clock = [int(time.time())]
    certificate = tmp_path / "broker" / "device-server.pem"

    async def main() -> None:
        authorities = open_authorities(tmp_path / "ca", "acme", now=clock[0])
        async with Mosquitto(local(tmp_path), authorities, now=lambda: clock[0]) as broker:
            first = certificate.read_text()
            broker.reload()
            assert certificate.read_text() == first
            clock[0] += 300 * DAY
            broker.reload()
            assert certificate.read_text() != first
            assert broker.pid is not None

    asyncio.run(main())


def _nothing(folder: Path) -> BrokerSettings:
    return local(folder, program="mosquitto-that-is-not-installed")


def _no_user(folder: Path) -> BrokerSettings:
    if os.geteuid() != 0:
        pytest.skip("only root changes to the broker's user")
    return local(folder, user="nobody-of-that-name")


def _refusing(folder: Path) -> BrokerSettings:
    # `cat -c FILE` does what a Mosquitto too old for our configuration does: complains and exits.
    return local(folder, program="cat")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        pytest.param(_nothing, "is missing; install Mosquitto", id="mosquitto-missing"),
        pytest.param(_no_user, "There is no user", id="user-missing"),
        pytest.param(_refusing, "Mosquitto refused .*mosquitto.conf: ", id="configuration-refused"),
        pytest.param(
            lambda d: local(d, host="192.0.2.1"), "cannot listen on 192.0.2.1", id="foreign-address"
        ),
    ],
)
def test_a_broker_that_cannot_start_says_why_in_one_sentence(
    tmp_path: Path, make: Any, sentence: str
) -> None:
    async def body(_broker: Mosquitto) -> None:
        raise AssertionError("it must not start")

    with pytest.raises(SetupError, match=sentence) as caught:
        run(make(tmp_path), tmp_path, body)
    assert "\n" not in str(caught.value)


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    async def body(_broker: Mosquitto) -> None:
        raise AssertionError("it must not start")

    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SetupError, match=f"Port {port} on 127.0.0.1 is in use"):
            run(local(tmp_path, device_port=port), tmp_path, body)


HUB = """
import asyncio, sys, time
from pathlib import Path
from hub.broker import mosquitto
from hub.broker.config import BrokerSettings
from hub.broker.evict import evict
from hub.broker.mosquitto import Mosquitto
from hub.broker.session import IngestSettings, Session
from hub.broker.wire import Link, LinkError
from hub.identity.ca import open_authorities

async def main(folder):
    now = int(time.time())
    settings = BrokerSettings(folder / "broker", "acme", host="127.0.0.1", device_port=int(sys.argv[2]))
    async with Mosquitto(settings, open_authorities(folder / "ca", "acme", now=now), now=lambda: now) as broker:
        print(broker.pid, broker.device_port, file=sys.stderr, flush=True)
        await asyncio.Event().wait()

asyncio.run(main(Path(sys.argv[1])))
"""


def is_running(pid: int) -> bool:
    """Whether a process runs; one that is only waiting to be reaped does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def kill_hub(hub: subprocess.Popen[str]) -> None:
    hub.kill()
    hub.wait()
    assert hub.stderr is not None
    hub.stderr.close()


def start_hub(tmp_path: Path, port: int) -> tuple[subprocess.Popen[str], int, int]:
    hub = subprocess.Popen(
        [sys.executable, "-c", HUB, str(tmp_path), str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert hub.stderr is not None
    words = hub.stderr.readline().split()
    if len(words) != 2:
        kill_hub(hub)
        pytest.fail(f"the hub did not start: {words}")
    # Once it answers it is in its main loop; before, Mosquitto may lose the signal.
    assert handshake(Broker(tmp_path).device_files("probe").context(), int(words[1])) == "TLSv1.3"
    return hub, int(words[0]), int(words[1])


def test_a_hub_killed_outright_leaves_no_broker_and_the_next_one_starts(tmp_path: Path) -> None:
    first, first_pid, port = start_hub(tmp_path, 0)
    kill_hub(first)
    # At once, on the same port and folder: the lock makes it wait until the old broker is gone.
    second, second_pid, _ = start_hub(tmp_path, port)
    try:
        assert not is_running(first_pid)
    finally:
        kill_hub(second)
    wait_until(lambda: not is_running(second_pid), what="the broker's end")


def test_a_broker_that_outlived_its_hub_is_ended_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped, it cannot obey the signal that its hub's death sends."""
    monkeypatch.setattr(mosquitto, "ORPHAN_SECONDS", 0.3)
    hub, pid, port = start_hub(tmp_path, 0)
    os.kill(pid, signal.SIGSTOP)
    kill_hub(hub)

    async def body(broker: Mosquitto) -> None:
        assert broker.device_port == port
        assert not is_running(pid)

    run(local(tmp_path, device_port=port), tmp_path, body)


def test_two_hubs_do_not_share_a_folder(tmp_path: Path) -> None:
    async def body(broker: Mosquitto) -> None:
        authorities = open_authorities(tmp_path / "ca", "acme", now=int(time.time()))
        with pytest.raises(SetupError, match="Another hub"):
            await Mosquitto(local(tmp_path), authorities, now=lambda: int(time.time())).start()
        assert broker.pid is not None

    run(local(tmp_path), tmp_path, body)
