"""A technician at the device: install from a stick, go back, leave safe mode; without a hub, with every check."""

from __future__ import annotations

import fcntl
import io
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.byhand import rules
from edge.main import main
from edge.storage import memory, records, state
from hub.identity.ca import open_authorities
from tests.edge.world import DESIRED_TOPIC, DEVICE, FLEET, NOW, ROOT, Box, Built, Source, build, tree
from tests.topics import kit
from topics.documents import Command, Requires
from topics.eligibility import Facts
from topics.messages import UpdateResult
from topics.trust import pin_root, sha256


class Bench(Box):
    """A device with an identity on a technician's bench; its agent is stopped before each order."""

    def __init__(self, root: Path, source: Source) -> None:
        super().__init__(root, source)
        authority = open_authorities(root / "ca", FLEET, now=NOW // 1000).device
        from edge.identity import identity

        identity.write(
            self.paths,
            self.device,
            seed=bytes(self.key),
            certificate_pem=authority.issue_device(bytes(self.key.verify_key), DEVICE, now=NOW // 1000),
            ca_pem=authority.pem,
            unique=identity.unique(),
        )
        self.online()

    def order(self, *words: Any) -> int:
        hooks = ["--hooks", str(self.paths.hooks)]
        return main([str(words[0]), "--state", str(self.paths.root), *hooks, *map(str, words[1:])])

    def back(self) -> None:
        """Start the agent again and bring it to the broker."""
        self.start()
        self.online()


@pytest.fixture
def bench(tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("FLAGHOIST_EDGE_LATER_SECONDS", "0.05")
    made = Bench(tmp_path, source)
    yield made
    made.close()


def flag(path: Path, built: Built, *, roots: tuple[bytes, ...] = (ROOT,), **parts: bytes) -> Path:
    """Write the file that `flaghoist release export-file` writes; `parts` replace the release or the bundle."""
    base = f"artifacts/kiosk/{built.id}"
    members = [(f"trust/roots/{version}", data) for version, data in enumerate(roots, 1)]
    members += [(f"{base}/release", parts.get("release", built.signed))]
    members += [(f"{base}/bundle", parts.get("bundle", built.archive))]
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def folder(path: Path, *several: Built) -> Path:
    """Write what `flaghoist release export` writes."""
    (path / "trust/roots").mkdir(parents=True)
    (path / "trust/roots/1").write_bytes(ROOT)
    for built in several:
        base = path / f"artifacts/kiosk/{built.id}"
        base.mkdir(parents=True)
        (base / "release").write_bytes(built.signed)
        (base / "bundle").write_bytes(built.archive)
    return path


# Install


def test_a_release_from_a_stick_goes_through_the_whole_lifecycle_and_is_reported_later(
    bench: Bench, tmp_path: Path, source: Source, capsys: pytest.CaptureFixture[str]
) -> None:
    built = build(7)
    assert bench.order("install", flag(tmp_path / "a.flag", built)) == 0
    assert capsys.readouterr().out == f"{built.id} (version 1.7.0) runs\n"
    assert tree(bench.paths.current)["files/app.txt"] == b"app 7"
    assert bench.calls() == [f"install {built.id}", f"activate {built.id}", f"confirm {built.id}"]
    assert source.requests == [], "nobody was asked for anything"
    assert list(bench.paths.downloads.iterdir()) == []
    assert bench.results() == []
    bench.back()
    assert bench.results() == [("downloading", built.id), ("committed", built.id)]
    reports: list[UpdateResult] = bench.link.of("update-result")
    assert {report.reason for report in reports} == {"install by a technician"}


def test_a_release_from_an_exported_folder(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = build(7), build(8)
    brought = folder(tmp_path / "stick", one, two)
    assert bench.order("install", brought) == 1
    assert f"choose one with --release: {one.id}, {two.id}" in capsys.readouterr().err
    assert bench.order("install", brought, "--release", two.id) == 0
    assert bench.state.running_id == two.id
    assert bench.order("install", brought, "--release", two.id) == 0
    assert capsys.readouterr().out.endswith(f"{two.id} runs already\n")
    assert bench.order("install", brought, "--release", "kiosk-9-0123456789ab") == 1


def test_an_expired_manifest_a_pause_and_a_lock_do_not_keep_a_technician_away(
    bench: Bench, tmp_path: Path
) -> None:
    bench.offer(build(7))
    bench.hear(bench.manifest(build(7), paused=True, event="pause", expires_at=NOW - 1))
    bench.hear(kit.signed_desired(bench.numbers.next(), maintenance=True), DESIRED_TOPIC)
    assert bench.order("install", flag(tmp_path / "a.flag", build(8))) == 0
    assert bench.state.running_id == build(8).id
    bench.back()
    verdict = bench.status.verdict
    assert verdict is not None and verdict.reason == "maintenance"
    assert bench.state.running_id == build(8).id, "the hub does not fight it while it holds nothing newer"


def test_a_stick_brings_the_roots_that_a_device_missed(bench: Bench, tmp_path: Path) -> None:
    second = kit.signed_root(2, expires_at=NOW + 365 * kit.DAY)
    assert bench.order("install", flag(tmp_path / "a.flag", build(7), roots=(ROOT, second))) == 0
    assert bench.memory.trust.root.version == 2


EVIL = kit.signed_root(2, expires_at=NOW + 365 * kit.DAY, signers=("evil",))

REFUSED = [
    pytest.param(
        lambda b: {"release": kit.sign(b.release, "release", ["evil"])},
        5,
        "release_threshold",
        id="not signed",
    ),
    pytest.param(
        lambda b: {"release": kit.sign(b.release, "release", ["hub-1"])},
        5,
        "release_threshold",
        id="signed by the hub",
    ),
    pytest.param(lambda b: {"release": b"x"}, 5, "malformed", id="no release"),
    pytest.param(lambda b: {"release": b"x" * 7000}, 1, "larger than", id="too large a release"),
    pytest.param(
        lambda b: {"bundle": b.archive[:-1] + b"\1"}, 5, "not the one that was signed", id="tampered bundle"
    ),
    pytest.param(
        lambda b: {"bundle": b.archive[:-1]}, 5, "not the one that was signed", id="bundle cut short"
    ),
    pytest.param(
        lambda b: {"bundle": b.archive + b"x"}, 5, "not the one that was signed", id="bundle with a tail"
    ),
    pytest.param(lambda b: {"roots": (ROOT, EVIL)}, 5, "root_threshold", id="root of somebody else"),
]


@pytest.mark.parametrize(("parts", "code", "words"), REFUSED)
def test_what_is_not_signed_is_refused_from_a_stick_too(
    bench: Bench,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    parts: Callable[[Built], Any],
    code: int,
    words: str,
) -> None:
    bench.offer(build(7))
    built = build(8)
    before = bench.state
    assert bench.order("install", flag(tmp_path / "a.flag", built, **parts(built))) == code
    said = capsys.readouterr().err
    assert words in said and said.count("flaghoist-edge: ") == 1 and "Traceback" not in said
    assert bench.state == before
    assert list(bench.paths.downloads.iterdir()) == []


UNFIT = [
    pytest.param({"requires": Requires(hardware=["x86"])}, "'rpi4' is not among x86", id="other hardware"),
    pytest.param({"requires": Requires(min_agent="99")}, "update the agent first", id="agent too old"),
    pytest.param(
        {"requires": Requires(from_sequence=8)}, "install that one first", id="needs another before"
    ),
    pytest.param({"sequence": 6}, "give --older", id="older than what runs"),
]


@pytest.mark.parametrize(("changes", "words"), UNFIT)
def test_a_release_that_does_not_fit_is_refused_with_the_way_out(
    bench: Bench,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    words: str,
) -> None:
    bench.offer(build(7))
    built = build(**{"sequence": 9, **changes})
    assert bench.order("install", flag(tmp_path / "a.flag", built)) == 1
    assert words in capsys.readouterr().err
    assert bench.state.running_id == build(7).id


def test_older_goes_back_on_purpose_and_never_below_the_floor(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.offer(build(9, floor=8))
    assert bench.order("install", flag(tmp_path / "a.flag", build(8)), "--older") == 0
    assert bench.state.running_id == build(8).id
    assert bench.order("install", flag(tmp_path / "b.flag", build(7)), "--older") == 1
    assert "bring a newer one" in capsys.readouterr().err


def test_the_floor_of_a_release_that_came_by_stick_holds(bench: Bench, tmp_path: Path) -> None:
    assert bench.order("install", flag(tmp_path / "a.flag", build(9, floor=9))) == 0
    assert bench.memory.trust.floor("kiosk") == 9
    bench.back()
    bench.offer(build(8))
    verdict = bench.status.verdict
    assert verdict is not None and verdict.reason == "below_floor"


def test_an_expired_root_is_not_waived(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = kit.signed_root(expires_at=NOW - kit.DAY)
    trusted = pin_root(old, sha256(old))
    memory.save(bench.paths, records.changed(bench.memory, trust=trusted))
    assert bench.order("install", flag(tmp_path / "a.flag", build(7), roots=())) == 1
    assert "root of trust has expired" in capsys.readouterr().err


def test_a_release_from_a_stick_that_fails_gives_way_and_says_why(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.offer(build(7))
    bad = build(8, {"files/fail-activate": b""})
    assert bench.order("install", flag(tmp_path / "a.flag", bad)) == 1
    assert f"{bad.id} rolled back: no activate today; {build(7).id} runs" in capsys.readouterr().err
    assert bench.state.failed == [bad.id]
    # Whoever stands beside the device may try again.
    bench.hook("fake", "#!/bin/sh\n")
    assert bench.order("install", tmp_path / "a.flag") == 0


def test_what_is_no_export_is_named(bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").write_text("hello")
    assert bench.order("install", tmp_path / "text") == 1
    assert "text is not an exported release" in capsys.readouterr().err
    assert bench.order("install", tmp_path / "none") == 3
    assert "the system refused" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert bench.order("install", tmp_path / "empty") == 1
    assert "holds no release of role kiosk" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("install", "x"), ("rollback",), ("leave-safe-mode",)], ids=lambda w: w[0])
def test_nothing_is_done_beside_a_running_agent(
    bench: Bench, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    bench.offer(build(7))
    before = bench.state
    lock = os.open(bench.paths.root / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert bench.order(*words) == 3
    os.close(lock)
    assert "another flaghoist-edge works in" in capsys.readouterr().err
    assert bench.state == before


def test_a_download_that_was_under_way_gives_way(bench: Bench, tmp_path: Path) -> None:
    bench.offer(build(7))
    bench.agent.on_message(f"{FLEET}/v1/releases/kiosk/canary", bench.manifest(build(8)))
    assert bench.state.update is not None and bench.state.update.state == "downloading"
    assert bench.order("install", flag(tmp_path / "a.flag", build(9))) == 0
    bench.back()
    ended = [(report.state, report.release, report.cause) for report in bench.link.of("update-result")]
    assert ("failed", build(8).id, "ordered") in ended
    assert bench.state.running_id == build(9).id


def test_an_install_that_a_power_cut_broke_off_is_finished_by_the_agent(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.offer(build(7))

    def power_cut(*_: Any, **__: Any) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("edge.byhand.session.child.run", power_cut)
        assert bench.order("install", flag(tmp_path / "a.flag", build(8))) == 130
    assert bench.state.update is not None and bench.state.update.by_hand == "install"
    bench.back()
    assert bench.state.running_id == build(8).id


# Rollback


def test_going_back_by_hand_is_reported_and_not_fought_by_the_hub(
    bench: Bench, source: Source, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = build(7), build(8)
    bench.offer(old)
    source.add(new)
    retained = bench.manifest(new)
    bench.hear(retained)
    downloads = len(source.requests)
    assert bench.order("rollback") == 0
    assert f"{old.id} (version 1.7.0) runs; {new.id} is not taken again" in capsys.readouterr().out
    assert len(source.requests) == downloads
    assert bench.paths.current.readlink().name == old.id
    bench.back()
    bench.hear(retained)
    assert bench.state.running_id == old.id
    verdict = bench.status.verdict
    assert verdict is not None and verdict.reason == "failed_here_before"
    report = bench.link.of("update-result")[-1]
    assert (report.state, report.release, report.from_release) == ("committed", old.id, new.id)
    assert (report.cause, report.reason) == ("ordered", "rollback by a technician")
    order = Command(id="c-1", kind="redeploy", release=new.id, expires_at=NOW + kit.DAY)
    bench.hear(kit.signed_desired(bench.numbers.next(), commands=[order]), DESIRED_TOPIC)
    assert bench.state.running_id == new.id and bench.state.failed == []


def test_there_may_be_nothing_to_go_back_to(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.order("rollback") == 1
    assert "no release stands by" in capsys.readouterr().err
    bench.offer(build(7))
    bench.offer(build(8))
    (bench.paths.release(build(7).id) / "files/app.txt").write_text("x")
    assert bench.order("rollback") == 1
    assert "not as they were signed" in capsys.readouterr().err
    assert bench.state.running_id == build(8).id


def test_a_rollback_never_goes_below_the_floor(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.offer(build(7))
    bench.offer(build(8, floor=8))
    assert bench.order("rollback") == 1
    assert "forbid going back that far" in capsys.readouterr().err
    assert bench.state.running_id == build(8).id and bench.state.failed == []


def test_a_rollback_that_fails_leaves_what_runs_and_blames_nothing_that_runs(bench: Bench) -> None:
    bench.offer(build(7))
    bench.offer(build(8))
    bench.hook("fake", f'#!/bin/sh\n[ "$1 $FLAGHOIST_RELEASE_ID" != "activate {build(7).id}" ]\n')
    assert bench.order("rollback") == 1
    assert bench.state.running_id == build(8).id
    assert bench.state.failed == [build(7).id]


# Safe mode


def test_a_technician_leaves_safe_mode_and_the_release_runs_again(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.offer(build(7))
    for sequence in (8, 9, 10):
        bench.offer(build(sequence, {"files/fail-activate": b""}))
    assert bench.state.safe_mode
    assert bench.order("leave-safe-mode") == 0
    assert capsys.readouterr().out == f"left safe mode; {build(7).id} runs\n"
    assert (bench.state.safe_mode, bench.state.failures) == ("", 0)
    bench.back()
    last = bench.link.of("recovery")[-1]
    assert (last.state, last.reason) == ("left", "left by a technician")
    assert bench.order("leave-safe-mode") == 0
    assert capsys.readouterr().out.endswith("the device is not in safe mode\n")


def test_a_stay_that_the_hub_ordered_is_the_hubs_to_end(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.offer(build(7))
    bench.hear(kit.signed_desired(bench.numbers.next(), safe_mode="on"), DESIRED_TOPIC)
    assert bench.order("leave-safe-mode") == 1
    assert "an operator ends it" in capsys.readouterr().err
    assert bench.state.safe_mode


def test_a_release_that_still_does_not_run_is_told_on_leaving(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.offer(build(7))
    state.save(bench.paths, records.changed(bench.state, safe_mode="own-1-1", safe_mode_applied=True))
    for verb in ("probe", "activate"):
        (bench.paths.root / f"fail-{verb}").touch()
    assert bench.order("leave-safe-mode") == 1
    assert "does not run: this device cannot activate" in capsys.readouterr().err


def test_a_stick_brings_a_device_out_of_safe_mode(bench: Bench, tmp_path: Path) -> None:
    for sequence in (8, 9, 10):
        bench.offer(build(sequence, {"files/fail-activate": b""}))
    assert bench.order("install", flag(tmp_path / "a.flag", build(11))) == 0
    assert (bench.state.safe_mode, bench.state.running_id) == ("", build(11).id)


def test_a_stick_that_brings_a_bad_release_in_safe_mode_leaves_the_minimal_stack(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rollback starts the release before, which safe mode had stopped."""
    bench.offer(build(7))
    for sequence in (8, 9, 10):
        bench.offer(build(sequence, {"files/fail-activate": b""}))
    stay, bad = bench.state.safe_mode, build(11, {"files/fail-activate": b""})
    assert bench.order("install", flag(tmp_path / "a.flag", bad)) == 1
    assert "the device is in safe mode; end it with flaghoist-edge leave-safe-mode" in capsys.readouterr().err
    assert bench.calls()[-2:] == [f"rollback {bad.id} {build(7).id}", f"safe-mode {build(7).id}"]
    assert (bench.state.safe_mode, bench.state.safe_mode_applied) == (stay, True)


# The rule by itself

OWN = Facts(device_id=DEVICE, role="kiosk", segment="early", hardware="rpi4", agent_version="1.0")
TRUSTED = pin_root(ROOT, sha256(ROOT))

ROWS = [
    pytest.param({}, {}, False, "eligible", id="nothing runs"),
    pytest.param({"failed": (build(7).id,)}, {}, False, "eligible", id="failed here before"),
    pytest.param({"safe_mode": True}, {}, False, "eligible", id="safe mode"),
    pytest.param({"running": build(7).id, "running_sequence": 7}, {}, False, "already_installed", id="runs"),
    pytest.param({"running": "kiosk-8-a", "running_sequence": 8}, {}, False, "holds_newer", id="newer runs"),
    pytest.param(
        {"running": "kiosk-8-a", "running_sequence": 8}, {}, True, "eligible", id="older on purpose"
    ),
    pytest.param(
        {"running": "till-8-a", "running_sequence": 8, "running_role": "till"},
        {},
        False,
        "eligible",
        id="what runs is of another role",
    ),
    pytest.param({"floor": 8}, {}, True, "below_floor", id="below the floor"),
    pytest.param({"role": "till"}, {}, True, "wrong_role", id="other role"),
    pytest.param({}, {"requires": Requires(hardware=["x86"])}, True, "wrong_hardware", id="other hardware"),
    pytest.param({}, {"requires": Requires(min_agent="2")}, True, "agent_too_old", id="agent too old"),
]


@pytest.mark.parametrize(("changes", "release", "older", "reason"), ROWS)
def test_what_a_technician_may_install(
    changes: dict[str, Any], release: dict[str, Any], older: bool, reason: str
) -> None:
    own = records.changed(OWN, **changes)
    decision = rules.judge(TRUSTED, own, build(7, **release).release, NOW, older=older)
    assert decision.reason == reason


def test_an_expired_root_installs_nothing_by_hand() -> None:
    decision = rules.judge(TRUSTED, OWN, build(7).release, TRUSTED.root.expires_at, older=True)
    assert (decision.reason, decision.check) == ("untrusted", "root_expired")
