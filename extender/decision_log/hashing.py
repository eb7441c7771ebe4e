"""Names of namespaces and pods, and UIDs, put out of sight: the same name, the same hash.

Nodes, GPUs, tenants and labels stay: they are the operator's. A keyed hash, so that nobody without
the key can try names one after the other.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from extender.service.knowledge import PROMISES

KEY_BYTES = 32
DIGEST_BYTES = 10

ALWAYS = frozenset({"namespace", "uid", "UID"})
"""Fields whose text is hidden wherever they are."""

LISTS = frozenset({"uids", "considered", "left_out", "of"})
"""Fields whose every text is."""

BESIDE_NAMESPACE = "name"
"""A field whose text is hidden where it stands beside a namespace."""


class Names:
    """Hides names by a *key*; without one, by a key of this run alone."""

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key or secrets.token_bytes(KEY_BYTES)
        self.hidden = lru_cache(maxsize=100_000)(self._hidden)

    def _hidden(self, name: str) -> str:
        if not name:
            return name
        digest = hashlib.blake2b(name.encode(), key=self._key[:64], digest_size=DIGEST_BYTES)
        return digest.hexdigest()

    def within(self, call: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return a call's arguments, as builtins, with their names hidden."""
        found: dict[str, Any] = self._of_fields(given)
        if call.startswith("Knowledge.namespace"):
            found["name"] = self.hidden(given["name"])
        if call == PROMISES:
            found["changes"] = {
                kind: change if kind == "avoided" else self._of_promises(change)
                for kind, change in found["changes"].items()
            }
        return found

    def _of_promises(self, change: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "set": {self.hidden(uid): each for uid, each in change.get("set", {}).items()},
            "gone": [self.hidden(uid) for uid in change.get("gone", ())],
            "whole": change.get("whole", False),
        }

    def _of_fields(self, value: Any) -> Any:
        if isinstance(value, dict):
            named = "namespace" in value
            return {
                field: self._of_field(field, each, named=named) for field, each in value.items()
            }
        if isinstance(value, list | tuple):
            return [self._of_fields(each) for each in value]
        return value

    def _of_field(self, field: str, value: Any, *, named: bool) -> Any:
        hides = field in ALWAYS or (named and field == BESIDE_NAMESPACE)
        if hides and isinstance(value, str):
            return self.hidden(value)
        if field in LISTS and isinstance(value, list | tuple):
            return [self.hidden(each) if isinstance(each, str) else each for each in value]
        return self._of_fields(value)
