"""Every setting of both programs is on a page, and what the manifests say is among them."""

from __future__ import annotations

import re

import pytest

from nodeagent.api import keys
from tests.manifests import settings
from tests.manifests.generate import MANIFESTS

OWN = re.compile(rf"{re.escape(keys.GROUP)}/[a-z-]+\b")


def test_the_page_is_what_the_programs_say_of_themselves() -> None:
    assert settings.PAGE.read_text() == settings.text(), "run `make settings`"


@pytest.mark.parametrize(("title", "program", "app", "command"), settings.PROGRAMS)
def test_every_option_is_there_with_what_it_means(
    title: str, program: str, app: settings.Option, command: str
) -> None:
    _, _, rest = settings.text().partition(f"## {title}: `{program} {command}`\n")
    section, _, _ = rest.partition("\n## ")
    for _, option in settings.options(app, command):
        (row,) = (
            line
            for line in section.splitlines()
            if any(re.match(rf"\| `{re.escape(name)}[` ]", line) for name in option.opts)
        )
        *_, meaning, _ = re.split(r"(?<!\\)\|", row)
        assert len(meaning.split()) >= 3, row


def test_every_name_that_is_put_on_objects_is_there() -> None:
    named = {value for value in vars(keys).values() if isinstance(value, str)}
    in_manifests = {
        name for file in MANIFESTS.rglob("*.yaml") for name in OWN.findall(file.read_text())
    }
    written = {name for name in named | in_manifests if OWN.fullmatch(name)}
    not_on_objects = {keys.API_VERSION, "tangram.dev/simulated"}  # the latter is a trial's taint

    assert written - not_on_objects == set(OWN.findall(str(settings.ON_OBJECTS)))


def test_every_argument_in_the_manifests_is_an_option() -> None:
    known = {
        name
        for _, _, app, command in settings.PROGRAMS
        for _, option in settings.options(app, command)
        for name in (*option.opts, *option.secondary_opts)
    }
    said = {
        argument
        for file in MANIFESTS.rglob("*.yaml")
        for argument in re.findall(r"^ *- (--[a-z-]+)", file.read_text(), re.MULTILINE)
    }

    assert said
    assert said <= known
