"""The door's OpenAPI description, made from the types that requests are read into."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, NamedTuple

import msgspec

from extender import wire

TITLE = "Tangram's hooks for kube-scheduler"


class Hook(NamedTuple):
    """A verb of kube-scheduler's ``extender/v1``: what it takes, answers, and is for."""

    verb: str
    takes: type
    answers: Any
    summary: str
    text: str


HOOKS = (
    Hook(
        "filter",
        wire.ExtenderArgs,
        wire.FilterResult,
        "Tell which nodes a pod fits, and why not the others",
        "Names are answered with names, whole nodes with whole nodes. A non-empty Error means"
        " that nothing can be decided now; the scheduler tries again later.",
    ),
    Hook(
        "prioritize",
        wire.ExtenderArgs,
        tuple[wire.HostPriority, ...],
        "Rank nodes for a pod, from 0 to 10",
        "Every node asked about is answered; 0 for all where there is nothing to say.",
    ),
    Hook(
        "preempt",
        wire.PreemptionArgs,
        wire.PreemptionResult,
        "Tell on which nodes a pod would fit without the proposed victims",
        "Victims are answered by UID, whichever way they were sent.",
    ),
    Hook(
        "bind",
        wire.BindingArgs,
        wire.BindingResult,
        "Reserve the slices a pod gets on a node, make them, and bind it",
        "Idempotent by the pod's UID. A non-empty Error means not bound; the text is for the"
        " pod's events. Answered within the scheduler's httpTimeout less two seconds.",
    ),
)

REFUSALS = {
    400: "Not HTTP, or not JSON of this shape: the text names the field. Nothing was changed.",
    403: "The client's certificate has no name that may call the hooks.",
    408: "The body did not arrive in time.",
    413: "The body is above the limit.",
    415: "The body has a Content-Encoding: it must be sent as it is.",
    417: "The request has an Expect header that is not 100-continue.",
}
"""What a hook may answer besides 200, each with a text for people."""


STANDBY: dict[str, Any] = {
    "name": "standby",
    "in": "query",
    "required": False,
    "description": "With ok, a replica that only waits for its turn to lead counts as ready.",
    "schema": {"type": "string", "enum": ["ok"]},
}


def describe(prefix: str) -> dict[str, Any]:
    """Return the description; *prefix* is the path before the verbs."""
    answers = [hook.answers for hook in HOOKS]
    schemas, components = msgspec.json.schema_components(
        [*(hook.takes for hook in HOOKS), *answers], ref_template="#/components/schemas/{name}"
    )
    shapes = zip(schemas[: len(HOOKS)], schemas[len(HOOKS) :], strict=True)
    hooks = {
        f"{prefix}/{hook.verb}": {"post": _hook(hook, takes, answered)}
        for hook, (takes, answered) in zip(HOOKS, shapes, strict=True)
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": version("tangram-vgpu")},
        "paths": hooks
        | {
            "/healthz": {
                "get": _probe("healthz", "Tell that the process lives", {200: "It does."})
            },
            "/readyz": {
                "get": _probe(
                    "readyz",
                    "Tell whether the hooks can decide",
                    {200: "They can.", 503: "They cannot yet, or not any more: the text says why."},
                )
                | {"parameters": [STANDBY]}
            },
            "/openapi.json": {
                "get": {
                    "operationId": "openapi",
                    "summary": "Return this description",
                    "responses": {"200": _content("This.", "application/json", {"type": "object"})},
                }
            },
        },
        "components": {"schemas": components},
    }


def _hook(hook: Hook, takes: object, answered: object) -> dict[str, Any]:
    return {
        "operationId": hook.verb,
        "summary": hook.summary,
        "description": hook.text,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": takes}},
        },
        "responses": {
            "200": _content("The answer.", "application/json", answered),
            **{str(status): _text(why) for status, why in REFUSALS.items()},
        },
    }


def _probe(name: str, summary: str, answers: dict[int, str]) -> dict[str, Any]:
    responses = {str(status): _text(means) for status, means in answers.items()}
    return {"operationId": name, "summary": summary, "responses": responses}


def _text(description: str) -> dict[str, Any]:
    return _content(description, "text/plain", {"type": "string"})


def _content(description: str, media: str, schema: object) -> dict[str, Any]:
    return {"description": description, "content": {media: {"schema": schema}}}
