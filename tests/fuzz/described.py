"""schemathesis: requests made from the description alone, and answers held against it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jsonschema_rs
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import APIOperation, Case, CheckFunction, GenerationMode, Response
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from tests.fuzz.verdict import Verdict

# Judged by what was sent in the end, not by what schemathesis meant to send: of thousands of bodies
# it took for unfitting a few fitted.
JUDGED_HERE: list[CheckFunction] = [negative_data_rejection, positive_data_acceptance]

Fits = Callable[[Any], bool]


def described(url: str, verdict: Verdict, *, examples: int) -> None:
    """Send *examples* requests that fit the description and as many that do not, to every hook.

    Blocks: to be run in a thread beside the server's loop. A fitting body must be answered 200, any
    other 400; statuses, headers and shapes must be the description's.
    """
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found.err()
        operation = found.ok()
        if operation.method == "post":
            fits = _fits(schema.raw_schema, operation.path)
            for mode in GenerationMode:
                _send(operation, mode, fits, verdict, examples=examples)
        else:
            _send(operation, GenerationMode.POSITIVE, None, verdict, examples=1)


def _send(
    operation: APIOperation[Any, Any, Any, Any],
    mode: GenerationMode,
    fits: Fits | None,
    verdict: Verdict,
    *,
    examples: int,
) -> None:
    @seed(verdict.seed)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def asked(case: Case[Any]) -> None:
        answer = case.call()
        verdict.sent += 1
        verdict.described += 1
        verdict.statuses[answer.status_code] += 1
        case.validate_response(answer, excluded_checks=JUDGED_HERE)
        if fits is not None:
            _judge(answer, fits, verdict)

    try:
        asked()
    except schemathesis.errors.SchemathesisError as error:
        verdict.complain(f"{operation.label}, {mode.value}: {error}")
    except BaseExceptionGroup as errors:
        verdict.complain(f"{operation.label}, {mode.value}: {errors.exceptions}")


def _fits(description: dict[str, Any], path: str) -> Fits:
    """Return a judge of bodies that knows nothing but the description."""
    body = description["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    whole = body["schema"] | {"components": description["components"]}
    return jsonschema_rs.validator_for(whole).is_valid


def _judge(answer: Response, fits: Fits, verdict: Verdict) -> None:
    body = answer.request.body or b""
    assert isinstance(body, str | bytes)  # nothing here is sent as a stream
    sent = body.encode() if isinstance(body, str) else body
    try:
        fitting = fits(json.loads(sent))
    except ValueError:
        fitting = False
    if answer.status_code != (200 if fitting else 400):
        what = "a fitting" if fitting else "an unfitting"
        verdict.complain(f"{what} body was answered {answer.status_code}", sent)
