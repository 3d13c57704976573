"""The connection over HTTPS with an agent on it and a hub in memory: what is asked, told and believed, and when."""

from __future__ import annotations

import http
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from edge.agent import Agent
from edge.link import Connected, Disconnected, Published, Received
from edge.outside import Outside
from edge.polling import answers, link
from edge.polling.answers import ENVELOPE, PROBLEM
from edge.polling.frames import Answer, Ask
from edge.polling.link import HttpsLink
from tests.edge.world import DESIRED_TOPIC, DEVICE, FLEET, MANIFEST_TOPIC, NOW, Box, Source, build
from tests.topics import kit
from topics import codec
from topics.channels import UPLINKS
from topics.heard import fingerprint
from topics.messages import UPLINK_TYPES, Message, Presence, Receipt, UpdateResult
from topics.trust import sha256

ROOT = "/trust/roots"
DESIRED = f"/devices/{DEVICE}/desired"
MANIFEST = "/manifests/kiosk/canary"
RESULTS = "/telemetry/update-results"


def refusal(status: int, detail: str = "no", **extra: Any) -> Answer:
    body = {"status": status, "title": http.HTTPStatus(status).phrase, "detail": detail, **extra}
    return Answer(status, PROBLEM, msgspec.json.encode(body))


class Hub:
    """Stands in for the exchange process and the hub behind it. `answers` are given once, by path, before all else."""

    def __init__(self) -> None:
        self.documents: dict[str, bytes] = {}
        self.answers: dict[str, list[Answer]] = {}
        self.judge: Callable[[UpdateResult], Answer] = lambda report: Answer(
            200, codec.MSGPACK, codec.encode(Receipt(spool=report.spool, n=report.n))
        )
        self.asked: list[Ask] = []
        self.says_what_is_there = True
        self.channel: object | None = None
        self.wants_write = False
        self._answer: Answer | None = None

    @property
    def paths(self) -> list[str]:
        return [ask.path for ask in self.asked]

    def posts(self, name: str) -> list[Any]:
        kinds = {path: UPLINK_TYPES[channel] for channel, path in link.POSTS.items()}
        bodies = [ask.body for ask in self.asked if ask.path == f"/telemetry/{name}"]
        return [codec.decode(body or b"", kinds[name], limit=65536) for body in bodies]

    def ask(self, ask: Ask) -> None:
        assert self._answer is None, "one question at a time"
        self.channel = self
        self.asked.append(ask)
        self._answer = self._answered(ask)

    def _answered(self, ask: Ask) -> Answer:
        if self.answers.get(ask.path):
            return self.answers[ask.path].pop(0)
        if ask.body is not None:
            if ask.path in ("/telemetry/status", "/telemetry/presence"):
                is_told = self.says_what_is_there and ask.path.endswith("status")
                return Answer(204, documents=self.word() if is_told else "")
            return self.judge(codec.decode(ask.body, UpdateResult, limit=65536))
        body = self.documents.get(ask.path)
        if body is None:
            return refusal(404)
        return Answer(304) if ask.etag == f'"{sha256(body)}"' else Answer(200, ENVELOPE, body)

    def word(self) -> str:
        root = max([1, *(int(path.rpartition("/")[2]) for path in self.documents if path.startswith(ROOT))])
        manifest = next((self.documents[path] for path in self.documents if "manifests" in path), b"")
        return fingerprint(root, manifest, self.documents[DESIRED])

    def read(self) -> Answer | None:
        answer, self._answer = self._answer, None
        return answer

    def writable(self) -> None:
        """All that is asked is taken at once."""

    def let_go(self) -> None:
        self.channel = self._answer = None


class Device:
    """An agent on the connection, and what the runner does."""

    def __init__(self, box: Box) -> None:
        self.box, self.hub = box, Hub()
        self.hub.documents[DESIRED] = box.desired
        self.lost: list[str] = []
        self.now = 1000.0
        self.link = HttpsLink(self.hub, FLEET, DEVICE, lambda: self.agent.memory)  # type: ignore[arg-type]
        self.agent = Agent(
            Outside(
                box.paths, box.settings, box.device, box.clock, self.link, box.jobs, box.spool, lambda n: b"\x11" * n
            )
        )  # fmt: skip
        self.agent.start()
        box.agent = self.agent
        box.settle()

    def connect(self) -> None:
        self.agent.will()
        self.link.open()
        self.turn()

    def turn(self) -> None:
        """Let everything happen that needs no time."""
        while not self.link.is_idle:
            self.link.readable()
            self.link.misc()
            for event in self.link.events():
                match event:
                    case Connected():
                        self.agent.on_connected()
                    case Received(topic, body):
                        self.agent.on_message(topic, body)
                    case Published(mid, code):
                        self.agent.on_published(mid, code)
                    case Disconnected(reason):
                        self.lost.append(reason)
                        self.agent.on_disconnected()
            self.box.settle()

    def poll(self) -> list[str]:
        """Let the next heartbeat be due; return what was asked."""
        before = len(self.hub.asked)
        self.now += 300
        self.agent.report_now()
        self.turn()
        return self.hub.paths[before:]


@pytest.fixture
def device(tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    box = Box(tmp_path, source)
    made = Device(box)
    monkeypatch.setattr(link, "time", SimpleNamespace(monotonic=lambda: made.now, time=time.time))
    yield made
    box.close()


def test_every_uplink_has_a_way_to_be_posted() -> None:
    assert set(link.POSTS) == {channel.name for channel in UPLINKS}


def test_a_connection_asks_for_everything_and_tells_who_is_there(device: Device) -> None:
    device.hub.documents[MANIFEST] = device.box.manifest()
    device.connect()
    assert device.hub.paths[:4] == [f"{ROOT}/2", DESIRED, MANIFEST, "/telemetry/presence"]
    (presence,) = device.hub.posts("presence")
    assert (presence.state, presence.session) == ("online", device.agent.memory.session)
    assert device.hub.posts("status")[-1].verdict.reason == "nothing_offered"
    assert device.agent.settled


def test_an_update_is_offered_carried_out_reported_once_and_receipted(device: Device) -> None:
    first = build(7)
    assert device.box.source is not None
    device.box.source.add(first)
    device.hub.documents[MANIFEST] = device.box.manifest(first)
    device.connect()
    assert [(each.n, each.state) for each in device.hub.posts("update-results")] == [
        (1, "downloading"),
        (2, "committed"),
    ]
    assert (len(device.box.spool), device.agent.settled) == (0, True)


@pytest.fixture
def heard(device: Device, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The topics of what the agent hears."""
    topics: list[str] = []
    take = device.agent.on_message

    def hear(topic: str, body: bytes) -> None:
        topics.append(topic)
        take(topic, body)

    monkeypatch.setattr(device.agent, "on_message", hear)
    return topics


@pytest.mark.parametrize(
    ("says", "asked"),
    [
        pytest.param(True, [], id="a hub that says what is there"),
        pytest.param(False, [f"{ROOT}/2", DESIRED, MANIFEST], id="an older hub"),
    ],
)
def test_each_heartbeat_polls_and_what_stayed_the_same_is_told_once_per_connection(
    device: Device, heard: list[str], says: bool, asked: list[str]
) -> None:
    device.hub.says_what_is_there = says
    device.hub.documents[MANIFEST] = device.box.manifest()
    device.connect()
    assert sorted(heard) == sorted([DESIRED_TOPIC, MANIFEST_TOPIC])
    assert device.hub.asked[1].etag == f'"{sha256(device.box.desired)}"', "known from before this start"
    heard.clear()
    assert device.poll() == ["/telemetry/status", *asked]
    assert heard == []
    device.hub.documents[MANIFEST] = device.box.manifest(basis_points=0, paused=True)
    device.poll()
    assert heard == [MANIFEST_TOPIC]


@pytest.mark.parametrize(
    ("path", "news"),
    [
        pytest.param(
            DESIRED, lambda device: kit.signed_desired(device.box.numbers.next()), id="desired state"
        ),
        pytest.param(MANIFEST, lambda device: device.box.manifest(paused=True), id="manifest"),
        pytest.param(f"{ROOT}/2", lambda _: kit.signed_root(version=2, expires_at=NOW + kit.DAY), id="root"),
    ],
)
def test_any_news_is_asked_for_and_then_nothing_more(
    device: Device, path: str, news: Callable[[Device], bytes]
) -> None:
    device.hub.documents[MANIFEST] = device.box.manifest()
    device.connect()
    assert device.poll() == ["/telemetry/status"]
    device.hub.documents[path] = news(device)
    assert path in device.poll()
    assert device.poll() == ["/telemetry/status"]


def test_roots_are_walked_before_what_they_sign_and_one_that_is_refused_is_asked_for_once(
    device: Device,
) -> None:
    device.hub.documents |= {
        f"{ROOT}/2": kit.signed_root(version=2, expires_at=NOW + kit.DAY),
        f"{ROOT}/3": kit.signed_root(version=3, expires_at=NOW + kit.DAY),
        f"{ROOT}/4": kit.signed_root(version=5, expires_at=NOW + kit.DAY),
    }
    device.connect()
    assert device.hub.paths[:4] == [f"{ROOT}/2", f"{ROOT}/3", f"{ROOT}/4", DESIRED]
    assert device.agent.memory.trust.root.version == 3
    refusals = len(device.hub.posts("update-results"))
    assert device.poll().count(f"{ROOT}/4") == 1
    assert len(device.hub.posts("update-results")) == refusals == 1


def test_a_device_that_is_moved_asks_for_its_new_manifest_alone(device: Device) -> None:
    device.hub.says_what_is_there = False
    device.connect()
    device.hub.documents[DESIRED] = kit.signed_desired(device.box.numbers.next(), segment="early")
    asked = device.poll()
    assert [path for path in asked if "manifests" in path] == ["/manifests/kiosk/early"]
    assert [path for path in device.poll() if "manifests" in path] == ["/manifests/kiosk/early"]


def test_a_manifest_that_comes_after_the_move_is_passed_over(device: Device) -> None:
    """It was on its way when the device was moved; the agent would report it as not addressed to it."""
    device.connect()
    old = MANIFEST_TOPIC
    device.hub.documents[MANIFEST] = device.box.manifest()
    device.link.subscribe([(old, 1)])
    device.link.unsubscribe([old])
    device.turn()
    assert (device.agent.memory.manifest, len(device.box.spool)) == (b"", 0)


def test_reports_without_a_receipt_stay_and_are_posted_again(device: Device) -> None:
    """The answer is lost after the hub has stored the report: the second post is the same report, and counts once."""
    first = build(7)
    assert device.box.source is not None
    device.box.source.add(first)
    device.hub.documents[MANIFEST] = device.box.manifest(first)
    device.hub.answers[RESULTS] = [Answer(problem="no hub answers at http://hub (timed out)")]
    device.connect()
    assert device.lost == ["no hub answers at http://hub (timed out)"]
    assert device.link.publish("t", b"", qos=1, retain=False) is None
    device.connect()
    results = device.hub.posts("update-results")
    assert [each.n for each in results] == [1, 1, 2]
    assert results[0] == results[1]
    assert len(device.box.spool) == 0


@pytest.mark.parametrize(
    ("status", "in_quarantine", "left"),
    [
        pytest.param(422, True, 0, id="in quarantine, with its receipt"),
        pytest.param(422, False, 1, id="refused without a receipt"),
        pytest.param(413, False, 1, id="too large"),
    ],
)
def test_a_refused_report_ends_nothing_and_goes_only_with_its_receipt(
    device: Device, status: int, in_quarantine: bool, left: int
) -> None:
    def refuse(report: UpdateResult) -> Answer:
        receipt = {"spool": report.spool, "n": report.n} if in_quarantine else None
        return refusal(status, receipt=receipt)

    device.connect()
    device.hub.documents[MANIFEST] = b"nonsense"
    device.hub.judge = refuse
    device.poll()
    assert [each.state for each in device.hub.posts("update-results")] == ["refused"]
    assert (len(device.box.spool), device.lost) == (left, [])


def test_what_waits_already_is_not_posted_twice(device: Device) -> None:
    device.connect()
    topic, body = f"{FLEET}/v1/devices/{DEVICE}/up/presence", codec.encode(presence())
    mids = [device.link.publish(topic, body, qos=1, retain=True) for _ in range(3)]
    assert mids[1] == mids[2] != mids[0], "the first is on its way"
    device.turn()
    assert len(device.hub.posts("presence")) == 1 + 2


def test_the_process_goes_a_moment_after_there_is_nothing_to_ask(device: Device) -> None:
    device.connect()
    assert (device.hub.channel, device.link.deadline) == (device.hub, device.now + link.LINGER)
    device.now += link.LINGER
    device.link.misc()
    assert (device.hub.channel, device.link.deadline) == (None, None)
    device.poll()
    assert device.hub.channel == device.hub


def test_a_connection_that_is_dropped_forgets_what_it_was_to_tell(device: Device) -> None:
    device.connect()
    device.link.publish(
        f"{FLEET}/v1/devices/{DEVICE}/up/presence", codec.encode(presence()), qos=1, retain=True
    )
    device.link.drop("the disk refuses")
    assert device.link.events() == [Disconnected("the disk refuses")]
    device.link.drop("once more")
    assert (device.link.events(), device.link.is_idle) == ([], True)


PLACE = "what answers in the hub's place is none"
BROKEN = [
    pytest.param(Answer(problem="timed out"), "timed out", id="nobody"),
    pytest.param(refusal(401, "It is revoked."), "the hub refuses this device: It is revoked", id="revoked"),
    pytest.param(refusal(403, "It is not yours."), "the hub refuses this device: It is not yours", id="forbidden"),
    pytest.param(refusal(503, "It is busy."), "the hub answers 503: It is busy", id="busy"),
    pytest.param(Answer(502, "text/html"), "the hub answers 502: try again later", id="its proxy has lost it"),
    pytest.param(refusal(429), "the hub answers 429: no", id="too many requests"),
    pytest.param(Answer(401, "text/html"), f"{PLACE} (401, text/html)", id="a portal's own 401"),
    pytest.param(Answer(302, "text/html"), f"{PLACE} (302, text/html)", id="a portal's redirect"),
    pytest.param(Answer(200, "text/html", b"<h1>"), f"{PLACE} (200, text/html)", id="a portal's page"),
    pytest.param(Answer(404, "text/html"), f"{PLACE} (404, text/html)", id="another server"),
    pytest.param(refusal(404), "", id="nothing there"),
    pytest.param(refusal(422), "", id="this one is refused"),
]  # fmt: skip


@pytest.mark.parametrize("posted", [False, True], ids=["asked", "posted"])
@pytest.mark.parametrize(("answer", "reason"), BROKEN)
def test_what_ends_the_connection(answer: Answer, reason: str, posted: bool) -> None:
    assert answers.broken(answer, posted=posted) == reason


@pytest.mark.parametrize(
    ("answer", "posted", "ends"),
    [
        pytest.param(Answer(200, ENVELOPE, b"x"), False, False, id="a document"),
        pytest.param(Answer(304), False, False, id="the same document"),
        pytest.param(Answer(204), False, True, id="nothing, where a document was asked for"),
        pytest.param(Answer(204), True, False, id="taken"),
        pytest.param(Answer(200, codec.MSGPACK, b"x"), True, False, id="a receipt"),
        pytest.param(Answer(200, ENVELOPE, b"x"), True, True, id="a document, where a receipt belongs"),
    ],
)
def test_what_the_hub_says_when_all_is_well(answer: Answer, posted: bool, ends: bool) -> None:
    assert bool(answers.broken(answer, posted=posted)) == ends


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Answer(200, codec.MSGPACK, b"\xc1"), id="not MessagePack"),
        pytest.param(Answer(200, codec.MSGPACK, codec.encode(Receipt(spool="00" * 8, n=1)) + b"x"), id="trailing byte"),
        pytest.param(Answer(422, PROBLEM, b"[" * 5000), id="deep"),
        pytest.param(Answer(422, PROBLEM, b"\xff"), id="not text"),
        pytest.param(refusal(422, receipt={"spool": 7}), id="not a receipt"),
        pytest.param(Answer(422, "text/html", b'{"receipt": {"spool": "0123456789", "n": 1}}'), id="not the hub's"),
        pytest.param(Answer(204), id="nothing"),
    ],
)  # fmt: skip
def test_what_is_no_receipt(answer: Answer) -> None:
    assert answers.receipt(answer) is None


def presence() -> Message:
    return Presence(boot=(1, "00000001"), session=1, state="online", at=1)
