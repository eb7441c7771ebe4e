"""Who a bearer token belongs to, and what they may see: the API server's word for both.

Its answers are kept for a moment, by the token's digest, so that a scrape every few seconds does
not cost it two reviews each. Those that were refused are kept, too: whoever guesses tokens costs us
nothing but memory, and that is bounded.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

import msgspec

from extender.cluster.outcome import outcome
from extender.service.reviewer import Access
from nodeagent.api import keys
from nodeagent.apiserver.protocol import SUBJECT_ACCESS_REVIEWS, TOKEN_REVIEWS, ApiServer

KEPT_SECONDS = 30.0
"""How long a token that was withdrawn, or a right that was taken away, goes on working."""

MOST_KEPT = 1024
LONGEST_NAME = 128
"""Characters of a user's name: a service account's may be twice as long."""

LONGEST_TOKEN = 16_384  # bytes; a service account's has some 1,000, an OIDC provider's a few more
REVIEW_SECONDS = 5.0


class _User(msgspec.Struct, frozen=True):
    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, tuple[str, ...]] = {}


class _TokenStatus(msgspec.Struct, frozen=True):
    authenticated: bool = False
    user: _User = _User()


class _TokenReview(msgspec.Struct, frozen=True):
    status: _TokenStatus = _TokenStatus()


class _AccessStatus(msgspec.Struct, frozen=True):
    allowed: bool = False


class _AccessReview(msgspec.Struct, frozen=True):
    status: _AccessStatus = _AccessStatus()


class Reviews:
    """The API server's TokenReview and SubjectAccessReview; *clock* is monotonic, in seconds."""

    def __init__(self, api: ApiServer, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._clock = clock
        self._kept: OrderedDict[tuple[bytes, bytes], tuple[Access, float]] = OrderedDict()

    async def may_get(self, token: str, path: str) -> Access:
        """Tell whether whoever has a token may GET a path of ours (a non-resource URL).

        Raises:
            ClusterUnavailable: the API server did not say.
        """
        return await self._may(token, {"nonResourceAttributes": {"path": path, "verb": "get"}})

    async def may_list_pods(self, token: str, namespace: str) -> Access:
        """Tell whether whoever has a token may list the pods of a namespace, "" for all of them.

        Raises:
            ClusterUnavailable: the API server did not say.
        """
        pods = {"resource": "pods", "verb": "list", "namespace": namespace}
        return await self._may(token, {"resourceAttributes": pods})

    async def may_get_pods(self, token: str, namespace: str) -> Access:
        """Tell whether whoever has a token may get the pods of a namespace.

        Raises:
            ClusterUnavailable: the API server did not say.
        """
        pods = {"resource": "pods", "verb": "get", "namespace": namespace}
        return await self._may(token, {"resourceAttributes": pods})

    async def may_list_gpu_nodes(self, token: str) -> Access:
        """Tell whether whoever has a token may list the GpuNodes.

        Raises:
            ClusterUnavailable: the API server did not say.
        """
        nodes = {"group": keys.GROUP, "resource": keys.GPU_NODE_PLURAL, "verb": "list"}
        return await self._may(token, {"resourceAttributes": nodes})

    async def may_move(self, token: str) -> Access:
        """Tell whether whoever has a token may ``move``, a verb of GpuNodes that is ours alone.

        Raises:
            ClusterUnavailable: the API server did not say.
        """
        nodes = {"group": keys.GROUP, "resource": keys.GPU_NODE_PLURAL, "verb": keys.MOVE_VERB}
        return await self._may(token, {"resourceAttributes": nodes})

    async def who(self, token: str) -> str:
        """Return the name of whoever has a token, as far as it can be printed; "" for nobody.

        Raises:
            ClusterUnavailable: the API server did not say.
        """
        if not token or len(token) > LONGEST_TOKEN:
            return ""
        found = await self._whose(token)
        name = found.user.username[:LONGEST_NAME] if found.authenticated else ""
        return "".join(each if each.isprintable() else "?" for each in name)

    async def _may(self, token: str, what: Mapping[str, Mapping[str, str]]) -> Access:
        if not token or len(token) > LONGEST_TOKEN:
            return Access.UNKNOWN
        key = (hashlib.sha256(token.encode()).digest(), msgspec.json.encode(what))
        known = self._kept.get(key)
        if known is not None and self._clock() < known[1]:
            return known[0]
        found = await self._reviewed(token, what)
        self._kept[key] = (found, self._clock() + KEPT_SECONDS)
        self._kept.move_to_end(key)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return found

    async def _whose(self, token: str) -> _TokenStatus:
        with outcome():
            raw = await self._api.create(
                TOKEN_REVIEWS,
                {
                    "apiVersion": "authentication.k8s.io/v1",
                    "kind": "TokenReview",
                    "spec": {"token": token},
                },
                timeout=REVIEW_SECONDS,
            )
            return msgspec.json.decode(raw, type=_TokenReview).status

    async def _reviewed(self, token: str, what: Mapping[str, Mapping[str, str]]) -> Access:
        who = await self._whose(token)
        if not who.authenticated:
            return Access.UNKNOWN
        with outcome():
            raw = await self._api.create(
                SUBJECT_ACCESS_REVIEWS,
                {
                    "apiVersion": "authorization.k8s.io/v1",
                    "kind": "SubjectAccessReview",
                    "spec": {
                        "user": who.user.username,
                        "uid": who.user.uid,
                        "groups": who.user.groups,
                        "extra": who.user.extra,
                        **what,
                    },
                },
                timeout=REVIEW_SECONDS,
            )
        allowed = msgspec.json.decode(raw, type=_AccessReview).status.allowed
        return Access.ALLOWED if allowed else Access.FORBIDDEN
