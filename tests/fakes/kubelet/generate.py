"""Write the messages of the kubelet's APIs from their descriptions: ``make proto``."""

from __future__ import annotations

import importlib.resources
import tempfile
from collections.abc import Mapping
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parents[3]
DESCRIPTIONS = sorted(ROOT.glob("nodeagent/**/*.proto"))


def generated() -> Mapping[Path, str]:
    """Return what each generated module, and its types, should hold."""
    with tempfile.TemporaryDirectory() as directory:
        arguments = ["", f"-I{ROOT}", f"--python_out={directory}", f"--pyi_out={directory}"]
        compile(*arguments, *map(str, DESCRIPTIONS))
        written = sorted(Path(directory).rglob("*_pb2.py*"))
        return {ROOT / path.relative_to(directory): path.read_text() for path in written}


def compile(*arguments: str) -> None:
    """Run protoc, as its command line would."""
    wellknown = importlib.resources.files("grpc_tools") / "_proto"
    if protoc.main([*arguments, f"-I{wellknown}"]):
        raise RuntimeError(f"protoc has refused {arguments}")


def main() -> None:
    for path, text in generated().items():
        path.write_text(text)
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
