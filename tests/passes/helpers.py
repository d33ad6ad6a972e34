"""Small graphs written as text, passes run on them, and the comparison of two models."""

import re

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort

from qcompiler.ir.importing import to_graph
from qcompiler.ir.passes import run_passes
from qcompiler.ir.printer import print_graph
from qcompiler.ir.saving import to_model
from qcompiler.ir.shapes import annotate


def weight(*shape, seed=0, scale=1.0):
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def model_of(text, opset=21, **initialisers):
    """A model from ONNX's text form; nodes are named `<op>_<index>`, initialisers that nothing reads are left out."""
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": {opset}]>\n{text}')
    read = {name for node in model.graph.node for name in node.input}
    for name, values in initialisers.items():
        if name not in read:
            continue
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(values), name))
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    return model


def applied(pass_type, model):
    """The graph after one pass, and the pass's report."""
    graph = to_graph(model)
    (report,) = run_passes(graph, [pass_type()], verify_each=True)
    return graph, report


def check_golden(pass_type, model, expected):
    graph, report = applied(pass_type, model)
    assert report.applied > 0
    assert text_of(graph) == _stripped(expected), "\n" + print_graph(graph)


def check_unchanged(pass_type, model, reason=None):
    untouched = to_graph(model)
    annotate(untouched)
    before = text_of(untouched)
    graph, report = applied(pass_type, model)
    assert report.applied == 0
    annotate(graph)
    assert text_of(graph) == before, "\n" + print_graph(graph)
    if reason is not None:
        assert any(re.search(reason, str(refusal)) for refusal in report.refusals), report.refusals


def check_idempotent(pass_type, model):
    graph, report = applied(pass_type, model)
    assert report.applied > 0
    before = text_of(graph)
    (again,) = run_passes(graph, [pass_type()], verify_each=True)
    assert again.applied == 0
    assert text_of(graph) == before


def check_equal(pass_type, model, relative, **feeds):
    """Runs the model before and after the pass; the difference is at most `relative` of the largest value."""
    graph, report = applied(pass_type, model)
    assert report.applied > 0
    after = to_model(graph, opset=graph.opset)
    onnx.checker.check_model(after, full_check=True)
    for expected, got in zip(run(model, feeds), run(after, feeds), strict=True):
        assert got.shape == expected.shape
        assert np.abs(got - expected).max() <= relative * np.abs(expected).max()


def run(model, feeds):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def text_of(graph):
    return _stripped(print_graph(graph))


def _stripped(text):
    return [line.strip() for line in text.strip().splitlines()]
