"""The function bodies of a file against the native kernels, on the values that reach each operator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from qcompiler import runtime_ops
from qcompiler.errors import RuntimeLibraryError
from qcompiler.ir.functions import DOMAIN
from qcompiler.ir.verifier import FUSED_OPS
from qcompiler.verification.checks import Check, judged

# Norm of the difference of a result over the norm of the result. Rounding to float16 turns a last bit of float32 into
# one of float16 now and then: at most a unit of every element.
TOLERANCES = {np.dtype(np.float32): 1e-4, np.dtype(np.float16): 1e-3}
SEED = 0
_LARGEST = 2**31 - 2**20  # bytes of a model that a session takes from memory

Array = NDArray[Any]


def check_kernels(model: onnx.ModelProto) -> Check:
    """Run every fused operator both ways on the same inputs: its own, when the model runs on seeded random values.

    The integers of both are equal by definition; results differ by the order in which floats are added at most.

    Raises:
        RuntimeLibraryError: The operator library is there but cannot be used.
    """
    nodes = [node for node in model.graph.node if node.domain == DOMAIN and node.op_type in FUSED_OPS]
    if not nodes:
        return _skipped("the readable operators have no native kernels")
    if model.ByteSize() > _LARGEST:
        return _skipped("the model is too large to be taken apart in memory")
    feed = _random_feed(model.graph)
    if feed is None:
        return _skipped("the file does not fix the sizes of its inputs, or reads integers")
    try:
        runtime_ops.library_path()
    except runtime_ops.LibraryNotFoundError:
        return _skipped("the operator library is not installed")
    except runtime_ops.LibraryError as error:
        raise RuntimeLibraryError(str(error)) from error
    try:
        inputs = _inputs_of(model, nodes, feed)
        alone = _taken_apart(model, nodes, inputs)
        native, body = (_run(alone, inputs, library) for library in (True, False))
    except runtime_ops.LibraryError as error:
        raise RuntimeLibraryError(str(error)) from error
    except Exception as error:  # onnxruntime's exceptions have no common base of their own
        return Check("kernels", "failed", f"ONNX Runtime cannot run the operators: {_first_line(error)}")
    differences = {node.name: _difference(native[_result(node)], body[_result(node)]) for node in nodes}
    tolerance = max(TOLERANCES[values.dtype] for values in body.values())
    return judged(
        "kernels",
        list(_problems(nodes, differences, tolerance)),
        f"bodies and kernels of {len(nodes)} nodes agree within {max(differences.values()):.1e} "
        f"({tolerance:g} is allowed)",
    )


def _skipped(reason: str) -> Check:
    return Check("kernels", "skipped", reason)


def _random_feed(graph: onnx.GraphProto) -> dict[str, Array] | None:
    """One image of seeded normal values for each input, or None where sizes are free or types are integers."""
    draw = np.random.default_rng(SEED)
    constants = {tensor.name for tensor in graph.initializer}
    feed: dict[str, Array] = {}
    for item in graph.input:
        if item.name in constants:
            continue
        kind = item.type.tensor_type
        sides = [side.dim_value for side in kind.shape.dim]
        if not sides or not all(sides[1:]) or kind.elem_type != onnx.TensorProto.FLOAT:
            return None
        feed[item.name] = draw.standard_normal((sides[0] or 1, *sides[1:])).astype(np.float32)
    return feed


def _inputs_of(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], feed: Mapping[str, Array]) -> dict[str, Array]:
    """What reaches the nodes when the model runs on its function bodies."""
    constants = {tensor.name for tensor in model.graph.initializer}
    wanted = dict.fromkeys(name for node in nodes for name in node.input if name and name not in constants)
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    given = {item.name for item in tapped.graph.output}
    tapped.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in given | feed.keys())
    names = [name for name in wanted if name not in feed]
    session = runtime_ops.session(tapped.SerializeToString(), threads=1, library=False)
    found = dict(zip(names, session.run(names, dict(feed)), strict=True)) if names else {}
    return {**{name: feed[name] for name in wanted if name in feed}, **found}


def _taken_apart(
    model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], inputs: Mapping[str, Array]
) -> onnx.ModelProto:
    """The nodes side by side, each on inputs of its own, so that a difference stays where it arises."""
    alone = []
    for node in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.output[0] = _result(node)
        alone.append(copy)
    read = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        alone,
        "operators",
        [helper.make_tensor_value_info(name, _kind(values), values.shape) for name, values in inputs.items()],
        [helper.make_tensor_value_info(_result(node), _kind(inputs[node.input[0]]), None) for node in nodes],
        [tensor for tensor in model.graph.initializer if tensor.name in read],
    )
    return helper.make_model(
        graph, opset_imports=model.opset_import, functions=model.functions, ir_version=model.ir_version
    )


def _kind(values: Array) -> int:
    """The ONNX element type of an array; an operator's result has that of its first input."""
    return int(helper.np_dtype_to_tensor_dtype(values.dtype))


def _result(node: onnx.NodeProto) -> str:
    return f"{node.output[0]}/alone"


def _run(model: onnx.ModelProto, inputs: Mapping[str, Array], library: bool) -> dict[str, Array]:
    session = runtime_ops.session(model.SerializeToString(), threads=1, library=library)
    names = [item.name for item in model.graph.output]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def _difference(native: Array, body: Array) -> float:
    native, body = native.astype(np.float32), body.astype(np.float32)
    if native.shape != body.shape or not np.isfinite(body).all():
        return np.inf
    norm = float(np.linalg.norm(body))
    return float(np.linalg.norm(native - body)) / norm if norm else float(np.abs(native).max(initial=0))


def _problems(nodes: Sequence[onnx.NodeProto], differences: Mapping[str, float], tolerance: float) -> Iterator[str]:
    for node in nodes:
        found = differences[node.name]
        if not found <= tolerance:
            yield (
                f"the function body of '{node.op_type}' and its native kernel differ by {found:.1e} of the result of "
                f"node '{node.name}' ({tolerance:g} is allowed)"
            )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
