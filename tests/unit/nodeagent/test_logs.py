from __future__ import annotations

import json

import pytest
import structlog

from nodeagent.logs import LEVELS, Format, log_to_stderr


@pytest.mark.parametrize("level", [*LEVELS, "WARNING"])
def test_what_is_less_severe_is_not_logged(level: str, capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr(level)
    log = structlog.get_logger()
    for each in LEVELS:
        getattr(log, each)("an_event", gpu="GPU-0")

    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["level"] for line in lines] == list(LEVELS[LEVELS.index(level.lower()) :])
    assert {(line["event"], line["gpu"]) for line in lines} == {("an_event", "GPU-0")}


def test_people_read_the_same_events_and_the_traceback_of_a_failure(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log_to_stderr("info", Format.CONSOLE)
    log = structlog.get_logger()
    try:
        raise OSError("the disk is full")
    except OSError:
        log.exception("journal_not_written", gpu="GPU-0")

    first, *rest = capsys.readouterr().err.splitlines()
    assert {"journal_not_written", "gpu=GPU-0"} <= set(first.split())
    assert "error" in first
    assert rest[-1] == "OSError: the disk is full"
    assert "\x1b" not in first, "no colours where nobody sees them"
