"""Logs: events with their facts, one a line, the same from every process."""

from __future__ import annotations

import sys
from enum import StrEnum

import structlog

LEVELS = ("debug", "info", "warning", "error")
"""From the least severe to the most."""


class Format(StrEnum):
    """How an event is written: for programs as a JSON object, or for people."""

    JSON = "json"
    CONSOLE = "console"


def log_to_stderr(level: str, format: Format = Format.JSON) -> None:
    """Log what is at least as severe as *level*, one of :data:`LEVELS` in either case."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *_rendered(format),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def _rendered(format: Format) -> list[structlog.types.Processor]:
    match format:
        case Format.JSON:
            return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        case Format.CONSOLE:
            # The same with rich or without: the agent does not have it.
            plain = structlog.dev.plain_traceback
            colours = sys.stderr.isatty()
            return [structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=plain)]
