"""schemathesis: requests made from the description alone, and answers held against it."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok

from tests.fuzz.verdict import Verdict


def described(url: str, verdict: Verdict, *, examples: int) -> None:
    """Send *examples* requests that fit the description and as many that do not, to every hook.

    Blocks: to be run in a thread beside the server's loop. What schemathesis calls a failure, such
    as a fitting body that is refused, an unfitting one that is not, a status or a shape the
    description does not have, is one.
    """
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found.err()
        operation = found.ok()
        modes = list(GenerationMode) if operation.method == "post" else [GenerationMode.POSITIVE]
        for mode in modes:

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
                case.validate_response(answer)

            try:
                asked()
            except schemathesis.errors.SchemathesisError as error:
                verdict.complain(f"{operation.label}, {mode.value}: {error}")
            except BaseExceptionGroup as errors:
                verdict.complain(f"{operation.label}, {mode.value}: {errors.exceptions}")
