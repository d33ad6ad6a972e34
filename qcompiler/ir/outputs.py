"""Making inner tensors of a model visible."""

from __future__ import annotations

from collections.abc import Iterable

import onnx


def with_outputs(model: onnx.ModelProto, tensors: Iterable[str]) -> onnx.ModelProto:
    """A copy of ``model`` that also returns the float32 ``tensors``, behind its own outputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    present = {output.name for output in copy.graph.output}
    for tensor in tensors:
        if tensor not in present:
            copy.graph.output.append(onnx.helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, None))
            present.add(tensor)
    return copy
