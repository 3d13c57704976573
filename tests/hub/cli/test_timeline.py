"""`flaghoist device timeline`: what the hub is asked, and how the answer is shown."""

from __future__ import annotations

from typing import Any

import pytest

from hub.cli.timeline import KINDS
from hub.telemetry import timeline
from tests.hub.cli.conftest import FakeHub, Flaghoist
from tests.hub.world import World

PATH = "GET /devices/shop-12/timeline"
ENTRY: dict[str, Any] = {
    "at": "2026-11-25T09:30:00.123Z",
    "kind": "drift",
    "id": "drift/1",
    "text": "no drift",
    "detail": {},
}


def page(*entries: dict[str, Any], cursor: str | None = None) -> tuple[int, Any]:
    return 200, {"device_id": "shop-12", "items": list(entries), "next_cursor": cursor}


def test_kinds_of_the_command_are_those_of_the_hub() -> None:
    assert KINDS == timeline.KINDS


def test_a_real_hubs_timeline_is_shown_newest_first(flaghoist: Flaghoist, real: World) -> None:
    real.device("shop-12")
    real.now += 60_000
    real.heartbeat("shop-12")
    ran = flaghoist("device", "timeline", "shop-12", "--kind", "presence", "--kind", "audit")
    assert (ran.code, ran.err) == (0, "")
    lines = [line.split("\t")[1:] for line in ran.out.splitlines()]
    assert lines == [
        ["kind", "what"],
        ["presence", "online"],
        ["audit", "device.registered by device:shop-12"],
    ]
    shown = flaghoist("device", "timeline", "shop-12", "--json").json
    assert [item["kind"] for item in shown] == ["presence", "audit", "status"]


def test_pages_are_read_until_there_are_enough(flaghoist: Flaghoist, hub: FakeHub) -> None:
    first = [ENTRY | {"text": f"{n}"} for n in range(500)]
    second = [ENTRY | {"text": f"{n}"} for n in range(500, 1000)]
    hub.on(f"{PATH}?limit=500", page(*first, cursor="abc"))
    hub.on(f"{PATH}?limit=500&cursor=abc", page(*second, cursor="def"))
    ran = flaghoist("device", "timeline", "shop-12", "--limit", 501)
    assert ran.out.splitlines()[-1] == "2026-11-25T09:30:00Z\tdrift\t500"
    assert len(ran.out.splitlines()) == 502


def test_what_is_asked_for_is_asked_of_the_hub(flaghoist: Flaghoist, hub: FakeHub) -> None:
    hub.on(
        f"{PATH}?kind=drift&from=2026-11-25T09%3A30%3A00%2B01%3A00&to=2026-11-26T00%3A00%3A00Z&limit=3",
        page(ENTRY),
    )
    ran = flaghoist(
        "device", "timeline", "shop-12", "--kind", "drift", "--limit", 3,
        "--from", "2026-11-25T09:30:00+01:00", "--to", "2026-11-26T00:00:00Z",
    )  # fmt: skip
    assert (ran.code, ran.out.splitlines()[1:]) == (0, ["2026-11-25T09:30:00Z\tdrift\tno drift"])


@pytest.mark.parametrize(
    ("options", "code"),
    [
        pytest.param(["--kind", "weather"], 2, id="no such kind"),
        pytest.param(["--limit", "0"], 2, id="a limit of nothing"),
        pytest.param(["--from", "yesterday"], 1, id="a time that the hub refuses"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_sentence(
    flaghoist: Flaghoist, real: World, options: list[str], code: int
) -> None:
    real.device("shop-12")
    ran = flaghoist("device", "timeline", "shop-12", *options)
    assert (ran.code, ran.out) == (code, "")
    assert len(ran.err.strip().splitlines()) == 1
