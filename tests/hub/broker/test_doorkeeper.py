"""Withdrawn certificates: who is in is put out, who comes later is refused, and nobody else notices."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from hub.broker import doorkeeper as doorkeeping
from hub.broker.config import BrokerSettings
from hub.broker.credentials import Credentials
from hub.broker.doorkeeper import Doorkeeper
from hub.broker.evict import evict
from hub.broker.mosquitto import Mosquitto
from hub.broker.wire import LinkError
from hub.errors import SetupError
from hub.identity.building import DAY
from hub.identity.ca import open_authorities
from hub.identity.revocation import revocation_list, serial_of
from hub.store import StoreBusy
from tests.support.mosquitto import Broker, Peer
from tests.support.tls import is_refused

NOW = 1_800_000_000


class Withdrawn:
    """What the registry would say, and a doorkeeper that acts on it."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.rows: list[tuple[str, str]] = []
        self.doorkeeper = Doorkeeper(
            lambda: len(self.rows),
            lambda n: [device_id for _, device_id in self.rows[n:]],
            lambda: broker.reload([serial for serial, _ in self.rows]),
            self.put_out,
        )

    def put_out(self, device_id: str) -> None:
        evict(self.broker.authorities, device_id, port=self.broker.device_port, now=int(time.time()))

    def withdraw(self, device_id: str, files: Credentials) -> None:
        self.rows.append((serial_of(files.certificate.read_text()), device_id))
        self.doorkeeper.look()


@pytest.fixture
def withdrawn(tmp_path: Path) -> Iterator[Withdrawn]:
    with Broker(tmp_path) as broker:
        yield Withdrawn(broker)


def test_a_withdrawn_certificate_ends_its_session_and_opens_no_other(withdrawn: Withdrawn) -> None:
    broker = withdrawn.broker
    files = broker.device_files("stolen")
    with Peer(files, broker.device_port, "stolen") as stolen, broker.device("honest") as honest:
        withdrawn.withdraw("stolen", files)
        assert stolen.disconnected.wait(60)
        assert is_refused(files.context(), broker.device_port)
        assert honest.publish("acme/v1/devices/honest/up/status", b"x") in (0, 0x10)
        assert not honest.disconnected.is_set()
    assert withdrawn.doorkeeper.problem == ""


def test_it_opens_none_after_the_broker_was_restarted_either(withdrawn: Withdrawn) -> None:
    broker = withdrawn.broker
    files = broker.device_files("stolen")
    withdrawn.withdraw("stolen", files)
    broker.stop()
    broker.start()
    assert is_refused(files.context(), broker.device_port)
    assert not is_refused(broker.device_files("honest").context(), broker.device_port)


def test_a_device_that_was_made_anew_comes_in_with_its_new_certificate(withdrawn: Withdrawn) -> None:
    broker = withdrawn.broker
    files = broker.device_files("shop-1")
    withdrawn.withdraw("shop-1", files)
    assert is_refused(files.context(), broker.device_port)
    assert not is_refused(broker.device_files("shop-1").context(), broker.device_port)


def test_who_could_not_be_put_out_is_told_and_tried_again() -> None:
    rows, broken = ["shop-1"], [True]
    evicted: list[str] = []
    reloads: list[int] = []

    def put_out(device_id: str) -> None:
        if broken[0]:
            raise LinkError("the broker does not answer")
        evicted.append(device_id)

    doorkeeper = Doorkeeper(lambda: len(rows), lambda n: rows[n:], lambda: reloads.append(1), put_out)
    doorkeeper.look()
    assert not reloads, "what was withdrawn before the broker began needs no looking after"
    rows += ["shop-2", "shop-3", "shop-2"]
    doorkeeper.look()
    assert "shop-2, shop-3 may still be connected" in doorkeeper.problem
    broken[0] = False
    doorkeeper.look()
    doorkeeper.look()
    assert (evicted, len(reloads), doorkeeper.problem) == (["shop-2", "shop-3"], 2, "")


def test_a_list_that_cannot_be_written_is_told_and_tried_again() -> None:
    """A full disk once ended the doorkeeper: nobody withdrawn later was put out, and the hub said it was well."""
    rows: list[str] = []
    refusals: list[Exception] = [OSError("no space left"), SetupError("revoked.pem cannot be written")]
    evicted: list[str] = []

    def reload() -> None:
        if refusals:
            raise refusals.pop()

    doorkeeper = Doorkeeper(lambda: len(rows), lambda n: rows[n:], reload, evicted.append)
    rows.append("shop-1")
    for _ in range(2):
        doorkeeper.look()
        assert "cannot be written" in doorkeeper.problem
        assert not evicted
    doorkeeper.look()
    assert (evicted, doorkeeper.problem) == (["shop-1"], "")


def test_a_database_that_is_busy_for_a_moment_does_not_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doorkeeping, "RETRY_S", 0.0)
    answers: list[int | Exception] = [0, StoreBusy("locked"), 1]

    def last() -> int:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def main() -> None:
        loop, out = asyncio.get_running_loop(), asyncio.Event()

        def put_out(_device_id: str) -> None:
            loop.call_soon_threadsafe(out.set)

        doorkeeper = Doorkeeper(last, lambda _n: ["shop-1"], lambda: None, put_out)
        task = asyncio.create_task(doorkeeper.run())
        async with asyncio.timeout(60):
            await out.wait()
        task.cancel()

    asyncio.run(main())


def test_a_list_is_valid_as_long_as_its_ca(tmp_path: Path) -> None:
    """OpenSSL shuts out everybody once a list is past its end."""
    authority = open_authorities(tmp_path, "acme", now=NOW).device
    pem = revocation_list(authority, ["ff", "1a2b"], now=NOW + 100 * DAY)
    parsed = x509.load_pem_x509_crl(pem.encode())
    assert parsed.next_update_utc == authority.certificate.not_valid_after_utc
    assert {f"{one.serial_number:x}" for one in parsed} == {"ff", "1a2b"}
    assert parsed.is_signature_valid(authority.certificate.public_key())  # type: ignore[arg-type]


def test_of_two_reloads_at_once_the_newer_list_stays(tmp_path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def revoked() -> list[str]:
        if begun.is_set():
            return ["ab"]
        begun.set()
        assert go_on.wait(60)
        return []

    settings = BrokerSettings(tmp_path / "broker", "acme", host="127.0.0.1")
    authorities = open_authorities(tmp_path / "ca", "acme", now=NOW)
    broker = Mosquitto(settings, authorities, now=lambda: NOW, revoked=revoked)
    slow, quick = (threading.Thread(target=broker.reload) for _ in range(2))
    slow.start()
    assert begun.wait(60)
    quick.start()
    quick.join(0.5)  # if it waited for nobody, it would be done by then
    go_on.set()
    slow.join()
    quick.join()
    found = x509.load_pem_x509_crl((settings.folder / "revoked.pem").read_bytes())
    assert found.get_revoked_certificate_by_serial_number(0xAB) is not None
