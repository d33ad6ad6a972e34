"""What can be wrong with a model that `onnx.checker` lets pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from qcompiler import __version__
from qcompiler.errors import ModelFileError, UnsupportedModelError
from qcompiler.ir.saving import DOMAIN, DOMAIN_VERSION

# Inputs behind the first are parameters; elsewhere (Resize, Reshape, Concat) a constant without values can be meant.
_WITH_PARAMETERS = {"Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "GroupNormalization"}
_WITH_PARAMETERS |= {"InstanceNormalization", "LayerNormalization", "RMSNormalization", "SkipLayerNormalization"}
_WITH_PARAMETERS |= {"SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization"}


def check_operators(model: onnx.ModelProto) -> None:
    """Refuse a quantized model whose operators have another version than those of this qcompile.

    Raises:
        ModelFileError: The model imports another version of the domain `qcompiler`.
    """
    # ONNX Runtime imports every domain that it knows into models that it writes.
    if not any(node.domain == DOMAIN for node in model.graph.node):
        return
    for entry in model.opset_import:
        if entry.domain == DOMAIN and entry.version != DOMAIN_VERSION:
            remedy = "a newer one" if entry.version > DOMAIN_VERSION else "the older one that wrote the model"
            raise ModelFileError(
                f"the model uses version {entry.version} of the qcompiler operators, and qcompile {__version__} knows "
                f"version {DOMAIN_VERSION}; install {remedy}"
            )


def check_outputs(model: onnx.ModelProto) -> None:
    """Refuse outputs that are inputs or constants: there is nothing to quantize in front of them.

    Raises:
        UnsupportedModelError: No node computes an output.
    """
    computed = {name for node in model.graph.node for name in node.output}
    for output in model.graph.output:
        if output.name not in computed:
            raise UnsupportedModelError(
                f"the output '{output.name}' is an input or a constant of the model; remove it from the outputs"
            )


def check_parameters(model: onnx.ModelProto) -> None:
    """Refuse weights, scales and biases without values.

    ONNX Runtime takes some of them for parameters that are left out; no operator defines them, and other runtimes and
    versions refuse the model.

    Raises:
        ModelFileError: A weight, scale or bias has a size of zero; the message names it.
    """
    shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            for item in node.attribute:
                if item.name == "value":
                    shapes[node.output[0]] = list(item.t.dims)
    for node in model.graph.node:
        if node.op_type not in _WITH_PARAMETERS:
            continue
        for name in node.input[1:]:
            if 0 in shapes.get(name, ()):
                raise ModelFileError(
                    f"weight '{name}' of node '{node.name or node.output[0]}' ({node.op_type}) holds no values: its "
                    f"shape is {shapes[name]}; export the model again"
                )


def weight_values(tensor: onnx.TensorProto) -> NDArray[Any]:
    """The values of an initialiser or a constant, `[*tensor.dims]`.

    Raises:
        ModelFileError: Its data does not fill its shape.
    """
    try:
        return np.asarray(onnx.numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        shape = ", ".join(map(str, tensor.dims))
        raise ModelFileError(
            f"the data of weight '{tensor.name}' does not fit its shape [{shape}]; export the model again"
        ) from error
