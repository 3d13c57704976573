"""Fetches and stages one release, as the update process of a device does, and prints that process's peak memory (MB).

A process that loads no more than that: `python -m tests.benchmarks.take URL RELEASE STATE`.
"""

from __future__ import annotations

import re
import ssl
import sys
from pathlib import Path

from edge.config import Paths, Settings
from edge.download.fetch import Fetcher, Sources
from edge.updating import stage
from topics import codec
from topics.documents import Release


def main() -> None:
    url, release_file, state = sys.argv[1:]
    release = codec.decode(Path(release_file).read_bytes(), Release, limit=64 * 1024)
    paths = Paths(Path(state))
    paths.make()
    template = url + "/artifacts/{role}/{release}/bundle"
    sources = Sources([template], url, lambda _: "x" * 250, ssl.create_default_context)
    archive = Fetcher(Settings(), sources, lambda: 0).fetch(release, paths.downloads)
    stage.stage(paths, release, archive, {})
    # Not `getrusage`, whose peak begins with that of the process that started this one.
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    print(int(found[1]) * 1024 / 1_000_000)


if __name__ == "__main__":
    main()
