"""Write the report, as Markdown and as one HTML file."""

from __future__ import annotations

import re
from pathlib import Path

import jinja2

from benchmarks.quality import contents, store

TEMPLATES = Path(__file__).parent / "templates"


def write(folder: Path) -> int:
    """Write ``report.md`` and ``report.html`` beside the results; return 1 if a claim fails."""
    results = store.load_all(folder)
    sections = list(contents.sections(results, folder))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=lambda name: name is not None and "html" in name,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    drawn = {name: _svg(folder / name) for section in sections for name in section.plots}
    for name in ("report.md", "report.html"):
        template = environment.get_template(f"{name}.j2")
        (folder / name).write_text(template.render(sections=sections, plots=drawn), "utf-8")
    found = contents.judged(results)
    for claim in found:
        print(f"{'holds' if claim.holds else 'FAILS'}: {claim.sentence} {claim.evidence}")
    return 0 if all(claim.holds for claim in found) else 1


def _svg(path: Path) -> str:
    """Return an SVG file's element, to stand in a page."""
    return re.sub(r"\A.*?(?=<svg)", "", path.read_text("utf-8"), flags=re.DOTALL)
