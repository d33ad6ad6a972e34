"""Suffixes against the whole model."""

import numpy as np
import onnx
import pytest

from qcompiler.ir.outputs import with_outputs
from qcompiler.relevance.suffix import Operand, SuffixGraph

from .models import OPERANDS, constant, edited, images, model, run, with_weight

# One float32 model cut in two: other fusions, other roundings.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
WEIGHTS = {"first linear": ("w1", "b"), "second linear": ("w2", "d")}


def values_for(made, operand, graph, feed):
    inputs = set(feed)
    names = [name for name in dict.fromkeys([operand.tensor, *graph.frontier(operand)]) if name not in inputs]
    found = run(with_outputs(made, names), feed, names) if names else []
    return {**feed, **dict(zip(names, found, strict=True))}


def run_cut(cut, values, **fed):
    """Outputs of a cut model, fed with what it declares."""
    values = {**values, **fed}
    return run(cut, {item.name: values[item.name] for item in cut.graph.input})


@pytest.mark.parametrize("which", OPERANDS)
def test_the_float_operand_gives_the_output_of_the_model(which):
    made, operand, (feed,) = model(), Operand(*OPERANDS[which]), images(1, batch=3)
    graph = SuffixGraph(made)
    values = values_for(made, operand, graph, feed)
    (found,) = run_cut(graph.cut(operand), values, replaced_operand=values[operand.tensor])
    np.testing.assert_allclose(found, run(made, feed)[0], **TOLERANCE)


@pytest.mark.parametrize("which", OPERANDS)
@pytest.mark.parametrize("function", [("Mul", 0.0), ("Mul", 0.5), ("Max", 0.2)])
def test_a_replaced_operand_is_the_edited_model(which, function):
    """Only the named reading of the tensor changes, not the other ones."""
    made, operand, (feed,) = model(), Operand(*OPERANDS[which]), images(1, batch=2)
    graph = SuffixGraph(made)
    values = values_for(made, operand, graph, feed)
    op, number = function
    replaced = {"Mul": np.multiply, "Max": np.maximum}[op](values[operand.tensor], np.float32(number))
    (found,) = run_cut(graph.cut(operand), values, replaced_operand=replaced)
    expected = run(edited(made, OPERANDS[which], function), feed)[0]
    np.testing.assert_allclose(found, expected, **TOLERANCE)
    assert np.abs(expected - run(made, feed)[0]).max() > 1e-3  # the edit is visible at all


@pytest.mark.parametrize(
    ("which", "frontier", "nodes"),
    [
        ("last", [], 1),
        ("second linear", [], 3),
        ("left of a product", ["c"], 5),
        ("first linear", ["p"], 8),
        ("one of two readings", ["t", "c"], 7),
    ],
)
def test_only_what_depends_on_the_operand_runs(which, frontier, nodes):
    operand = Operand(*OPERANDS[which])
    graph = SuffixGraph(model())
    assert sorted(graph.frontier(operand)) == sorted(frontier)
    cut = graph.cut(operand)
    assert len(cut.graph.node) == nodes
    assert [value.name for value in cut.graph.input] == [SuffixGraph.REPLACED, *graph.frontier(operand)]
    assert [value.name for value in cut.graph.output] == ["logits"]
    used = {name for node in cut.graph.node for name in node.input}
    assert {tensor.name for tensor in cut.graph.initializer} <= used


@pytest.mark.parametrize("which", WEIGHTS)
@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_a_replaced_weight_is_the_edited_model(which, factor):
    made, operand, (feed,) = model(), Operand(*OPERANDS[which]), images(1, batch=2)
    graph, (name, output) = SuffixGraph(made), WEIGHTS[which]
    values = values_for(made, operand, graph, feed)
    cut = graph.cut(operand, weight=name, outputs=["logits", output])
    assert [value.name for value in cut.graph.input][:2] == [SuffixGraph.REPLACED, SuffixGraph.WEIGHT]
    weight = constant(made, name) * np.float32(factor)
    found = run_cut(cut, values, replaced_operand=values[operand.tensor], replaced_weight=weight)
    whole = with_outputs(with_weight(made, name, weight), [output])
    for part, expected in zip(found, run(whole, feed, ["logits", output]), strict=True):
        np.testing.assert_allclose(part, expected, **TOLERANCE)


def tied():
    """A model in which two linear layers share one weight."""
    made = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 21]>
        g (float[n, 4] x) => (float[n, 4] y, float[n, 4] other) {
        a = MatMul (x, w)  b = Relu (a)  y = MatMul (b, w)  other = Neg (a)
        }"""
    )
    weight = np.random.default_rng(2).standard_normal((4, 4)).astype(np.float32)
    made.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    for node in made.graph.node:
        node.name = f"make_{node.output[0]}"
    return made, weight


def test_only_the_named_layer_gets_another_weight():
    made, weight = tied()
    x = np.random.default_rng(3).standard_normal((2, 4)).astype(np.float32)
    cut = SuffixGraph(made).cut(Operand("make_a", 0, "x"), weight="w")
    (found,) = run_cut(cut, {}, replaced_operand=x, replaced_weight=2 * weight)
    np.testing.assert_allclose(found, np.maximum(x @ (2 * weight), 0) @ weight, **TOLERANCE)


def test_the_result_of_the_layer_may_be_the_output_of_the_model():
    made, weight = tied()
    x = np.random.default_rng(3).standard_normal((2, 4)).astype(np.float32)
    cut = SuffixGraph(made).cut(Operand("make_y", 0, "b"), weight="w", outputs=["y", "y"])
    (found,) = run_cut(cut, {}, replaced_operand=x, replaced_weight=2 * weight)
    np.testing.assert_allclose(found, x @ (2 * weight), **TOLERANCE)


def test_nodes_that_no_wanted_output_needs_are_left_out():
    made, _ = tied()
    graph, operand = SuffixGraph(made), Operand("make_a", 0, "x")
    assert [node.op_type for node in graph.cut(operand).graph.node] == ["MatMul", "Relu", "MatMul"]
    assert [node.op_type for node in graph.cut(operand, outputs=["other"]).graph.node] == ["MatMul", "Neg"]
    layer = SuffixGraph(model()).cut(Operand(*OPERANDS["left of a product"]), outputs=["m"])
    assert [node.name for node in layer.graph.node] == ["make_m"]
    assert [item.name for item in layer.graph.input] == [SuffixGraph.REPLACED, "c"]


def test_what_the_operand_does_not_reach_is_refused():
    graph, operand = SuffixGraph(model()), Operand(*OPERANDS["second linear"])
    with pytest.raises(ValueError, match="'c' does not depend on input 0 of node 'make_d'"):
        graph.cut(operand, outputs=["c"])
    for name in ("w1", "r"):
        with pytest.raises(ValueError, match=f"'make_d' reads no initialiser '{name}'"):
            graph.cut(operand, weight=name)


def test_prefix():
    made, (feed,) = model(), images(1, batch=2)
    names = ["p", "c"]
    prefix = SuffixGraph(made).prefix(names)
    assert len(prefix.graph.node) == 6
    assert [item.name for item in prefix.graph.input] == ["x"]
    expected = run(with_outputs(made, names), feed, names)
    for found, value in zip(run(prefix, feed, names), expected, strict=True):
        np.testing.assert_allclose(found, value, **TOLERANCE)


def test_the_model_is_not_changed():
    made = model()
    before = made.SerializeToString()
    cut = SuffixGraph(made).cut(Operand(*OPERANDS["first linear"]), weight="w1")
    assert isinstance(cut, onnx.ModelProto)
    assert made.SerializeToString() == before
