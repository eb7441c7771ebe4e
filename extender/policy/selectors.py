"""Label selectors, as Kubernetes has them: on Nodes for pools, on Namespaces for tenants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum

import msgspec

Labels = Mapping[str, str]
"""An object's labels."""


class Operator(StrEnum):
    """How a requirement's key and values are compared."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class Requirement(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"
):
    """One of a selector's ``matchExpressions``; ``NotIn`` is met where the key is missing."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def met_by(self, labels: Labels) -> bool:
        """Tell whether an object with these labels meets it."""
        match self.operator:
            case Operator.IN:
                return labels.get(self.key) in self.values
            case Operator.NOT_IN:
                return self.key not in labels or labels[self.key] not in self.values
            case Operator.EXISTS:
                return self.key in labels
            case Operator.DOES_NOT_EXIST:
                return self.key not in labels


class Selector(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"
):
    """Selects what has all the labels and meets all the requirements; an empty one, everything."""

    match_labels: dict[str, str] = {}
    match_expressions: tuple[Requirement, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether it selects everything."""
        return not self.match_labels and not self.match_expressions

    @property
    def keys(self) -> frozenset[str]:
        """The labels it looks at."""
        return frozenset((*self.match_labels, *(each.key for each in self.match_expressions)))

    def matches(self, labels: Labels) -> bool:
        """Tell whether an object with these labels is selected."""
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            requirement.met_by(labels) for requirement in self.match_expressions
        )

    def faults(self) -> Iterator[tuple[str, str, str]]:
        """Yield what makes no sense in it: where, what, and the remedy."""
        for at, each in enumerate(self.match_expressions):
            where = f".matchExpressions[{at}].values"
            if each.operator in (Operator.IN, Operator.NOT_IN) and not each.values:
                yield where, f"{each.operator} of nothing", "list the values"
            if each.operator in (Operator.EXISTS, Operator.DOES_NOT_EXIST) and each.values:
                yield where, f"{each.operator} takes no values", "remove them"
