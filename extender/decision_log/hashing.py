"""Names of namespaces and pods, and UIDs, put out of sight: the same name, the same hash.

Nodes, GPUs, tenants and labels stay: they are the operator's. But for the label by which Kubernetes
calls each Namespace: it is hidden there, and where a policy's tenants are selected by it, alike. So
is what a pod's author wrote, in the reason why it can never be met. A keyed hash, so that nobody
without the key can try names one after the other.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from extender.policy import InForce
from extender.policy.bounds import UNKNOWN
from extender.policy.selectors import Requirement, Selector
from extender.request import Unanswerable
from extender.service.knowledge import PROMISES
from extender.wire import MetaPod, MetaVictims

KEY_BYTES = 32
DIGEST_BYTES = 10

ALWAYS = frozenset({"namespace", "uid", "UID"})
"""Fields whose text is hidden wherever they are."""

LISTS = frozenset({"uids", "considered", "left_out", "of"})
"""Fields whose every text is."""

BESIDE_NAMESPACE = "name"
"""A field whose text is hidden where it stands beside a namespace."""

NAME_LABEL = "kubernetes.io/metadata.name"
"""What Kubernetes labels each Namespace with: its name."""

NEVER_MET = Unanswerable.__struct_config__.tag


class Names:
    """Hides names by a *key*; without one, by a key of this run alone."""

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key or secrets.token_bytes(KEY_BYTES)
        self.hidden = lru_cache(maxsize=100_000)(self._hidden)

    def _hidden(self, name: str) -> str:
        if name in ("", UNKNOWN):
            return name
        digest = hashlib.blake2b(name.encode(), key=self._key[:64], digest_size=DIGEST_BYTES)
        return digest.hexdigest()

    def within(self, call: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return a call's arguments, as builtins, with their names hidden; a policy's stay."""
        found: dict[str, Any] = self._of_fields(given)
        if call.startswith("Knowledge.namespace"):
            found["name"] = self.hidden(given["name"])
            if "labels" in given:
                found["labels"] = self._of_labels(given["labels"])
        if call == PROMISES:
            found["changes"] = {
                kind: change if kind == "avoided" else self._of_promises(change)
                for kind, change in found["changes"].items()
            }
        return found

    def of_policy(self, policy: InForce) -> InForce:
        """Return a policy that selects by hidden names as it did by the names."""
        tenants = tuple(
            msgspec.structs.replace(each, namespaces=self._of_selector(each.namespaces))
            for each in policy.rules.tenants
        )
        rules = msgspec.structs.replace(policy.rules, tenants=tenants)
        return msgspec.structs.replace(policy, rules=rules)

    def of_victims(self, found: Mapping[str, MetaVictims]) -> dict[str, MetaVictims]:
        """Return what preempt answers, with its UIDs hidden."""
        return {
            node: MetaVictims(
                tuple(MetaPod(self.hidden(pod.uid)) for pod in victims.pods or ()),
                victims.num_pdb_violations,
            )
            for node, victims in found.items()
        }

    def _of_labels(self, labels: Mapping[str, str]) -> dict[str, str]:
        return {
            key: self.hidden(value) if key == NAME_LABEL else value for key, value in labels.items()
        }

    def _of_selector(self, selector: Selector) -> Selector:
        return Selector(
            match_labels=self._of_labels(selector.match_labels),
            match_expressions=tuple(map(self._of_requirement, selector.match_expressions)),
        )

    def _of_requirement(self, of: Requirement) -> Requirement:
        if of.key != NAME_LABEL:
            return of
        return msgspec.structs.replace(of, values=tuple(map(self.hidden, of.values)))

    def _of_promises(self, change: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "set": {self.hidden(uid): each for uid, each in change.get("set", {}).items()},
            "gone": [self.hidden(uid) for uid in change.get("gone", ())],
            "whole": change.get("whole", False),
        }

    def _of_fields(self, value: Any) -> Any:
        if isinstance(value, dict):
            named = "namespace" in value
            found = {
                field: self._of_field(field, each, named=named) for field, each in value.items()
            }
            if value.get("type") == NEVER_MET:
                found["reason"] = self.hidden(value["reason"])
            return found
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
