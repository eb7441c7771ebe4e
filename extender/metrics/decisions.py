"""How the decision log fares; nothing but zeros where none is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector


class LogFigures(msgspec.Struct, frozen=True):
    """What was ``records`` written and ``lost``, ``errors`` of the disk; ``bytes`` of all files.

    ``waiting`` are the calls that are yet to be written.
    """

    records: int = 0
    lost: int = 0
    errors: int = 0
    bytes: int = 0
    waiting: int = 0


class DecisionLogs(Collector):
    """Tells what ``read`` returns, which may be called by any thread."""

    def __init__(self) -> None:
        self.read: Callable[[], LogFigures] = LogFigures

    def describe(self) -> Iterator[Metric]:
        """Yield what there is to tell, before there is anything."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        """Yield the log's figures."""
        figures = self.read()
        yield CounterMetricFamily(
            "tangram_decision_log_records",
            "Inputs and decisions written to the decision log.",
            value=figures.records,
        )
        yield CounterMetricFamily(
            "tangram_decision_log_lost",
            "Inputs and decisions that are missing in the decision log: they came faster than they"
            " were written, or could not be written.",
            value=figures.lost,
        )
        yield CounterMetricFamily(
            "tangram_decision_log_errors",
            "Times the decision log could not be written: a full disk, or a folder that was gone.",
            value=figures.errors,
        )
        yield GaugeMetricFamily(
            "tangram_decision_log_bytes",
            "Size of the decision log's files together.",
            value=figures.bytes,
        )
        yield GaugeMetricFamily(
            "tangram_decision_log_waiting",
            "Inputs and decisions that wait to be written to the decision log.",
            value=figures.waiting,
        )
