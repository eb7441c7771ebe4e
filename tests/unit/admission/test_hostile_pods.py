"""Pods of any content at the webhook's door: each is allowed, refused, or no question at all."""

from __future__ import annotations

import base64
import json
import random
from collections import Counter
from typing import Any

import aiohttp

from extender.admission import Schedulers
from extender.server import admitting
from extender.server.admitting import SMALL_BYTES
from nodeagent.api import keys, resources
from tests.fuzz.mutations import CHANGES, DAMAGES, anywhere, written
from tests.fuzz.requests import written_by_a_tenant
from tests.unit.admission.test_judge import pod
from tests.unit.admission.test_review import raw

QUESTIONS = 1_500
TANGRAM = Schedulers("tangram")
FIELDS = ("limits", "requests")


def question(chance: random.Random) -> bytes:
    """Draw a question: now and then all right but for what the tenant wrote, else broken, too."""
    asked = pod()
    for field in ("labels", "annotations"):
        if chance.random() < 0.5:
            asked["metadata"][field] = written_by_a_tenant(chance)
    if chance.random() < 0.3:
        asked["spec"]["nodeName"] = chance.choice(("node-1", "\x00", "x" * 1_000))
    for change in chance.sample(CHANGES, chance.choice((0, 0, 1, 2))):
        asked = anywhere(chance, asked, change)
    body = written(chance, raw(object=asked))
    return chance.choice(DAMAGES)(chance, body) if chance.random() < 0.2 else body


def ours(asked: Any) -> bool:
    """Tell whether a pod names a resource of ours, by reading no more than JSON."""
    spec = asked.get("spec", {})
    containers = [c for f in ("containers", "initContainers") for c in spec.get(f) or ()]
    amounts = [(c.get("resources") or {}).get(f) or {} for c in containers for f in FIELDS]
    return any(resources.ours(name) for each in amounts for name in each)


async def test_pods_of_any_content_are_judged_or_are_no_question() -> None:
    chance, seen = random.Random(1), Counter[str]()
    async with admitting(TANGRAM) as url, aiohttp.ClientSession() as http:
        for _ in range(QUESTIONS):
            body = question(chance)
            if len(body) > SMALL_BYTES:
                continue  # these wait for their turn, and are told so
            async with http.post(url, data=body) as answer:
                assert answer.status in (200, 400), (answer.status, body[:2_000])
                if answer.status == 400:
                    seen["no question"] += 1
                    continue
                response = (await answer.json())["response"]
            # What nobody reads need not be text.
            asked = json.loads(body.decode(errors="replace"))["request"]["object"]
            if not response["allowed"]:
                seen["refused"] += 1
                assert response["status"]["message"].isprintable()
                continue
            patch = json.loads(base64.b64decode(response.get("patch", "W10=")))
            chosen = asked.get("spec", {}).get("nodeName")
            assert not (ours(asked) and chosen), "it would choose its node"
            said = asked.get("metadata", {}).get("annotations") or {}
            removed = {"op": "remove", "path": "/metadata/annotations/tangram.dev~1decision"}
            assert (removed in patch) == (keys.DECISION_ANNOTATION in said and ours(asked))
            seen["allowed"] += 1

    assert all(seen[kind] > 100 for kind in ("no question", "refused", "allowed")), seen
