from __future__ import annotations

import json

import pytest
import structlog

from nodeagent.logs import LEVELS, log_to_stderr


@pytest.mark.parametrize("level", [*LEVELS, "WARNING"])
def test_what_is_less_severe_is_not_logged(level: str, capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr(level)
    log = structlog.get_logger()
    for each in LEVELS:
        getattr(log, each)("an_event", gpu="GPU-0")

    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["level"] for line in lines] == list(LEVELS[LEVELS.index(level.lower()) :])
    assert {(line["event"], line["gpu"]) for line in lines} == {("an_event", "GPU-0")}
