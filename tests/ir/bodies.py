"""Running function bodies: in an ordinary session of ONNX Runtime and in ONNX's own reference implementation."""

import numpy as np
import onnx
import onnxruntime as ort
from onnx.reference import ReferenceEvaluator

from qcompiler.ir.functions import DOMAIN, functions_for

FLOAT, INDEX, BYTE = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.UINT8


def run(model, feeds, optimize=False):
    """The outputs in an ordinary session: no custom operators, so that the bodies run."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run(None, feeds)


def run_node(node, feeds, **options):
    return run(node.model(functions=functions_for([node.op])), feeds, **options)[0]


def evaluate(node, feeds):
    """The output in ONNX's own reference implementation, which reads the bodies as the standard says."""
    return ReferenceEvaluator(model_of(node)).run(None, feeds)[0]


def model_of(node):
    return onnx.load_from_string(node.model(functions=functions_for([node.op])))


def inner(op, outputs, attributes, **feeds):
    """All outputs of an operator that is only used inside others, or in the readable form."""
    types = {name: onnx.helper.np_dtype_to_tensor_dtype(value.dtype) for name, value in feeds.items()}
    inputs = [onnx.helper.make_tensor_value_info(name, types[name], value.shape) for name, value in feeds.items()]
    results = [onnx.helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()]
    node = onnx.helper.make_node(op, list(feeds), list(outputs), "inner", domain=DOMAIN, **attributes)
    opsets = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid(DOMAIN, 1)]
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "one", inputs, results),
        opset_imports=opsets,
        functions=functions_for([op]),
        ir_version=10,
    )
    found = run(model.SerializeToString(), feeds)
    check_with_shapes(model, found)
    for ours, theirs in zip(found, ReferenceEvaluator(model).run(None, feeds), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype
    return found


def check_with_shapes(model, results):
    """The checker wants the rank of every output."""
    for output, result in zip(model.graph.output, results, strict=True):
        for _ in result.shape:
            output.type.tensor_type.shape.dim.add()
    onnx.checker.check_model(model, full_check=True)
