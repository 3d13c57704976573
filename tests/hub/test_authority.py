"""Replacing the device CA: when each step follows, and what devices are told and given meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509

from hub.errors import SetupError
from hub.identity import reading, rotation
from hub.identity.ca import Generations, open_authorities
from hub.identity.rotation import ANNOUNCE_LEFT, DAY, SWITCH_LEFT, TOKENS, Standing
from hub.registry.authority import AuthorityRenewal
from tests.hub.test_certificates import ask, opened
from tests.hub.test_registry import answer_of
from tests.hub.world import ADMIN, World
from tests.topics import kit

NOW = 1_000_000_000
SETTLED = Generations()
ANNOUNCED = Generations(first=1, serving=1, newest=2, since=NOW - DAY)
SWITCHED = Generations(first=1, serving=2, newest=2, since=NOW - DAY)
LONG_SWITCHED = Generations(first=1, serving=2, newest=2, since=NOW - TOKENS)

STEPS: list[Any] = [
    ("years are left", SETTLED, {"serving_ends": NOW + ANNOUNCE_LEFT}, ""),
    ("too few are left", SETTLED, {"serving_ends": NOW + ANNOUNCE_LEFT - 1}, "announce"),
    ("a device does not know it", ANNOUNCED, {"waiting": 1}, ""),
    ("all know it", ANNOUNCED, {}, "switch"),
    ("the old one ends", ANNOUNCED, {"waiting": 1, "serving_ends": NOW + SWITCH_LEFT - 1}, "switch"),
    ("a token may name the old one", SWITCHED, {}, ""),
    ("nobody can need the old one", LONG_SWITCHED, {}, "retire"),
    ("one that was left behind", LONG_SWITCHED, {"waiting": 1}, ""),
    ("the old one has ended", LONG_SWITCHED, {"waiting": 1, "oldest_ends": NOW}, "retire"),
]


@pytest.mark.parametrize(
    ("generations", "changes", "expected"), [pytest.param(*row[1:], id=row[0]) for row in STEPS]
)
def test_which_step_follows_by_itself(
    generations: Generations, changes: dict[str, int], expected: str
) -> None:
    fields = {"now": NOW, "serving_ends": NOW + 9000 * DAY, "oldest_ends": NOW + 9000 * DAY, "waiting": 0}
    assert rotation.due(generations, Standing(**{**fields, **changes})) == expected


def issuer(world: World, pem: str) -> str:
    """The CA among those that are believed which issued a certificate."""
    found = x509.load_pem_x509_certificate(pem.encode())
    (sha256,) = [one.sha256 for one in world.authorities.trusted if reading.is_by(found, one)]
    return sha256


def order(world: World, step: str, **body: Any) -> Any:
    return world.client.post("/trust/ca/steps", json={"step": step, **body})


def test_a_new_ca_reaches_every_device_before_the_broker_shows_it(world: World) -> None:
    old = world.authorities.device.sha256
    held = {name: answer_of(world.register(name, world.new_token())).certificate_pem for name in ("a", "b")}
    world.device("gone")
    world.client.post("/devices/gone/revoke")
    assert world.desired("a").cas == [], "nothing is said until there is something to say"

    announced = order(world, "announce").json()
    new = world.authorities.device.sha256
    assert (announced["state"], announced["waiting"], announced["serving"]["sha256"]) == ("announced", 2, old)
    assert announced["missing"] == ["a", "b"]
    assert world.broker_told == ["reload"]
    for name in held:
        assert world.desired(name).cas == [old, new]
    world.authority_renewal.look()
    assert world.authorities.serving.sha256 == old, "nobody knows it yet"

    for name, certificate in held.items():
        given = opened(ask(world, name, certificate, cas=[old]), name)
        assert issuer(world, given.certificate_pem) == new
        assert given.ca_pem == world.authorities.bundle
        held[name] = given.certificate_pem
        world.authority_renewal.look()
        assert world.authorities.serving.sha256 == old, "what was given may not have arrived"
    for name, certificate in held.items():
        assert ask(world, name, certificate, cas=[old, new]).status_code == 204
    world.authority_renewal.look()
    assert (world.authorities.serving.sha256, world.broker_told) == (new, ["reload"] * 2)

    world.now += TOKENS * 1000
    world.authority_renewal.look()
    assert [one.sha256 for one in world.authorities.trusted] == [new]
    assert world.broker_told == ["reload", "reload", "restart", "reload"]
    assert world.desired("a").cas == [new]
    assert opened(ask(world, "a", held["a"], cas=[old, new]), "a").ca_pem == world.authorities.device.pem
    shown = world.client.get("/trust/ca").json()
    assert (shown["state"], shown["waiting"], len(shown["trusted"])) == ("settled", 0, 1)
    assert [kind for kind in world.events() if kind.startswith("ca.")] == [
        "ca.announced",
        "ca.switched",
        "ca.retired",
    ]


def test_tokens_name_one_ca_and_get_that_one_whichever_is_shown_by_then(world: World) -> None:
    before = world.new_token(uses=9)
    order(world, "announce")
    during = world.new_token()
    assert during.ca_sha256 == before.ca_sha256
    order(world, "switch", leave_behind=True)
    after = world.new_token()
    assert after.ca_sha256 == world.authorities.serving.sha256 != before.ca_sha256
    old, new = (authority.pem for authority in world.authorities.trusted)
    assert answer_of(world.register("a", before)).ca_pem == old
    assert answer_of(world.register("b", after)).ca_pem == new
    assert world.client.get("/trust/ca").json()["waiting"] == 1, "the one that knows the old CA alone"


def test_a_ca_whose_key_was_stolen_goes_in_three_orders_and_nobody_is_left_behind_by_mistake(
    world: World,
) -> None:
    device, token = world.device("a"), world.new_token()
    assert order(world, "switch").json()["rule"] == "ca_step"
    assert order(world, "announce").status_code == 200
    for step, state in (("switch", "switched"), ("retire", "settled")):
        refused = order(world, step)
        assert (refused.status_code, refused.json()["rule"]) == (409, "ca_waiting")
        assert "the new CA: 1." in refused.json()["detail"]
        assert order(world, step, leave_behind=True).json()["state"] == state
    assert "restart" in world.broker_told
    assert world.desired(device).cas == [world.authorities.device.sha256]
    refused = world.register("b", token)
    assert (refused.status_code, refused.json()["rule"]) == (401, "token_ca")
    assert order(world, "explode").status_code == 400


def test_a_step_that_was_broken_off_is_finished(world: World) -> None:
    """As when the hub was killed between its CA's files and what it tells devices."""
    world.device("a")
    world.authorities.change(
        Generations(first=1, serving=1, newest=2, since=world.now // 1000), world.now // 1000
    )
    assert world.desired("a").cas == []
    world.authority_renewal.look()
    assert world.broker_told == ["reload"]
    assert world.desired("a").cas == [one.sha256 for one in world.authorities.trusted]


def test_a_step_that_the_broker_could_not_be_told_of_stands_in_the_audit(world: World) -> None:
    def refuse() -> None:
        raise SetupError("revoked.pem cannot be written")

    world.device("a")
    parts = (world.store, world.authorities, world.registry)
    renewal = AuthorityRenewal(*parts, refuse, refuse, lambda: world.now)
    with pytest.raises(SetupError):
        renewal.order("announce", ADMIN, leave_behind=False)
    assert world.events().count("ca.announced") == 1
    world.authority_renewal.look()
    assert world.events().count("ca.announced") == 1
    assert world.broker_told == ["reload"]


def test_the_generations_outlive_a_restart_of_the_hub(world: World, tmp_path: Any) -> None:
    order(world, "announce")
    order(world, "switch", leave_behind=True)
    again = open_authorities(tmp_path / "ca", kit.FLEET, now=world.now // 1000)
    assert [one.sha256 for one in again.trusted] == [one.sha256 for one in world.authorities.trusted]
    assert (again.serving.sha256, again.generations) == (
        world.authorities.serving.sha256,
        world.authorities.generations,
    )
