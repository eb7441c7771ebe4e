"""What can be asked of an API server, and how it fails.

::

    ApiError
    ├── NotFound        404
    ├── Conflict        409: a binding's or update's precondition does not hold; a name is taken
    ├── Invalid         422: the object is malformed, or a JSON Patch's ``test`` failed
    ├── Gone            410: a watch or a list's continuation starts too far back
    ├── Throttled       429: try again after ``retry_after`` seconds
    │   └── Overloaded  by flow control: whatever is asked
    ├── Refused         any other 4xx
    └── Unavailable     5xx, no connection, or no answer in time: the outcome of a write is unknown
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from nodeagent.api import keys


class ApiError(Exception):
    """The API server did not do what was asked; ``status`` is 0 without any answer of it."""

    def __init__(self, status: int, message: str, *, retry_after: float = 0.0) -> None:
        super().__init__(f"{status}: {message}" if status else message)
        self.status = status
        self.message = message
        self.retry_after = retry_after


class NotFound(ApiError):
    """The object does not exist."""


class Conflict(ApiError):
    """A precondition does not hold, or the name is taken."""


class Invalid(ApiError):
    """The object is malformed, or a JSON Patch's ``test`` failed."""


class Gone(ApiError):
    """A watch or a continued list starts too far back; list anew."""


class Throttled(ApiError):
    """Too many requests; or a pod may not be evicted now."""


class Overloaded(Throttled):
    """Too many requests of whatever kind: what is asked for has not been looked at."""


class Refused(ApiError):
    """Any other refusal, such as 401 or 403."""


class Unavailable(ApiError):
    """No usable answer: what became of a write is unknown."""


class Kind(msgspec.Struct, frozen=True):
    """A resource type, as its paths need it; ``group`` is "" for the core group."""

    group: str
    version: str
    plural: str
    namespaced: bool

    @property
    def prefix(self) -> str:
        """The path all objects of the group and version share."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"


NODES = Kind("", "v1", "nodes", namespaced=False)
NAMESPACES = Kind("", "v1", "namespaces", namespaced=False)
PODS = Kind("", "v1", "pods", namespaced=True)
EVENTS = Kind("", "v1", "events", namespaced=True)
SERVICE_ACCOUNTS = Kind("", "v1", "serviceaccounts", namespaced=True)
CONFIG_MAPS = Kind("", "v1", "configmaps", namespaced=True)
LEASES = Kind("coordination.k8s.io", "v1", "leases", namespaced=True)
STATEFUL_SETS = Kind("apps", "v1", "statefulsets", namespaced=True)
REPLICA_SETS = Kind("apps", "v1", "replicasets", namespaced=True)
TOKEN_REVIEWS = Kind("authentication.k8s.io", "v1", "tokenreviews", namespaced=False)
SUBJECT_ACCESS_REVIEWS = Kind(
    "authorization.k8s.io", "v1", "subjectaccessreviews", namespaced=False
)
POD_DISRUPTION_BUDGETS = Kind("policy", "v1", "poddisruptionbudgets", namespaced=True)
VIRTUAL_MACHINES = Kind("kubevirt.io", "v1", "virtualmachines", namespaced=True)
VIRTUAL_MACHINE_INSTANCES = Kind("kubevirt.io", "v1", "virtualmachineinstances", namespaced=True)
MIGRATIONS = Kind("kubevirt.io", "v1", "virtualmachineinstancemigrations", namespaced=True)
GPU_NODES = Kind(keys.GROUP, keys.VERSION, keys.GPU_NODE_PLURAL, namespaced=False)


class Page(msgspec.Struct, frozen=True):
    """One page of a list: each object's JSON, and where the next page starts ("" at the end)."""

    items: Sequence[bytes]
    resource_version: str
    continue_token: str = ""


class EventType(StrEnum):
    """What a watch reports."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"


class WatchEvent(msgspec.Struct, frozen=True):
    """One event of a watch; ``object`` is the object's JSON (only its version, for a bookmark)."""

    type: EventType
    object: bytes
    resource_version: str


class PatchType(StrEnum):
    """The patch formats in use, by media type."""

    JSON = "application/json-patch+json"
    MERGE = "application/merge-patch+json"


Body = Mapping[str, Any]
"""A JSON object; whatever msgspec encodes may stand inside, such as a ``gpunode.Plan``."""


class ApiServer(Protocol):
    """The verbs Tangram uses. Each may raise :class:`ApiError`; *timeout* is in seconds.

    A timeout bounds all of a call from its start. A server asked to write is told how much of it is
    left, so what it commits, it commits within that.
    """

    async def get(
        self, kind: Kind, name: str, *, namespace: str = "", timeout: float = 10.0
    ) -> bytes:
        """Return the object's JSON."""

    async def list(
        self,
        kind: Kind,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 500,
        continue_token: str = "",
        timeout: float = 30.0,
    ) -> Page:
        """Return one page of the objects; a namespaced kind without namespace means all of them."""

    def watch(
        self,
        kind: Kind,
        *,
        resource_version: str,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        timeout: float = 300.0,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Yield what changes after *resource_version*, bookmarks included, until *timeout*.

        It opens with a bookmark at *resource_version*: the server has accepted the watch. Close it
        (``contextlib.aclosing``), for it holds a connection. DELETED also means that the object no
        longer matches the selectors; its JSON is then the last that did.
        """

    async def create(
        self,
        kind: Kind,
        body: Body,
        *,
        namespace: str = "",
        name: str = "",
        subresource: str = "",
        dry_run: bool = False,
        timeout: float = 10.0,
    ) -> bytes:
        """Create an object (or, with *name* and *subresource*, such as a binding) and return it.

        In a *dry_run* all are asked that may refuse it, webhooks too, and nothing is written.
        """

    async def patch(
        self,
        kind: Kind,
        name: str,
        patch: Body | Sequence[Body],
        *,
        patch_type: PatchType,
        namespace: str = "",
        subresource: str = "",
        timeout: float = 10.0,
    ) -> bytes:
        """Patch an object and return it as it is afterwards."""

    async def delete(
        self,
        kind: Kind,
        name: str,
        *,
        namespace: str = "",
        uid: str = "",
        resource_version: str = "",
        grace_seconds: int | None = None,
        timeout: float = 10.0,
    ) -> None:
        """Delete an object; with *uid* or *resource_version*, only if it still has that.

        A pod on a node is only marked, and goes when its kubelet deletes it with *grace_seconds* 0.
        """
