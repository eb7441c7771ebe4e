"""Logs: events with their facts, one JSON object a line, the same from every process."""

from __future__ import annotations

import sys

import structlog

LEVELS = ("debug", "info", "warning", "error")
"""From the least severe to the most."""


def log_to_stderr(level: str) -> None:
    """Log what is at least as severe as *level*, one of :data:`LEVELS` in either case."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
