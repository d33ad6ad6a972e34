import numpy as np
import pytest

from qcompiler.errors import UnsupportedModelError
from qcompiler.passes.resolve_shapes import ResolveShapes

from .helpers import applied, check_equal, check_golden, check_idempotent, check_unchanged, model_of, weight

# What the older exporter writes for x.view(B, N, 2, C // 2).
GRAPH = """agraph (float[batch, 4, 6] x) => (float[batch, 4, 2, 3] y) {
    shape = Shape (x)
    b = Gather <axis = 0> (shape, zero)
    n = Gather <axis = 0> (shape, one)
    c = Gather <axis = 0> (shape, two)
    half = Div (c, two)
    bu = Unsqueeze (b, axis)
    nu = Unsqueeze (n, axis)
    hu = Unsqueeze (half, axis)
    target = Concat <axis = 0> (bu, nu, two_, hu)
    y = Reshape (x, target)
}"""
CONSTANTS = {
    "zero": np.array(0),
    "one": np.array(1),
    "two": np.array(2),
    "axis": np.array([0]),
    "two_": np.array([2]),
}
# Windows: the batch is multiplied by their number and divided by it again.
WINDOWS = """agraph (float[batch, 4, 4, 3] x) => (float[batch, 4, 4, 3] y) {
    a = Reshape (x, s6)
    t = Transpose <perm = [0, 1, 3, 2, 4, 5]> (a)
    w = Reshape (t, s3)
    shape = Shape <start = 0, end = 1> (w)
    b = Div (shape, four)
    target = Concat <axis = 0> (b, rest)
    y = Reshape (w, target)
}"""
WINDOW_CONSTANTS = {
    "s6": np.array([-1, 2, 2, 2, 2, 3]),
    "s3": np.array([-1, 4, 3]),
    "four": np.array([4]),
    "rest": np.array([4, 4, 3]),
}


def graph():
    return model_of(GRAPH, **CONSTANTS)


def test_golden():
    check_golden(
        ResolveShapes,
        graph(),
        """
        x = input [batch, 4, 6]
        %0 [batch, 4, 2, 3] = Reshape(x, [0, 4, 2, 3])  # Reshape_9
        y = output %0
        """,
    )


def test_golden_multiple_of_the_batch():
    model = model_of(WINDOWS, **WINDOW_CONSTANTS)
    graph, _ = applied(ResolveShapes, model)
    shapes = [node.outputs[0].shape for node in graph.nodes]
    assert shapes == [["batch", 2, 2, 2, 2, 3], ["batch", 2, 2, 2, 2, 3], ["4*batch", 4, 3], ["batch", 4, 4, 3]]
    assert not {"Shape", "Div", "Concat"} & {node.op for node in graph.nodes}


def test_not_applicable():
    text = "agraph (float[batch, 4, 6] x) => (float[batch, 24] y) { y = Reshape (x, s) }"
    check_unchanged(ResolveShapes, model_of(text, s=np.array([0, 24])))
    check_unchanged(ResolveShapes, model_of(text, s=np.array([-1, 24])))


def test_idempotent():
    check_idempotent(ResolveShapes, graph())


@pytest.mark.parametrize("batch", [1, 3])
def test_numerical_oracle(batch):
    check_equal(ResolveShapes, graph(), 0.0, x=weight(batch, 4, 6))
    model = model_of(WINDOWS, **WINDOW_CONSTANTS)
    check_equal(ResolveShapes, model, 0.0, x=weight(batch, 4, 4, 3))


def test_fixed_batch_becomes_a_number():
    model = model_of(GRAPH.replace("batch", "2"), **CONSTANTS)
    graph, _ = applied(ResolveShapes, model)
    assert graph.nodes[-1].inputs[1].values.tolist() == [2, 4, 2, 3]


def test_pads_computed_from_shapes():
    text = """agraph (float[batch, 3, 5] x) => (float[batch, n, 5] y) {
        shape = Shape <start = 1, end = 2> (x)
        rest = Mod (shape, four)
        more = Sub (four, rest)
        pads = Concat <axis = 0> (zeros, more, zero)
        y = Pad (x, pads)
    }"""
    model = model_of(text, four=np.array([4]), zeros=np.zeros(4, np.int64), zero=np.zeros(1, np.int64))
    graph, _ = applied(ResolveShapes, model)
    assert [node.op for node in graph.nodes] == ["Pad"]
    assert graph.nodes[0].inputs[1].values.tolist() == [0, 0, 0, 0, 1, 0]
    assert graph.nodes[0].outputs[0].shape == ["batch", 4, 5]


def test_expand_to_the_batch_is_left():
    text = """agraph (float[batch, 3, 5] x) => (float[batch, 1, 5] y) {
        shape = Shape <start = 0, end = 1> (x)
        target = Concat <axis = 0> (shape, ones)
        y = Expand (c, target)
    }"""
    check_unchanged(
        ResolveShapes, model_of(text, c=weight(1, 1, 5), ones=np.array([1, 1])), reason="depends on the batch size"
    )


def test_second_unknown_axis_is_refused():
    text = "agraph (float[batch, 3, height, 8] x) => (float[batch, 3, height, 8] y) { y = Relu (x) }"
    with pytest.raises(UnsupportedModelError, match="axis 2 of input 'x' has no fixed size"):
        applied(ResolveShapes, model_of(text))


def test_target_that_mixes_the_batch_is_refused():
    text = """agraph (float[batch, 4] x, int64[2] s) => (float[a, b] y) { y = Reshape (x, s) }"""
    with pytest.raises(UnsupportedModelError, match="cannot be computed from the image size"):
        applied(ResolveShapes, model_of(text))


RESIZE = """agraph (float[batch, 3, 7, 5] x) => (float[batch, 3, HEIGHT, 10] y) {
    shape = Shape <start = 0, end = 2> (x)
    sizes = Concat <axis = 0> (shape, target)
    y = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel"> (x, , , sizes)
}"""


@pytest.mark.parametrize("height", [10, 7])
def test_sizes_without_the_batch(height):
    model = model_of(RESIZE.replace("HEIGHT", str(height)), target=np.array([height, 10]))
    graph_, _ = applied(ResolveShapes, model)
    (node,) = graph_.nodes
    axes = [2, 3] if height == 10 else [3]
    assert (node.attrs["axes"], node.inputs[3].values.tolist()) == (axes, [height, 10][-len(axes) :])
    check_idempotent(ResolveShapes, model)
    check_equal(ResolveShapes, model, 0.0, x=weight(2, 3, 7, 5))


def test_a_size_that_grows_with_the_batch_stays():
    text = RESIZE.replace("end = 2", "end = 1").replace("(shape, target)", "(shape, three, shape, ten)")
    model = model_of(text.replace("HEIGHT", "h"), three=np.array([3]), ten=np.array([10]))
    check_unchanged(ResolveShapes, model, reason="depend on the batch size")
