"""Label and field selectors: which objects a list or a watch is about."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Self

import msgspec

from nodeagent.apiserver.protocol import Refused

_COMMA = re.compile(r",(?![^(]*\))")  # outside parentheses
_KEY = r"\s*(?P<key>[^\s=!,()]+)\s*"
_EQUALITY = re.compile(rf"{_KEY}(?P<op>!=|==?)\s*(?P<value>[^\s=!,()]*)\s*")
_MEMBERSHIP = re.compile(rf"{_KEY}\s(?P<op>in|notin)\s*\((?P<values>[^()]*)\)\s*")
_EXISTENCE = re.compile(rf"\s*(?P<op>!?){_KEY}")


class Requirement(msgspec.Struct, frozen=True):
    """One term: the key's value is among *values* (is there at all, when None), or not *wanted*."""

    key: str
    values: frozenset[str] | None
    wanted: bool = True

    def holds(self, attributes: Mapping[str, str]) -> bool:
        """Tell whether *attributes* meet it; what is missing differs from every value."""
        hit = self.key in attributes
        if hit and self.values is not None:
            hit = attributes[self.key] in self.values
        return hit is self.wanted


class Selector(msgspec.Struct, frozen=True):
    """Both selectors of one request."""

    labels: tuple[Requirement, ...] = ()
    fields: tuple[Requirement, ...] = ()

    @classmethod
    def parse(cls, label_selector: str, field_selector: str, *, known: frozenset[str]) -> Self:
        """Read both; only the *known* fields can be selected by.

        Raises:
            Refused: 400, as a kube-apiserver answers.
        """
        labels = tuple(_label_requirement(term) for term in _terms(label_selector))
        fields = tuple(_field_requirement(term, known) for term in _terms(field_selector))
        return cls(labels, fields)

    def matches(self, labels: Mapping[str, str], fields: Mapping[str, str]) -> bool:
        """Tell whether an object with these labels and fields is selected."""
        # Every write asks every watch, and most select nothing: that must cost nothing.
        for requirements, attributes in ((self.labels, labels), (self.fields, fields)):
            for requirement in requirements:
                if not requirement.holds(attributes):
                    return False
        return True


def _terms(selector: str) -> list[str]:
    return _COMMA.split(selector) if selector.strip() else []


def _label_requirement(term: str) -> Requirement:
    if found := _EQUALITY.fullmatch(term):
        return Requirement(found["key"], frozenset({found["value"]}), found["op"] != "!=")
    if found := _MEMBERSHIP.fullmatch(term):
        values = frozenset(value.strip() for value in found["values"].split(","))
        return Requirement(found["key"], values, found["op"] == "in")
    if found := _EXISTENCE.fullmatch(term):
        return Requirement(found["key"], None, not found["op"])
    raise Refused(400, f"unable to parse requirement: {term!r}")


def _field_requirement(term: str, known: frozenset[str]) -> Requirement:
    found = _EQUALITY.fullmatch(term)
    if found is None:
        raise Refused(400, f"invalid field selector: {term!r}")
    if found["key"] not in known:
        raise Refused(400, f"field label not supported: {found['key']}")
    return Requirement(found["key"], frozenset({found["value"]}), found["op"] != "!=")
