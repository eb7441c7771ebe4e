"""Write the manifests that follow from the code: ``make crd``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from nodeagent.api import crd

ROOT = Path(__file__).resolve().parents[2]
HEADER = "# Generated from nodeagent/api by `make crd`; do not edit.\n"


def generated() -> Mapping[Path, str]:
    """Return what each generated manifest should hold."""
    document = yaml.safe_dump(crd.definition(), sort_keys=False, width=100)
    return {ROOT / "manifests/base/crd/gpunodes.yaml": HEADER + document}


def main() -> None:
    for path, text in generated().items():
        path.write_text(text)
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
