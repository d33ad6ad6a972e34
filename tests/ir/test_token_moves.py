import numpy as np
import pytest

from qcompiler.ir.importing import to_graph
from qcompiler.ir.shapes import infer
from qcompiler.ir.token_moves import token_move

from ..passes.helpers import model_of, run

INDEX = {
    "pairs": np.array([0, 2, 2, 2, 3, 5]),
    "windows": np.array([-1, 6, 5]),
    "flat": np.array([0, 24, 5]),
    "tokens": np.arange(24)[::-1],
    "zero": np.array([0]),
    "two": np.array([2]),
    "end": np.array([2**62]),
    "rows": np.array([1]),
    "columns": np.array([-2]),
}
MOVES = {
    "windows": "a = Reshape (x, pairs)  b = Transpose <perm = [0, 1, 3, 2, 4, 5]> (a)  y = Reshape (b, windows)",
    "shift": "a = Slice (x, two, end, columns)  b = Slice (x, zero, two, columns)  y = Concat <axis = 2> (a, b)",
    "halves": "a, b = Split <axis = 1, num_outputs = 2> (x)  y = Concat <axis = 1> (b, a)",
    "reversed": "a = Reshape (x, flat)  y = Gather <axis = 1> (a, tokens)",
    "nothing": "y = Reshape (x, flat)",
}
OTHERS = {
    "channels": "y = Transpose <perm = [0, 3, 1, 2]> (x)",
    "columns with channels": "a = Transpose <perm = [0, 1, 3, 2]> (x)  y = Reshape (a, flat)",
    "a token twice": "a = Slice (x, zero, two, columns)  y = Concat <axis = 2> (a, a, a)",
    "a token left out": "y = Slice (x, zero, two, columns)",
    "images": "a = Reshape (x, flat)  b = Transpose <perm = [1, 0, 2]> (a)  y = Identity (b)",
    "two sources": "r = Relu (x)  y = Concat <axis = 1> (x, r)",
    "no move": "y = Relu (x)",
}


def moved(body, dims="batch, 4, 6, 5", more=""):
    model = model_of(
        f"agraph (float[{dims}] x) => (float[OUT] y{more}) {{ {body} }}".replace("OUT", "N, M, K"), **INDEX
    )
    graph = to_graph(model)
    return model, token_move(graph.outputs[0], graph, infer(graph))


@pytest.mark.parametrize("dims", ["batch, 4, 6, 5", "3, 4, 6, 5"])
@pytest.mark.parametrize("case", MOVES)
def test_order_is_what_the_operators_do(case, dims):
    model, move = moved(MOVES[case], dims)
    x = np.random.default_rng(0).standard_normal((3, 4, 6, 5)).astype(np.float32)
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    (y,) = run(model, {"x": x})
    assert move is not None
    assert np.array_equal(y.reshape(3, 24, 5), x.reshape(3, 24, 5)[:, move.order])
    assert move.keeps_order == (case == "nothing")
    assert [str(dim) for dim in move.flat[1:]] == ["24", "5"]


def test_copies():
    assert {case: moved(body)[1].copies for case, body in MOVES.items()} == {
        "windows": 1,
        "shift": 3,
        "halves": 2,
        "reversed": 1,
        "nothing": 0,
    }


@pytest.mark.parametrize("case", OTHERS)
def test_not_a_move_of_tokens(case):
    assert moved(OTHERS[case])[1] is None


def test_not_a_move_that_something_else_reads():
    assert moved(MOVES["windows"] + "  z = Relu (b)", more=", float[batch, 2, 2, 2, 3, 5] z")[1] is None
    assert moved(MOVES["windows"], more=", float[batch, 2, 2, 2, 3, 5] b")[1] is None
