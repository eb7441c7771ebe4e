"""The rules in force: which namespace is whose, what tenants have, and what is left for a pod.

What the plans hold is kept up node by node as views change; what is promised beyond them is added
when a pod asks. With both, and no await between asking and promising, caps and headroom hold
however many binds are under way.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Collection, Mapping, Sequence

import msgspec

from extender.ledger import Ledger
from extender.planning.stages import Left
from extender.policy.bounds import Bounds, Terms
from extender.policy.rules import NO_RULES, Headroom, Rules, Tenant
from extender.policy.selectors import Labels
from extender.request import Request, Wanted
from extender.service.assigned import Assigned
from extender.service.holds import Holds
from extender.service.rooms import Rooms
from extender.service.usage import Usage
from extender.snapshot import NodeView
from extender.verbs.verdicts import Refused, gang_over_cap

REMEMBERED = 20_000  # deleted namespaces: what their pods had is given back within seconds

Used = tuple[str, int]
"""A GPU instance in use: its profile, and its memory slices."""


class Tenancy:
    """Keeps *rules* about the nodes in *views*; *assigned* and *holds* are the service's.

    ``edition`` is another whenever a namespace may be another tenant's than before.
    """

    def __init__(
        self, views: Mapping[str, NodeView], assigned: Assigned, holds: Holds, rules: Rules
    ) -> None:
        self._views = views
        self._assigned = assigned
        self._holds = holds
        self._namespaces: dict[str, Labels] = {}
        self._deleted: OrderedDict[str, None] = OrderedDict()
        self._tenants: dict[str, str] = {}
        self.edition = 0
        self.rules = NO_RULES
        self.adopt(rules)

    def adopt(self, rules: Rules) -> None:
        """Go by other rules from here on."""
        self.rules = rules
        self.edition += 1
        self._by_name = {tenant.name: tenant for tenant in rules.tenants}
        self._terms: dict[tuple[str, tuple[int, ...]], Terms] = {}
        self._usage = Usage(self._views, self._assigned, self._holds)
        self._rooms = Rooms(self._views, rules)
        self._kinds: set[object] = set()
        self._sizes: dict[str, set[Used]] = {}
        self._deleted.clear()
        self._tenants = {name: self._whose(labels) for name, labels in self._namespaces.items()}
        self._of: dict[str, set[str]] = {}
        for name, tenant in self._tenants.items():
            self._of.setdefault(tenant, set()).add(name)
        for name, view in self._views.items():
            self.changed(name, None, view)

    def _whose(self, labels: Labels) -> str:
        found = self.rules.tenant_of(labels)
        return "" if found is None else found.name

    # What the cluster reports.

    def namespace(self, name: str, labels: Labels) -> bool:
        """Take in a namespace; return whether what it has is another's than was thought."""
        self._namespaces[name] = labels
        self._deleted.pop(name, None)
        before, now = self._tenants.get(name), self._whose(labels)
        if before == now:
            return False
        self._move(name, before, now)
        self.edition += 1
        if before is None and not self._usage.planned(name):
            return False  # a new one, with nothing in it yet
        self._terms.clear()  # what was judged by them is not so any more
        return True

    def namespace_gone(self, name: str) -> None:
        """Take in that a namespace was deleted; whose it was is known while its things go."""
        self._namespaces.pop(name, None)
        self._deleted[name] = None
        while len(self._deleted) > REMEMBERED:
            oldest, _ = self._deleted.popitem(last=False)
            self._move(oldest, self._tenants.pop(oldest, None), None)

    def _move(self, name: str, before: str | None, now: str | None) -> None:
        if before is not None:
            self._of[before].discard(name)
        if now is not None:
            self._tenants[name] = now
            self._of.setdefault(now, set()).add(name)

    def changed(self, name: str, before: NodeView | None, now: NodeView | None) -> None:
        """Take in that a node's view is another."""
        if not self.rules:
            return
        self._usage.changed(before, now)
        self._rooms.changed(name, now)
        if now is not None:
            self._learn(now)

    def _learn(self, view: NodeView) -> None:
        """Note what each resource may come to, from nodes of kinds not seen before."""
        if view.kind not in self._kinds:
            self._kinds.add(view.kind)
            for resource, profile, size in view.sizes:
                self._sizes.setdefault(resource, set()).add((profile, size))

    # What is asked.

    def known(self, namespace: str) -> bool:
        """Tell whether it is known whose a pod of a *namespace* is, as far as that matters."""
        return not self.rules.tenants or namespace in self._tenants

    def tenant_of(self, namespace: str) -> str:
        """Return the tenant whose a namespace is, "" if it is none's or not known."""
        return self._tenants.get(namespace, "")

    def priority(self, request: Request) -> int:
        """Return a pod's priority, with what its tenant adds to it."""
        tenant = self._by_name.get(self._tenants.get(request.pod.namespace, ""))
        return request.priority + (0 if tenant is None else tenant.priority)

    def bounded(
        self, request: Request, ledger: Ledger, *, leaving: Collection[str] = ()
    ) -> Request:
        """Return a request with what is left for it at this moment, once the pods *leaving* are."""
        if not self.rules:
            return request
        name = self._tenants.get(request.pod.namespace, "")
        tenant = self._by_name.get(name)
        priority = self.priority(request)
        kept = tuple(
            at for at, each in enumerate(self.rules.headroom) if not each.released(name, priority)
        )
        terms = self._terms.get((name, kept))
        if terms is None:
            rooms = tuple(self.rules.headroom[at] for at in kept)
            terms = self._terms[name, kept] = Terms(self.rules, tenant, rooms, self._tenants)
        totals = self._totals(request.wanted)
        slices: int | None = None
        counts: tuple[tuple[str, int], ...] = ()
        if tenant is not None and (tenant.caps.memory_slices is not None or tenant.caps.profiles):
            slices, counts = self._left(tenant, request, ledger, leaving, totals)
        most = max(totals, default=1)
        beside = ((at, self._rooms.beside(at, ledger, request)) for at in kept)
        spare = tuple(max(0, min(most, room - self.rules.headroom[at].keep)) for at, room in beside)
        return msgspec.structs.replace(
            request, priority=priority, bounds=Bounds(terms, slices, counts, spare)
        )

    def _totals(self, wanted: Wanted) -> set[int]:
        """Return the memory slices that what is *wanted* may come to on the GPUs there are."""
        totals = {0}
        for resource in wanted:
            sizes = {size for _, size in self._sizes.get(resource, ())}
            totals = {total + size for total in totals for size in sizes}
        return totals

    def _left(
        self,
        tenant: Tenant,
        request: Request,
        ledger: Ledger,
        leaving: Collection[str],
        totals: Collection[int],
    ) -> tuple[int | None, tuple[tuple[str, int], ...]]:
        """Return what is left of a tenant's caps, as exactly as matters for the request."""
        caps, wanted = tenant.caps, request.wanted
        slices, profiles = self.used(tenant.name, ledger, request, leaving)
        left = None
        if caps.memory_slices is not None:
            within = (each for each in totals if each <= caps.memory_slices - slices)
            left = max(within, default=0)
        asked = {profile for each in wanted for profile, _ in self._sizes.get(each, ())}
        counts = tuple(
            (profile, max(0, min(len(wanted), cap - profiles[profile])))
            for profile, cap in caps.profiles.items()
            if profile in asked
        )
        return left, counts

    def over_cap(self, requests: Sequence[Request], ledger: Ledger) -> Refused | None:
        """Return what cap of their tenant's a gang's *requests* exceed together, if any.

        However they are placed: each counts as the least that it may come to.
        """
        tenant = self._by_name.get(
            next((self._tenants.get(each.pod.namespace, "") for each in requests), "")
        )
        if tenant is None:
            return None
        slices, profiles = self.used(tenant.name, ledger)
        wanted = [resource for each in requests for resource in each.wanted]
        kinds = [self._sizes.get(resource, set()) for resource in wanted]
        slices += sum(min((size for _, size in each), default=0) for each in kinds)
        if tenant.caps.memory_slices is not None and slices > tenant.caps.memory_slices:
            return gang_over_cap(tenant.name, "memory slices")
        certain = [{profile for profile, _ in each} for each in kinds]
        for profile, cap in tenant.caps.profiles.items():
            if profiles[profile] + certain.count({profile}) > cap:
                return gang_over_cap(tenant.name, profile)
        return None

    @property
    def namespaces(self) -> Mapping[str, Labels]:
        """The labels of each namespace that there is."""
        return self._namespaces

    @property
    def tenants(self) -> Mapping[str, str]:
        """The tenant of each namespace, "" for none."""
        return self._tenants

    @property
    def headroom(self) -> tuple[tuple[Headroom, int], ...]:
        """Each headroom, with how many of its instances there is room for by the plans."""
        return tuple(zip(self.rules.headroom, self._rooms.planned, strict=True))

    def left(self, ledger: Ledger) -> Left:
        """Return what each tenant with caps may still have."""
        slices, counts = {}, {}
        for name, tenant in self._by_name.items():
            if tenant.caps.memory_slices is not None or tenant.caps.profiles:
                used, profiles = self.used(name, ledger)
                if tenant.caps.memory_slices is not None:
                    slices[name] = max(0, tenant.caps.memory_slices - used)
                counts[name] = {
                    profile: max(0, cap - profiles[profile])
                    for profile, cap in tenant.caps.profiles.items()
                }
        return Left(slices, counts)

    def used(
        self,
        tenant: str,
        ledger: Ledger,
        request: Request | None = None,
        leaving: Collection[str] = (),
    ) -> tuple[int, Counter[str]]:
        """Return the memory slices a tenant has, and its GPU instances of each capped profile.

        All that is planned, held or promised for its pods, but for what the *request*'s own pod
        and owner have, and the pods *leaving*.
        """
        namespaces = self._of.get(tenant, set())
        capped = self._by_name[tenant].caps.profiles
        return self._usage.of(namespaces, capped, ledger, request, leaving)
