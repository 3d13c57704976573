"""How results are shown: tables on a terminal, tab-separated lines in a pipe, JSON on request.

Results go to standard output, progress and remarks to standard error, and remarks only on a terminal.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hub.artifacts.lint.findings import Finding
from hub.usage import clean

_FRACTION = re.compile(r"(?<=T\d\d:\d\d:\d\d)\.\d+Z\Z")


def seconds(time: object) -> object:
    """Return an RFC 3339 time without its fraction, anything else as it is."""
    return _FRACTION.sub("Z", time) if isinstance(time, str) else time


def emit_json(value: Any, *, indent: int | None = 2) -> None:
    """Print `value` as JSON; `indent` None puts it on one line, for streams."""
    plain = msgspec.to_builtins(value)
    text = json.dumps(plain, indent=indent, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        # JSON's own escapes, since those of the stream would be no JSON.
        text = json.dumps(plain, indent=indent)
    print(text, flush=True)


def emit(text: str) -> None:
    """Print one line of the result."""
    print(clean(text), flush=True)


def emit_file(data: bytes) -> None:
    """Print what is meant for a file, byte for byte; on a terminal its lines, none of which steers it."""
    if sys.stdout.isatty():
        for line in data.decode(errors="replace").splitlines():
            emit(line)
    else:
        sys.stdout.buffer.write(data)
        sys.stdout.flush()


def remark(text: str) -> None:
    """Say something to a person that is not part of the result."""
    if sys.stderr.isatty():
        print(clean(text), file=sys.stderr, flush=True)


def findings(found: Iterable[Finding]) -> None:
    """Say what was found in a role, in a pipe as well: CI shows it to whoever has to mend it."""
    for finding in found:
        print(clean(f"{finding.severity}: {finding.sentence}"), file=sys.stderr, flush=True)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under `columns`."""
    cells = [[clean("-" if cell in (None, "") else cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for line in [list(columns), *cells]:
            emit_row(line)
        return
    Console().print(grid(columns, cells))


def grid(columns: Sequence[str], cells: Iterable[Sequence[str]]) -> Table:
    """Return a table for a terminal. Cells are plain text, never markup."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        # The first column names the thing: people copy it, so it is never broken.
        made.add_column(column, overflow="fold", no_wrap=number == 0)
    for row in cells:
        made.add_row(*(Text(cell) for cell in row))
    return made


def emit_row(cells: Sequence[str]) -> None:
    """Print one tab-separated line."""
    print("\t".join(cells), flush=True)


def fields(pairs: Iterable[tuple[str, object]]) -> None:
    """Print `name  value` lines, aligned on a terminal and tab-separated in a pipe."""
    shown = [(name, clean("-" if value in (None, "") else value)) for name, value in pairs]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        if sys.stdout.isatty():
            print(f"{name:<{width}}  {value}")
        else:
            emit_row([name, value])
