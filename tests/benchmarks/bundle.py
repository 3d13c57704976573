"""What it costs a device to take a bundle: time, memory, and bytes when little has changed; and the hub to have it.

Verify and stage (the archive's hash, unpacking, every file's hash, everything forced to disk) stands against
`sha256sum` followed by `tar xzf` of the same file, which check no file and force nothing to disk. Half of the files
are text-like, half cannot be packed. Pairs take turns, so that a busy machine slows both; medians are printed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

if __package__ in (None, ""):  # run by its path
    sys.path.insert(0, str(Path(__file__).parents[2]))

from edge.config import Paths
from edge.download.fetch import is_whole
from edge.updating import stage
from tests.benchmarks import delta, hubmemory, updaters
from tests.edge.world import Built, build
from topics import codec

ROOT: Final = Path(__file__).parents[2]
FILES: Final = 50
SIZES_MB: Final = (1, 10, 100)
SMALL_MB: Final = (1, 4)
MB: Final = 1_000_000
NO_SHA_NI: Final = ":~0x20000000"
"""Has OpenSSL, and so Python's hashlib, do without them (man 3 OPENSSL_ia32cap)."""


def make(mb: int) -> Built:
    """Return a bundle of 50 files whose archive has about `mb` MB."""
    chance = random.Random(mb)
    words = [chance.randbytes(4).hex().encode() for _ in range(3000)]
    each = int(1.15 * mb * MB) // FILES  # the text-like half packs well
    files = {}
    for n in range(FILES - 2):  # and bundle.json and files/app.txt
        if n % 2:
            files[f"files/lib/{n:02}.bin"] = chance.randbytes(each)
        else:
            files[f"files/text/{n:02}.txt"] = b" ".join(chance.choices(words, k=each // 4))
    return build(7, files)


def compare(folder: Path, built: Built, rounds: int) -> dict[str, float]:
    """Return the medians of ours (s), theirs (s) and their ratio."""
    archive = folder / "archive"
    archive.write_bytes(built.archive)
    paths = Paths(folder / "state")
    paths.make()
    ours, theirs = [], []
    for _ in range(rounds):
        out = folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        began = time.perf_counter()
        subprocess.run(["sha256sum", archive], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["tar", "xzf", archive, "-C", out], check=True)
        theirs.append(time.perf_counter() - began)
        shutil.rmtree(paths.release(built.id), ignore_errors=True)
        began = time.perf_counter()
        assert is_whole(archive, built.release)
        stage.stage(paths, built.release, archive, {})
        ours.append(time.perf_counter() - began)
    pairs = [our / their for our, their in zip(ours, theirs, strict=True)]
    return {
        "ours": statistics.median(ours),
        "theirs": statistics.median(theirs),
        "ratio": statistics.median(pairs),
    }


def ratio_without_sha_instructions(folder: Path, mb: int, rounds: int) -> float | None:
    """Return the ratio on this processor if it had no instructions for SHA-256; None where it has none."""
    if "sha_ni" not in Path("/proc/cpuinfo").read_text():
        return None
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.bundle",
        "--compare",
        str(folder),
        str(mb),
        str(rounds),
    ]
    environment = {**os.environ, "OPENSSL_ia32cap": NO_SHA_NI}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, timeout=600, cwd=ROOT
    )
    return float(done.stdout)


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder and says nothing."""

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve `folder` and yield its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def memory(folder: Path, built: Built) -> float:
    """Return the peak memory (MB) of a process that fetches, verifies and stages a bundle."""
    site, state = folder / "site", folder / "memory"
    top = site / "artifacts" / built.release.role / built.id
    top.mkdir(parents=True)
    (top / "bundle").write_bytes(built.archive)
    (folder / "release").write_bytes(codec.encode(built.release))
    with serving(site) as url:
        command = [sys.executable, "-m", "tests.benchmarks.take", url, str(folder / "release"), str(state)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300, cwd=ROOT)
    return float(done.stdout)


def say(text: str) -> None:
    print(text, file=sys.stderr)


def measure(folder: Path, sizes: tuple[int, ...]) -> dict[str, float]:
    """Return every figure; people read them on standard error as they come."""
    figures: dict[str, float] = {}
    peaks = []
    for mb in sizes:
        place = folder / f"{mb}"
        place.mkdir()
        built = make(mb)
        found = compare(place, built, 15 if mb <= 10 else 7)
        peaks.append(memory(place, built))
        say(
            f"{len(built.archive) / MB:6.1f} MB: verify+stage {found['ours']:.3f} s, sha256sum and tar xzf "
            f"{found['theirs']:.3f} s, ratio {found['ratio']:.2f}; peak memory {peaks[-1]:.1f} MB"
        )
        figures[f"stage_seconds_{mb}mb"] = round(found["ours"], 4)
        figures[f"baseline_seconds_{mb}mb"] = round(found["theirs"], 4)
        figures[f"stage_ratio_{mb}mb"] = round(found["ratio"], 3)
        others = updaters.prepare(place / "others", place / "archive", built.release.bundle.sha256)
        for name, verify in others.items():
            seconds = statistics.median(verify() for _ in range(5))
            figures[f"{name}_verify_seconds_{mb}mb"] = round(seconds, 4)
            say(f"        {name} verifies the same archive in {seconds:.3f} s")
    (folder / "slow").mkdir()
    slow = ratio_without_sha_instructions(folder / "slow", sizes[-1], 5)
    if slow is not None:
        figures[f"stage_ratio_{sizes[-1]}mb_no_sha_ni"] = round(slow, 3)
        say(f"        without the processor's instructions for SHA-256: ratio {slow:.2f}")
    for name, secure in (("delta_overhead_bytes", False), ("delta_overhead_bytes_tls", True)):
        (folder / name).mkdir()
        figures[name] = delta.overhead(folder / name, secure=secure)
        say(
            f"delta{', TLS' if secure else ''}: one of {delta.FILES} files of {delta.CHANGED} bytes changed, "
            f"{figures[name]} bytes moved beside it"
        )
    hub = hubmemory.measure(folder / "hub", sizes[-1])
    say(
        f"the hub's memory grows by {hub['upload_memory_mb']} MB in an upload of {sizes[-1]} MB, by "
        f"{hub['download_memory_mb']} MB in its download"
    )
    figures |= hub
    figures["memory_growth_mb"] = round(peaks[-1] - peaks[0], 2)
    figures["memory_peak_mb"] = round(max(peaks), 1)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description="What it costs a device to take a bundle.")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")
    parser.add_argument("--small", action="store_true", help="1 and 4 MB only")
    parser.add_argument("--compare", nargs=3, metavar=("FOLDER", "MB", "ROUNDS"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.compare:
        folder, mb, rounds = chosen.compare
        print(compare(Path(folder), make(int(mb)), int(rounds))["ratio"])
        return
    with tempfile.TemporaryDirectory(prefix="bundle-") as name:
        figures = measure(Path(name), SMALL_MB if chosen.small else SIZES_MB)
    if chosen.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
