"""Finding, loading and inspecting the library; shapes; a file that runs with and without it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import helper

import qcompiler
from qcompiler import runtime_ops

from .nodes import (
    DOMAIN,
    F32,
    attention_node,
    block_attention_node,
    block_node,
    linear_node,
    one_group,
    probability_table,
)


def python(code: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a process of its own, outside the checkout."""
    command = [sys.executable, "-c", "from qcompiler import runtime_ops\n" + code]
    return subprocess.run(command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True)


def test_versions_agree(library: str) -> None:
    assert runtime_ops.library_version() == qcompiler.__version__


def test_paths(library: str) -> None:
    """The reference is always there, exactly one path is active, and it can run."""
    paths = runtime_ops.cpu_paths()
    assert paths[0].name == "reference" and paths[0].built and paths[0].detected
    (active,) = [path for path in paths if path.active]
    assert active.built and active.detected


def test_variable_forces_a_path(library: str, tmp_path: Path) -> None:
    code = "print([path.name for path in runtime_ops.cpu_paths() if path.active])"
    for path in runtime_ops.cpu_paths():
        if path.built and path.detected:
            done = python(code, tmp_path, QCOMPILER_CPU_PATH=path.name)
            assert done.stdout.strip() == f"['{path.name}']", done.stderr


def test_variable_with_an_unknown_path(library: str, tmp_path: Path) -> None:
    """The typing error must be seen, and not end in the automatic choice."""
    model = tmp_path / "model.onnx"
    model.write_bytes(linear_node(np.eye(4, dtype=np.int8), one_group()).model())
    done = python("runtime_ops.session('model.onnx', library=True)", tmp_path, QCOMPILER_CPU_PATH="avx3")
    assert done.returncode != 0
    assert "QCOMPILER_CPU_PATH" in done.stderr and "avx3" in done.stderr


def test_unknown_path(library: str) -> None:
    with pytest.raises(ValueError, match="avx3"):
        runtime_ops.select_cpu_path("avx3")


def test_no_library(tmp_path: Path) -> None:
    """Without the library: one line that says what to do; sessions still open unless it is asked for."""
    done = python("runtime_ops.library_path()", tmp_path, QCOMPILER_LIBRARY=str(tmp_path / "none.so"))
    last = done.stderr.strip().splitlines()[-1]
    assert "LibraryNotFoundError: QCOMPILER_LIBRARY names" in last
    (tmp_path / "other.so").write_bytes(b"no library")
    done = python("runtime_ops.library_path()", tmp_path, QCOMPILER_LIBRARY=str(tmp_path / "other.so"))
    assert "LibraryError" in done.stderr and "not a usable operator library" in done.stderr


def test_another_version(library: str, tmp_path: Path) -> None:
    code = "from importlib import metadata\nmetadata.version = lambda name: '9.9'\nruntime_ops.library_path()"
    done = python(code, tmp_path)
    assert "LibraryVersionError" in done.stderr and "9.9 is installed" in done.stderr


def body() -> list:
    """A body for GroupLinear that is easy to tell from the kernel: it casts the weights and answers with their sum."""
    nodes = [
        helper.make_node("Cast", ["W"], ["float_weight"], to=1),
        helper.make_node("ReduceSum", ["float_weight"], ["sum"], keepdims=0),
        helper.make_node("ReduceMax", ["X"], ["largest"], keepdims=0),
        helper.make_node("Mul", ["largest", "sum"], ["Y"]),
    ]
    inputs = ["X", "W", "w_scale", "w_blocks", "groups", "bias"]
    return [
        helper.make_function(
            DOMAIN, "GroupLinear", inputs, ["Y"], nodes, [helper.make_opsetid("", 21)], ["bits", "axis", "segments"]
        )
    ]


@pytest.mark.parametrize("int4", [False, True])
@pytest.mark.parametrize("optimize", [False, True])
def test_one_file_with_and_without_the_library(library: str, int4: bool, optimize: bool) -> None:
    """The body runs where the library is not, the kernel where it is, at both ends of the optimisation levels."""
    w = np.arange(-8, 8, dtype=np.int8).reshape(4, 4)
    model = linear_node(w, one_group(), int4=int4).model(functions=body())
    x = np.full((1, 2, 4), 3, F32)
    fast = runtime_ops.session(model, library=True, optimize=optimize).run(None, {"X": x})[0]
    slow = runtime_ops.session(model, library=False, optimize=optimize).run(None, {"X": x})[0]
    np.testing.assert_array_equal(fast, x @ w.astype(F32))
    assert slow == 3 * w.astype(F32).sum()


def test_one_thread_pool_setting(library: str) -> None:
    model = linear_node(np.eye(4, dtype=np.int8), one_group()).model()
    assert runtime_ops.session(model, threads=2).get_session_options().intra_op_num_threads == 2


def test_any_program_can_register_the_file(library: str) -> None:
    """Two sessions of one process and a session that is made after another was destroyed."""
    model = linear_node(np.eye(4, dtype=np.int8), one_group()).model()
    for _ in range(3):
        options = onnxruntime.SessionOptions()
        options.register_custom_ops_library(library)
        first = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        second = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        x = np.ones((1, 2, 4), F32)
        np.testing.assert_array_equal(first.run(None, {"X": x})[0], second.run(None, {"X": x})[0])


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (["batch", 7, 4], ["batch", 7, 3]),
        ([2, "tokens", 4], [2, "tokens", 3]),
        (["a", "b", 7, 4], ["a", "b", 7, 3]),
        ([5, 4], [5, 3]),
    ],
)
def test_output_shape_of_linear(library: str, declared: list, expected: list) -> None:
    """Names and numbers of the input reach the output; W gives the last axis."""
    w = np.eye(4, 3, dtype=np.int8)
    for node in (linear_node(w, one_group()), block_node(w, block=2)):
        model = node.model({"X": declared})
        assert runtime_ops.session(model, library=True).get_outputs()[0].shape == expected


def test_output_shape_of_attention(library: str) -> None:
    tables = [one_group(), one_group(), one_group(), probability_table(np.random.default_rng(0), 16, 2)]
    levels = np.arange(16, dtype=np.uint8)
    groups = attention_node(tables, levels, num_heads=2, scale=0.5, bits=8)
    blocks = block_attention_node(tables[3], levels, num_heads=2, scale=0.5, qk_bits=4, v_bits=4, block=5)
    for node in (groups, blocks):
        model = node.model({"QKV": ["batch", 9, 30]})
        assert runtime_ops.session(model, library=True).get_outputs()[0].shape == ["batch", 9, 10]
