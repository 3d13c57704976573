"""Fuzz one target, guided by which lines of ours its inputs reach.

    python -m tests.fuzz TARGET SECONDS [FOLDER] [-OPTION=VALUE ...]

Options are those of libFuzzer. Begins with the target's own examples and with `corpus/TARGET`. What it finds that
reaches new lines goes to FOLDER, if one is given, and so does an input that breaks the target; the exit code then is
not 0.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["topics", "hub.broker", "hub.artifacts", "edge.config"]):
    from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"


def main() -> None:
    """Run until the time is over or something breaks; ends the process."""
    given = [word for word in sys.argv[1:] if word.startswith("-")]
    name, seconds, *folder = [word for word in sys.argv[1:] if word not in given]
    target, examples = TARGETS[name]
    place = Path(folder[0] if folder else tempfile.mkdtemp(prefix="flaghoist-fuzz-"))
    seeds = place / "seeds"
    seeds.mkdir(parents=True, exist_ok=True)
    for number, example in enumerate(examples):
        (seeds / f"example-{number}").write_bytes(example)
    found = place / "found"
    found.mkdir(exist_ok=True)
    kept = [str(CORPUS / name)] if (CORPUS / name).is_dir() else []
    options = [f"-max_total_time={seconds}", "-max_len=8192", "-timeout=20", "-rss_limit_mb=2048"]
    options += [f"-artifact_prefix={place}/", "-print_final_stats=1", "-verbosity=0", *given]
    atheris.Setup([sys.argv[0], *options, str(found), str(seeds), *kept], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
