"""The NVML library, opened, and the one way to make a call of it."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import pynvml

from nodeagent.nvml import library
from nodeagent.nvml.errors import Meanings, translated
from nodeagent.nvml.library import Location


class Nvml:
    """The library at *location*; ``in_flight`` is the call being made, or the last one.

    What is to be called with it stands in ``gpus``, ``profiles``, ``gpu_instances``,
    ``compute_instances`` and ``vgpus``, by what it is about.
    """

    def __init__(self, location: Location) -> None:
        self.in_flight = "NVML"
        self._location = location
        self._open = False

    def open(self) -> None:
        """Load and initialise the library, unless that is done."""
        if not self._open:
            self.in_flight = library.LOAD
            library.load(self._location)
            self.ask(pynvml.nvmlInitWithFlags, 0)
            self._open = True

    def close(self) -> None:
        """Shut the library down, if it is open."""
        if self._open:
            self._open = False
            self.ask(pynvml.nvmlShutdown)

    def driver_version(self) -> str:
        """Return the version of the installed driver."""
        return text(self.ask(pynvml.nvmlSystemGetDriverVersion))

    def ask(
        self,
        function: Callable[..., Any],
        *arguments: object,
        meanings: Meanings = MappingProxyType({}),
    ) -> Any:
        """Call one of pynvml's functions; *meanings* are what its error codes mean just there."""
        self.in_flight = function.__name__
        with translated(self.in_flight, meanings):
            return function(*arguments)


def text(answer: str | bytes) -> str:
    """Return an answer as text: some of pynvml's functions decode it, some do not."""
    return answer.decode() if isinstance(answer, bytes) else answer
