"""A graph as text, one line per node: for golden tests and for reading."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from qcompiler.ir.constants import is_readable

# Larger initialisers are shown by type and shape.
_SHOWN_ELEMENTS = 8


def print_graph(graph: gs.Graph) -> str:
    """The graph as text.

    Computed tensors are numbered in node order, so the text does not depend on their names; the node's name follows
    after `#`. Small initialisers show their values, others type and shape.
    """
    numbers: dict[str, str] = {}
    lines = [f"{tensor.name} = input{_kind(tensor)}" for tensor in graph.inputs]
    for node in graph.nodes:
        for tensor in node.outputs:
            numbers[tensor.name] = f"%{len(numbers)}"
        outputs = ", ".join(f"{numbers[tensor.name]}{_kind(tensor)}" for tensor in node.outputs)
        inputs = ", ".join(_operand(tensor, numbers) for tensor in node.inputs)
        attrs = ", ".join(f"{name}={_attribute(value)}" for name, value in sorted(node.attrs.items()))
        op = f"{node.domain}.{node.op}" if node.domain else node.op
        lines.append(f"{outputs} = {op}({inputs}{'; ' + attrs if attrs else ''})  # {node.name}")
    lines += [f"{tensor.name} = output {numbers.get(tensor.name, tensor.name)}" for tensor in graph.outputs]
    return "\n".join(lines) + "\n"


def _kind(tensor: gs.Tensor) -> str:
    if tensor.shape is None:
        return ""
    return f" [{', '.join(str(dim) for dim in tensor.shape)}]"


def _operand(tensor: gs.Tensor, numbers: dict[str, str]) -> str:
    if not isinstance(tensor, gs.Constant):
        return numbers.get(tensor.name, tensor.name) or "-"
    if int(np.prod(tensor.shape, dtype=np.int64)) <= _SHOWN_ELEMENTS and is_readable(tensor):
        return _attribute(np.asarray(tensor.values))
    name = tensor.dtype if isinstance(tensor.dtype, int) else np.dtype(tensor.dtype).name
    return f"{tensor.name}:{name}[{', '.join(str(dim) for dim in tensor.shape)}]"


def _attribute(value: Any) -> str:
    if isinstance(value, gs.Constant):
        value = value.values
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, float):
        return f"{value:.7g}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_attribute(item) for item in value)}]"
    return str(value)
