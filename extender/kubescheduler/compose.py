"""Writes the configuration that Tangram asks for."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from extender.kubescheduler.configuration import (
    API_VERSION,
    KIND,
    Configuration,
    Extender,
    LeaderElection,
    ManagedResource,
    Profile,
    TlsConfig,
    duration,
)
from extender.kubescheduler.offered import Offered
from nodeagent.api import keys

WEIGHT = 20
"""The in-tree scores sum up to 1,400, and a score of 10 counts 10 x 10 x weight."""

ALL_NODES = 100
"""Percent: from 100 nodes on the scheduler samples else, and may miss the one node with room."""


class Files(msgspec.Struct, frozen=True):
    """Where kube-scheduler finds its certificate, its key, and the CA of the extender's."""

    ca: str
    cert: str
    key: str


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What the extender is, to a scheduler: where, how patient, and for which pods.

    ``server_name`` is what its certificate says, if not the host in ``url``; without ``files`` it
    speaks plain HTTP. ``verbs`` are those it serves.
    """

    url: str
    server_name: str = ""
    files: Files | None = None
    http_timeout_seconds: float
    verbs: Collection[str]
    weight: int = WEIGHT
    resources: Offered

    @property
    def entry(self) -> Extender:
        """The entry in ``extenders``."""
        verbs = {verb: verb for verb in self.verbs}
        return Extender(
            url_prefix=self.url,
            filter_verb=verbs.get("filter", ""),
            prioritize_verb=verbs.get("prioritize", ""),
            preempt_verb=verbs.get("preempt", ""),
            bind_verb=verbs.get("bind", ""),
            weight=self.weight,
            http_timeout=duration(self.http_timeout_seconds),
            node_cache_capable=True,
            enable_https=self.files is not None,
            tls_config=None
            if self.files is None
            else TlsConfig(
                server_name=self.server_name,
                ca_file=self.files.ca,
                cert_file=self.files.cert,
                key_file=self.files.key,
            ),
            managed_resources=tuple(
                ManagedResource(name=name, ignored_by_scheduler=ignored)
                for name, ignored in self.resources.items()
            ),
        )


def second_scheduler(wanted: Wanted, name: str) -> dict[str, Any]:
    """Return the whole configuration of a scheduler beside the default one.

    It elects its leader by a Lease of its own: by the default scheduler's, only one of the two
    would ever work.
    """
    return _document(
        wanted,
        LeaderElection(
            leader_elect=True,
            resource_namespace=keys.SYSTEM_NAMESPACE,
            resource_name=f"{name}-scheduler",
        ),
        (Profile(scheduler_name=name),),
    )


def patch(wanted: Wanted) -> dict[str, Any]:
    """Return what the configuration of a scheduler that is there has to say besides."""
    return _document(wanted, None, None)


def _document(
    wanted: Wanted, election: LeaderElection | None, profiles: tuple[Profile, ...] | None
) -> dict[str, Any]:
    found = Configuration(
        api_version=API_VERSION,
        kind=KIND,
        leader_election=election,
        profiles=profiles,
        percentage_of_nodes_to_score=ALL_NODES,
        extenders=(wanted.entry,),
    )
    document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(found))
    return document
