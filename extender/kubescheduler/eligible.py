"""Whether kube-scheduler would let a pod run on a node, by what both say of themselves.

As its plugins NodeAffinity and TaintToleration filter (Kubernetes' ``pkg/scheduler/framework/
plugins``, ``component-helpers/scheduling/corev1/nodeaffinity``, ``apimachinery/pkg/labels``): a
pod's ``nodeSelector``, the node affinity that it requires, and the node's taints that it does not
tolerate. What a scheduler's configuration adds to all pods is not known here; nor are tolerations
by ``Lt`` and ``Gt`` heeded, which Kubernetes has behind a feature gate. Of a cordoned node that is
said elsewhere: Tangram lets nothing come to it, whatever is tolerated.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

import msgspec

BARRING = frozenset({"NoSchedule", "NoExecute"})
"""Effects of taints that keep pods from a node; of others it is only chosen last."""

SELECTOR = "its nodeSelector does not match"
AFFINITY = "its required node affinity does not match"
UNREAD = "its nodeSelector, node affinity and tolerations are more than is looked at"

NAME_FIELD = "metadata.name"
"""The one field by which an affinity may select a node."""

_LONGEST_TAINT = 120  # of what is told of one; a key may be 317 characters, a value 63

_PREFIX = r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?"
_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_KEY = re.compile(rf"({_PREFIX}/)?{_NAME}")
_VALUE = re.compile(rf"({_NAME})?")
_INTEGER = re.compile(r"[-+]?[0-9]{1,20}")
_INT64 = range(-(2**63), 2**63)


class _Kube(msgspec.Struct, frozen=True, rename="camel"):
    """A value whose fields are spelled as the Kubernetes API spells them."""


class Taint(_Kube, frozen=True):
    """What keeps pods from a node that do not tolerate it."""

    key: str = ""
    value: str = ""
    effect: str = ""

    def __str__(self) -> str:
        value = f"={self.value}" if self.value else ""
        told = f"{self.key}{value}"
        if len(told) > _LONGEST_TAINT:
            told = f"{told[: _LONGEST_TAINT - 1]}…"
        return f"{told}:{self.effect}"


class Toleration(_Kube, frozen=True):
    """What a pod tolerates; an empty ``key`` or ``effect`` stands for every one."""

    key: str = ""
    operator: str = ""
    value: str = ""
    effect: str = ""

    def of(self, taint: Taint) -> bool:
        """Tell whether it is one of this taint."""
        if self.effect not in ("", taint.effect) or self.key not in ("", taint.key):
            return False
        if self.operator in ("", "Equal"):
            return self.value == taint.value
        return self.operator == "Exists"


class Requirement(_Kube, frozen=True):
    """What an affinity asks of one label, or field, of a node."""

    key: str = ""
    operator: str = ""
    values: tuple[str, ...] = ()

    @property
    def of_a_label(self) -> bool:
        """Whether it can be asked of a label: one that cannot is not met by any."""
        if not _KEY.fullmatch(self.key) or not all(map(_VALUE.fullmatch, self.values)):
            return False
        match self.operator:
            case "In" | "NotIn":
                return bool(self.values)
            case "Exists" | "DoesNotExist":
                return not self.values
            case "Gt" | "Lt":
                return len(self.values) == 1 and _integer(self.values[0]) is not None
            case _:
                return False

    @property
    def of_a_field(self) -> bool:
        """Whether it can be asked of a field."""
        known = self.key == NAME_FIELD and self.operator in ("In", "NotIn")
        return known and len(self.values) == 1

    def met(self, by: Mapping[str, str]) -> bool:
        """Tell whether labels, or fields, of which it can be asked are as it wants them."""
        found = by.get(self.key)
        match self.operator:
            case "In":
                return found is not None and found in self.values
            case "NotIn":
                return found is None or found not in self.values
            case "Exists":
                return found is not None
            case "DoesNotExist":
                return found is None
        mine, theirs = _integer(self.values[0]), None if found is None else _integer(found)
        if mine is None or theirs is None:
            return False
        return theirs > mine if self.operator == "Gt" else theirs < mine


class Term(_Kube, frozen=True):
    """Requirements that are to be met together."""

    match_expressions: tuple[Requirement, ...] = ()
    match_fields: tuple[Requirement, ...] = ()

    @property
    def matches_some(self) -> bool:
        """Whether there may be a node that it matches: not if it is empty, or cannot be asked."""
        expressions, fields = self.match_expressions, self.match_fields
        if not expressions and not fields:
            return False
        return all(each.of_a_label for each in expressions) and all(
            each.of_a_field for each in fields
        )

    @property
    def parts(self) -> int:
        """How much there is of it: itself, its requirements and their values."""
        requirements = (*self.match_expressions, *self.match_fields)
        return 1 + sum(1 + len(each.values) for each in requirements)

    def matches(self, node: Traits) -> bool:
        """Tell whether a node is one of those that it stands for."""
        if not all(each.met(node.labels) for each in self.match_expressions):
            return False
        fields = {NAME_FIELD: node.name}
        return all(each.met(fields) for each in self.match_fields)


class Constraints(msgspec.Struct, frozen=True):
    """What of a pod's spec keeps it from nodes.

    One of the ``terms`` is to match; None: no affinity is required. ``unread``: there is more than
    is looked at, or something else than there should be, and nothing is known of where it may run.
    """

    selector: tuple[tuple[str, str], ...] = ()
    terms: tuple[Term, ...] | None = None
    tolerations: tuple[Toleration, ...] = ()
    unread: bool = False

    @classmethod
    def of(
        cls,
        selector: Mapping[str, str],
        terms: Iterable[Term] | None,
        tolerations: Iterable[Toleration],
    ) -> Constraints:
        """Return those of a spec, without the terms that match no node."""
        some = None if terms is None else tuple(each for each in terms if each.matches_some)
        return cls(tuple(selector.items()), some, tuple(tolerations))

    def checks(self, nodes: int, taints: int) -> int:
        """Return how many comparisons it takes at most to hold it against nodes with such taints.

        What is compared is a label, a value, or a toleration with a taint.
        """
        labels = len(self.selector) + sum(each.parts for each in self.terms or ())
        return nodes * (1 + labels) + taints * len(self.tolerations)


class Traits(msgspec.Struct, frozen=True):
    """What of a node keeps pods from it."""

    name: str
    labels: Mapping[str, str] = {}
    taints: tuple[Taint, ...] = ()


def why_not(pod: Constraints, node: Traits) -> str:
    """Return why a pod may not run on a node, "" if it may.

    What the pod asks for is not told: who is told of a node need not know of the pod.
    """
    if pod.unread:
        return UNREAD
    for taint in node.taints:
        if taint.effect in BARRING and not any(each.of(taint) for each in pod.tolerations):
            return f"taint {taint} is not tolerated"
    for key, value in pod.selector:
        if node.labels.get(key) != value:
            return SELECTOR
    if pod.terms is not None and not any(each.matches(node) for each in pod.terms):
        return AFFINITY
    return ""


@lru_cache(maxsize=4096)
def _integer(text: str) -> int | None:
    """Return the 64-bit integer that a text is, None if it is none."""
    if not _INTEGER.fullmatch(text):
        return None
    number = int(text)
    return number if number in _INT64 else None
