"""Profiles: read from the profiler's events, and of a real model."""

import json
import tempfile

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from qcompiler.ir.functions import functions_for
from qcompiler.latency.kinds import LinearKind
from qcompiler.latency.lowered_layers import lowered_layer
from qcompiler.latency.profile import NodeTime, profile_model, read_profile
from qcompiler.latency.shapes import LinearShape


def run(begin, duration):
    return {"cat": "Session", "name": "model_run", "ts": begin, "dur": duration, "args": {}}


def node(name, op, begin, duration, index=0):
    arguments = {"op_name": op, "node_index": str(index)}
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": begin, "dur": duration, "args": arguments}


def test_medians_over_the_runs_but_the_first():
    events = [{"cat": "Session", "name": "session_initialization", "ts": 0, "dur": 5, "args": {}}]
    for number, (first, second, loops) in enumerate([(900, 900, 900), (10, 20, 1), (30, 90, 3), (20, 40, 2)]):
        begin = 10_000 * number + 100
        events += [
            node("b", "Add", begin + 50, second, index=4),
            node("a", "MatMul", begin + 1, first, index=7),
            node("", "Mul", begin + 100, loops, index=8),
            node("", "Mul", begin + 110, loops, index=8),  # in a loop: twice a run
            node("", "Mul", begin + 120, 5, index=9),
            {**node("a", "MatMul", begin, 1), "name": "a_fence_before"},
            run(begin, 1000 * (number + 1)),
        ]
    found = read_profile(events)
    assert found.nodes == (
        NodeTime("a", "MatMul", 20),
        NodeTime("b", "Add", 40),
        NodeTime("", "Mul", 4),
        NodeTime("", "Mul", 5),
    )
    assert found.run_us == 3000


def test_a_single_run_counts():
    found = read_profile([run(0, 50), node("a", "Add", 1, 7)])
    assert (found.nodes, found.run_us) == ((NodeTime("a", "Add", 7),), 50)
    assert read_profile([]).nodes == ()


@pytest.fixture
def model():
    """Relu and MatMul."""
    draw = np.random.default_rng(0)
    weight = onnx.numpy_helper.from_array(draw.standard_normal((8, 4)).astype(np.float32), "w")
    nodes = [helper.make_node("Relu", ["x"], ["r"], name="first"), helper.make_node("MatMul", ["r", "w"], ["y"])]
    nodes[1].name = "second"
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", c]) for n, c in (("x", 8), ("y", 4)))
    graph = helper.make_graph(nodes, "g", [x], [y], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def test_a_real_model_leaves_no_file(model, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    found = profile_model(model, {"x": np.zeros((3, 8), np.float32)}, runs=2)
    assert [(item.name, item.op) for item in found.nodes] == [("first", "Relu"), ("second", "MatMul")]
    assert all(item.us >= 0 for item in found.nodes)
    assert found.run_us > 0
    assert list(tmp_path.iterdir()) == []


def test_the_library_runs_under_the_profiler(library):
    """What is profiled are the operators themselves, not their bodies."""
    serialized, feed = lowered_layer(
        LinearKind(LinearShape(1, 3, 32, 8), "blocks", 4, 1, False, False, False, 4, False)
    )
    made = onnx.load_from_string(serialized)
    made.functions.extend(functions_for(["BlockLinear"]))
    whole = made.SerializeToString()
    assert [item.op for item in profile_model(whole, feed, runs=1).nodes] == ["BlockLinear"]
    bodies = profile_model(whole, feed, runs=1, library=False)
    assert len(bodies.nodes) > 10
    assert json.dumps([item.op for item in bodies.nodes]).count("BlockLinear") == 0
