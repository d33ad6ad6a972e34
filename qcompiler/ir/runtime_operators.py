"""The fused operators that ONNX Runtime's optimiser writes: recognised, refused, and the shapes of their results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx_graphsurgeon as gs

from qcompiler.errors import UnsupportedModelError
from qcompiler.ir.dims import Shape

DOMAIN = "com.microsoft"

# Results that have the shape of the first input.
_LIKE_FIRST = frozenset({"BiasGelu", "FastGelu", "Gelu", "QuickGelu", "SkipLayerNormalization"})


def is_runtime(node: gs.Node, operators: Iterable[str]) -> bool:
    """Whether a node is one of these operators of ONNX Runtime's own domain."""
    return node.domain == DOMAIN and node.op in operators


def unsupported(node: gs.Node, what: str) -> UnsupportedModelError:
    """The refusal of an operator that cannot be expanded."""
    return UnsupportedModelError(
        f"node '{node.name}' is ONNX Runtime's fused operator '{node.op}' {what}; export the model without ONNX "
        "Runtime optimisation (from the original, or with optimized_model_filepath at level basic)"
    )


def result_shape(node: gs.Node, shapes: Sequence[Shape | None]) -> Shape | None:
    """The shape of the first result of a fused operator; None where it is unknown.

    Args:
        node: the node, of any domain.
        shapes: shapes of its inputs.
    """
    first = shapes[0] if shapes else None
    if node.domain != DOMAIN or first is None:
        return None
    if node.op in _LIKE_FIRST:
        return first
    second = shapes[1] if len(shapes) > 1 else None
    if node.op in ("FusedMatMul", "TransposeMatMul") and second is not None:
        left = (*first[:-2], first[-1], first[-2]) if node.attrs.get("transA", 0) else first
        right = (*second[:-2], second[-1], second[-2]) if node.attrs.get("transB", 0) else second
        leading = left[:-2] if len(left) >= len(right) else right[:-2]
        return (*leading, left[-2], right[-1])
    if node.op == "Attention" and second is not None and isinstance(second[1], int):
        return (*first[:2], second[1] // 3)
    if node.op == "MultiHeadAttention" and len(shapes) > 2 and shapes[2] is not None:
        return (*first[:2], shapes[2][-1])
    return None
