"""The rules as they bear on one pod: on what terms it is placed, and how much is left for it.

``Terms`` are the same for all pods of a tenant that have the same claim on headroom; ``Bounds``
add what is left of caps and headroom at a time, told only as exactly as makes a difference to what
is asked for. So pods that ask for the same have equal bounds, nearly always.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import msgspec
from propcache.api import cached_property

from extender.policy.rules import Apart, Headroom, Rules, Tenant

NOBODY = ""
"""The namespace of a GPU instance that is no pod's: somebody made it by hand."""

UNKNOWN = "?"
"""That of one of ours whose pod is no longer known: it may be any tenant's."""


@dataclass(frozen=True, eq=False)
class Terms:
    """What the *rules* say to a *tenant*'s pods (to those of none), compared by identity.

    ``kept`` is the headroom that is not released to them; ``tenants`` maps each namespace to its
    tenant's name, "" for none, and is kept up by others.
    """

    rules: Rules
    tenant: Tenant | None
    kept: tuple[Headroom, ...]
    tenants: Mapping[str, str]

    @property
    def name(self) -> str:
        """The tenant's name, "" for none."""
        return "" if self.tenant is None else self.tenant.name

    @cached_property
    def apart_from(self) -> Mapping[str, Apart]:
        """What pods of each tenant, and of none, may not share with these."""
        own = Apart.NOTHING if self.tenant is None else self.tenant.apart
        others = {tenant.name: max(own, tenant.apart) for tenant in self.rules.tenants}
        return others | {"": own, self.name: Apart.NOTHING if self.name else own}

    @cached_property
    def isolating(self) -> bool:
        """Whether there is anything that some tenant does not share."""
        return any(tenant.apart for tenant in self.rules.tenants)

    @cached_property
    def keeping_nothing(self) -> Terms:
        """The same, with all headroom released."""
        return replace(self, kept=())

    @cached_property
    def sharing(self) -> Terms:
        """The same, with every tenant sharing GPUs and nodes with all others."""
        tenants = tuple(
            msgspec.structs.replace(each, dedicated=None) for each in self.rules.tenants
        )
        tenant = next((each for each in tenants if each.name == self.name), None)
        rules = msgspec.structs.replace(self.rules, tenants=tenants)
        return replace(self, rules=rules, tenant=tenant)

    def movable(self, namespace: str) -> bool:
        """Tell whether the tenant that has a *namespace* lets its VMs be moved."""
        return self.tenants.get(namespace, "") not in self._staying

    @cached_property
    def _staying(self) -> frozenset[str]:
        return frozenset(each.name for each in self.rules.tenants if not each.movable)

    def apart(self, namespace: str) -> Apart:
        """Return what may not be shared with a GPU instance of a *namespace*."""
        if namespace == UNKNOWN:
            return max(tenant.apart for tenant in self.rules.tenants)
        return self.apart_from[self.tenants.get(namespace, "")]


class Bounds(msgspec.Struct, frozen=True):
    """What a pod may have as of now.

    ``slices``: how many memory slices, None for any number; ``counts``: how many GPU instances of
    each capped profile; ``spare``: by how much it may lessen each headroom of ``terms.kept``.
    ``beside``: GPUs, and the namespaces of what is promised there beyond the plan.
    """

    terms: Terms
    slices: int | None = None
    counts: tuple[tuple[str, int], ...] = ()
    spare: tuple[int, ...] = ()
    beside: frozenset[tuple[str, str]] = frozenset()
