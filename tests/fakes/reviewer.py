"""A reviewer of tokens that knows none; those of tests say what they know beyond that."""

from __future__ import annotations

from extender.service.reviewer import Access


class KnowsNobody:
    """A :class:`~extender.service.reviewer.Reviewer` who lets nobody do anything."""

    async def may_get(self, token: str, path: str) -> Access:
        return Access.UNKNOWN

    async def may_list_pods(self, token: str, namespace: str) -> Access:
        return Access.UNKNOWN

    async def may_get_pods(self, token: str, namespace: str) -> Access:
        return Access.UNKNOWN

    async def may_list_gpu_nodes(self, token: str) -> Access:
        return Access.UNKNOWN

    async def may_move(self, token: str) -> Access:
        return Access.UNKNOWN

    async def who(self, token: str) -> str:
        return ""
