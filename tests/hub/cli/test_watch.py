"""Watching a rollout: what counts as there, what is shown, and a hub that restarts in between."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hub.cli.rollouts import Progress, Segment, verdict
from tests.hub.cli.conftest import FakeHub, Flaghoist

ID = "kiosk-7-3f2a9c1b5d4e"
PATH = f"GET /releases/{ID}/progress"


def progress(state: str, reason: str = "", **counts: int) -> dict[str, Any]:
    canary = {"segment": "canary", "share_basis_points": 10_000, "expected": 3, "refused": {}} | counts
    return {"id": ID, "state": state, "reason": reason, "segments": [canary, {"segment": "early"}]}


RUNNING = Segment("canary", expected=3, began=2, committed=1, in_progress=1, share_basis_points=10_000)
SETTLED = Segment("canary", expected=3, began=3, committed=2, failed=1, share_basis_points=10_000)
EMPTY = Segment("canary", share_basis_points=10_000)


@pytest.mark.parametrize(
    ("state", "segments", "until", "expected"),
    [
        pytest.param("rolling", [RUNNING], [], None, id="rolling-goes-on"),
        pytest.param("paused", [RUNNING], [], None, id="paused-goes-on"),
        pytest.param("published", [], [], None, id="not-begun-goes-on"),
        pytest.param("complete", [SETTLED], [], True, id="complete"),
        pytest.param("halted", [SETTLED], [], False, id="halted"),
        pytest.param("rolled_back", [SETTLED], [], False, id="rolled-back"),
        pytest.param("superseded", [SETTLED], [], False, id="superseded"),
        pytest.param("halted", [SETTLED], ["halted"], True, id="a-halt-was-wanted"),
        pytest.param("complete", [SETTLED], ["halted"], False, id="complete-where-a-halt-was-wanted"),
        pytest.param("halted", [SETTLED], ["complete", "halted"], True, id="either"),
        pytest.param("halted", [SETTLED], ["rolled_back"], None, id="a-rollback-may-follow-a-halt"),
        pytest.param("halted", [SETTLED], ["settled"], False, id="halted-where-settled-was-wanted"),
        pytest.param("rolling", [RUNNING], ["settled"], None, id="not-settled"),
        pytest.param("rolling", [SETTLED], ["settled"], True, id="settled"),
        pytest.param("rolling", [EMPTY], ["settled"], None, id="nobody-is-no-evidence"),
        pytest.param("published", [Segment("canary")], ["settled"], None, id="nothing-is-offered-yet"),
        pytest.param("rolling", [SETTLED], ["rolling"], True, id="rolling-was-wanted"),
    ],
)
def test_verdict(state: str, segments: list[Segment], until: list[str], expected: bool | None) -> None:
    assert verdict(Progress(ID, state, segments=segments), frozenset(until)) is expected


def watch(flaghoist: Flaghoist, *args: object) -> Any:
    return flaghoist("rollout", "watch", ID, "--interval", 0.05, *args)


def test_a_pipe_gets_a_line_for_each_change(flaghoist: Flaghoist, hub: FakeHub) -> None:
    hub.on(
        PATH,
        (200, progress("rolling")),
        (200, progress("rolling")),
        (200, progress("rolling", began=2, committed=1, in_progress=1)),
        (200, progress("complete", committed=3)),
    )
    ran = watch(flaghoist)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        f"{ID}; rolling; canary 100% of 3: nothing yet",
        f"{ID}; rolling; canary 100% of 3: committed 1, in progress 1",
        f"{ID}; complete; canary 100% of 3: committed 3",
    ]


def test_json_is_one_object_a_line(flaghoist: Flaghoist, hub: FakeHub) -> None:
    hub.on(PATH, (200, progress("rolling")), (200, progress("complete", committed=3)))
    ran = watch(flaghoist, "--json")
    states = [json.loads(line)["state"] for line in ran.out.splitlines()]
    assert states == ["rolling", "complete"]


def test_a_halt_ends_with_1_and_its_reason(flaghoist: Flaghoist, hub: FakeHub) -> None:
    hub.on(PATH, (200, progress("halted", reason="2 of 3 canaries fell back", rolled_back=2)))
    ran = watch(flaghoist)
    assert ran.code == 1
    assert ran.out == f"{ID}; halted; canary 100% of 3: rolled back 2 (2 of 3 canaries fell back)\n"
    assert ran.err == f"flaghoist: {ID} is halted: 2 of 3 canaries fell back\n"
    assert watch(flaghoist, "--until", "halted").code == 0


def test_a_watch_gives_up_after_its_timeout(flaghoist: Flaghoist, hub: FakeHub) -> None:
    hub.on(PATH, (200, progress("rolling")))
    ran = watch(flaghoist, "--timeout", 0.2)
    assert (ran.code, ran.err) == (
        1,
        f"flaghoist: {ID} is rolling after 0.2 seconds; run `flaghoist rollout watch {ID}` to go on watching\n",
    )


def test_a_hub_that_restarts_does_not_end_the_watch(flaghoist: Flaghoist, hub: FakeHub) -> None:
    busy = (503, {"title": "Service unavailable"})
    hub.on(PATH, (200, progress("rolling")), busy, (502, b""), (200, progress("complete", committed=3)))
    assert watch(flaghoist).code == 0


def test_a_hub_that_stays_away_ends_the_watch_with_4(
    flaghoist: Flaghoist, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.cli.rollouts.PATIENCE", 0.1)
    hub.on(PATH, (200, progress("rolling")), (503, {"title": "Service unavailable"}))
    assert watch(flaghoist).code == 4


def test_a_hub_that_was_never_there_ends_the_watch_at_once(flaghoist: Flaghoist, hub: FakeHub) -> None:
    hub.on(PATH, (503, {"title": "Service unavailable"}))
    assert watch(flaghoist).code == 4
    assert len(hub.requests) == 1


def test_a_release_that_is_not_there_is_refused(flaghoist: Flaghoist, hub: FakeHub) -> None:
    ran = watch(flaghoist)
    assert (ran.code, ran.err) == (
        1,
        f"flaghoist: the hub refused: There is nothing at /releases/{ID}/progress\n",
    )
