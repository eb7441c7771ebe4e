"""The policy file: read strictly, with errors that tell what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from extender.policy import Policy, PolicyName
from extender.policy.file import MalformedPolicy, read, written

HEAD = "apiVersion: tangram.dev/v1alpha1\nkind: PlacementPolicy\n"
WEIGHTS = """\
value: learned
weights:
  fits: {7g.80gb: 3.0}
  together: {3g.40gb: 1.5}
  allLeave: -0.7
  lowerLeave: -0.5
  upperLeave: -0.3
  occupied: -1.0
"""
TRAINED = """\
trained:
  {model: H100-80GB, gpus: 100, load: 0.85, seed: 1, gain: 0.1, gainCi95: 0.05, better: %s}
"""


def file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    return path


def test_a_name_is_enough(tmp_path: Path) -> None:
    assert read(file(tmp_path, HEAD + "value: mfi\n")).policy == Policy(PolicyName.MFI)


def test_demand_becomes_shares(tmp_path: Path) -> None:
    text = HEAD + "value: fgd\ndemand: {7g.80gb: 1, 1g.10gb: 3, 2g.20gb: 0}\n"

    assert read(file(tmp_path, text)).policy.demand == (("7g.80gb", 0.25), ("1g.10gb", 0.75))


def test_weights_decide_only_where_training_found_them_better(tmp_path: Path) -> None:
    better = read(file(tmp_path, HEAD + WEIGHTS + TRAINED % "true")).policy
    worse = read(file(tmp_path, HEAD + WEIGHTS + TRAINED % "false")).policy

    assert better.weights is not None
    assert better.effective is PolicyName.LEARNED
    assert worse.effective is PolicyName.DEFAULT


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    first = read(file(tmp_path, HEAD + WEIGHTS + TRAINED % "true"))
    path = tmp_path / "again.yaml"
    path.write_bytes(written(first))

    assert read(path) == first


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (HEAD + "value: fullest\n", ["$.value: got `'fullest'`; use one of default, "]),
        (HEAD + "value: best\n", ["$.value: got `'best'`; did you mean best-fit?"]),
        (HEAD + "value: mfi\nwieghts: 1\n", ["unknown field `wieghts`; did you mean weights?"]),
        (HEAD + "value: fgd\ndemand: {7g.80gb: -1}\n", ["$.demand", "from 0 to 1,000,000"]),
        (HEAD + "value: fgd\ndemand: {7g.80gb: 0}\n", ["$.demand: asks for nothing"]),
        (HEAD + "value: fgd\ndemand: {7g.80gb: .inf}\n", ["$.demand", "from 0 to 1,000,000"]),
        (HEAD + "value: fgd\ndemand: {7g.80gb: .nan}\n", ["$.demand", "from 0 to 1,000,000"]),
        (HEAD + WEIGHTS.replace("-0.7", ".nan"), ["$.weights.allLeave"]),
        (HEAD + WEIGHTS.replace("3.0", "-.inf"), ["$.weights.fits"]),
        (HEAD + "value: learned\n", ["without $.weights", "tangram policy train"]),
        (HEAD + WEIGHTS.replace("learned", "mfi"), ["$.weights: are for value learned"]),
        ("value: mfi\n", ["apiVersion"]),
        ("a: [", ["is not YAML", "line 1", "; mend it there"]),
        ("[" * 40 + "]" * 40, ["more than 32 levels deep; no policy has"]),
    ],
)
def test_an_error_names_the_file_the_place_and_the_remedy(
    tmp_path: Path, text: str, says: list[str]
) -> None:
    path = file(tmp_path, text)

    with pytest.raises(MalformedPolicy) as caught:
        read(path)

    assert str(caught.value).startswith(f"{path}: ")
    for part in says:
        assert part in str(caught.value)


def test_a_file_that_is_not_there_is_said_to_be_unreadable(tmp_path: Path) -> None:
    with pytest.raises(MalformedPolicy, match=r"cannot be read: No such file .*; give the path of"):
        read(tmp_path / "absent.yaml")
