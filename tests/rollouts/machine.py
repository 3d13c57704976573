"""A fleet, its hub, people and a bad network, moved at random; after every step what must never be is looked for."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hub import trustroots, verified
from hub.broker import commit
from hub.broker.reduce import Uplink, reduce
from hub.deployment import views
from hub.deployment.policy import Policy
from hub.deployment.rules import Counts
from hub.errors import Conflict
from hub.registry.rules import DevicePatch
from hub.times import zones
from tests.hub.world import ADMIN, World
from tests.rollouts.checks import Checks, place_of
from tests.rollouts.device import Aftermath, End, SimDevice
from tests.rollouts.model import Known, has_failed
from tests.rollouts.scene import (
    AWAY,
    ENDS,
    IN_MEMORY,
    OFFERED,
    PLACES,
    RELEASES,
    STARTS,
    devices,
    found,
    policies,
    release_id,
    releases,
    seeds,
)
from tests.topics import kit
from topics import codec
from topics.channels import BY_NAME, MANIFEST
from topics.messages import Presence, UpdateResult
from topics.names import SEGMENTS


class Fleet(Checks, RuleBasedStateMachine):
    """The rules are what can happen; the invariants, and the checks in some rules, are what the product promises."""

    folder: Path
    """The template; set by the test."""

    def __init__(self) -> None:
        super().__init__()
        place = IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else None
        self.place = Path(tempfile.mkdtemp(prefix="rollout-", dir=place))
        shutil.copytree(self.folder, self.place / "hub")
        self.world = World(self.place / "hub")
        self.fleet = {
            f"dev-{number}": SimDevice(f"dev-{number}", segment, "pi3" if number == 0 else "pi4")
            for number, segment in enumerate(PLACES)
        }
        self.registered = set(self.fleet)
        self.known = Known()
        self.policies: dict[str, Policy] = {}

    def teardown(self) -> None:
        """Let the fleet come to rest, look at where it stands, and clear up."""
        try:
            self._come_to_rest()
        finally:
            self.world.close()
            shutil.rmtree(self.place)

    @initialize(
        policy=st.lists(policies, min_size=RELEASES, max_size=RELEASES),
        start=st.sampled_from(STARTS),
        days=st.lists(found, max_size=6),
    )
    def begin(self, policy: list[Policy], start: tuple[int, ...], days: list[Aftermath | None]) -> None:
        """Nothing was released yet, or some releases completed one after the other, of which not all have heard."""
        with self.world.store.write() as tx:
            for sequence, one in enumerate(policy, 1):
                self.policies[release_id(sequence)] = one
                text = msgspec.json.encode(one).decode()
                tx.execute(
                    "UPDATE releases SET policy = :policy WHERE id = :id",
                    {"policy": text, "id": release_id(sequence)},
                )
        self.before = self.rows()
        for number, sequence in enumerate(start):
            self._make_stable(release_id(sequence), away=AWAY if number else ())
        for seed, what in enumerate(days):
            self.a_good_day(seed, what)

    # What people do

    @rule()
    def forward(self) -> None:
        """The release under way, or the next one, goes a segment on."""
        self._forward()

    @rule(seed=seeds, bad=st.sampled_from([0.0, 0.2, 0.6]))
    def forward_and_wave(self, seed: int, bad: float) -> None:
        """And the devices of the segment it came to take it."""
        self._forward()
        reached = [row["segment"] for row in self.before.values() if row["state"] == "rolling"]
        for segment in reached:
            self._wave(segment, seed, bad)

    @rule(seed=seeds, what=found)
    def a_good_day(self, seed: int, what: Aftermath | None) -> None:
        """All that are offered a release take it well, and time passes: what goes on by policy does."""
        if not any(row["state"] == "rolling" for row in self.before.values()):
            self._order(self.world.deployment.promote, *self._next(), None, ADMIN)
        for segment in SEGMENTS:
            self._wave(segment, seed, 0.0)
        if what is not None:
            self._find(seed, what)
        self.world.now += 61_000
        self.judge()

    @rule(sequence=releases, percentage=st.sampled_from([100, 100, None, 30, 70]), ahead=st.booleans())
    def promote(self, sequence: int, percentage: float | None, ahead: bool) -> None:
        """To the segment where it stands or, `ahead`, to the one after; None is the policy's next step."""
        segment = self.before[release_id(sequence)]["segment"]
        here = SEGMENTS.index(segment) if segment else -1
        target = SEGMENTS[max(0, min(here + ahead, 2))]
        self._order(self.world.deployment.promote, release_id(sequence), target, percentage, ADMIN)

    @rule(sequence=releases)
    def pause(self, sequence: int) -> None:
        self._order(self.world.deployment.pause, release_id(sequence), ADMIN)

    @rule(sequence=releases)
    def resume(self, sequence: int) -> None:
        was = self.before[release_id(sequence)]["state"]
        if self._order(self.world.deployment.resume, release_id(sequence), ADMIN) and was == "halted":
            self.known.resumed(release_id(sequence), self.world.now)

    @rule(sequence=releases)
    def roll_back(self, sequence: int) -> None:
        self._order(self.world.deployment.rollback, release_id(sequence), ADMIN)

    @rule(number=devices, segment=st.sampled_from(SEGMENTS))
    def move(self, number: int, segment: Any) -> None:
        self._patch(number, DevicePatch(segment=segment))

    @rule(number=devices, wanted=st.booleans())
    def maintain(self, number: int, wanted: bool) -> None:
        self._patch(number, DevicePatch(maintenance=wanted))

    @rule(number=devices, sequence=st.one_of(st.none(), releases))
    def lock(self, number: int, sequence: int | None) -> None:
        self._patch(number, DevicePatch(version_lock=release_id(sequence) if sequence else None))

    @rule(number=st.sampled_from([2, 6]))
    def delete(self, number: int) -> None:
        device_id = f"dev-{number}"
        if device_id in self.registered:
            self.world.registry.delete(device_id, ADMIN)
            self.registered.discard(device_id)
            self.known.beats.pop(device_id, None)

    # What devices do

    @rule(number=devices)
    def hear(self, number: int) -> None:
        """A device reads what is retained for it."""
        self._hear(self.fleet[f"dev-{number}"])

    @rule(number=devices)
    def restart_device(self, number: int) -> None:
        """A restart, and the retained messages again, change no decision (D9)."""
        device = self.fleet[f"dev-{number}"]
        before = device.decide(self.world.now)
        device.restart(self.world.now)
        assert device.decide(self.world.now) == before

    @rule(number=devices)
    def start(self, number: int) -> None:
        device = self.fleet[f"dev-{number}"]
        if device.update is None:
            self._start(device)

    @rule(number=devices, how=st.sampled_from(["committed", "committed", *ENDS[:-1]]))
    def end(self, number: int, how: End) -> None:
        device = self.fleet[f"dev-{number}"]
        if device.update is not None:
            device.end(how, self.world.now)

    @rule(seed=seeds, what=found)
    def aftermath(self, seed: int, what: Aftermath | None) -> None:
        """Something is found on a device after its success."""
        if what is not None:
            self._find(seed, what)

    @rule(segment=st.sampled_from(SEGMENTS), seed=seeds, bad=st.sampled_from([0.0, 0.2, 0.6]))
    def wave(self, segment: str, seed: int, bad: float) -> None:
        """All devices that believe to be in a segment hear what is retained, and get somewhere with it."""
        self._wave(segment, seed, bad)

    # What the network does

    @rule(number=devices, seed=seeds, most=st.integers(1, 6))
    def reports_arrive(self, number: int, seed: int, most: int) -> None:
        """Some of a device's reports, old ones among them, in any order and more than once, in one batch."""
        device = self.fleet[f"dev-{number}"]
        if device.spool:
            self._arrive(device, random.Random(seed).choices(device.spool, k=most))

    @rule(number=devices)
    def newest_report_arrives(self, number: int) -> None:
        device = self.fleet[f"dev-{number}"]
        if device.spool:
            self._arrive(device, device.spool[-1:])

    @rule(number=devices)
    def heartbeat_arrives(self, number: int) -> None:
        self._beat(self.fleet[f"dev-{number}"])

    # What time and the hub do

    @rule(seconds=st.sampled_from([1, 5, 30, 61]))
    def time_passes(self, seconds: int) -> None:
        self.world.now += seconds * 1000

    @rule()
    def judge(self) -> None:
        """The leader looks. Then nothing rolls on that its policy says must halt."""
        for release in self.world.judge():
            row = self.rows()[release]
            was = self.before[release]
            if row["state"] == "rolling" and place_of(row) != place_of(was):
                self.check_advance(release, was, row)
                self._promoted(release, row["segment"])
        self.check_stages()
        for release, row in self.rows().items():
            if row["state"] == "rolling":
                policy = self.policies[release]
                for segment in SEGMENTS:
                    counts = self.counts(release, segment, judged=True)
                    assert not has_failed(counts, policy.failure), (release, counts)

    @rule()
    def restart_hub(self) -> None:
        now = self.world.now
        self.world.close()
        self.world = World(self.place / "hub")
        self.world.now = self.world.observed_since = now

    # What must always hold

    @invariant()
    def counts_are_those_of_all_that_was_told(self) -> None:
        """However reports were lost, doubled, reordered or late, and whoever was moved or deleted."""
        with self.world.store.read() as tx:
            for release in self.policies:
                shown = views.progress(
                    tx, release, now=self.world.now, observed_since=self.world.observed_since
                )
                for row in shown["segments"]:
                    counts = self.counts(release, row["segment"])
                    found = {name: row[name] for name in Counts.__struct_fields__}
                    assert found == {name: getattr(counts, name) for name in found}, row["segment"]
                    in_progress = counts.began - counts.ended
                    assert row["in_progress"] == in_progress >= 0
                    assert all(number >= 0 for number in found.values())
                    # On the way to a release a device begins with a step, and is counted there until that is told.
                    assert counts.began <= len(self.fleet) * (2 if self.known.ways else 1)

    @invariant()
    def what_stands_still_is_offered_to_nobody_new(self) -> None:
        """A paused or halted release is on the wire as paused, and so is everything it is a candidate of."""
        for release, row in self.rows().items():
            if row["state"] in OFFERED:
                for segment in SEGMENTS[: SEGMENTS.index(row["segment"]) + 1]:
                    held = self.world_manifest(segment)
                    assert held.candidate is not None and held.candidate.id == release
                    assert held.manifest.paused is (row["state"] != "rolling")

    @precondition(lambda self: self.registered)
    @rule(data=st.data())
    def hub_and_device_agree(self, data: st.DataObject) -> None:
        """On what a device that has heard everything, and has said so, would do with whatever it is offered."""
        device = self.fleet[data.draw(st.sampled_from(sorted(self.registered)))]
        self._hear(device)
        self._beat(device)
        self._agree(device)

    def world_manifest(self, segment: str) -> Any:
        """What is retained for a segment, as a device that trusts the root believes it."""
        topic = MANIFEST.topic(kit.FLEET, role="kiosk", segment=segment)
        with self.world.store.read() as tx:
            state = trustroots.latest_state(tx)
            return verified.manifest(state, topic, views.retained(tx, topic), self.world.now)[1]

    # Small tools

    def _order(self, what: Callable[..., object], *arguments: object) -> bool:
        """Give an order; return whether it was let through. Then look at whether a stage began too early."""
        try:
            what(*arguments)
        except Conflict:
            return False
        if what == self.world.deployment.promote:
            self._promoted(str(arguments[0]), str(arguments[1]))
        self.check_stages()
        return True

    def _promoted(self, release: str, segment: str) -> None:
        """Note the steps on the way to a release that was just offered to a segment."""
        self.known.led(release, segment, [step.id for step in self.world_manifest(segment).waypoints])

    def _next(self) -> tuple[str, str]:
        """Return the release under way, or the next one, and the segment that follows."""
        under_way = [release for release, row in self.before.items() if row["state"] in OFFERED]
        complete = [release for release, row in self.before.items() if row["state"] == "complete"]
        waiting = [release for release in self.before if release > max(complete, default="")]
        release = max(under_way, default=min(waiting, default=release_id(RELEASES)))
        segment = self.before[release]["segment"]
        return release, SEGMENTS[min(2, SEGMENTS.index(segment) + 1 if segment else 0)]

    def _forward(self) -> None:
        release, target = self._next()
        here = self.before[release]["segment"] or target
        if not self._order(self.world.deployment.promote, release, target, 100, ADMIN):
            self._order(self.world.deployment.promote, release, here, 100, ADMIN)

    def _find(self, seed: int, what: Aftermath) -> None:
        """On a device that runs a release under way, if there is one. It is told at once."""
        running = {name: one.state.running_id for name, one in sorted(self.fleet.items())}
        names = [name for name, release in running.items() if self.is_under_way(release)]
        device = self.fleet[random.Random(seed).choice(names or list(running))]
        told = device.found(what, self.world.now)
        if told is not None:
            topic = BY_NAME[told.kind].topic(kit.FLEET, id=device.id)
            self._take([Uplink(topic, codec.encode(told))])
            if device.id in self.registered:
                self.known.found(device.id, told, under_way=self.is_under_way(told.release))

    def _wave(self, segment: str, seed: int, bad: float, away: tuple[int, ...] = ()) -> None:
        chance = random.Random(seed)
        for number, device in enumerate(self.fleet.values()):
            if device.beliefs.memory.segment != segment or number in away:
                continue
            self._hear(device)
            begun = len(device.spool)
            if device.update is not None or self._start(device):
                how = chance.choice(ENDS) if chance.random() < bad else "committed"
                if how is not None:
                    device.end(how, self.world.now)
            if len(device.spool) > begun:
                self._arrive(device, device.spool[begun:])
        self.judge()

    def _make_stable(self, release: str, away: tuple[int, ...]) -> None:
        for segment in SEGMENTS:
            self._order(self.world.deployment.promote, release, segment, 100, ADMIN)
            self._wave(segment, 0, 0.0, away)
            for number, device in enumerate(self.fleet.values()):
                if number not in away:
                    self._beat(device)
            self.world.now += 60_000
        self.judge()

    def _patch(self, number: int, patch: DevicePatch) -> None:
        if f"dev-{number}" in self.registered:
            self.world.registry.patch(f"dev-{number}", patch, "", ADMIN)

    def _hear(self, device: SimDevice) -> None:
        if device.id not in self.registered:
            return
        for at in (0, 1):
            topic = device.topics()[at]
            with self.world.store.read() as tx:
                body = views.retained(tx, topic)
            assert device.hear(topic, body, self.world.now) == "", topic

    def _start(self, device: SimDevice) -> bool:
        """Let a device begin what it decides; look at whether it may."""
        decision = device.decide(self.world.now)
        if not decision.eligible:
            return False
        held = device.beliefs.manifest
        assert decision.release is not None and held is not None
        release = self.rows()[decision.release.id]
        if release["state"] in ("paused", "halted") and not decision.ordered:
            newest = self.world_manifest(held.manifest.segment).manifest
            assert held.manifest.issued_at < newest.issued_at, "it has heard of the pause, and begins"
        device.start(decision, self.world.now)
        return True

    def _arrive(self, device: SimDevice, reports: list[UpdateResult]) -> None:
        topic = BY_NAME["update-result"].topic(kit.FLEET, id=device.id)
        self._take([Uplink(topic, codec.encode(report)) for report in reports])
        if device.id in self.registered:
            # Within a batch the hub takes a device's reports in the order in which they were made.
            for report in sorted(reports, key=lambda one: one.n):
                self.known.tell(device.id, report, self.world.now)

    def _beat(self, device: SimDevice) -> None:
        if device.id not in self.registered:
            return
        status = device.status(self.world.now)
        presence = Presence(boot=(1, "0" * 8), session=1, state="online")
        self._take(
            [
                Uplink(BY_NAME[message.kind].topic(kit.FLEET, id=device.id), codec.encode(message))
                for message in (status, presence)
            ]
        )
        self.known.beats[device.id] = self.world.now

    def _take(self, arrivals: list[Uplink]) -> None:
        now = self.world.now
        with self.world.store.write() as tx:
            commit.apply(tx, reduce(arrivals, None, now // 1000), now)

    def _agree(self, device: SimDevice) -> None:
        held, own = device.beliefs.manifest, device.decide(self.world.now)
        assert held is not None
        for offered in (held.stable, held.candidate):
            if offered is not None:
                with self.world.store.read() as tx:
                    shown = views.eligibility(tx, offered.id, device.id, kit.FLEET, zones, now=self.world.now)
                target = own.release.id if own.release else None
                assert (shown["reason"], shown["target"]) == (own.reason, target), (device.id, own)

    def _come_to_rest(self) -> None:
        """Once all is heard, done and told, every device runs what `decide` names, and the hub knows it."""
        for device in (self.fleet[name] for name in sorted(self.registered)):
            for _ in range(2 * RELEASES):
                if device.update is not None:
                    device.end("committed", self.world.now)
                self._hear(device)
                named = device.decide(self.world.now)
                if not self._start(device):
                    break
                device.end("committed", self.world.now)
                assert named.release is not None and device.state.running_id == named.release.id
            else:
                raise AssertionError(f"{device.id} never comes to rest")
            self._arrive(device, device.spool)
            self._beat(device)
            self._agree(device)
            last = device.decide(self.world.now)
            if last.reason == "already_installed":
                assert last.release is not None and device.state.running_id == last.release.id
            with self.world.store.read() as tx:
                row = tx.one(
                    "SELECT running FROM device_latest JOIN devices ON devices.key = device_latest.device_key "
                    "WHERE devices.device_id = :id",
                    {"id": device.id},
                )
            assert row is not None and row["running"] == device.state.running_id
        self.counts_are_those_of_all_that_was_told()
