"""Reading a folder as it stands in a git commit, whatever the work tree looks like.

Blobs come from `git cat-file`, not `git archive`: the latter rewrites files by attributes (`export-subst`, line
ends), which differ between machines, and a bundle has to be the same everywhere.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from hub.cli.errors import Refused
from hub.errors import SetupError

_OBJECT_ID: Final = re.compile(r"^[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")

_REDIRECTS: Final = frozenset(
    {
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_COMMON_DIR",
        "GIT_INDEX_FILE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_NAMESPACE",
        "GIT_PREFIX",
    }
)
"""Set inside git hooks, where they point git at the hook's repository whatever `-C` says."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry below a folder of a commit. `path` is relative to that folder, `size` in bytes, -1 for a submodule."""

    path: str
    mode: str
    oid: str
    size: int


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit: its full id, its committer's time in ms, and its message."""

    oid: str
    committed_at: int
    message: str


class Repository:
    """A git work tree or bare repository at `path`; a folder inside one stands for that folder.

    Raises `SetupError` when it cannot be read and `Refused` when it lacks what is asked for.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_dir():
            raise SetupError(f"{path} is not a folder; give the path of a git repository")
        self._git("rev-parse", "--git-dir")

    def commit(self, revision: str) -> Commit:
        """Return the commit that `revision` (a branch, a tag, an id) names."""
        # A leading dash would be read as an option of git.
        found = (
            ""
            if revision.startswith("-")
            else self._try("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
        )
        oid = found.strip()
        if not _OBJECT_ID.match(oid):
            raise Refused(
                f"{self.path} has no revision {revision!r}; fetch it first, or look for its name with git log"
            )
        time, _, message = self._git(
            "log", "-1", "--no-show-signature", "--encoding=UTF-8", "--format=%ct%n%B", oid
        ).partition("\n")
        return Commit(oid, int(time) * 1000, message.strip())

    def entries(self, commit: str, folder: str) -> list[Entry]:
        """Return everything below `folder` at `commit`, files and what else git can hold."""
        listed = self._git("ls-tree", "-r", "-z", "-l", commit, f"{folder}/")
        entries = []
        for line in listed.split("\0")[:-1]:
            meta, _, path = line.partition("\t")
            mode, kind, oid, size = meta.split()
            inside = path.removeprefix(f"{folder}/")
            if kind == "blob" and not size.isdigit():
                raise self._damaged(inside)
            entries.append(Entry(inside, mode, oid, int(size) if kind == "blob" else -1))
        if not entries:
            raise Refused(
                f"commit {commit[:12]} of {self.path} has no folder {folder}; check --role, --repo and --commit"
            )
        return entries

    @contextmanager
    def blobs(self) -> Iterator[Blobs]:
        """Open the repository's content for reading, one blob after another."""
        with subprocess.Popen(
            ["git", "-C", str(self.path), "cat-file", "--batch"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
        ) as process:
            assert process.stdin is not None  # noqa: S101  (both are pipes, as asked above)
            assert process.stdout is not None  # noqa: S101
            try:
                yield Blobs(process.stdin, process.stdout, self._damaged)
            finally:
                process.kill()

    def _damaged(self, path: str) -> SetupError:
        return SetupError(
            f"git cannot read {path} of {self.path}; the clone is damaged or partial, so clone it again"
        )

    def _git(self, *arguments: str) -> str:
        done = self._run(*arguments)
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["it gave no reason"])[0]
            if "not a git repository" in said:
                raise SetupError(
                    f"{self.path} is not a git repository; give the fleet repository with --repo"
                )
            raise SetupError(
                f"git cannot read {self.path} ({said.removeprefix('fatal: ')}); mend that and try again"
            )
        return done.stdout

    def _try(self, *arguments: str) -> str:
        return self._run(*arguments).stdout

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                ["git", "-C", str(self.path), *arguments],
                capture_output=True,
                check=False,
                env=_environment(),
                encoding="utf-8",
                errors="surrogateescape",
            )
        except FileNotFoundError:
            raise SetupError(
                "git is not installed; install it, releases are built from git commits"
            ) from None


class Blobs:
    """A running `git cat-file --batch`."""

    def __init__(self, requests: IO[bytes], answers: IO[bytes], damaged: Callable[[str], SetupError]) -> None:
        self._requests, self._answers, self._damaged = requests, answers, damaged

    def read(self, entry: Entry) -> bytes:
        """Return a small blob whole."""
        with self.open(entry) as blob:
            return blob.read(entry.size)

    @contextmanager
    def open(self, entry: Entry) -> Iterator[Blob]:
        """Open one blob; it has to be read to its end before the next is opened."""
        try:
            self._requests.write(entry.oid.encode() + b"\n")
            self._requests.flush()
        except BrokenPipeError:
            raise self._damaged(entry.path) from None
        header = self._answers.readline().split()
        if header[1:2] != [b"blob"] or int(header[2]) != entry.size:
            raise self._damaged(entry.path)
        yield Blob(self._answers, entry.size, self._damaged(entry.path))
        self._answers.read(1)


class Blob:
    """A readable of exactly one blob's bytes; raises `damaged` when git has fewer."""

    def __init__(self, source: IO[bytes], size: int, damaged: SetupError) -> None:
        self._source, self._left, self._damaged = source, size, damaged

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes, fewer only at the blob's end."""
        wanted = min(size, self._left)
        data = self._source.read(wanted)
        if len(data) < wanted:
            raise self._damaged
        self._left -= len(data)
        return data


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _REDIRECTS}
    # A local `git replace` would show other content under the same commit id.
    return kept | {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_NO_REPLACE_OBJECTS": "1"}
