"""Wheels and the source archive, built once from a copy of the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
LEFT_OUT = (
    ".git",
    ".venv",
    "venv",
    "dist",
    "lib.*",
    "bdist.*",
    "temp.*",
    "*.egg-info",
    "__pycache__",
    ".*_cache",
    ".hypothesis",
    "*.so",
)


@pytest.fixture(scope="session")
def source_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy to build in, with the compiled objects of the checkout: only what changed is compiled."""
    if not (CHECKOUT / "setup.py").is_file():
        pytest.skip("these tests build the package and need its checkout")
    target = tmp_path_factory.mktemp("source") / "qcompile"
    shutil.copytree(CHECKOUT, target, ignore=shutil.ignore_patterns(*LEFT_OUT))
    return target


class Build:
    """One run of setup.py and what it printed and made."""

    def __init__(self, tree: Path, output: Path, *command: str, **environment: str) -> None:
        env = {name: value for name, value in os.environ.items() if name != "QCOMPILER_NATIVE"}
        env["QCOMPILER_CUDA"] = "off"  # a library of its own, with tests of its own
        self.done = subprocess.run(
            [sys.executable, "setup.py", "--quiet", *command, "--dist-dir", str(output)],
            cwd=tree,
            env=env | environment,
            capture_output=True,
            text=True,
        )
        self.notices = [line for line in self.done.stderr.splitlines() if line.startswith("NOTICE qcompile")]
        self.files = sorted(output.glob("*")) if output.is_dir() else []


@pytest.fixture(scope="session")
def native_wheel(source_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel with the operator library."""
    build = Build(source_tree, tmp_path_factory.mktemp("native"), "bdist_wheel")
    assert build.done.returncode == 0, build.done.stderr
    if build.notices:
        pytest.skip(build.notices[0])
    (wheel,) = build.files
    return wheel
