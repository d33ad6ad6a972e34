"""The folder of passes, the four tuples and the test files name the same passes."""

from pathlib import Path

import pytest

import qcompiler.passes
from qcompiler.ir.passes import Pass
from qcompiler.passes import CANONICALISE, LOWER, NARROW, QUANTIZE

FOLDER = Path(qcompiler.passes.__file__).parent
ALL = tuple(dict.fromkeys(CANONICALISE + QUANTIZE + LOWER + NARROW))


def module_name(pass_type):
    return pass_type.__module__.rsplit(".", 1)[-1]


def test_every_file_is_a_pass_in_a_tuple():
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}
    assert files == {module_name(item) for item in ALL}


def test_every_pass_has_a_test_file():
    here = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}
    assert {module_name(item) for item in ALL} <= here


@pytest.mark.parametrize("pass_type", ALL, ids=module_name)
def test_conventions(pass_type):
    assert issubclass(pass_type, Pass)
    assert pass_type.__name__ == "".join(part.capitalize() for part in module_name(pass_type).split("_"))
    for heading in ("**Before**", "**After**", "**Leaves alone**"):
        assert heading in pass_type.__doc__
    test_file = (Path(__file__).parent / f"test_{module_name(pass_type)}.py").read_text()
    for test in ("golden", "not_applicable", "idempotent", "numerical"):
        assert f"def test_{test}" in test_file, test
