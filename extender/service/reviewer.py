"""Who tells the desk what a caller may see and do."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol


class Access(StrEnum):
    """What somebody may do with what they showed us."""

    ALLOWED = "allowed"
    FORBIDDEN = "forbidden"
    UNKNOWN = "unknown"
    """Nobody is known by it."""


class Reviewer(Protocol):
    """Who tells what the bearer of a token may do."""

    async def may_get(self, token: str, path: str) -> Access:
        """Tell whether whoever has a token may GET a path.

        Raises:
            ClusterUnavailable: that could not be found out.
        """

    async def may_list_pods(self, token: str, namespace: str) -> Access:
        """Tell whether whoever has a token may list the pods of a namespace, "" for all of them.

        Raises:
            ClusterUnavailable: that could not be found out.
        """

    async def may_get_pods(self, token: str, namespace: str) -> Access:
        """Tell whether whoever has a token may get the pods of a namespace.

        Raises:
            ClusterUnavailable: that could not be found out.
        """

    async def may_list_gpu_nodes(self, token: str) -> Access:
        """Tell whether whoever has a token may list the GpuNodes.

        Raises:
            ClusterUnavailable: that could not be found out.
        """

    async def may_move(self, token: str) -> Access:
        """Tell whether whoever has a token may have VMs moved: ``move`` is a verb of GpuNodes.

        Raises:
            ClusterUnavailable: that could not be found out.
        """

    async def who(self, token: str) -> str:
        """Return the name of whoever has a token, short enough to be told; "" for nobody.

        Raises:
            ClusterUnavailable: that could not be found out.
        """
