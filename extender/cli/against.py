"""``--against``: a policy held against a cluster, from outside or by a running Tangram."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from extender.cli.desk import Unanswered, Where, sent
from extender.cluster.census import Census, census
from extender.outlook import Because, Effect, Outlook, Tally, outlook
from extender.policy import InForce
from extender.server.proposed import POLICY
from extender.service.ports import ClusterUnavailable
from extender.settings import Settings
from nodeagent.apiserver.protocol import ApiError
from nodeagent.apiserver.rest import RestApi

CLUSTER = "cluster"
"""What is listed from an API server, which does not know the policy in force."""

SHOWN = 4  # reasons in a line


def seen_in(kubeconfig: Path | None, proposed: InForce) -> Outlook:
    """Return what a policy would come to in a cluster, as listed with a kubeconfig's credentials.

    Raises:
        Unanswered: it could not be listed, or the credentials cannot be used.
    """

    async def listed() -> Census:
        async with RestApi(kubeconfig=kubeconfig) as api:
            return await census(api, devices_per_pod=Settings().devices_per_pod)

    try:
        return outlook(asyncio.run(listed()).there(), proposed)
    except (ApiError, ClusterUnavailable) as error:
        raise Unanswered(
            f"cannot use the API server: {error}; give --kubeconfig, or leave --against out"
        ) from error


def told_by(where: Where, content: bytes) -> Outlook:
    """Return what a running Tangram says a policy file would come to.

    Raises:
        Unanswered: it does not say.
    """
    try:
        body = asyncio.run(sent(where, POLICY, content))
        return msgspec.json.decode(body, type=Outlook)
    except msgspec.MsgspecError as error:
        raise Unanswered(
            f"the answer cannot be read ({error}): is the extender of another version?"
        ) from error


def lines(found: Outlook) -> Iterator[Effect]:
    """Yield all there is to tell, a line each: what the rules come to, and how pods stand."""
    yield from found.effects
    yield _placed(found.placed)
    yield _waiting(found.waiting)


def _placed(tally: Tally) -> Effect:
    text = f"{tally.pods} have their place, and keep it"
    if tally.refused or tally.refused_now:
        text += f"; {tally.refused} would not be given it again, as after a restart"
        text += _instead_of(tally.refused_now)
    lost = tally.refused if tally.newly is None else tally.newly
    return Effect("pods", "placed", text + _reasons(tally.because), warning=bool(lost))


def _waiting(tally: Tally) -> Effect:
    text = f"{tally.pods} wait"
    if tally.pods:
        text += f"; {tally.pods - tally.refused} would fit, each by itself"
        text += _instead_of(None if tally.refused_now is None else tally.pods - tally.refused_now)
    if tally.newly or tally.no_longer:
        text += f"; {tally.newly} do now and would not then, {tally.no_longer} the other way round"
    if tally.unjudged:
        text += f"; {tally.unjudged} more were not looked at"
    return Effect("pods", "waiting", text + _reasons(tally.because), warning=bool(tally.newly))


def _instead_of(now: int | None) -> str:
    return "" if now is None else f" (now {now})"


def _reasons(because: Sequence[Because]) -> str:
    if not because:
        return ""
    said = [f"{each.text.removeprefix('vGPU: ')} ({each.pods})" for each in because[:SHOWN]]
    return f"; refused: {', '.join(said)}{', …' if len(because) > SHOWN else ''}"
