"""Models with ONNX Runtime's fused operators."""

import onnx

from .helpers import model_of


def fused_model(text, opset=21, **initialisers):
    """`model_of` with the domain of ONNX Runtime."""
    model = model_of(text, opset, **initialisers)
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    return model
