"""How much the hub's memory grows while a large bundle is uploaded and downloaded: a real `flaghoist-hub up`."""

from __future__ import annotations

import random
import re
import urllib.request
from pathlib import Path
from typing import Final

from tests.e2e.fleet import Fleet

MB: Final = 1_000_000
FILES: Final = 20


def measure(folder: Path, mb: int) -> dict[str, float]:
    """Return peak over resting memory (MB) of the hub's process for a bundle of `mb` MB that cannot be packed."""
    with Fleet(folder).ready() as fleet:
        # What the first of anything costs (imports, caches) is not what a large one costs.
        _download(fleet, fleet.publish("kiosk", 1))
        chance = random.Random(mb)
        for n in range(FILES):
            (fleet.repo / f"roles/kiosk/files/{n:02}.bin").write_bytes(chance.randbytes(mb * MB // FILES))
        fleet.commit("large")
        out = folder / "large"
        fleet.flaghoist(
            *("release", "build", "--role", "kiosk", "--repo", fleet.repo, "--sequence", "2"),
            *("--fleet", fleet.name, "--out", out),
        )
        (built,) = out.iterdir()
        fleet.flaghoist("release", "sign", built, "--key", fleet.keys / "release.key")
        assert fleet.hub is not None
        process = Path(f"/proc/{fleet.hub.pid}")
        before = _begin(process)
        fleet.flaghoist("release", "publish", built)
        figures = {"upload_memory_mb": round(_read(process, "VmHWM") - before, 1)}
        before = _begin(process)
        size = _download(fleet, built.name)
        assert size >= mb * MB
        figures["download_memory_mb"] = round(_read(process, "VmHWM") - before, 1)
        return figures


def _download(fleet: Fleet, release: str) -> int:
    request = urllib.request.Request(
        f"{fleet.url}/artifacts/kiosk/{release}/bundle",
        headers={"Authorization": f"Bearer {fleet.environment['FLAGHOIST_TOKEN']}"},
    )
    size = 0
    with urllib.request.urlopen(request, timeout=300) as answer:
        while piece := answer.read(MB):
            size += len(piece)
    return size


def _begin(process: Path) -> float:
    """Let the kernel count the peak from here on; return what is resident (MB)."""
    (process / "clear_refs").write_text("5")
    return _read(process, "VmRSS")


def _read(process: Path, name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", (process / "status").read_text())
    assert found is not None
    return int(found[1]) * 1024 / MB
