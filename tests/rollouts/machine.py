"""A fleet, its hub, people and a bad network, moved at random; after every step what must never be is looked for."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hub import trustroots, verified
from hub.broker import commit
from hub.broker.reduce import Uplink, reduce
from hub.deployment import views
from hub.deployment.policy import FailurePolicy, Policy, SegmentPolicy
from hub.deployment.rules import Counts
from hub.errors import Conflict
from hub.registry.rules import DevicePatch
from hub.times import zones
from tests.hub.world import ADMIN, World
from tests.rollouts.device import End, SimDevice
from tests.rollouts.model import Known, gate_is_open, has_failed
from tests.topics import kit
from topics import codec
from topics.channels import BY_NAME, MANIFEST
from topics.documents import Requires
from topics.messages import Presence, Status, UpdateResult
from topics.names import SEGMENTS

RELEASES = 4
PLACES = ("canary", "canary", "canary", "early", "early", "general", "general")
IN_MEMORY: Final = Path("/dev/shm")
"""Thousands of transactions, each forced to disk, say nothing more here."""
OFFERED = ("rolling", "paused", "halted")

devices = st.integers(0, len(PLACES) - 1)
releases = st.integers(1, RELEASES)
seeds = st.integers(0, 2**32)
ENDS: Final[tuple[End | None, ...]] = ("failed", "failed_here", "rolled_back", "rolled_back", None)
"""What is not well; None is silence in the middle of it."""
policies = st.builds(
    Policy,
    advance=st.sampled_from(["by_hand", "automatic"]),
    segments=st.fixed_dictionaries(
        {
            name: st.builds(
                SegmentPolicy,
                least_wait_seconds=st.sampled_from([0, 0, 60]),
                least_reports=st.integers(1, 2),
                success_ratio=st.sampled_from([0.5, 0.67, 1.0]),
            )
            for name in SEGMENTS
        }
    ),
    failure=st.builds(
        FailurePolicy,
        max_ratio=st.sampled_from([0.0, 0.33, 0.5, 1.0]),
        min_reports=st.integers(1, 3),
        max_count=st.sampled_from([None, None, 0, 1]),
        update_timeout_seconds=st.sampled_from([10, 60]),
    ),
)


def release_id(sequence: int) -> str:
    """Id of the release that the template holds under a sequence."""
    return f"kiosk-{sequence}-{'a' * 12}"


def template(folder: Path) -> None:
    """Make what every run begins with: releases, and registered devices of which some are without heartbeat yet."""
    world = World(folder)
    with world.client:
        world.trust_root()
        for sequence in range(1, RELEASES + 1):
            hardware = ["pi4"] if sequence == 2 else []
            requires = Requires(hardware=hardware)
            world.publish(sequence, floor=2 if sequence == 3 else 0, requires=requires)
        for number, segment in enumerate(PLACES):
            world.device(f"dev-{number}", segment)
    world.store.close()


class Fleet(RuleBasedStateMachine):
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
        self.before: dict[str, Any] = {}
        self.full_at: dict[tuple[str, str], int] = {}

    def teardown(self) -> None:
        """Let the fleet come to rest, look at where it stands, and clear up."""
        try:
            self._come_to_rest()
        finally:
            self.world.store.close()
            shutil.rmtree(self.place)

    @initialize(policy=st.lists(policies, min_size=RELEASES, max_size=RELEASES), stable=st.booleans())
    def begin(self, policy: list[Policy], stable: bool) -> None:
        with self.world.store.write() as tx:
            for sequence, one in enumerate(policy, 1):
                self.policies[release_id(sequence)] = one
                text = msgspec.json.encode(one).decode()
                tx.execute(
                    "UPDATE releases SET policy = :policy WHERE id = :id",
                    {"policy": text, "id": release_id(sequence)},
                )
        self.before = self._releases()

        if stable:
            self._make_stable(release_id(1))

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

    @rule(sequence=releases, percentage=st.sampled_from([100, 100, 100, 30, 70]), ahead=st.booleans())
    def promote(self, sequence: int, percentage: float, ahead: bool) -> None:
        """To the segment where it stands or, `ahead`, to the one after."""
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
        self.world.judge()
        self._check_stages()
        for release, row in self._releases().items():
            if row["state"] == "rolling":
                policy = self.policies[release]
                for segment in SEGMENTS:
                    counts = self._counts(release, segment, judged=True)
                    assert not has_failed(counts, policy.failure), (release, counts)

    @rule()
    def restart_hub(self) -> None:
        now = self.world.now
        self.world.store.close()
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
                    counts = self._counts(release, row["segment"])
                    found = {
                        name: row[name] for name in ("began", "committed", "failed", "rolled_back", "lost")
                    }
                    assert found == {name: getattr(counts, name) for name in found}, row["segment"]
                    in_progress = counts.began - counts.ended
                    assert row["in_progress"] == in_progress >= 0
                    assert all(number >= 0 for number in found.values())
                    assert counts.began <= len(self.fleet)

    @invariant()
    def what_stands_still_is_offered_to_nobody_new(self) -> None:
        """A paused or halted release is on the wire as paused, and so is everything it is a candidate of."""
        for release, row in self._releases().items():
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
        self._check_stages()
        return True

    def _forward(self) -> None:
        under_way = [release for release, row in self.before.items() if row["state"] in OFFERED]
        waiting = [release for release, row in self.before.items() if row["state"] == "published"]
        for release in sorted(under_way)[-1:] or sorted(waiting)[:1]:
            segment = self.before[release]["segment"]
            target = SEGMENTS[min(2, SEGMENTS.index(segment) + 1 if segment else 0)]
            if not self._order(self.world.deployment.promote, release, target, 100, ADMIN):
                self._order(self.world.deployment.promote, release, segment, 100, ADMIN)

    def _wave(self, segment: str, seed: int, bad: float) -> None:
        chance = random.Random(seed)
        for device in self.fleet.values():
            if device.beliefs.memory.segment != segment:
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

    def _make_stable(self, release: str) -> None:
        for segment in SEGMENTS:
            self._order(self.world.deployment.promote, release, segment, 100, ADMIN)
            self._wave(segment, 0, 0.0)
            for device in self.fleet.values():
                self._beat(device)
            self.world.now += 60_000
        self.judge()

    def _patch(self, number: int, patch: DevicePatch) -> None:
        if f"dev-{number}" in self.registered:
            self.world.registry.patch(f"dev-{number}", patch, "", ADMIN)

    def _check_stages(self) -> None:
        """No stage begins before the gate of the one before; none completes before its own."""
        now = self._releases()
        for release, row in now.items():
            was = self.before[release]
            if row["segment"] != was["segment"]:
                here = SEGMENTS.index(row["segment"])
                assert here == (SEGMENTS.index(was["segment"]) + 1 if was["segment"] else 0)
                if was["segment"]:
                    self._check_gate(release, was["segment"])
            if row["state"] == "complete" != was["state"]:
                self._check_gate(release, SEGMENTS[-1])
            if row["state"] == "halted" != was["state"]:
                policy = self.policies[release].failure
                heard = [self._counts(release, segment, judged=True) for segment in SEGMENTS]
                assert any(has_failed(counts, policy) for counts in heard), "it halted without a reason"
            if row["segment"] and row["basis_points"] == 10_000:
                self.full_at.setdefault((release, row["segment"]), self.world.now)
        self.before = now

    def _check_gate(self, release: str, segment: str) -> None:
        counts = self._counts(release, segment, judged=True)
        waited = (self.world.now - self.full_at[release, segment]) / 1000
        assert gate_is_open(counts, waited, self.policies[release].segment(segment)), (release, counts)

    def _counts(self, release: str, segment: str, *, judged: bool = False) -> Counts:
        return self.known.counts(
            release,
            segment,
            self.policies[release],
            self.world.now,
            self.world.observed_since,
            judged=judged,
        )

    def _releases(self) -> dict[str, Any]:
        with self.world.store.read() as tx:
            rows = tx.all("SELECT id, state, segment, basis_points, updated_at FROM releases")
        return {row["id"]: {name: row[name] for name in row.keys()} for row in rows}  # noqa: SIM118  (a row's)

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
        release = self._releases()[decision.release.id]
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
        status: Status = device.status(self.world.now)
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
