"""Making inner tensors of a model visible."""

from __future__ import annotations

from collections.abc import Iterable

import onnx


def with_outputs(model: onnx.ModelProto, tensors: Iterable[str]) -> onnx.ModelProto:
    """A copy of ``model`` that also returns ``tensors``, behind its own outputs.

    They are float32 unless the model says otherwise.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    present = {output.name for output in copy.graph.output}
    types = {item.name: item.type.tensor_type.elem_type for item in copy.graph.value_info}
    for tensor in tensors:
        if tensor not in present:
            kind = types.get(tensor) or onnx.TensorProto.FLOAT
            copy.graph.output.append(onnx.helper.make_tensor_value_info(tensor, kind, None))
            present.add(tensor)
    return copy
