"""The NVML library, opened, and the one way to make a call of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import pynvml

from nodeagent.driver import DriverError, DriverNotLoaded, GivingWay, VersionMismatch
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
    session are of no use. *shut* is why it is not to be opened yet, "" if it may be.
    """

    def __init__(self, location: Location | Callable[[], Location], *, shut: str = "") -> None:
        self.in_flight = "NVML"
        self.session = 0
        self._locate = location if callable(location) else lambda: location
        self._location: Location | None = None
        self._open = False
        self._over = False
        self._shut = shut

    def open(self) -> None:
        """Load and initialise the library, unless that is done; anew where it has moved.

        Raises:
            GivingWay: it is shut.
            DriverError: it is not there any more, and then it is closed, for a driver whose files
                have gone may be about to be unloaded; or it cannot be initialised.
        """
        if self._shut:
            raise GivingWay(library.LOAD, detail=self._shut)
        try:
            location = self._locate()
        except DriverError:
            with contextlib.suppress(DriverError):
                self.close()
            raise
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

    def shut(self, reason: str) -> None:
        """Close the library, and let nothing open it before :meth:`reopen`.

        Raises:
            DriverError: it may still be open.
        """
        self._shut = reason
        self.close()

    def reopen(self) -> None:
        """Let the next call open the library."""
        self._shut = ""

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
