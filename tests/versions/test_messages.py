"""A library too old or too new for a model or for ONNX Runtime says so by name."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

import qcompiler
from qcompiler import runtime_ops
from qcompiler.errors import ModelFileError
from qcompiler.ir.loading import load_model
from qcompiler.ir.saving import DOMAIN_VERSION
from qcompiler.runtime_ops.model_header import operator_version

from ..runtime_ops.nodes import linear_node, one_group
from .matrix import RUNTIMES, oldest_versions

CHECKOUT = Path(__file__).resolve().parents[2]


def of_version(version: int) -> bytes:
    model = onnx.load_from_string(linear_node(np.eye(4, dtype=np.int8), one_group()).model())
    model.opset_import[1].version = version
    return model.SerializeToString()


def test_written_version(library: str) -> None:
    """What the compiler writes, the library knows."""
    oldest, newest = runtime_ops.operator_versions()
    assert oldest <= DOMAIN_VERSION == newest


@pytest.mark.parametrize(("version", "remedy"), [(2, "a newer qcompile"), (0, "the older qcompile"), (-1, "the older")])
def test_sessions(library: str, tmp_path: Path, version: int, remedy: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(of_version(version))
    message = (
        rf"the model uses version {version} of the qcompiler operators, and the operator library of qcompile "
        rf"{qcompiler.__version__} knows version 1; install {remedy}"
    )
    for model in (path, str(path), path.read_bytes()):
        with pytest.raises(runtime_ops.LibraryVersionError, match=message):
            runtime_ops.session(model)
    assert runtime_ops.session(of_version(1), library=True)


@pytest.mark.parametrize(("version", "remedy"), [(2, "a newer one"), (0, "the older one")])
def test_files(tmp_path: Path, version: int, remedy: str) -> None:
    """Of every command that reads a written model."""
    path = tmp_path / "model.onnx"
    path.write_bytes(of_version(version))
    message = rf"version {version} of the qcompiler operators, and qcompile \S+ knows version 1; install {remedy}"
    with pytest.raises(ModelFileError, match=message):
        load_model(path)


def test_old_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", "1.22.3")
    with pytest.raises(runtime_ops.LibraryVersionError, match=r"onnxruntime 1\.22\.3 is installed, and .* need 1\.23"):
        runtime_ops.session(of_version(1))


def test_new_onnxruntime(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later release is taken as it comes; its number is not compared as text."""
    monkeypatch.setattr(onnxruntime, "__version__", "1.100.0")
    assert runtime_ops.session(of_version(1), library=True)


def test_library_under_an_old_runtime(library: str) -> None:
    """Its entry point, called as ONNX Runtime 1.16 would: the function table of 1.17 is not there."""
    messages: list[str] = []
    create = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p)
    get_api = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint32)
    get_version = ctypes.CFUNCTYPE(ctypes.c_void_p)

    def record(_code: int, message: bytes) -> int:
        messages.append(message.decode())
        return 1

    create_status = create(record)
    table = (ctypes.c_void_p * 400)(ctypes.cast(create_status, ctypes.c_void_p).value)  # CreateStatus comes first
    tables = get_api(lambda version: ctypes.addressof(table) if version <= 16 else None)
    release = ctypes.create_string_buffer(b"1.16.3")
    functions = tables, get_version(lambda: ctypes.addressof(release))
    base = (ctypes.c_void_p * 2)(*(ctypes.cast(function, ctypes.c_void_p).value for function in functions))
    register = ctypes.CDLL(library).RegisterCustomOps
    register.restype, register.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_void_p]
    assert register(None, ctypes.addressof(base)) == 1
    assert messages == [
        f"the operator library of qcompile {qcompiler.__version__} needs ONNX Runtime 1.17 or newer, and this is "
        "1.16.3; install a newer onnxruntime"
    ]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["", "qcompiler", "other"]), st.integers(-(2**63), 2**63 - 1)), max_size=4),
    st.integers(0, 300),
)
def test_header_against_onnx(imports: list[tuple[str, int]], size: int) -> None:
    """The last entry of the domain, whatever else is in the file."""
    model = helper.make_model(helper.make_graph([], "g" * size, [], []), opset_imports=[])
    model.opset_import.extend(helper.make_opsetid(*entry) for entry in imports)
    model.metadata_props.add(key="key", value="v" * size)
    expected = next((entry.version for entry in reversed(model.opset_import) if entry.domain == "qcompiler"), None)
    assert operator_version(model.SerializeToString()) == expected


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_header_of_anything(content: bytes) -> None:
    """No exception, whatever the bytes."""
    assert operator_version(content) is None or isinstance(operator_version(content), int)
    assert operator_version(of_version(1)[: len(content)]) in (None, 1)


def test_header_of_no_file(tmp_path: Path) -> None:
    assert operator_version(tmp_path / "none.onnx") is None
    assert operator_version(tmp_path) is None


def test_stated_range() -> None:
    """README, pyproject.toml, the check at run time and the matrix of versions say the same."""
    from qcompiler.runtime_ops.sessions import OLDEST_RUNTIME

    oldest = ".".join(map(str, OLDEST_RUNTIME))
    assert oldest_versions()["onnxruntime"] == oldest
    assert RUNTIMES[0].startswith(oldest + ".")
    assert f"ONNX Runtime {oldest}" in (CHECKOUT / "README.md").read_text("utf-8")
