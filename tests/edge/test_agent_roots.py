"""What the agent does about roots that it missed, and what follows."""

from __future__ import annotations

import pytest

from edge import safemode
from tests.edge.test_agent import command, desired
from tests.edge.world import (
    DESIRED_TOPIC,
    NOW,
    ROOT_TOPIC,
    Box,
    Source,
    build,
)
from tests.topics import kit
from topics import codec
from topics.documents import RootChain


def roots_up_to(version: int) -> dict[int, bytes]:
    """Return roots 2 to `version`; each brings the root key that signs the next."""
    return {
        number: kit.signed_root(
            number,
            expires_at=NOW + 365 * kit.DAY,
            roots=(f"root-{number}",),
            signers=(f"root-{number - 1}", f"root-{number}"),
        )
        for number in range(2, version + 1)
    }


def test_roots_that_were_missed_are_fetched_from_the_hub(box: Box, source: Source) -> None:
    chain = roots_up_to(12)
    source.files = {f"/trust/roots/{number}": data for number, data in chain.items()}
    box.hear(codec.encode(RootChain([chain[11], chain[12]])), ROOT_TOPIC)
    assert box.memory.trust.root.version == 12
    assert box.status.verdict is not None and box.status.verdict.reason == "nothing_offered"
    assert list(box.paths.wanted_roots.iterdir()) == []


def test_a_gap_that_the_hub_cannot_fill_is_asked_for_once(box: Box, source: Source) -> None:
    chain = roots_up_to(4)
    source.files = {"/trust/roots/2": chain[2], "/trust/roots/3": chain[4]}
    for _ in range(3):
        box.hear(codec.encode(RootChain([chain[4]])), ROOT_TOPIC)
    assert box.memory.trust.root.version == 2
    asked = [request["path"] for request in source.requests]
    assert len(asked) == len(set(asked)) or asked.count("/trust/roots/3") <= 2
    assert box.status.verdict is not None and box.status.verdict.reason == "untrusted"


def test_a_root_signed_by_nobody_known_brings_nothing(box: Box) -> None:
    evil = kit.signed_root(2, expires_at=NOW + 365 * kit.DAY, roots=("evil",), signers=("evil",))
    box.hear(codec.encode(RootChain([evil])), ROOT_TOPIC)
    assert box.memory.trust.root.version == 1
    assert box.status.verdict is not None and box.status.verdict.check == "root_threshold"


def test_redeploy_of_the_running_release_ends_safe_mode(box: Box) -> None:
    good = build(7)
    box.offer(good)
    for sequence in (8, 9, 10):
        box.offer(build(sequence, {"files/fail-activate": b""}))
    box.hear(box.manifest(good, event="rollback", rollback_from=10))
    assert box.state.safe_mode
    box.hear(desired(box, command("redeploy", release=good.id)), DESIRED_TOPIC)
    assert box.state.safe_mode == ""
    assert [report.state for report in box.link.of("recovery")] == ["entered", "diagnostics", "left"]


def test_safe_mode_by_order_lasts_as_long_as_the_order(box: Box) -> None:
    good = build(7)
    box.offer(good)
    box.hear(desired(box, safe_mode="on"), DESIRED_TOPIC)
    assert box.calls()[-1] == f"safe-mode {good.id}"
    box.hear(desired(box, safe_mode="on"), DESIRED_TOPIC)
    assert [report.state for report in box.link.of("recovery")] == ["entered", "diagnostics"]
    box.hear(desired(box), DESIRED_TOPIC)
    assert [report.state for report in box.link.of("recovery")] == ["entered", "diagnostics", "left"]


@pytest.mark.parametrize(
    ("order", "entry", "wish"),
    [
        pytest.param("auto", "", "stay", id="nothing asked, outside"),
        pytest.param("on", "", "enter", id="ordered"),
        pytest.param("on", "own-1", "stay", id="ordered, in its own stay"),
        pytest.param("auto", "ordered-5", "leave", id="order withdrawn"),
        pytest.param("auto", "own-1", "stay", id="its own stay is not ended by silence"),
        pytest.param("cleared:own-1", "own-1", "leave", id="cleared"),
        pytest.param("cleared:own-1", "own-2", "stay", id="clearance of an earlier stay"),
        pytest.param("cleared:own-1", "", "stay", id="cleared, outside"),
    ],
)
def test_what_the_hub_asks_of_safe_mode(order: str, entry: str, wish: str) -> None:
    assert safemode.wish(order, entry) == wish
