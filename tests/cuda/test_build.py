"""The CUDA library is built and linked without a GPU, asks for nothing at load time, and disturbs no CPU session."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import CHECKOUT

LIBRARIES = ("libqcompiler_ops.so", "libqcompiler_ops_cuda.so")
LEFT_OUT = (".git", ".venv", "lib.*", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis", "*.so")


def build(tree: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    return subprocess.run(command, cwd=tree, env={**os.environ, **environment}, capture_output=True, text=True)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout to build in, with what was compiled in it before."""
    if not (CHECKOUT / "setup.py").is_file():
        pytest.skip("this test compiles the sources of the checkout")
    target = tmp_path_factory.mktemp("cuda") / "qcompile"
    shutil.copytree(CHECKOUT, target, ignore=shutil.ignore_patterns(*LEFT_OUT))
    return target


@pytest.fixture(scope="module")
def folder(nvcc: str, tree: Path) -> Path:
    """The folder of both libraries; what an installation compiled in the checkout is not compiled again."""
    done = build(tree, QCOMPILER_CUDA="on", QCOMPILER_NATIVE="1", CUDACXX=nvcc)
    if "ONNX Runtime's headers were not found" in done.stderr:
        pytest.skip("no ONNX Runtime headers")
    assert done.returncode == 0, done.stderr
    return tree / "runtime_ops"


def dynamic_symbols(path: Path, *options: str) -> list[str]:
    done = subprocess.run(["nm", "-D", *options, str(path)], capture_output=True, text=True, check=True)
    return [line.split()[-1] for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_loads_without_cuda(folder: Path) -> None:
    """Neither the driver nor CUDA's runtime is needed before the first call, and nothing of them is exported."""
    library = folder / LIBRARIES[1]
    needed = subprocess.run(["ldd", str(library)], capture_output=True, text=True, check=True).stdout
    assert "libcuda" not in needed and "stdc++" not in needed and "not found" not in needed
    assert dynamic_symbols(library, "--defined-only") == ["qcompiler_cuda_interface"]
    assert not [name for name in dynamic_symbols(library, "--undefined-only") if name.startswith(("cu", "nv"))]
    assert ctypes.CDLL(str(library)).qcompiler_cuda_interface


@pytest.mark.slow
def test_cpu_session_beside_it(folder: Path, tmp_path: Path) -> None:
    """A session on the CPU runs as ever; without a CUDA provider the library is not even opened."""
    code = (
        "import ctypes, sys, numpy as np, onnxruntime\n"
        f"sys.path.append({str(CHECKOUT)!r})\n"
        "from tests.runtime_ops.nodes import linear_node, one_group\n"
        "from qcompiler import runtime_ops\n"
        "node = linear_node(np.eye(4, dtype=np.int8), one_group())\n"
        "x = np.arange(8, dtype=np.float32).reshape(1, 2, 4)\n"
        "assert (node.run({'X': x}) == x).all()\n"
        "opened = 'libqcompiler_ops_cuda' in open('/proc/self/maps').read()\n"
        "status = ctypes.CDLL(str(runtime_ops.library_path())).qcompiler_cuda_status\n"
        "status.restype = ctypes.c_char_p\n"
        "usable = 'CUDAExecutionProvider' in onnxruntime.get_available_providers()\n"
        "assert usable or (not opened and b'no CUDA execution provider' in status()), status()\n"
    )
    env = {**os.environ, "QCOMPILER_LIBRARY": str(folder / LIBRARIES[0])}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_can_be_insisted_on(tree: Path) -> None:
    done = build(tree, QCOMPILER_CUDA="on", CUDACXX="no-such-nvcc")
    assert done.returncode != 0
    assert done.stderr.strip() == (
        "qcompile: the CUDA library cannot be built: no-such-nvcc was not found; "
        "install the CUDA toolkit or set CUDACXX to its nvcc"
    )


def test_nothing_is_said_where_it_was_not_asked_for(tree: Path) -> None:
    """Without a compiler of either kind: the one notice is about the operator library."""
    done = build(tree, QCOMPILER_CUDA="auto", CUDACXX="no-such-nvcc", CXX="no-such-compiler", QCOMPILER_NATIVE="")
    assert done.returncode == 0, done.stderr
    (notice,) = done.stderr.splitlines()
    assert "no C++ compiler was found" in notice


def test_a_wish_that_does_not_exist(tree: Path) -> None:
    done = build(tree, QCOMPILER_CUDA="yes")
    assert done.returncode != 0
    assert done.stderr.strip() == "qcompile: QCOMPILER_CUDA is 'yes', expected auto, on or off"
