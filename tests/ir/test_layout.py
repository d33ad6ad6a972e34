import numpy as np
import pytest

from qcompiler.ir.importing import to_graph
from qcompiler.ir.layout import follow, index_map, positions, trace_up
from qcompiler.ir.shapes import infer
from tests.passes.helpers import model_of, run

# Each chain ends in `t`; the oracle is the runtime itself, run on an index tensor.
CHAINS = {
    "reshape": ("t = Reshape (x, s)", {"s": np.array([0, 2, 12])}),
    "transpose": ("t = Transpose <perm = [2, 0, 1]> (x)", {}),
    "slice": ("t = Slice (x, a, b, c, d)", {"a": [1], "b": [6], "c": [2], "d": [2]}),
    "reversed slice": ("t = Slice (x, a, b, c, d)", {"a": [-1], "b": [-(2**62)], "c": [2], "d": [-1]}),
    "gather": ("t = Gather <axis = 1> (x, i)", {"i": [3, 0]}),
    "scalar gather": ("t = Gather <axis = 2> (x, i)", {"i": 4}),
    "split": ("u, t = Split <axis = 1> (x, s)", {"s": [3, 1]}),
    "even split": ("u, t = Split <axis = 2, num_outputs = 2> (x)", {}),
    "axes": ("u = Unsqueeze (x, a)  v = Transpose <perm = [1, 0, 3, 2]> (u)  t = Squeeze (v, b)", {"a": [1], "b": [0]}),
    "flatten": ("t = Flatten <axis = 2> (x)", {}),
}


@pytest.mark.parametrize("case", CHAINS)
def test_index_map_agrees_with_the_runtime(case):
    body, constants = CHAINS[case]
    arrays = {name: np.array(value, np.int64) for name, value in constants.items()}
    model = model_of(f"agraph (float[batch, 4, 6] x) => (float t) {{ {body} }}", **arrays)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    graph = to_graph(model)
    trace = trace_up(graph.outputs[0])
    assert trace.source is graph.inputs[0]
    expected = run(model, {"x": np.arange(48, dtype=np.float32).reshape(2, 4, 6)})[0]
    assert np.array_equal(index_map(trace, infer(graph)), expected)


def test_scalar_factors_are_collected():
    text = """agraph (float[batch, 4, 6] x) => (float[batch, 6, 4] y) {
        a = Mul (x, two)  t = Transpose <perm = [0, 2, 1]> (a)  y = Div (t, four) }"""
    graph = to_graph(model_of(text, two=np.array(2.0, np.float32), four=np.array(4.0, np.float32)))
    assert trace_up(graph.outputs[0]).source is graph.outputs[0]
    trace = trace_up(graph.outputs[0], through_scale=True)
    assert trace.source is graph.inputs[0]
    assert trace.scale == 0.5


def test_follow_stops_where_a_tensor_is_read_twice():
    text = """agraph (float[batch, 4, 6] x) => (float[batch, 6, 4] y, float[batch, 24] z) {
        r = Relu (x)  a = Transpose <perm = [0, 2, 1]> (r)  y = Relu (a)  z = Reshape (a, s) }"""
    graph = to_graph(model_of(text, s=np.array([0, 24])))
    start = graph.nodes[0].outputs[0]
    names = [tensor.name for tensor, _ in follow(start, positions((2, 4, 6)), graph)]
    assert names == ["r", "a"]
