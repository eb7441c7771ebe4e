"""``tangram`` in this process: to start one of its own takes two seconds, nearly all imports."""

from __future__ import annotations

from unittest.mock import patch

import structlog
from typer.testing import CliRunner, Result

from extender.cli.main import app, configure
from nodeagent.logs import Format, log_to_stderr

PLAIN = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}


def tangram(*arguments: str) -> Result:
    """Run a command to its end; what it raises but to exit is raised here, too."""
    try:
        with patch.dict(configure.__globals__, log_to_stderr=_log_to_stderr_for_now):
            ended = CliRunner(env=PLAIN).invoke(app, [*arguments])
    finally:
        structlog.reset_defaults()
    if ended.exception is not None and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    return ended


def _log_to_stderr_for_now(level: str, format: Format) -> None:
    """Log as the command does, but let no logger keep its stderr, which is closed afterwards."""
    log_to_stderr(level, format)
    structlog.configure(cache_logger_on_first_use=False)
