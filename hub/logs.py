"""Logs: one JSON line per event in services, colours on a terminal.

Keys mean the same everywhere: `request` (its id, also in `X-Request-Id` and in the event log), `actor`, `device`,
`release`, `event_n` (number in the event log), `topic`. The id of a request is on every line that it causes, in
worker threads too; an event's line, written when it is sealed, has the id of the request that made it.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import TextIO, cast

import structlog


class _Unfailing:
    """Writes to `file` if that can be written. A full disk, or a pipe whose reader ended, costs the line and not the
    thread that had something to say."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._file.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._file.flush()


class _Loggers:
    """Makes loggers that know their name, which structlog's own do not."""

    def __init__(self, file: TextIO) -> None:
        self._file = cast("TextIO", _Unfailing(file))

    def __call__(self, name: str = "hub") -> structlog.WriteLogger:
        logger = structlog.WriteLogger(self._file)
        logger.name = name  # type: ignore[attr-defined]
        return logger


def configure(*, terminal: bool | None = None) -> None:
    """Set up structlog to standard error; `terminal` None looks whether it is one."""
    on_terminal = sys.stderr.isatty() if terminal is None else terminal
    renderer: structlog.typing.Processor = (
        # The values of variables, as the usual formatter shows them, would put keys and tokens into the log.
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if on_terminal
        else structlog.processors.JSONRenderer()
    )
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    processors.append(_harmless if on_terminal else structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*processors, renderer],
        logger_factory=_Loggers(sys.stderr),
        cache_logger_on_first_use=False,
    )
    _adopt_standard_logging()


def _harmless(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Spell out what a terminal would obey: the path of a request is any stranger's text."""
    return {key: _spelled(value) if isinstance(value, str) else value for key, value in event.items()}


def _spelled(text: str) -> str:
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def _adopt_standard_logging() -> None:
    """Let what libraries log through the standard library come out as our own lines do."""
    root = logging.getLogger()
    root.handlers = [_Adopted()]
    root.setLevel(logging.WARNING)


class _Adopted(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger(record.name)
        exc_info = record.exc_info if record.exc_info and record.exc_info[0] else None
        log.log(record.levelno, record.getMessage(), **({"exc_info": exc_info} if exc_info else {}))
