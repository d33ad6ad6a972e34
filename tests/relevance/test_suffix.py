"""Suffixes against the whole model."""

import numpy as np
import onnx
import pytest

from qcompiler.ir.outputs import with_outputs
from qcompiler.relevance.suffix import Operand, SuffixGraph, run_suffix, suffix_session

from .models import OPERANDS, edited, images, model, run

# One float32 model cut in two: other fusions, other roundings.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def values_for(made, operand, graph, feed):
    inputs = set(feed)
    names = [name for name in dict.fromkeys([operand.tensor, *graph.frontier(operand)]) if name not in inputs]
    found = run(with_outputs(made, names), feed, names) if names else []
    return {**feed, **dict(zip(names, found, strict=True))}


@pytest.mark.parametrize("which", OPERANDS)
def test_the_float_operand_gives_the_output_of_the_model(which):
    made, operand, (feed,) = model(), Operand(*OPERANDS[which]), images(1, batch=3)
    graph = SuffixGraph(made)
    values = values_for(made, operand, graph, feed)
    session = suffix_session(graph, operand, threads=1)
    found = run_suffix(session, values[operand.tensor], graph.frontier(operand), values)
    np.testing.assert_allclose(found, run(made, feed)[0], **TOLERANCE)


@pytest.mark.parametrize("which", OPERANDS)
@pytest.mark.parametrize("function", [("Mul", 0.0), ("Mul", 0.5), ("Max", 0.2)])
def test_a_replaced_operand_is_the_edited_model(which, function):
    """Only the named reading of the tensor changes, not the other ones."""
    made, operand, (feed,) = model(), Operand(*OPERANDS[which]), images(1, batch=2)
    graph = SuffixGraph(made)
    values = values_for(made, operand, graph, feed)
    op, constant = function
    replaced = {"Mul": np.multiply, "Max": np.maximum}[op](values[operand.tensor], np.float32(constant))
    found = run_suffix(suffix_session(graph, operand, threads=1), replaced, graph.frontier(operand), values)
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


def test_the_model_is_not_changed():
    made = model()
    before = made.SerializeToString()
    cut = SuffixGraph(made).cut(Operand(*OPERANDS["first linear"]))
    assert isinstance(cut, onnx.ModelProto)
    assert made.SerializeToString() == before
