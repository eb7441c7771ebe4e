"""Where a test's kubelet lives."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from nodeagent.deviceplugin.places import Places


@contextlib.contextmanager
def temporary_places() -> Iterator[Places]:
    """Return directories whose names are short enough for sockets, as pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="kubelet-") as root:
        home = Path(root)
        yield Places(home / "device-plugins", home / "pod-resources.sock", home / "cdi")
