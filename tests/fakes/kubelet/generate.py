"""Write the messages of the kubelet's APIs from their descriptions: ``make proto``."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
DESCRIPTIONS = sorted(ROOT.glob("nodeagent/**/*.proto"))


def generated() -> Mapping[Path, str]:
    """Return what each generated module, and its types, should hold."""
    with tempfile.TemporaryDirectory() as directory:
        arguments = [f"-I{ROOT}", f"--python_out={directory}", f"--pyi_out={directory}"]
        compile(*arguments, *map(str, DESCRIPTIONS))
        written = sorted(Path(directory).rglob("*_pb2.py*"))
        return {ROOT / path.relative_to(directory): path.read_text() for path in written}


def compile(*arguments: str) -> None:
    """Run protoc, in a process of its own: its libraries abort beside those of OR-Tools."""
    command = [sys.executable, "-m", "grpc_tools.protoc", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"protoc has refused {arguments}: {done.stderr}")


def main() -> None:
    for path, text in generated().items():
        path.write_text(text)
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
