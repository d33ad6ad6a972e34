"""Reading constants of a graph."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs


def is_constant(tensor: gs.Tensor) -> bool:
    """Whether the tensor is an initialiser."""
    return isinstance(tensor, gs.Constant)


def is_variable(tensor: gs.Tensor) -> bool:
    """Whether the tensor is computed by a node or fed by the user (an omitted optional input is neither)."""
    return isinstance(tensor, gs.Variable) and not tensor.is_empty()


def array_of(tensor: gs.Tensor) -> np.ndarray | None:
    """The values of an initialiser, else None."""
    return np.asarray(tensor.values) if isinstance(tensor, gs.Constant) else None


def is_readable(tensor: gs.Constant) -> bool:
    """Whether NumPy has the element type: reading values of another (int4) changes how the initialiser is written."""
    return not isinstance(tensor.dtype, int) and np.dtype(tensor.dtype).isbuiltin == 1


def scalar_of(tensor: gs.Tensor) -> float | None:
    """The value of an initialiser with one element, else None."""
    if not isinstance(tensor, gs.Constant) or math.prod(tensor.shape) != 1:
        return None
    return float(np.asarray(tensor.values).reshape(()))


def ints_of(tensor: gs.Tensor) -> list[int] | None:
    """The values of an integer initialiser as a flat list, else None."""
    values = array_of(tensor)
    if values is None or not np.issubdtype(values.dtype, np.integer):
        return None
    return [int(value) for value in values.reshape(-1)]


def attribute(node: gs.Node, name: str, default: Any) -> Any:
    """An attribute of a node, or the operator's default."""
    return node.attrs.get(name, default)


def producer(tensor: gs.Tensor) -> gs.Node | None:
    """The node that computes the tensor, or None for inputs and initialisers."""
    return tensor.inputs[0] if isinstance(tensor, gs.Variable) and tensor.inputs else None


def single_consumer(tensor: gs.Tensor, graph: gs.Graph) -> gs.Node | None:
    """The one node that reads the tensor, when it reads it once and the tensor is no graph output."""
    if len(tensor.outputs) != 1 or any(tensor is output for output in graph.outputs):
        return None
    node = tensor.outputs[0]
    return node if sum(item is tensor for item in node.inputs) == 1 else None
