"""The native tests of the CUDA kernels on a GPU: against the definitions, from run to run, and under the sanitizer."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import CHECKOUT

NATIVE = CHECKOUT / "runtime_ops"


@pytest.fixture(scope="module")
def program(nvcc: str, device: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("native") / "test_cuda"
    sources = [
        *(NATIVE / "tests" / "cuda").glob("*.cc"),
        NATIVE / "tests" / "test_samples.cc",
        *(NATIVE / "reference").glob("*.cc"),
        *(NATIVE / "cpu" / f"{name}.cc" for name in ("checks", "error", "quantizer", "weights")),
        *(NATIVE / "cuda" / f"{name}.cu" for name in ("linear", "attention", "memory")),
    ]
    flags = ["-std=c++17", "-O3", "-fmad=false", "-Xcompiler", "-ffp-contract=off", "-arch=native", "-x", "cu"]
    subprocess.run([nvcc, *flags, "-o", str(target), *map(str, sources)], check=True)
    return target


def test_kernels(program: Path) -> None:
    done = subprocess.run([str(program)], capture_output=True, text=True)
    assert done.returncode == 0 and ", 0 failures" in done.stdout, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "synccheck"])
def test_sanitizer(program: Path, tool: str) -> None:
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        pytest.skip("compute-sanitizer is not installed")
    command = [sanitizer, "--tool", tool, "--error-exitcode", "9", str(program), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True)
    if "Device not supported" in done.stdout:
        pytest.skip("compute-sanitizer does not run on this machine")
    assert done.returncode == 0, done.stdout
