"""Attempts on the loader: model files with flipped bits, cut off, edited at random, or with wrong external data.

`compile_model` must refuse with one line and leave nothing behind, or write a model that ONNX Runtime loads.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from qcompiler.driver import compile_model
from qcompiler.errors import QcompilerError, VerificationError

from ..driver.runs import fast
from ..driver.tiny import images, tiny
from .outcomes import RefusalError, WrongError, one_line

Rng = np.random.Generator
DIMS = (-(2**63), -(2**31), -1, 0, 1, 2, 3, 5, 16, 1000, 2**31 - 1, 2**31, 2**33, 2**62, 2**63 - 1)
LOCATIONS = ("", ".", "..", "/etc/hostname", "../outside.bin", "a/../../outside.bin", "missing.bin", "link.bin")
LOCATIONS += ("folder", "zeros.bin", "\x00", "w.bin\x00", "x" * 5000, "w.bin/", "file:///etc/hostname")
NUMBERS = (
    "-1",
    "0",
    "1",
    "7",
    "100000000",
    "9223372036854775807",
    "99999999999999999999999",
    "0x10",
    "many",
    "",
    "1e3",
)


def attempt(rng: Rng) -> str:
    """One model file."""
    with tempfile.TemporaryDirectory() as name:
        inner = Path(name, "inner")  # so that the folder above is ours too
        inner.mkdir()
        path = inner / "model.onnx"
        _write(rng, path)
        return _compile(rng, path)


def _compile(rng: Rng, path: Path) -> str:
    before = {item.name: _content(item) for item in path.parent.iterdir()}
    output = path.with_name("out.onnx")
    full = rng.random() < 0.15
    options = fast(bits="w8a8", effort="low", stop_after="lower" if full else "canonicalise", allow_collapse=True)
    try:
        compile_model(path, options, _Reader(), output=output)
    except QcompilerError as error:
        if output.exists():
            raise WrongError("an error, and yet a file") from error
        if isinstance(error, VerificationError) and "please report" not in str(error):
            raise WrongError(f"a defect of a pass: {error}") from error
        raise RefusalError(f"{type(error).__name__}: {one_line(error)}") from error
    finally:
        after = {item.name: _content(item) for item in path.parent.iterdir() if item.name != output.name}
        if after != before:
            raise WrongError(f"files were changed: {set(before) ^ set(after) or 'contents'}")
    onnx.checker.check_model(str(output))
    onnxruntime.InferenceSession(str(output), providers=["CPUExecutionProvider"])
    return "lowered" if full else "canonical"


class _Reader:
    """Calibration data for the model as it was."""

    def __init__(self) -> None:
        self.rewind()

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.feeds, None)

    def rewind(self) -> None:
        self.feeds = iter([{"x": image[None]} for image in images(3)])


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() and not path.is_symlink() else None


# ---- Files ----------------------------------------------------------------------------------------------------------


def _write(rng: Rng, path: Path) -> None:
    model = tiny("n" if rng.random() < 0.7 else 1)
    pick = rng.random()
    if pick < 0.4:
        path.write_bytes(damaged(rng, model.SerializeToString()))
    elif pick < 0.75:
        for _ in range(rng.integers(1, 4)):
            if model.graph.node and model.graph.initializer:
                EDITS[rng.integers(len(EDITS))](rng, model)
        path.write_bytes(_serialized(rng, model))
    else:
        _write_external(rng, model, path)


def damaged(rng: Rng, content: bytes) -> bytes:
    """Flipped bits (the weights, which are most of the file, count little), a cut, a hole, a repeat, something more."""
    data = bytearray(content)
    pick = rng.integers(6)
    if pick < 2:
        for _ in range(rng.integers(1, 8)):
            # Half of them where names and structure are: in the nodes, which come first.
            end = len(data) if rng.random() < 0.5 else min(3000, len(data))
            data[rng.integers(end)] ^= 1 << int(rng.integers(8))
    elif pick == 2:
        del data[rng.integers(len(data)) :]
    elif pick == 3:
        begin = int(rng.integers(len(data)))
        del data[begin : begin + int(rng.integers(1, 200))]
    elif pick == 4:
        begin, size = int(rng.integers(len(data))), int(rng.integers(1, 500))
        data[begin:begin] = data[begin : begin + size]
    else:
        begin = int(rng.integers(len(data)))
        data[begin:begin] = rng.bytes(int(rng.integers(1, 50)))
    return bytes(data)


def _serialized(rng: Rng, model: onnx.ModelProto) -> bytes:
    """Sometimes with a name that is not UTF-8, which protocol buffers refuse to write."""
    content = model.SerializeToString()
    if rng.random() < 0.1:
        for name in (b"qkv_weight", b"attn.qkv", b"logits", b"MatMul"):
            if rng.random() < 0.5:
                content = content.replace(name, b"\xff\xfe" + name[2:])
    return content


def _write_external(rng: Rng, model: onnx.ModelProto, path: Path) -> None:
    """Weights in a file beside the model, and then something else."""
    path.parent.with_name("outside.bin").write_bytes(bytes(100_000))
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    data = path.with_name("w.bin")
    path.with_name("folder").mkdir()
    os.symlink("/dev/zero", path.with_name("zeros.bin"))
    os.symlink("../outside.bin", path.with_name("link.bin"))
    pick = rng.integers(4)
    if pick == 0:
        data.write_bytes(data.read_bytes()[: int(rng.integers(data.stat().st_size))])
        return
    if pick == 1:
        data.unlink()
        return
    light = onnx.load(path, load_external_data=False)
    for _ in range(rng.integers(1, 3)):
        tensor = light.graph.initializer[int(rng.integers(len(light.graph.initializer)))]
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if pick == 2:
            entries["location"] = LOCATIONS[rng.integers(len(LOCATIONS))]
        else:
            entries[str(rng.choice(["offset", "length", "location", "unheard_of"]))] = NUMBERS[
                rng.integers(len(NUMBERS))
            ]
        if rng.random() < 0.1:
            entries.pop("location")
        if rng.random() < 0.1:
            tensor.dims[:] = [int(DIMS[rng.integers(len(DIMS))])]
        del tensor.external_data[:]
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=value)
    path.write_bytes(light.SerializeToString())


# ---- Edits of the protocol buffers ----------------------------------------------------------------------------------


def _node(rng: Rng, model: onnx.ModelProto) -> Any:
    return model.graph.node[int(rng.integers(len(model.graph.node)))]


def _tensor(rng: Rng, model: onnx.ModelProto) -> Any:
    return model.graph.initializer[int(rng.integers(len(model.graph.initializer)))]


def _some_name(rng: Rng, model: onnx.ModelProto) -> str:
    names = [name for node in model.graph.node for name in (*node.input, *node.output)]
    return str(rng.choice([*names, "", "nowhere", "x", "logits"]))


def _tensor_dims(rng: Rng, model: onnx.ModelProto) -> None:
    dims = _tensor(rng, model).dims
    if dims and rng.random() < 0.7:
        dims[int(rng.integers(len(dims)))] = DIMS[rng.integers(len(DIMS))]
    else:
        dims.append(DIMS[rng.integers(len(DIMS))])


def _tensor_type(rng: Rng, model: onnx.ModelProto) -> None:
    _tensor(rng, model).data_type = int(rng.integers(-1, 30))


def _tensor_gone(rng: Rng, model: onnx.ModelProto) -> None:
    del model.graph.initializer[int(rng.integers(len(model.graph.initializer)))]


def _tensor_twice(rng: Rng, model: onnx.ModelProto) -> None:
    model.graph.initializer.add().CopyFrom(_tensor(rng, model))


def _tensor_values(rng: Rng, model: onnx.ModelProto) -> None:
    tensor = _tensor(rng, model)
    try:
        value = numpy_helper.to_array(tensor).copy()
    except (ValueError, TypeError, KeyError):
        return
    if value.dtype == np.float32 and value.size:
        entries = np.array([np.nan, np.inf, -np.inf, 0, 3e38, 1e-45, -1e30])
        value.reshape(-1)[rng.integers(value.size)] = rng.choice(entries)
        if rng.random() < 0.3:
            value[...] = rng.choice(entries)
    elif value.size and value.dtype == np.int64:
        value.reshape(-1)[rng.integers(value.size)] = DIMS[rng.integers(len(DIMS))]
    tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))


def _tensor_empty(rng: Rng, model: onnx.ModelProto) -> None:
    tensor = _tensor(rng, model)
    shape = [*(min(max(size, 0), 4) for size in tensor.dims[:-1]), 0]
    tensor.CopyFrom(numpy_helper.from_array(np.zeros(shape, np.float32), tensor.name))


def _node_input(rng: Rng, model: onnx.ModelProto) -> None:
    """Dangling names, cycles, wrong operands."""
    node = _node(rng, model)
    if node.input:
        node.input[int(rng.integers(len(node.input)))] = _some_name(rng, model)


def _node_output(rng: Rng, model: onnx.ModelProto) -> None:
    node = _node(rng, model)
    if node.output:
        node.output[int(rng.integers(len(node.output)))] = _some_name(rng, model)


def _node_arity(rng: Rng, model: onnx.ModelProto) -> None:
    node = _node(rng, model)
    for names in (node.input, node.output):
        if rng.random() < 0.5:
            names.append(_some_name(rng, model))
        elif names:
            del names[-1]


def _node_kind(rng: Rng, model: onnx.ModelProto) -> None:
    node = _node(rng, model)
    if rng.random() < 0.8:
        node.op_type = str(
            rng.choice(["Relu", "MatMul", "Add", "Softmax", "Conv", "Nothing", "If", "", "Reshape", "Gelu"])
        )
    else:
        node.domain = str(rng.choice(["com.microsoft", "qcompiler", "ai.onnx", "nowhere"]))


def _node_gone(rng: Rng, model: onnx.ModelProto) -> None:
    del model.graph.node[int(rng.integers(len(model.graph.node)))]


def _node_twice(rng: Rng, model: onnx.ModelProto) -> None:
    model.graph.node.add().CopyFrom(_node(rng, model))


def _node_order(rng: Rng, model: onnx.ModelProto) -> None:
    order = rng.permutation(len(model.graph.node))
    nodes = [model.graph.node[index] for index in order]
    copied = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copied)


def _node_attribute(rng: Rng, model: onnx.ModelProto) -> None:
    node = next((node for node in rng.permutation(np.array(list(model.graph.node), object)) if node.attribute), None)
    if node is None:
        return
    item = node.attribute[int(rng.integers(len(node.attribute)))]
    pick = rng.integers(6)
    if pick == 0:
        item.i = int(DIMS[rng.integers(len(DIMS))])
    elif pick == 1 and item.ints:
        item.ints[int(rng.integers(len(item.ints)))] = DIMS[rng.integers(len(DIMS))]
    elif pick == 2:
        item.f = float(rng.choice(np.array([np.nan, np.inf, -1, 0, 1e38])))
    elif pick == 3:
        item.type = int(rng.integers(0, 15))  # type: ignore[assignment]
    elif pick == 4:
        item.CopyFrom(helper.make_attribute(item.name, "text"))
    else:
        kept = [other for other in node.attribute if other.name != item.name]
        del node.attribute[:]
        node.attribute.extend(kept)


def _graph_input(rng: Rng, model: onnx.ModelProto) -> None:
    if not model.graph.input:
        return
    value = model.graph.input[0]
    dims = value.type.tensor_type.shape.dim
    pick = rng.integers(6)
    if pick < 3 and dims:
        dims[int(rng.integers(len(dims)))].dim_value = DIMS[rng.integers(len(DIMS))]
    elif pick == 3:
        value.type.tensor_type.elem_type = int(rng.integers(0, 24))
    elif pick == 4:
        value.type.tensor_type.ClearField("shape")
    else:
        del model.graph.input[:]


def _graph_output(rng: Rng, model: onnx.ModelProto) -> None:
    pick = rng.integers(4)
    if pick == 0 or not model.graph.output:
        del model.graph.output[:]
    elif pick == 1:
        model.graph.output[0].name = _some_name(rng, model)
    elif pick == 2:
        model.graph.output.add().CopyFrom(model.graph.output[0])
    else:
        model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64


def _versions(rng: Rng, model: onnx.ModelProto) -> None:
    numbers = np.array([-1, 0, 1, 7, 12, 13, 20, 26, 99, 1000, 2**31, 2**62])
    pick = rng.integers(5)
    if pick == 0:
        model.ir_version = int(rng.choice(numbers))
    elif pick == 1 and model.opset_import:
        model.opset_import[0].version = int(rng.choice(numbers))
    elif pick == 2:
        del model.opset_import[:]
    elif pick == 3:
        model.opset_import.add(domain=str(rng.choice(["", "ai.onnx", "qcompiler", "nowhere"])), version=3)
    else:
        model.ClearField("graph")


def _functions(rng: Rng, model: onnx.ModelProto) -> None:
    """A function of the model, which may call itself."""
    own = bool(rng.random() < 0.5)
    name, called = ("Call" if own else "Again"), ("Call" if rng.random() < 0.5 else "Relu")
    inner = helper.make_node(called, ["a"], ["b"], domain="own" if own else "")
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    model.functions.append(helper.make_function("own", name, ["a"], ["b"], [inner], imports))
    model.opset_import.append(helper.make_opsetid("own", 1))
    if model.graph.node:
        node = _node(rng, model)
        node.op_type, node.domain = "Call", "own"


def _subgraph(rng: Rng, model: onnx.ModelProto) -> None:
    """The graph inside one of its own nodes, many levels deep."""
    node = _node(rng, model)
    inner = onnx.GraphProto.FromString(model.graph.SerializeToString())
    inner.ClearField("initializer")
    for _ in range(int(rng.choice([1, 3, 10, 28]))):
        outer = onnx.GraphProto(name="g")
        outer.node.append(helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=onnx.GraphProto()))
        inner = outer
    item = node.attribute.add(name="body", type=AttributeProto.GRAPH)
    item.g.CopyFrom(inner)


EDITS: tuple[Callable[[Rng, onnx.ModelProto], None], ...] = (
    *(_tensor_dims, _tensor_type, _tensor_gone, _tensor_twice, _tensor_values, _tensor_values, _tensor_empty),
    *(_node_input, _node_input, _node_output, _node_arity, _node_kind, _node_gone, _node_twice, _node_order),
    *(_node_attribute, _node_attribute, _graph_input, _graph_input, _graph_output, _versions, _functions, _subgraph),
)
