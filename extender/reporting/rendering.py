"""Pages from templates: whatever is put into them is text, and never markup."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import jinja2

_TEMPLATES = Path(__file__).parent / "templates"


def rendered(template: str, values: Mapping[str, object]) -> str:
    """Return a page made from a template of this package."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(values)
