"""The agent's log lines at the hub: from a level on, bounded, never kept for later."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from edge.logs import book
from edge.logs.uplink import Uplink
from edge.storage import records
from tests.edge.rig import Rig, stop
from tests.edge.world import DESIRED_TOPIC, MANIFEST_TOPIC, QUICK, Box
from topics import codec
from topics.channels import LOG, UPLINK_LIMIT
from topics.messages import Log, LogLine

log = logging.getLogger("flaghoist")


class Voice:
    """A device whose log lines go to its in-memory broker; `now` is its monotonic clock."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.now = 100.0
        self.made: list[logging.Handler] = []

    def attach(self, **settings: Any) -> Uplink:
        chosen = records.changed(QUICK, **settings)
        uplink = Uplink(self.box.paths, chosen, self.box.agent.send_log, lambda: self.now)
        log.addHandler(uplink)
        log.setLevel(logging.INFO)
        self.made.append(uplink)
        return uplink

    def lines(self) -> list[LogLine]:
        messages: list[Log] = self.box.link.of("log")
        return [line for message in messages for line in message.lines]

    def said(self) -> list[tuple[str, str]]:
        return [(line.level, line.text) for line in self.lines()]


@pytest.fixture
def voice(box: Box) -> Iterator[Voice]:
    level = log.level
    made = Voice(box)
    yield made
    for handler in made.made:
        log.removeHandler(handler)
    log.setLevel(level)


LEVELS = [
    pytest.param("off", [], id="off"),
    pytest.param("error", ["error"], id="error"),
    pytest.param("warning", ["warning", "error"], id="warning"),
    pytest.param("info", ["info", "warning", "error"], id="info"),
]


@pytest.mark.parametrize(("chosen", "sent"), LEVELS)
def test_lines_from_the_chosen_level_on_go_to_the_hub(voice: Voice, chosen: str, sent: list[str]) -> None:
    voice.attach(log_level=chosen)
    for say in (log.info, log.warning, log.error):
        say("the modem is %s", "slow")
    assert voice.said() == [(level, "the modem is slow") for level in sent]


def test_warnings_go_unless_somebody_says_otherwise(voice: Voice) -> None:
    voice.attach()
    log.info("a")
    log.warning("b")
    assert voice.said() == [("warning", "b")]


def test_what_is_said_without_a_connection_is_not_sent_later(voice: Voice) -> None:
    voice.attach()
    voice.box.agent.on_disconnected()
    log.warning("lost in the woods")
    voice.box.agent.on_connected()
    log.warning("back again")
    assert voice.said() == [("warning", "back again")]
    assert [entry.channel for entry in voice.box.spool.reports] == []


def test_a_flood_is_bounded_and_the_hub_is_told_how_much_was_left_out(voice: Voice) -> None:
    voice.attach(log_lines_per_minute=3)
    for n in range(10):
        log.warning("%d", n)
    assert [text for _, text in voice.said()] == ["0", "1", "2"]
    voice.now += 20.0
    log.warning("later")
    assert [text for _, text in voice.said()][3:] == [
        "7 lines before this one were left out, at more than 3 a minute",
        "later",
    ]
    voice.now += 3600.0
    for n in range(10):
        log.warning("%d", n)
    assert len(voice.said()) == 8, "a quiet hour saves up no more than a minute's worth"


def test_any_line_fits_into_a_message(voice: Voice) -> None:
    voice.attach()
    log.warning("ä" * 5000 + "\0\nend")
    topic, body = voice.box.link.sent[-1]
    assert topic.endswith("/up/log") and len(body) < LOG.limit
    assert codec.decode(body, Log, limit=UPLINK_LIMIT).lines[0].text == "ä" * book.MAX_LINE


def write(box: Box, text: str, *, level: int = logging.WARNING, source: str = book.UPDATE) -> None:
    book.Book(box.paths, source).emit(logging.LogRecord("x", level, "", 0, text, None, None))


def test_what_the_update_process_says_goes_too_and_once(voice: Voice) -> None:
    write(voice.box, "before this start")
    uplink = voice.attach()
    write(voice.box, "the disk is slow")
    write(voice.box, "only an info", level=logging.INFO)
    write(voice.box, "the agent's own, which went already", source=book.AGENT)
    uplink.catch_up()
    uplink.catch_up()
    write(voice.box, "again")
    uplink.catch_up()
    assert [(line.text, line.source) for line in voice.lines()] == [
        ("the disk is slow", "update"),
        ("again", "update"),
    ]


def after_nothing(_box: Box) -> None:
    pass


def after_a_new_file(box: Box) -> None:
    book.place(box.paths).replace(book.before(box.paths))


def after_a_lost_file(box: Box) -> None:
    book.place(box.paths).unlink()


@pytest.mark.parametrize("change", [after_nothing, after_a_new_file, after_a_lost_file])
def test_a_log_file_that_gave_way_to_a_new_one_is_read_from_its_beginning(
    voice: Voice, change: Callable[[Box], None]
) -> None:
    write(voice.box, "old")
    uplink = voice.attach()
    change(voice.box)
    uplink.catch_up()
    write(voice.box, "new")
    uplink.catch_up()
    assert [line.text for line in voice.lines()] == ["new"]


def test_a_real_agent_tells_a_real_broker(rig: Rig) -> None:
    rig.hoist(DESIRED_TOPIC, rig.box.desired)
    rig.hoist(MANIFEST_TOPIC, b"nonsense")
    process = rig.run()
    message = codec.decode(rig.heard("log"), Log, limit=UPLINK_LIMIT)
    stop(process)
    (line,) = message.lines
    assert (line.level, line.source) == ("warning", "agent")
    assert line.text.startswith(f"{MANIFEST_TOPIC}: refused by check malformed")
