"""Write a report, as Markdown and as one HTML file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import jinja2

from benchmarks.reporting.page import Section

TEMPLATES = Path(__file__).parent / "templates"


def write(folder: Path, name: str, title: str, sections: Sequence[Section]) -> None:
    """Write ``name.md`` and ``name.html``; the plots the sections name are in *folder* already."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=lambda template: template is not None and "html" in template,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    drawn = {plot: _svg(folder / plot) for section in sections for plot in section.plots}
    for kind in ("md", "html"):
        template = environment.get_template(f"report.{kind}.j2")
        text = template.render(title=title, sections=sections, plots=drawn)
        (folder / f"{name}.{kind}").write_text(text, "utf-8")


def _svg(path: Path) -> str:
    """Return an SVG file's element, to stand in a page."""
    return re.sub(r"\A.*?(?=<svg)", "", path.read_text("utf-8"), flags=re.DOTALL)
