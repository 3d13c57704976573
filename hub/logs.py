"""Logs: one JSON line per event in services, colours on a terminal."""

from __future__ import annotations

import sys

import structlog


def configure(*, terminal: bool | None = None) -> None:
    """Set up structlog to standard error; `terminal` None looks whether it is one."""
    on_terminal = sys.stderr.isatty() if terminal is None else terminal
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if on_terminal else structlog.processors.JSONRenderer()
    )
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if not on_terminal:
        processors.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*processors, renderer],
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
