import numpy as np
import onnx_graphsurgeon as gs
import pytest

from qcompiler.ir.editing import Editor
from qcompiler.ir.group_nodes import add_group_quantizer, find_group_quantizer
from qcompiler.ir.saving import to_model
from qcompiler.ir.verifier import verify_structure
from qcompiler.quant.groups import GroupTable, fake_quantize

from ..passes.helpers import run
from ..passes.quantized import with_bodies

TABLE = np.array([(-1, 1, 0.15, 7, 1, 0.15), (-3, 2, 0.35, 9, 1, 0.35)], np.float32)
PROBABILITIES = np.array([(0, 1, 1 / 15, 0, 1, 1 / 15)], np.float32)
LEVELS = np.array([0, 1, 2, 3, 5, 7, 9, 12, 15, 20, 25, 30, 40, 60, 90, 127], np.uint8)


def quantized(axis=-1, levels=None, table=TABLE):
    """A graph of one quantizer, and what it returns."""
    x = gs.Variable("x", np.float32, [2, 5, 6])
    graph = gs.Graph([], inputs=[x], outputs=[], opset=21)
    constant = gs.Constant("levels", levels) if levels is not None else None
    read_back = add_group_quantizer(Editor(graph), x, table, 4, axis, "site", constant)
    graph.outputs = [read_back]
    return graph, read_back


@pytest.mark.parametrize("levels", [None, LEVELS], ids=["codes", "levels"])
@pytest.mark.parametrize("axis", [-1, -2])
def test_what_is_written_is_found_again(axis, levels):
    graph, read_back = quantized(axis, levels)
    verify_structure(graph)
    found = find_group_quantizer(read_back)
    assert found is not None
    assert (found.axis, found.bits) == (axis, 4)
    assert found.x is graph.inputs[0]
    np.testing.assert_array_equal(found.groups.values, TABLE)
    if levels is None:
        assert found.levels is None
    else:
        np.testing.assert_array_equal(found.levels.values, levels)


def test_names_and_types():
    """Readable names; the types are written here, because ONNX has no rules for these operators."""
    graph, read_back = quantized(levels=LEVELS)
    assert [node.name for node in graph.nodes] == [
        "site/GroupSort",
        "site/QuantizeLinear",
        "site/code_index",
        "site/levels",
        "site/DequantizeLinear",
    ]
    types = {node.op: np.dtype(node.outputs[0].dtype) for node in graph.nodes}
    assert types == {
        "GroupSort": np.int64,
        "GroupQuantizeLinear": np.uint8,
        "Cast": np.int64,
        "Gather": np.uint8,
        "GroupDequantizeLinear": np.float32,
    }
    assert read_back.dtype == np.float32


def test_two_quantizers_of_one_tensor_get_names_of_their_own():
    graph, first = quantized()
    second = add_group_quantizer(Editor(graph), graph.inputs[0], TABLE, 4, -2, "site")
    graph.outputs.append(second)
    verify_structure(graph)
    assert find_group_quantizer(first).axis == -1 and find_group_quantizer(second).axis == -2


@pytest.mark.parametrize("axis", [-1, -2])
def test_numerical_oracle(axis):
    """Bit by bit what the planner expects of the quantizer."""
    graph, _ = quantized(axis)
    x = np.random.default_rng(1).normal(size=(2, 5, 6)).astype(np.float32)
    (y,) = run(with_bodies(to_model(graph)), {"x": x})
    np.testing.assert_array_equal(y, fake_quantize(x, GroupTable.from_array(TABLE, axis, 4)))


def test_numerical_oracle_of_levels():
    graph, _ = quantized(-2, LEVELS, PROBABILITIES)
    x = np.random.default_rng(2).dirichlet(np.ones(6), (2, 5)).astype(np.float32)
    (y,) = run(with_bodies(to_model(graph)), {"x": x})
    scale = PROBABILITIES[0, 2]
    codes = np.rint(x * (np.float32(1) / scale)).astype(int)
    np.testing.assert_array_equal(y, LEVELS[codes].astype(np.float32) * scale)


def nothing(graph, read_back):
    return graph.inputs[0]


def other_producer(graph, read_back):
    read_back.inputs[0].op = "DequantizeLinear"
    return read_back


def other_codes(graph, read_back):
    read_back.inputs[0].inputs[0] = graph.inputs[0]
    return read_back


def other_index(graph, read_back):
    read_back.inputs[0].inputs[1] = gs.Constant("index", np.zeros((2, 1, 6), np.int64))
    return read_back


@pytest.mark.parametrize("change", [nothing, other_producer, other_codes, other_index], ids=lambda item: item.__name__)
def test_anything_else_is_not_found(change):
    assert find_group_quantizer(change(*quantized())) is None


def test_levels_picked_by_something_else_are_not_found():
    graph, read_back = quantized(levels=LEVELS)
    gather = next(node for node in graph.nodes if node.op == "Gather")
    gather.inputs[1] = gs.Constant("index", np.zeros((2, 5, 6), np.int64))
    assert find_group_quantizer(read_back) is None
