"""The files of an export: each appears whole, and one that holds the same already is left alone."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from hub.errors import SetupError
from hub.identity.files import write_atomic


class ExportFolder:
    """A folder whose paths are those of the hub. Every method raises `SetupError` when the file system refuses."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.written = 0

    def path(self, name: str) -> Path:
        """Where the file `name` is, or would be."""
        return self._folder / name

    def holds(self, name: str, size: int) -> bool:
        """Return whether the file is there with `size` bytes; what an export wrote is whole."""
        path = self.path(name)
        return path.is_file() and path.stat().st_size == size

    def write(self, name: str, data: bytes) -> None:
        """Write a small file."""
        path = self.path(name)
        if path.is_file() and path.read_bytes() == data:
            return
        self._make_parent(path)
        write_atomic(path, data, 0o644)
        self.written += 1

    def scratch(self, name: str) -> Path:
        """Return a path beside `name` to write a large file to, for `put`."""
        path = self.path(name)
        self._make_parent(path)
        return path.with_name(f".{path.name}.{os.getpid()}")

    def put(self, scratch: Path, name: str) -> None:
        """Give a finished file its name."""
        scratch.chmod(0o644)
        scratch.replace(self.path(name))
        self.written += 1

    def link(self, source: str, name: str) -> None:
        """Make `name` the same file as `source`; a copy where the file system has no hard links."""
        target = self.path(name)
        if target.exists():
            return
        scratch = self.scratch(name)
        with contextlib.suppress(FileNotFoundError):
            scratch.unlink()
        try:
            os.link(self.path(source), scratch)
        except OSError:
            shutil.copyfile(self.path(source), scratch)
        self.put(scratch, name)

    def prune(self, keep: Iterable[str]) -> int:
        """Remove files that an export writes and that `keep` does not name; return how many."""
        kept = {self.path(name) for name in keep}
        removed = 0
        for top in ("trust", "manifests", "devices", "artifacts"):
            for path in sorted(self.path(top).rglob("*"), reverse=True):
                if path.is_dir():
                    with contextlib.suppress(OSError):
                        path.rmdir()
                elif path not in kept:
                    path.unlink()
                    removed += 1
        return removed

    def _make_parent(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SetupError(
                f"cannot write below {self._folder} ({error.strerror}); choose another folder"
            ) from None
