"""The NVML library, opened, and the one way to make a call of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import pynvml

from nodeagent.driver import DriverError, DriverNotLoaded, VersionMismatch
from nodeagent.nvml import library
from nodeagent.nvml.errors import UNINITIALIZED, Meanings, translated
from nodeagent.nvml.library import Location

_OVER = (UNINITIALIZED, DriverNotLoaded.code, VersionMismatch.code)
"""What says that the library must be initialised again, whatever we think of it."""


class Nvml:
    """The library at *location*, which may move.

    ``in_flight`` is the call being made, or the last one. What is to be called with it stands in
    ``gpus``, ``profiles``, ``gpu_instances``, ``compute_instances`` and ``vgpus``, by what it is
    about. ``session`` counts how often it was initialised: handles and event sets of an earlier
    session are of no use.
    """

    def __init__(self, location: Location | Callable[[], Location]) -> None:
        self.in_flight = "NVML"
        self.session = 0
        self._locate = location if callable(location) else lambda: location
        self._location: Location | None = None
        self._open = False
        self._over = False

    def open(self) -> None:
        """Load and initialise the library, unless that is done; anew where it has moved."""
        location = self._locate()
        if self._over or (self._open and location != self._location):
            with contextlib.suppress(DriverError):
                self.close()
            self._open = self._over = False
        if not self._open:
            self.in_flight = library.LOAD
            library.load(location)
            self._location = location
            self.ask(pynvml.nvmlInitWithFlags, 0)
            self._open = True
            self.session += 1

    def close(self) -> None:
        """Shut the library down, if it is open.

        Raises:
            DriverError: it may still be open, and is treated so.
        """
        if self._open:
            self.ask(pynvml.nvmlShutdown)
            self._open = False

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
        try:
            with translated(self.in_flight, meanings):
                return function(*arguments)
        except DriverError as error:
            self._over = self._over or error.code in _OVER
            raise


def text(answer: str | bytes) -> str:
    """Return an answer as text: some of pynvml's functions decode it, some do not."""
    return answer.decode() if isinstance(answer, bytes) else answer
