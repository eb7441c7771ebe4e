"""An extender that is killed, by SIGKILL, just before and just after each write that is a step.

``python -m tests.e2e.mortal serve …`` is ``tangram serve …``. While the file ``armed`` is in the
directory that ``TANGRAM_MORTAL`` names, it dies at the first write it comes to: before it is sent,
and when such a write comes next, after the API server has made it and before anybody is told. So no
life comes further than a single write. What it died at is appended to the file ``deaths``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

from extender.cli.main import main
from nodeagent.apiserver.protocol import CONFIG_MAPS, GPU_NODES, PODS, Body, Kind, PatchType
from nodeagent.apiserver.rest import RestApi

DIRECTORY: Final = "TANGRAM_MORTAL"
BEFORE, AFTER = "before", "after"


def armed(directory: Path) -> Path:
    """Return the file whose being there makes the extender mortal."""
    return directory / "armed"


def deaths(directory: Path) -> Sequence[str]:
    """Return what the extender died at so far, such as ``before patch gpunodes``."""
    file = directory / "deaths"
    return file.read_text().splitlines() if file.exists() else ()


class MortalApi(RestApi):
    """A real API server as it is reached by who dies at writes of plans, orders and pods."""

    async def create(
        self,
        kind: Kind,
        body: Body,
        *,
        subresource: str = "",
        dry_run: bool = False,
        **options: Any,
    ) -> bytes:
        """Create an object, or die; a dry run is no step."""
        what = f"create {kind.plural} {subresource}".strip()
        step = kind == CONFIG_MAPS or (kind == PODS and subresource in ("eviction", "binding"))
        async with _dying(what, step=step and not dry_run):
            return await super().create(
                kind, body, subresource=subresource, dry_run=dry_run, **options
            )

    async def patch(
        self,
        kind: Kind,
        name: str,
        patch: Body | Sequence[Body],
        *,
        patch_type: PatchType,
        **options: Any,
    ) -> bytes:
        """Patch an object, or die."""
        async with _dying(f"patch {kind.plural}", step=kind in (CONFIG_MAPS, GPU_NODES)):
            return await super().patch(kind, name, patch, patch_type=patch_type, **options)


@contextlib.asynccontextmanager
async def _dying(what: str, *, step: bool) -> AsyncIterator[None]:
    directory = Path(os.environ[DIRECTORY])
    if not step or not armed(directory).exists():
        yield
        return
    before = deaths(directory)
    if before.count(f"{BEFORE} {what}") == before.count(f"{AFTER} {what}"):
        _die(directory, f"{BEFORE} {what}")
    yield
    _die(directory, f"{AFTER} {what}")


def _die(directory: Path, at: str) -> None:
    with (directory / "deaths").open("a") as file:
        file.write(f"{at}\n")
        file.flush()
        os.fsync(file.fileno())
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.modules["extender.cli.serve"].RestApi = MortalApi  # type: ignore[attr-defined]
    main()
